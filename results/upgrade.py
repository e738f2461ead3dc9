"""Write the curves of a folder as the present schema: numbers stay, facts that names held become fields.

    python results/upgrade.py [FOLDER]

Curves that this version measures need no upgrade. Those of earlier versions are read as they are, but have no digest,
or one of their values alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from icm_bench import registry
from icm_bench.codec import Labels, objective_of, trained_through
from icm_bench.curves.result import Result, find, save
from icm_bench.error import IcmBenchError
from icm_bench.pipeline.fact import complexity_facts
from icm_bench.spec import create_codec, resolve_codec


def upgraded(result: Result) -> Result:
    """Return a curve with what its names and its command tell, as fields."""
    words = str(result.meta.get("command", "")).split()
    told = dict(pairwise(words))
    about: dict[str, Any] = {}
    if told.get("--dataset") in registry.names("dataset"):
        about["provider"] = told["--dataset"]
    if "--limit" in told:
        about |= {"limit": int(told["--limit"]), "subset_of": result.dataset.rpartition("-")[0]}
    return replace(
        result,
        meta={**result.meta, **facts(result), "dataset": {**result.meta["dataset"], **about}},
    )


def facts(result: Result) -> dict[str, Any]:
    """Return what the codec says of itself; nothing of imported curves, whose codecs nobody provides."""
    try:
        spec, cls = resolve_codec(result.codec)
        codec = create_codec(
            spec, next(quality for quality in result.qualities if quality is not None), "cpu"
        )
    except (IcmBenchError, StopIteration):
        return {}
    return {
        "label": cls.label(dict(spec.options)) if isinstance(cls, Labels) else None,
        "objective": objective_of(codec),
        "trained_through": list(trained_through(codec)),
        **complexity_facts(spec, result.qualities),
    }


if __name__ == "__main__":
    for found in find(Path(sys.argv[1] if len(sys.argv) > 1 else "results")):
        if found.source is not None:
            save(upgraded(found), found.source, found.replicates)
