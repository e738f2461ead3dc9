"""Image coding for machines, measured: real bitstreams, frozen detectors, accuracy against rate.

What is named here is the whole public interface; importing it loads neither torch nor a plug-in.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icm_bench.codec import Codec
    from icm_bench.curves.bdrate import BdRate, bd_rate
    from icm_bench.curves.curve import Curve, Point
    from icm_bench.curves.result import Result, load_results
    from icm_bench.dataset import Dataset, open_dataset
    from icm_bench.detector import Detector
    from icm_bench.error import IcmBenchError
    from icm_bench.image import Image
    from icm_bench.pipeline.runner import Summary, run
    from icm_bench.report.plot import plot

_HOMES = {
    "BdRate": "curves.bdrate",
    "Codec": "codec",
    "Curve": "curves.curve",
    "Dataset": "dataset",
    "Detector": "detector",
    "IcmBenchError": "error",
    "Image": "image",
    "Point": "curves.curve",
    "Result": "curves.result",
    "Summary": "pipeline.runner",
    "bd_rate": "curves.bdrate",
    "load_results": "curves.result",
    "open_dataset": "dataset",
    "plot": "report.plot",
    "run": "pipeline.runner",
}

__all__ = [
    "BdRate",
    "Codec",
    "Curve",
    "Dataset",
    "Detector",
    "IcmBenchError",
    "Image",
    "Point",
    "Result",
    "Summary",
    "bd_rate",
    "load_results",
    "open_dataset",
    "plot",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'icm_bench' has no attribute '{name}'")
    return getattr(importlib.import_module(f"icm_bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
