"""What a training of the hyperprior minimises: bpp + lambda * 255^2 * MSE, at every quality at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from icm_codecs.bitstream.weights_file import is_of_format, read_tensors, reading
from icm_codecs.hyperprior.checkpoint import save_checkpoint, start_from
from icm_codecs.hyperprior.network import HyperpriorNetwork
from icm_codecs.hyperprior.variable_rate import HyperpriorShape
from icm_codecs.learned import MOST_QUALITIES
from icm_codecs.training.recipe import Loss, check, loss_and_shape

_PHOTOS = "checkerboard-1"
"""The format of weights of the codec for photographs, whose transforms are these but for the names of their layers."""

_NAMES: dict[str, dict[str, str]] = {
    "analysis": {
        "stem": "layers.0",
        "fine": "layers.1",
        "to_eighth": "layers.2",
        "eighth.0": "layers.3",
        "eighth.1": "layers.4",
        "to_sixteenth": "layers.5",
        "sixteenth": "layers.6",
        "head": "layers.7",
    },
    "synthesis": {
        "sixteenth_modulation": "wide_modulation",
        "sixteenth": "wide",
        "to_eighth": "to_wider",
        "eighth_modulation": "wider_modulation",
        "eighth": "wider",
        "to_quarter": "to_fine",
        "quarter_modulation": "fine_modulation",
    },
    "log_gain": {},
    "log_inverse_gain": {},
}


class HyperpriorModel(HyperpriorNetwork):
    """The networks with their loss: see :class:`icm_codecs.training.trainable.Trainable`.

    Args:
        shape: How large the networks are.
        loss: The lambda of the squared error at each quality, and how the qualities share the gradient.
    """

    def __init__(self, shape: HyperpriorShape, loss: Loss) -> None:
        super().__init__(shape, loss.lambdas)
        self._lambdas = tuple(255.0**2 * value for value in loss.lambdas)
        self._shares = loss.quality_weights()

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained networks from ``[network]``, their sizes, and ``[loss]`` (lambdas, balance)."""
        loss, shape = loss_and_shape(tables, Loss, HyperpriorShape, qualities="lambdas")
        batch = tables.get("optimisation", {}).get("batch", len(loss.lambdas))
        check(
            {
                "background is of labelled images": loss.background == 1.0,
                f"there are at most {MOST_QUALITIES} lambdas": len(loss.lambdas) <= MOST_QUALITIES,
                "batch is a multiple of the number of lambdas": batch % len(loss.lambdas) == 0,
            }
        )
        return cls(shape, loss)

    def losses(self, image: Tensor, step: int) -> dict[str, Tensor]:
        """Return ``loss``, and ``bpp`` and ``psnr`` of each quality as ``bpp/1`` and so on.

        Args:
            image: N x 3 x H x W in 0..1, sides multiples of 64, N a multiple of the number of qualities.
            step: Without effect: the training has one stage.
        """
        del step
        n_qualities = self.shape.qualities
        estimate = self(image)
        bpp = estimate.bits / (image.shape[2] * image.shape[3])
        mse = (estimate.image - image).square().mean(dim=(1, 2, 3))
        quality = torch.arange(len(image)) % n_qualities
        lambdas = torch.tensor(self._lambdas)[quality].to(mse)
        shares = torch.tensor(self._shares)[quality].to(mse)
        found = {"loss": (shares * (bpp + lambdas * mse)).mean(), "bpp": bpp.detach().mean()}
        psnr = -10.0 * torch.log10(mse.detach())
        found["psnr"] = psnr.mean()
        for index in range(n_qualities):
            found[f"bpp/{index + 1}"] = bpp.detach()[index::n_qualities].mean()
            found[f"psnr/{index + 1}"] = psnr[index::n_qualities].mean()
        return found

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads, all or nothing."""
        save_checkpoint(self, path, facts)

    def start_from(self, path: Path) -> None:
        """Set the parameters to those of a weights file; it raises as :class:`Trainable` says.

        A file of the codec for photographs gives its transforms and gains: the entropy model and what skips layers are
        then to be learned.
        """
        if is_of_format(path, _PHOTOS):
            with reading(path, "holds no transforms for these networks"), torch.no_grad():
                self._take_transforms(path)
        else:
            start_from(self, path)

    def _take_transforms(self, path: Path) -> None:
        facts, stored = read_tensors(path, _PHOTOS)
        theirs = tomllib.loads(facts["recipe"])["loss"]["lambdas"]
        ours = np.array(self._lambdas) / 255.0**2
        places = torch.tensor(np.interp(np.log(ours), np.log(theirs), range(len(theirs))))
        below = places.long().clamp(max=len(theirs) - 2)
        way = (places - below).float()[:, None]
        for name, parameter in self.named_parameters():
            part, _, layer = name.partition(".")
            for own, other in _NAMES.get(part, {}).items():
                layer = re.sub(rf"^{own}\b", other, layer)
            key = f"{part}.{layer}" if layer else f"training.{part}"
            if part not in _NAMES or key not in stored:  # what is to be learned
                continue
            value = stored[key].float()
            if value.ndim == 2:  # one row a rate point
                value = torch.lerp(value[below], value[below + 1], way)
            parameter[tuple(map(slice, value.shape))] = value
