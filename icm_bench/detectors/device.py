"""Where a detector computes."""

from __future__ import annotations

import torch

from icm_bench.error import DetectorError


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
