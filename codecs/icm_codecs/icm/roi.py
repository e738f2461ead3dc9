"""Where an image is worth bits: a small network looks for what may be an object, and the latent's steps grow elsewhere.

Only the encoder looks. What it finds becomes a map of a few levels, one for every position of the latent, which goes
into the bitstream; a level makes the step coarser by a whole number of scale indices, so that scale
indices move by just as many and nothing that the entropy coder reads is anything but integer. Regions of interest with
steps of their own are old practice (JPEG 2000 has them); the network, the levels and their steps are our choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.layer import Entries

MOST_COARSENING = 63
"""How much coarser a step can be, in scale indices: nothing is left of any scale then."""


@dataclass(frozen=True)
class RoiLevels(Entries):
    """How the probability of an object becomes a step.

    Attributes:
        probabilities: Where one level ends and the next begins, falling: level 0 lies above the first.
        first: How much coarser the first layer's step is at each level, in scale indices.
        second: The same of the enhancement layer, for each of the qualities that send it.
    """

    probabilities: tuple[float, ...] = (0.4, 0.15, 0.05)
    first: tuple[int, ...] = (0, 4, 8, 14)
    second: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.first)

    def check(self) -> None:
        """Raise ``ValueError`` where a step is missing, or two levels are in the wrong order."""
        every = (self.first, *self.second)
        falls = list(self.probabilities) == sorted(self.probabilities, reverse=True)
        if not (
            all(len(steps) == len(self.probabilities) + 1 for steps in every)
            and falls
            and all(map(are_steps, every))
            and all(0.0 < value < 1.0 for value in self.probabilities)
        ):
            raise ValueError(
                "there must be a rising step for each level, and a falling probability between two"
            )

    def of(self, logits: Tensor) -> Tensor:
        """Return the levels, int64, of what :class:`RoiNetwork` gives, of the same shape."""
        levels = torch.zeros_like(logits, dtype=torch.int64)
        for probability in self.probabilities:
            levels += logits < math.log(probability / (1.0 - probability))
        return levels

    def coarsening(self, qualities: int) -> Tensor:
        """Return how much coarser steps are, of the first layer and the second: 2 x qualities x levels int64."""
        second = (self.first,) * (qualities - len(self.second)) + self.second
        return torch.tensor([(self.first,) * qualities, second])


def are_steps(places: Sequence[int]) -> bool:
    """Tell whether steps do not become finer from level to level, and stay within :data:`MOST_COARSENING`."""
    return list(places) == sorted(places) and 0 <= places[0] <= places[-1] <= MOST_COARSENING


class RoiNetwork(nn.Module):
    """Tell how likely an object is near: N x 3 x 16h x 16w in 0..1 -> logits N x 1 x h x w.

    Its layers up to an eighth of the resolution have the shapes of the backbone of the detectors of ``scenes``, so
    that a training can begin with what those have learned to see.

    Args:
        channels: Of its features at a sixteenth of the resolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.quarter = nn.Sequential(_Block(32, 48, stride=2), _Block(48, 48))
        self.eighth = nn.Sequential(_Block(48, 80, stride=2), _Block(80, 80))
        self.to_sixteenth = nn.Conv2d(80, channels, 3, stride=2, padding=1)
        self.sixteenth = nn.Sequential(*(_Dilated(channels, dilation) for dilation in (1, 2)))
        self.head = nn.Conv2d(channels, 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, -0.8)  # type: ignore[arg-type]  # it has one

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, one for 16 x 16 pixels."""
        x = functional.relu(self.stem((image - 0.42) / 0.2))
        x = self.sixteenth(self.to_sixteenth(self.eighth(self.quarter(x))))
        logits: Tensor = self.head(functional.leaky_relu(x, 0.1))
        return logits.float()

    def begin_with(self, backbone: nn.Module) -> None:
        """Take over the first layers of a detector's backbone.

        Args:
            backbone: Of the detectors of ``scenes``, with its normalisations folded into its convolutions.

        Raises:
            AttributeError: It has no such layers.
            RuntimeError: They are of other shapes.
        """
        stem = backbone.get_submodule("stem")
        theirs = [stem.get_submodule("0.0"), *(stem.get_submodule(name) for name in "23")]
        theirs += list(backbone.get_submodule("stages.0").children())
        for ours, their in zip([self.stem, *self.quarter, *self.eighth], theirs, strict=True):
            state = {name.replace(".0.", "."): value for name, value in their.state_dict().items()}
            ours.load_state_dict(state)


class _Block(nn.Module):
    """Two convolutions and what skips them, as the detectors have them."""

    def __init__(self, n_in: int, n_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1)
        same = n_in == n_out and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(n_in, n_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.skip(x) + self.second(functional.relu(self.first(x))))


class _Dilated(nn.Module):
    """Add to the features what two convolutions make of them, the first of which looks further."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.second.weight, std=0.3 * self.second.weight[0].numel() ** -0.5)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.second(functional.leaky_relu(self.first(functional.leaky_relu(x, 0.1)), 0.1))
        return x + inner


def n_contexts(n_levels: int) -> int:
    """Return how many contexts :func:`contexts_of` tells apart."""
    return int((n_levels + 1) ** 3)


def contexts_of(levels: Tensor, n_levels: int) -> Tensor:
    """Return the number of each position's context: ... x rows x columns int64 -> the same.

    What lies outside counts as a level of its own.
    """
    padded = functional.pad(levels, (1, 1, 1, 0), value=n_levels)
    left, above, right = padded[..., 1:, :-2], padded[..., :-1, 1:-1], padded[..., :-1, 2:]
    return context_number((left, above, right), n_levels + 1)


def context_number(digits: Sequence[Tensor], base: int) -> Tensor:
    """Return the number that digits make, the first one's worth the most."""
    total = torch.zeros_like(digits[0])
    for digit in digits:
        total = base * total + digit
    return total
