"""Where the training starts: at a quantised linear transform, written as these networks.

Each coefficient of the transform of 8 x 8 squares (:mod:`icm_codecs.training.klt_start`) is rounded to whole steps. One
bit of the code says whether it lies above zero, and one for each step whether its magnitude reaches it. So the
magnitude is a sum of bits, bits that are masked stand for less, and the first rectifier of the decoder can give each
its sign. Elsewhere two channels hold each coefficient, its positive and its negative part, so that rectifiers change
nothing. Channels follow each other by how often their bit is set, and every quality has a step size of its own, as wide
as its share of the channels needs. That networks start there, rather than at random weights as the paper's did, is our
choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from icm_codecs.content_weighted.network import STRIDE, ContentWeightedShape, Decoder, Encoder
from icm_codecs.training.klt_start import begin_with, markov_transforms

_REACH = 4.0
"""Standard deviations of a coefficient that its bits reach to."""

_DEAD_ZONE = 0.6
"""Steps that a coefficient must differ from a whole number of steps below to reach the next."""

_SLOPE = 6.0
"""How fast a bit's sigmoid rises, per step."""

_QUIET = 0.1
"""How much less than usual residual blocks add to begin with, where what they add to is of use already."""

_LEAST_WIDTH = 48
"""Half the positive and negative parts of three colours in squares of 4 x 4, which a layer twice as wide must hold."""


class _Bits(NamedTuple):
    """What each channel of the code says.

    Attributes:
        coefficient: Of which coefficient, n.
        level: Which step its magnitude reaches, n; 0 where the bit is the sign.
        steps: The step size of each quality, falling.
    """

    coefficient: Tensor
    level: Tensor
    steps: Tensor


def start_at_a_transform(
    encoder: Encoder, decoder: Decoder, shape: ContentWeightedShape, targets: Sequence[float]
) -> None:
    """Set networks that were just made to a quantised transform of 8 x 8 squares, if they are wide enough.

    Args:
        encoder: The encoder.
        decoder: The decoder.
        shape: How large both are.
        targets: Each quality's share of the code's channels, rising.
    """
    if shape.width < _LEAST_WIDTH:
        return
    transforms, variances = markov_transforms((shape.width // 2, shape.width), first=STRIDE // 2)
    first, second = (transform.float() for transform in transforms)
    bits = _bits_of(variances.float().sqrt(), shape.code, targets)
    blocks = (encoder.quarter, encoder.eighth, encoder.last, decoder.first, decoder.second, decoder.quarter)
    with torch.no_grad():
        for block in blocks:
            block.second.weight.mul_(_QUIET)
        # The encoder sees pixels as -2..2.
        begin_with(encoder.stem.weight, _parted(first / 4.0), at=2)
        begin_with(encoder.to_eighth.weight, _parts_to_parts(second), at=1)
        same = torch.eye(2 * len(second))[:, :, None, None]
        begin_with(encoder.middle.weight, same, at=1)
        encoder.feature_modulation.scale[:, : 2 * len(second)] = (bits.steps[-1] / bits.steps)[:, None]
        _start_code(encoder, bits, len(second))
        _start_parts(decoder, bits, len(second))
        decoder.modulation.scale[:, : 2 * len(second)] = (bits.steps / bits.steps[-1])[:, None]
        begin_with(decoder.middle.weight, _parts_to_squares(second), at=1)
        begin_with(decoder.to_quarter.weight, _parts_to_squares(first), at=1)
        begin_with(decoder.fine.weight, torch.eye(6)[:, :, None, None], at=1)
        begin_with(decoder.head.weight, _parted(torch.eye(3)[:, :, None, None]).transpose(0, 1), at=0)


def _bits_of(deviation: Tensor, n: int, targets: Sequence[float]) -> _Bits:
    level = torch.arange(n + 1)
    # How far out, in deviations, a step of one would put each bit. The sign comes just before the first step.
    reach = ((level - 0.5).clamp(min=0.499) / deviation[:, None]).flatten()
    order = reach.argsort()[:n]
    last = [max(0, round(target * n) - 1) for target in targets]
    return _Bits(order // (n + 1), order % (n + 1), _REACH / reach[order][last])


def _start_code(encoder: Encoder, bits: _Bits, n: int) -> None:
    is_sign, channel = bits.level == 0, torch.arange(len(bits.level))
    weight = torch.zeros(len(channel), 2 * n)
    weight[channel, bits.coefficient] = 1.0
    weight[channel, n + bits.coefficient] = torch.where(is_sign, -1.0, 1.0)
    begin_with(encoder.code_head.weight, _SLOPE / bits.steps[-1] * weight[:, :, None, None], at=0)
    encoder.code_head.bias.copy_(-_SLOPE * (bits.level.clamp(min=1) - 1.0 + _DEAD_ZONE))  # type: ignore[union-attr]  # it has one


def _start_parts(decoder: Decoder, bits: _Bits, n: int) -> None:
    """Let the stem give each magnitude to the positive part where the sign is set, else to the negative one."""
    weight, bias = torch.zeros(2 * n, len(bits.level)), torch.zeros(2 * n)
    for channel, (coefficient, level) in enumerate(zip(bits.coefficient, bits.level, strict=True)):
        if level > 0:
            weight[[coefficient, n + coefficient], channel] = 1.0
        else:
            most = float(((bits.coefficient == coefficient) & (bits.level > 0)).sum())
            weight[coefficient, channel], bias[coefficient] = most, -most
            weight[n + coefficient, channel] = -most
    begin_with(decoder.stem.weight, bits.steps[-1] * weight[:, :, None, None], at=1)
    decoder.stem.bias[: 2 * n] = bits.steps[-1] * bias  # type: ignore[index]  # it has one


def _parted(transform: Tensor) -> Tensor:
    """Return what gives positive and negative parts: twice as many results."""
    return torch.cat([transform, -transform])


def _parts_to_parts(transform: Tensor) -> Tensor:
    """Return a transform whose sources and results are both in parts."""
    return torch.cat([_parted(transform), -_parted(transform)], dim=1)


def _parts_to_squares(transform: Tensor) -> Tensor:
    """Return the way back, parts to parts at each position of the squares, for depth to space."""
    return _parts_to_parts(transform.permute(1, 2, 3, 0).flatten(0, 2))[:, :, None, None]
