"""What a rate means: conventions that differ between publications, and that no comparison may mix unseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from icm_bench.error import UsageError

POOLED: Final = "pooled: total bits / total pixels of the dataset"
MEAN: Final = "mean over the images of each image's bits / pixels"
BITSTREAM: Final = "length of the bitstream, headers included"
ESTIMATED: Final = "estimated from the entropy model, nothing coded"
NATIVE: Final = "native: the detector resizes after decoding"
RESIZED: Final = "resized: the detector's resize comes before encoding, and its pixels are counted"
UNKNOWN: Final = "unknown"
MEASURED_HERE: Final = "measured here"
ANNOTATIONS: Final = "annotations"

_SHORT: Final = {
    "bpp": {"pooled": POOLED, "mean": MEAN, "unknown": UNKNOWN},
    "bits": {"bitstream": BITSTREAM, "estimated": ESTIMATED, "unknown": UNKNOWN},
    "pixels": {"native": NATIVE, "resized": RESIZED, "unknown": UNKNOWN},
}


@dataclass(frozen=True)
class Conventions:
    """What the rates of a curve mean.

    Attributes:
        bpp: How bits per pixel are taken over a dataset.
        bits: What is counted as bits.
        pixels: Which pixels are counted, before or after the detector's resize.
    """

    bpp: str = UNKNOWN
    bits: str = UNKNOWN
    pixels: str = UNKNOWN

    def told(self, **short: str | None) -> Conventions:
        """Return these conventions with what a user told about them.

        Args:
            short: ``bpp`` pooled or mean, ``bits`` bitstream or estimated, ``pixels`` native or resized; any of them
                unknown; None leaves what was.

        Raises:
            UsageError: There is no such convention.
        """
        changes = {}
        for key, value in short.items():
            if value is None:
                continue
            if value not in _SHORT.get(key, {}):
                known = ", ".join(_SHORT.get(key, {})) or ", ".join(_SHORT)
                raise UsageError(f"no convention '{key}={value}'", hint=f"choose among {known}")
            changes[key] = _SHORT[key][value]
        return replace(self, **changes)

    def record(self) -> dict[str, str]:
        """Return the conventions as they stand in a result file's ``meta``."""
        return asdict(self)


MEASURED: Final = Conventions(POOLED, BITSTREAM, NATIVE)
"""Of every curve that this package measures."""


def in_full(key: str, text: str) -> str:
    """Return a convention's full text for its short name; any other text as it is."""
    return _SHORT[key].get(text, text)


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Say in which conventions two result files' ``meta`` differ, or may differ since one is unknown.

    Curves of a publication differ from all that come from elsewhere: images, detector and encoder are never quite the
    same. So do curves that were scored against a detector's findings and against annotations.

    Returns:
        One sentence a convention, none where both rates mean the same.
    """
    ours, theirs = first.get("conventions", {}), second.get("conventions", {})
    stated = {
        "source": [meta.get("published", {}).get("source", MEASURED_HERE) for meta in (first, second)],
        "truth": [meta.get("dataset", {}).get("truth", ANNOTATIONS) for meta in (first, second)],
        **{key: [ours.get(key, UNKNOWN), theirs.get(key, UNKNOWN)] for key in _SHORT},
    }
    return [
        f"{key} is unknown in both" if one == other else f"{key} is '{one}' in one and '{other}' in the other"
        for key, (one, other) in stated.items()
        if one != other or one == UNKNOWN
    ]
