"""Train the ROI network of the codec for photographs: from objects in images, on the frozen analysis of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_bench.error import TrainingError
from icm_bench.network.target import Target
from icm_codecs.checkerboard.checkpoint import load_checkpoint
from icm_codecs.checkerboard.network import CheckerboardShape
from icm_codecs.checkerboard.roi import RoiHead, save_head
from icm_codecs.training.images import Source
from icm_codecs.training.recipe import check, check_tables, table_of
from icm_codecs.tucodec.network import Analysis


class RoiModel(nn.Module):
    """The network as it is trained; the analysis that it looks through is that of the weights it starts from.

    Args:
        shape: How large the codec's networks are.
        channels: Channels of the ROI network.
    """

    def __init__(self, shape: CheckerboardShape, channels: int) -> None:
        super().__init__()
        self._shape = shape
        self.analysis = Analysis(shape.transforms).requires_grad_(False)
        self.head = RoiHead(shape.latent, channels)

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained network from a recipe's tables; ``[network]`` is the codec's, and ``roi`` its own."""
        check_tables(tables)
        network = dict(tables.get("network", {}))
        channels = network.pop("roi", 64)
        check(
            {
                "there is no [loss]: it is cross-entropy": "loss" not in tables,
                "roi counts channels": isinstance(channels, int) and channels > 0,
            }
        )
        return cls(table_of(CheckerboardShape, network, "network"), channels)

    @property
    def needs_objects(self) -> bool:
        """Yes: they are what is to be found."""
        return True

    @property
    def needs_a_start(self) -> bool:
        """Yes: it looks through the analysis of a codec's weights."""
        return True

    def prepare(self, source: Source, detector_weights: Path | None) -> None:
        """Do nothing: no detector takes part."""
        del source, detector_weights

    def losses(self, image: Tensor, step: int) -> dict[str, Tensor]:
        """Refuse: the losses need objects."""
        del image, step
        raise TrainingError("its losses need the objects in the images", hint="give annotations")

    def guided_losses(self, image: Tensor, targets: list[Target], step: int) -> dict[str, Tensor]:
        """Return ``loss``, the cross-entropy of each position: is an object near?

        Args:
            image: N x 3 x H x W in 0..1, sides multiples of 64.
            targets: The objects in each image.
            step: Not used.
        """
        del step
        with torch.no_grad():
            latent = self.analysis(image)
        stride = self._shape.transforms.stride
        wanted = functional.max_pool2d(torch.stack([_near(image, each) for each in targets]), stride)
        return {"loss": functional.binary_cross_entropy_with_logits(self.head(latent), wanted)}

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads beside its own, all or nothing."""
        save_head(self.head, path, facts, self.analysis)

    def start_from(self, path: Path) -> None:
        """Take the analysis of a codec's weights.

        Raises:
            CodecError: The file is missing, damaged, or of another kind or shape.
        """
        self.analysis.load_state_dict(load_checkpoint(path).analysis.state_dict())

    def finish(self) -> None:
        """Do nothing: the analysis has no gradients."""


def _near(image: Tensor, target: Target) -> Tensor:
    """Return which pixels of an image lie in an object's box, 1 x H x W of 0 and 1."""
    near = image.new_zeros(1, *image.shape[2:])
    for left, top, right, bottom in target["boxes"].round().long().tolist():
        near[:, top:bottom, left:right] = 1.0
    return near
