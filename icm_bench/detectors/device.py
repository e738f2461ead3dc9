"""Where a detector computes, and what it says where it cannot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from icm_bench.error import DetectorError
from icm_bench.image import Image, first_line


@contextlib.contextmanager
def network_errors(detector: str, image: Image) -> Iterator[None]:
    """Raise ``DetectorError`` where a detector's network fails on an image, for instance for want of memory."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        height, width = image.shape[:2]
        raise DetectorError(
            f"the network failed on an image of {width}x{height} ({first_line(error)})",
            where=f"detector '{detector}'",
            hint="leave out extreme sizes, or free memory on the device",
        ) from error


def open_device(name: str, detector: str) -> torch.device:
    """Return a device of this machine by its name: ``cpu``, ``cuda``, ``cuda:1`` and so on.

    Raises:
        DetectorError: There is no such device; the error names the detector that wants it.
    """
    where = f"detector '{detector}'"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DetectorError(f"there is no device '{name}'", where=where, hint="use cpu or cuda") from error
    if device.type not in {"cpu", "cuda"}:
        raise DetectorError(f"the device '{name}' is not supported", where=where, hint="use cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DetectorError(f"this machine has no device '{name}'", where=where, hint="use --device cpu")
    return device
