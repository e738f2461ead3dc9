"""The recurrent networks of Islam et al. (CVPRW 2021, arXiv 2109.01999), in floating point, as they are trained.

An encoder turns what is still missing of an image into 32 bits per block of 16 x 16 pixels; a decoder turns the bits
into an image. Both remember what they did, and are run up to 16 times: every iteration adds 0.125 bit per pixel.
Layers, kernels and strides are the paper's; biases (in the convolutions of a cell's input, none in those of its
hidden state) and their initial values are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.bitstream.quiet import quiet_import
from icm_codecs.layer import Entries

with quiet_import():
    from compressai.layers import GDN

STRIDE = 16
"""Pixels to a block, in each direction."""

BITS = 32
"""Bits a block and iteration."""

ITERATIONS = 16
"""The most iterations: the paper's."""

PAPER_WIDTH = 64
"""Channels of the first convolution in the paper."""

Reconstruction = Literal["additive", "one-shot"]
"""Whether an iteration's output is added to the image so far (the paper's choice) or is the image."""


@dataclass(frozen=True)
class RnnShape(Entries):
    """How large the networks are, and which of the variants they form.

    Attributes:
        width: Channels of the first convolution, even; all others are multiples of it. 64 is the paper's, with
            64-256-512-512 channels in the encoder and 512-512-512-256-128 in the decoder.
        iterations: How many iterations it is trained for, and the most that it codes with, 1 to 16.
        gdn: Whether there are the normalisations that the paper adds.
        reconstruction: How images are put together.
    """

    width: int = PAPER_WIDTH
    iterations: int = ITERATIONS
    gdn: bool = True
    reconstruction: Reconstruction = "additive"

    def __post_init__(self) -> None:
        requirements = {
            "width is even and positive": isinstance(self.width, int) and self.width % 2 == 0 < self.width,
            f"iterations is 1 to {ITERATIONS}": self.iterations in range(1, ITERATIONS + 1),
            "gdn is true or false": isinstance(self.gdn, bool),
            "reconstruction is additive or one-shot": self.reconstruction in ("additive", "one-shot"),
        }
        broken = [requirement for requirement, holds in requirements.items() if not holds]
        if broken:
            raise ValueError(f"it must hold that {broken[0]}")


class CellState(NamedTuple):
    """What a cell remembers, both batch x channels x height x width."""

    hidden: Tensor
    cell: Tensor


State: TypeAlias = tuple[CellState, ...]
"""What all cells of a network remember, in their order; empty before the first iteration."""


class ConvLstm(nn.Module):
    """A long short-term memory whose gates are convolutions.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the hidden state, which is the output.
        stride: Of the 3 x 3 convolution of the input.
        hidden_kernel: Side of the convolution of the hidden state.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, hidden_kernel: int = 1) -> None:
        super().__init__()
        self.input_gates = nn.Conv2d(inputs, 4 * outputs, 3, stride=stride, padding=1)
        self.hidden_gates = nn.Conv2d(
            outputs, 4 * outputs, hidden_kernel, padding=hidden_kernel // 2, bias=False
        )
        # Half-closed gates and the usual small weights would shrink the signal sevenfold a cell: the bits would be
        # drawn regardless of the image, and it would take long to learn otherwise.
        nn.init.constant_(self.input_gates.bias[: 3 * outputs], 1.0)  # type: ignore[index]  # it has a bias
        nn.init.normal_(self.input_gates.weight[3 * outputs :], std=2.0 * (9 * inputs) ** -0.5)

    def forward(self, x: Tensor, state: CellState | None) -> CellState:
        """Return the next state; None stands for a state of zeros."""
        gates: Tensor = self.input_gates(x)
        if state is not None:
            gates = gates + self.hidden_gates(state.hidden)
        enter, forget, output, candidate = gates.chunk(4, dim=1)
        cell = torch.sigmoid(enter) * torch.tanh(candidate)
        if state is not None:
            cell = cell + torch.sigmoid(forget) * state.cell
        return CellState(torch.sigmoid(output) * torch.tanh(cell), cell)


class Encoder(nn.Module):
    """What is missing of an image -> one value in -1..1 for each bit."""

    def __init__(self, shape: RnnShape) -> None:
        super().__init__()
        width = shape.width
        self.first = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.gdn = GDN(width) if shape.gdn else nn.Identity()
        self.cells = nn.ModuleList(
            [
                ConvLstm(width, 4 * width, stride=2),
                ConvLstm(4 * width, 8 * width, stride=2),
                ConvLstm(8 * width, 8 * width, stride=2),
            ]
        )
        self.binariser = nn.Conv2d(8 * width, BITS, 1)
        nn.init.normal_(self.first.weight, std=2.0 * 27**-0.5)
        nn.init.normal_(self.binariser.weight, std=2.0 * (8 * width) ** -0.5)

    def forward(self, residual: Tensor, state: State) -> tuple[Tensor, State]:
        """Return batch x 32 x H/16 x W/16 in -1..1, and what to remember.

        Args:
            residual: Batch x 3 x H x W, sides multiples of 16.
            state: What the previous iteration returned, empty at the first.
        """
        x = self.gdn(self.first(residual))
        states: list[CellState] = []
        for index, cell in enumerate(self.cells):
            states.append(cell(x, state[index] if state else None))
            x = states[-1].hidden
        return torch.tanh(self.binariser(x)), tuple(states)


class Decoder(nn.Module):
    """Bits -> what they say of an image."""

    def __init__(self, shape: RnnShape) -> None:
        super().__init__()
        width = shape.width
        self.first = nn.Conv2d(BITS, 8 * width, 1)
        self.gdn = GDN(8 * width, inverse=True) if shape.gdn else nn.Identity()
        self.cells = nn.ModuleList(
            [
                ConvLstm(8 * width, 8 * width),
                ConvLstm(2 * width, 8 * width),
                ConvLstm(2 * width, 4 * width, hidden_kernel=3),
                ConvLstm(width, 2 * width, hidden_kernel=3),
            ]
        )
        self.last = nn.Conv2d(width // 2, 3, 1)

    def forward(self, bits: Tensor, state: State) -> tuple[Tensor, State]:
        """Return batch x 3 x H x W in -0.5..0.5, and what to remember.

        Args:
            bits: Batch x 32 x H/16 x W/16, each -1 or 1.
            state: What the previous iteration returned, empty at the first.
        """
        x = self.gdn(self.first(bits))
        states: list[CellState] = []
        for index, cell in enumerate(self.cells):
            states.append(cell(x, state[index] if state else None))
            x = functional.pixel_shuffle(states[-1].hidden, 2)
        return torch.tanh(self.last(x)) / 2.0, tuple(states)


class RnnNetwork(nn.Module):
    """The encoder and the decoder."""

    def __init__(self, shape: RnnShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)

    def add(self, image: Tensor | None, output: Tensor) -> Tensor:
        """Return the image after an iteration, from the one before (None at the first) and the decoder's output."""
        # Equation: x^_t = D_t(b_t) + gamma x^_{t-1}, gamma = 1 additive, 0 one-shot.
        return output if image is None or self.shape.reconstruction == "one-shot" else output + image

    def forward(self, image: Tensor, iterations: int, *, drawn: bool = True) -> list[Tensor]:
        """Return the image after each iteration, as in training.

        Args:
            image: Batch x 3 x H x W in -0.5..0.5, sides multiples of 16.
            iterations: How many.
            drawn: Whether bits are drawn at random, as in the paper's training, or are the signs that are coded.
        """
        bits_of = drawn_bits if drawn else sign_bits
        residual, seen = image, None
        encoder_state: State = ()
        decoder_state: State = ()
        images = []
        for _ in range(iterations):
            values, encoder_state = self.encoder(residual, encoder_state)
            output, decoder_state = self.decoder(bits_of(values), decoder_state)
            seen = self.add(seen, output)
            residual = image - seen
            images.append(seen)
        return images


def drawn_bits(values: Tensor) -> Tensor:
    """Draw 1 with probability (1 + value) / 2, else -1; gradients pass as if the values themselves were returned."""
    return _through(values, torch.rand_like(values) * 2.0 - 1.0 < values)


def sign_bits(values: Tensor) -> Tensor:
    """Return 1 where a value is positive, else -1; gradients pass as if the values themselves were returned."""
    return _through(values, values > 0.0)


def _through(values: Tensor, positive: Tensor) -> Tensor:
    bits = torch.where(positive, 1.0, -1.0).to(values)
    return values + (bits - values).detach()
