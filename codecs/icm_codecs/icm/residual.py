"""The residual layer: what the first layer's image lacks, as coefficients of 8x8 pixels, for the highest rates.

Networks that squeeze 16x16 pixels through a few hundred values cannot give a texture or noise back, however fine
their steps. A linear transform of as many coefficients as there are values can: with finer steps it comes as near to
the image as is wanted. It is the Karhunen-Loeve transform of what is missing where the ROI network sees objects, in a
space in which an error weighs what the frozen detector's features feel of it: with S the mean outer product of the
features' gradients over blocks and R that of the blocks themselves, its basis is ``S^(-1/2) U`` with U the eigenvectors
of ``S^(1/2) R S^(1/2)``, so that equal steps of all coefficients disturb the features as little as their bits allow.

Nothing of it is learned by gradient descent; :func:`fit` measures it on a few images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.icm.roi import are_steps
from icm_codecs.layer import Entries

SIDE = 8
"""Pixels to a block, in each direction."""

COEFFICIENTS = 3 * SIDE**2
"""How many coefficients a block has."""

_LEAST_SENSITIVITY = 1e-4
"""What the features feel of the direction that they feel least, at least, next to the one that they feel most."""


@dataclass(frozen=True)
class ResidualPoints(Entries):
    """The rates that the residual layer adds above those of the networks.

    Attributes:
        steps: The coefficients' quantisation step at each, falling, in levels of a pixel (of 255).
        coarser: How much coarser it is at each ROI level, for each of them, in scale indices.
    """

    steps: tuple[float, ...] = ()
    coarser: tuple[tuple[int, ...], ...] = ()

    def check(self) -> None:
        """Raise ``ValueError`` where steps do not fall, or those of a level do not rise."""
        falls = (
            list(self.steps) == sorted(set(self.steps), reverse=True) and min(self.steps, default=1.0) > 0.0
        )
        if not falls or len(self.steps) != len(self.coarser) or not all(map(are_steps, self.coarser)):
            raise ValueError("there must be falling steps, and rising ones by level for each")

    def __len__(self) -> int:
        return len(self.steps)


class ResidualTransform(nn.Module):
    """Turn coefficients into what an image lacks: N x 192 x 2h x 2w -> N x 3 x 16h x 16w, and back."""

    def __init__(self) -> None:
        super().__init__()
        identity = torch.eye(COEFFICIENTS).reshape(COEFFICIENTS, 3, SIDE, SIDE)
        self.basis = nn.Parameter(identity, requires_grad=False)

    @property
    def is_fitted(self) -> bool:
        """Whether the basis is another than the one that a new transform has."""
        return not torch.equal(self.basis, ResidualTransform().basis.to(self.basis))

    def forward(self, coefficients: Tensor) -> Tensor:
        """Return what to add to the image."""
        return functional.conv_transpose2d(coefficients, self.basis, stride=SIDE)

    def analyse(self, missing: Tensor) -> Tensor:
        """Return the coefficients of what an image lacks."""
        inverse = torch.linalg.inv(self.basis.flatten(1).double()).T
        return functional.conv2d(missing, inverse.to(missing).reshape(self.basis.shape), stride=SIDE)

    @torch.no_grad()
    def fit(self, missing: Tensor, gradients: Tensor) -> None:
        """Set the basis.

        Args:
            missing: Blocks of what images lack, n x 192.
            gradients: Blocks of gradients of the detector's features, m x 192.
        """
        missing, gradients = missing.double(), gradients.double()
        sensitivity = gradients.T @ gradients
        felt, directions = torch.linalg.eigh(sensitivity * COEFFICIENTS / sensitivity.trace())
        root = (felt + _LEAST_SENSITIVITY * felt.max()).sqrt()
        whiten = directions * root @ directions.T
        _, main = torch.linalg.eigh(whiten @ (missing.T @ missing / len(missing)) @ whiten)
        # The coefficients of the largest deviation first.
        basis = directions / root @ directions.T @ main.flip(1)
        self.basis.copy_(basis.T.reshape(self.basis.shape))


def blocks_of(images: Tensor) -> Tensor:
    """Return the blocks of images, N x 3 x 8h x 8w: (N h w) x 192, row by row."""
    return functional.pixel_unshuffle(images, SIDE).permute(0, 2, 3, 1).reshape(-1, COEFFICIENTS)


def of_blocks(levels: Tensor) -> Tensor:
    """Return a map of levels, ... x h x w, for each block: ... x 2h x 2w."""
    return levels.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
