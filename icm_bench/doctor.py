"""What is usable on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np

from icm_bench import color, registry
from icm_bench.detector import FetchesWeights
from icm_bench.error import IcmBenchError
from icm_bench.image import Image, psnr
from icm_bench.pipeline import provenance
from icm_bench.spec import resolve_codec

COLOR_FLOOR_DB = 50.0
"""RGB to 10-bit 4:4:4 and back must stay above this; truncating instead of rounding gives 43.7 dB."""

_ONNX = ("onnxruntime", "pip install 'icm-bench[onnx]'")
_PACKAGES = {
    "onnx": _ONNX,
    "yolox": _ONNX,
    "detectron2": ("detectron2", "docs/detectron2.md says how to install it"),
}
"""What a detector needs beside this package, and how to get it."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        kind: What sort of thing: python, device, codec, detector, dataset, color.
        name: Which one.
        state: ``ok``; ``absent``, usable once something is installed; ``failed``, which nothing should be.
        detail: Its version, or what is missing and the hint.
    """

    kind: str
    name: str
    state: Literal["ok", "absent", "failed"]
    detail: str

    @property
    def is_failure(self) -> bool:
        """Whether measurements made here would be wrong."""
        return self.state == "failed"


def examine() -> list[Finding]:
    """Look at packages, device, codecs, detectors, datasets and the colour conversion."""
    return [
        *(Finding("package", name, "ok", version) for name, version in provenance.versions().items()),
        _device(),
        *_codecs(),
        *map(detector, registry.names("detector")),
        *_datasets(),
        _color(),
    ]


def _device() -> Finding:
    import torch

    cores = f"{os.cpu_count()} cores, {provenance.machine()['processor']}"
    if not torch.cuda.is_available():
        return Finding("device", "cpu", "ok", f"{cores}; no GPU that torch can use")
    return Finding("device", "cuda", "ok", f"{torch.cuda.get_device_name()}; {cores}")


def _codecs() -> Iterator[Finding]:
    image = _test_image()
    for name in registry.names("codec"):
        try:
            spec, cls = resolve_codec(name)
            codec = cls(cls.qualities[0])
            codec.decode(codec.encode(image))
            yield Finding("codec", str(spec), "ok", codec.version())
        except IcmBenchError as error:
            yield Finding("codec", name, "absent", str(error))


def detector(name: str) -> Finding:
    """Look at a detector: whether what it needs is installed, and its published weights are here."""
    package, hint = _PACKAGES.get(name, ("icm_bench", ""))
    if find_spec(package) is None:
        return Finding("detector", name, "absent", f"{package} is missing; {hint}")
    try:
        cls = registry.load("detector", name)
    except IcmBenchError as error:
        return Finding("detector", name, "absent", str(error))
    tasks = f"does {' and '.join(cls.tasks)}"
    if issubclass(cls, FetchesWeights):
        if not cls.cached_weights().is_file():
            return Finding("detector", name, "absent", f"{tasks}; its weights are fetched on first use")
        return Finding("detector", name, "ok", tasks)
    try:
        cls()
    except IcmBenchError as error:
        return Finding("detector", name, "absent", f"{tasks}; yours to name: {error.hint or error}")
    return Finding("detector", name, "ok", tasks)


def _datasets() -> Iterator[Finding]:
    for name in registry.names("dataset"):
        try:
            opened = registry.load("dataset", name).open()
            yield Finding("dataset", name, "ok", f"{len(opened.images)} images on this machine")
        except IcmBenchError as error:
            yield Finding("dataset", name, "absent", f"yours to name: {error.hint or error}")


def _color() -> Finding:
    image = _test_image()
    form = color.PlaneFormat(chroma="444")
    back = color.to_image(color.to_planes(image, form), form)
    found = psnr(image, back)
    bias = np.abs((back.astype(float) - image).mean(axis=(0, 1))).max()
    good = found is None or (found > COLOR_FLOOR_DB and bias < 0.1)
    measured = "lossless" if found is None else f"{found:.1f} dB, largest bias {bias:.3f} levels"
    return Finding("color", "RGB to 10-bit BT.709 4:4:4 and back", "ok" if good else "failed", measured)


def _test_image() -> Image:
    rows, columns = np.mgrid[0:96, 0:128]
    waves = np.stack([rows * 2 + columns, rows + columns * 2, np.hypot(rows - 48, columns - 64) * 3], axis=-1)
    image: Image = (waves % 256).astype(np.uint8)
    return image
