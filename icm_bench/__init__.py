"""Image coding for machines, measured: real bitstreams, frozen detectors, accuracy against rate.

What is named here is the whole public interface; importing it loads neither torch nor a plug-in.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icm_bench.codec import Codec
    from icm_bench.curves.bdrate import bd_accuracy, bd_rate, rate_at
    from icm_bench.curves.curve import Curve, Point
    from icm_bench.curves.estimate import Estimate
    from icm_bench.curves.result import Result
    from icm_bench.dataset import Dataset, open_dataset
    from icm_bench.detector import Detector
    from icm_bench.error import IcmBenchError
    from icm_bench.image import Image
    from icm_bench.pipeline.readback import decoded, load_results, predictions
    from icm_bench.pipeline.runner import Summary, run
    from icm_bench.report.plot import plot

    __version__: str

_HOMES = {
    "Codec": "codec",
    "Curve": "curves.curve",
    "Dataset": "dataset",
    "Detector": "detector",
    "Estimate": "curves.estimate",
    "IcmBenchError": "error",
    "Image": "image",
    "Point": "curves.curve",
    "Result": "curves.result",
    "Summary": "pipeline.runner",
    "bd_accuracy": "curves.bdrate",
    "bd_rate": "curves.bdrate",
    "decoded": "pipeline.readback",
    "load_results": "pipeline.readback",
    "open_dataset": "dataset",
    "plot": "report.plot",
    "predictions": "pipeline.readback",
    "rate_at": "curves.bdrate",
    "run": "pipeline.runner",
}

__all__ = ["Codec", "Curve", "Dataset", "Detector", "Estimate", "IcmBenchError", "Image", "Point", "Result"]
__all__ += ["Summary", "bd_accuracy", "bd_rate", "decoded", "load_results", "open_dataset", "plot"]
__all__ += ["predictions", "rate_at", "run"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("icm-bench")
    if name not in _HOMES:
        raise AttributeError(f"module 'icm_bench' has no attribute '{name}'")
    return getattr(importlib.import_module(f"icm_bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
