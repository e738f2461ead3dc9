"""Rates, times and distortions of an operating point, read from the stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from icm_bench.metrics.bootstrap import pooled_bpp
from icm_bench.metrics.fidelity import Fidelity
from icm_bench.pipeline import store
from icm_bench.pipeline.plan import OperatingPoint, Plan


@dataclass(frozen=True)
class Rates:
    """One operating point's rate, an entry an image in order of the image ids, and its mean seconds by step."""

    n_bits: NDArray[np.float64]
    n_header_bits: NDArray[np.float64] | None
    n_pixels: NDArray[np.float64]
    seconds: Mapping[str, float]

    @classmethod
    def of(cls, plan: Plan, point: OperatingPoint) -> Rates:
        """Read a point's coded shards."""
        columns = ["n_bytes", "header_bytes", "width", "height", "encode_s", "decode_s"]
        tables = [store.read(plan.coded_path(point, shard), columns) for shard in range(plan.n_shards)]
        frame = pa.concat_tables(tables).to_pandas()
        headers = frame["header_bytes"].to_numpy(np.float64)
        return cls(
            n_bits=8.0 * frame["n_bytes"].to_numpy(np.float64),
            n_header_bits=None if np.isnan(headers).any() else 8.0 * headers,
            n_pixels=frame["width"].to_numpy(np.float64) * frame["height"].to_numpy(np.float64),
            seconds={key: float(frame[key].to_numpy(np.float64).mean()) for key in ("encode_s", "decode_s")},
        )

    @property
    def bpp(self) -> float:
        """Bits per pixel: all bits over all native pixels."""
        return float(self.n_bits.sum() / self.n_pixels.sum())

    @property
    def bpp_mean(self) -> float:
        """The mean of the images' bits per pixel."""
        return float(np.mean(self.n_bits / self.n_pixels))

    @property
    def bpp_payload(self) -> float | None:
        """Bits per pixel without headers; None where the codec does not report them."""
        if self.n_header_bits is None:
            return None
        return float((self.n_bits - self.n_header_bits).sum() / self.n_pixels.sum())

    def resampled(self, weights: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return bits per pixel of resamples, from resamples x images."""
        return pooled_bpp(self.n_bits, self.n_pixels, weights)


def fidelity_of(plan: Plan, point: OperatingPoint) -> Fidelity:
    """Read how far a point's decoded images are from the originals."""
    tables = [store.read(plan.compared_path(point, shard)) for shard in range(plan.n_shards)]
    frame = pa.concat_tables(tables).to_pandas()
    keys = ("mse_rgb", "mse_luma", "ms_ssim_rgb", "ms_ssim_luma")
    return Fidelity(
        np.array([record.width * record.height for record in plan.dataset.images], dtype=np.float64),
        *(frame[key].to_numpy(np.float64) for key in keys),
    )
