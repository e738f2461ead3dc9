"""The operating points of a run: a codec at a quality, or the uncompressed images."""

from __future__ import annotations

from dataclasses import dataclass

from icm_bench.codec import Quality, Resource
from icm_bench.spec import Spec

UNCOMPRESSED = "uncompressed"
"""The name under which the originals' predictions are stored."""


@dataclass(frozen=True)
class OperatingPoint:
    """One operating point of one codec, or the uncompressed images.

    Attributes:
        codec: The codec, or None for the uncompressed images.
        quality: The operating point, None with no codec.
        version: The codec's version at this point.
        coded_as: The codec and the quality that the point is coded and stored as, where it is another codec's;
            :class:`~icm_bench.codec.CodedAs` says so.
        resource: What its code stage needs.
        s_per_megapixel: About how many seconds of one core its code stage takes.
    """

    codec: Spec | None = None
    quality: Quality | None = None
    version: str | None = None
    coded_as: tuple[Spec, Quality] | None = None
    resource: Resource = "cpu"
    s_per_megapixel: float = 0.1

    @property
    def coder(self) -> Spec | None:
        """The codec that codes the point, None for the uncompressed images."""
        return self.codec if self.coded_as is None else self.coded_as[0]

    @property
    def coder_quality(self) -> Quality | None:
        """The point in the scale of the codec that codes it."""
        return self.quality if self.coded_as is None else self.coded_as[1]

    @property
    def folder(self) -> str:
        """The name that the point's coder has in the stores."""
        return UNCOMPRESSED if self.coder is None else self.coder.file_name
