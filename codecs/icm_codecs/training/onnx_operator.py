"""ONNX operators as differentiable torch functions: tensors by position, attributes by keyword.

Only what detectors' graphs for inference hold. A setting that has no counterpart raises ``TrainingError``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from icm_bench.error import TrainingError

Operator = Callable[..., Any]
"""Returns a tensor, or several."""

_TYPES = MappingProxyType(
    {
        1: torch.float32,
        2: torch.uint8,
        3: torch.int8,
        6: torch.int32,
        7: torch.int64,
        9: torch.bool,
        10: torch.float16,
        11: torch.float64,
    }
)
"""ONNX's numbers of types."""


def _unsupported(operator: str, what: str) -> TrainingError:
    hint = "export the detector with other settings, or choose taps before this operator"
    return TrainingError(f"gradients cannot pass {operator} with {what}", hint=hint)


def _whole(values: Tensor | Sequence[int] | None) -> list[int]:
    if values is None:
        return []
    return [int(v) for v in (values.reshape(-1).tolist() if isinstance(values, Tensor) else values)]


def _padded(x: Tensor, pads: Sequence[int], value: float) -> Tensor:
    top, left, bottom, right = pads
    return functional.pad(x, (left, right, top, bottom), value=value) if any(pads) else x


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel_shape: Sequence[int] = (),
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Tensor:
    del kernel_shape  # that of the weight
    if x.ndim != 4 or auto_pad not in ("NOTSET", "VALID"):
        raise _unsupported("Conv", f"auto_pad {auto_pad} of {x.ndim} dimensions")
    if list(pads[:2]) == list(pads[2:]):
        return functional.conv2d(x, weight, bias, list(strides), list(pads[:2]), list(dilations), group)
    return functional.conv2d(_padded(x, pads, 0.0), weight, bias, list(strides), 0, list(dilations), group)


def _max_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    ceil_mode: int = 0,
    auto_pad: str = "NOTSET",
    storage_order: int = 0,
) -> Tensor:
    if auto_pad not in ("NOTSET", "VALID") or storage_order:
        raise _unsupported("MaxPool", f"auto_pad {auto_pad} or storage_order {storage_order}")
    padded = _padded(x, pads, -math.inf)
    return functional.max_pool2d(
        padded, list(kernel_shape), list(strides), 0, list(dilations), ceil_mode=bool(ceil_mode)
    )


def _average_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    ceil_mode: int = 0,
    auto_pad: str = "NOTSET",
    count_include_pad: int = 0,
) -> Tensor:
    if auto_pad not in ("NOTSET", "VALID") or list(pads[:2]) != list(pads[2:]):
        raise _unsupported("AveragePool", f"auto_pad {auto_pad} and pads {list(pads)}")
    return functional.avg_pool2d(
        x, list(kernel_shape), list(strides), list(pads[:2]), bool(ceil_mode), bool(count_include_pad)
    )


def _resize(
    x: Tensor,
    _roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    antialias: int = 0,
    cubic_coeff_a: float = -0.75,
) -> Tensor:
    del cubic_coeff_a
    if sizes is not None and sizes.numel():
        size = _whole(sizes)[2:]
    elif scales is not None:
        size = [math.floor(side * float(k)) for side, k in zip(x.shape[2:], scales[2:], strict=True)]
    else:
        size = []
    corners = coordinate_transformation_mode == "align_corners"
    grows = all(wanted % side == 0 for wanted, side in zip(size, x.shape[2:], strict=False))
    floors = coordinate_transformation_mode == "asymmetric" and nearest_mode == "floor"
    # Where a side grows by a whole factor, all ways of rounding are the same.
    same = coordinate_transformation_mode in ("half_pixel", "pytorch_half_pixel")
    if mode == "nearest" and len(size) == 2 and (floors or (grows and same)):
        return functional.interpolate(x, size=size, mode="nearest")
    if mode == "linear" and len(size) == 2 and (corners or same) and not antialias:
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=corners)
    raise _unsupported("Resize", f"mode {mode}, {coordinate_transformation_mode}, {nearest_mode}")


def _slice(
    x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    first, last = _whole(starts), _whole(ends)
    along = _whole(axes) or list(range(len(first)))
    strides = _whole(steps) or [1] * len(first)
    for start, end, axis, step in zip(first, last, along, strides, strict=True):
        length = x.shape[axis]
        # A negative end beyond the beginning means that the first element is taken.
        bound = None if step < 0 and end < -length else end
        if step > 0:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(start, bound, step),)]
        else:
            taken = list(range(*slice(start, bound, step).indices(length)))
            x = x.index_select(axis, torch.tensor(taken, dtype=torch.int64, device=x.device))
    return x


def _reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    wanted = _whole(shape)
    return x.reshape([x.shape[k] if v == 0 and not allowzero else v for k, v in enumerate(wanted)])


def _pad(
    x: Tensor,
    pads: Tensor,
    value: Tensor | None = None,
    axes: Tensor | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    amounts, along = _whole(pads), [axis % x.ndim for axis in _whole(axes)] or list(range(x.ndim))
    if mode != "constant":
        raise _unsupported("Pad", f"mode {mode}")
    before, after = [0] * x.ndim, [0] * x.ndim
    for k, axis in enumerate(along):
        before[axis], after[axis] = amounts[k], amounts[k + len(along)]
    flat = [side for axis in reversed(range(x.ndim)) for side in (before[axis], after[axis])]
    return functional.pad(x, flat, value=0.0 if value is None else float(value))


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def reduce(
        x: Tensor,
        along: Tensor | None = None,
        *,
        axes: Sequence[int] = (),
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        chosen = _whole(along) or list(axes)
        if not chosen and noop_with_empty_axes:
            return x
        return function(x, chosen or list(range(x.ndim)), bool(keepdims))

    return reduce


def _split(
    x: Tensor, sizes: Tensor | None = None, *, axis: int = 0, split: Sequence[int] = (), num_outputs: int
) -> tuple[Tensor, ...]:
    chosen = _whole(sizes) or list(split)
    return torch.split(x, chosen or -(-x.shape[axis] // num_outputs), axis)


def _unsqueeze(x: Tensor, along: Tensor | None = None, *, axes: Sequence[int] = ()) -> Tensor:
    chosen = _whole(along) or list(axes)
    for axis in sorted(axis % (x.ndim + len(chosen)) for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, along: Tensor | None = None, *, axes: Sequence[int] = ()) -> Tensor:
    chosen = _whole(along) or list(axes)
    return x.squeeze(tuple(chosen)) if chosen else x.squeeze()


def _gather(x: Tensor, index: Tensor, *, axis: int = 0) -> Tensor:
    axis, index = axis % x.ndim, torch.where(index < 0, index + x.shape[axis], index)
    found = x.index_select(axis, index.reshape(-1))
    return found.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _grid_sample(
    x: Tensor, grid: Tensor, *, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: int = 0
) -> Tensor:
    if mode not in ("bilinear", "linear", "nearest"):
        raise _unsupported("GridSample", f"mode {mode}")
    mode = "nearest" if mode == "nearest" else "bilinear"
    return functional.grid_sample(x, grid, mode, padding_mode, bool(align_corners))


def _gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803 - ONNX's name
) -> Tensor:
    product = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return product if c is None else product + beta * c


def _divide(a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _clip(
    x: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
    *,
    min: float | None = None,  # noqa: A002 - ONNX's name
    max: float | None = None,  # noqa: A002 - ONNX's name
) -> Tensor:
    bounds = (min if low is None else low, max if high is None else high)
    return x if bounds == (None, None) else torch.clamp(x, *bounds)  # type: ignore[arg-type]  # both a tensor or a number


def _flat_softmax(x: Tensor, *, axis: int = 1) -> Tensor:
    """Softmax before version 13: over all axes from one on."""
    return torch.softmax(x.flatten(axis % x.ndim), -1).reshape(x.shape)


def _batch_normalisation(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor:
    del momentum
    if training_mode:
        raise _unsupported("BatchNormalization", "training_mode")
    return functional.batch_norm(x, mean, variance, scale, shift, eps=epsilon)


def _layer_normalisation(
    x: Tensor,
    scale: Tensor,
    shift: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    del stash_type
    return functional.layer_norm(x, x.shape[axis % x.ndim :], scale, shift, epsilon)


def _cast(x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    del saturate
    if to not in _TYPES:
        raise _unsupported("Cast", f"type {to}")
    # A network in double precision keeps it.
    return x if x.is_floating_point() and _TYPES[to].is_floating_point else x.to(_TYPES[to])


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


def _top_k(
    x: Tensor,
    k: Tensor,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002 - ONNX's name
) -> tuple[Tensor, Tensor]:
    values, indices = torch.topk(x, int(k), axis, bool(largest), bool(sorted))
    return values, indices


def _concat(*tensors: Tensor, axis: int) -> Tensor:
    return torch.cat([tensor.reshape(-1) if tensor.ndim == 0 else tensor for tensor in tensors], axis)


def _flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    return x.reshape(math.prod(x.shape[: axis % (x.ndim + 1)]), -1)


def _transpose(x: Tensor, *, perm: Sequence[int] = ()) -> Tensor:
    return x.permute(list(perm) or list(reversed(range(x.ndim))))


def _of_tensors(function: Callable[..., Tensor]) -> Operator:
    """Return a function of tensors alone: of torch's own, nobody can ask which attributes they take."""
    return lambda *tensors: function(*tensors)


_ALIKE = "Abs Add Erf Exp Floor Log MatMul Mul Neg Pow Relu Sigmoid Sqrt Sub Tanh Where".split()  # noqa: SIM905
"""What torch calls by the same names."""

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        **{name: _of_tensors(getattr(torch, name.lower())) for name in _ALIKE},
        "AveragePool": _average_pool,
        "BatchNormalization": _batch_normalisation,
        "Cast": _cast,
        "Clip": _clip,
        "Concat": _concat,
        "Conv": _conv,
        "Div": _divide,
        "Equal": lambda a, b: a == b,
        "Expand": lambda x, shape: x * torch.ones(_whole(shape), dtype=x.dtype, device=x.device),
        "Flatten": _flatten,
        "Gather": _gather,
        "GatherElements": lambda x, index, *, axis=0: torch.gather(x, axis, index),
        "Gemm": _gemm,
        "GlobalAveragePool": lambda x: x.mean(dim=(2, 3), keepdim=True),
        "GridSample": _grid_sample,
        "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0.0, 1.0),
        "HardSwish": lambda x: functional.hardswish(x),
        "Identity": lambda x: x,
        "LayerNormalization": _layer_normalisation,
        "LeakyRelu": lambda x, *, alpha=0.01: functional.leaky_relu(x, alpha),
        "Max": lambda a, b: torch.maximum(a, b),
        "MaxPool": _max_pool,
        "Min": lambda a, b: torch.minimum(a, b),
        "Pad": _pad,
        "ReduceMax": _reduction(torch.amax),
        "ReduceMean": _reduction(torch.mean),
        "ReduceMin": _reduction(torch.amin),
        "ReduceSum": _reduction(torch.sum),
        "Reshape": _reshape,
        "Resize": _resize,
        "Shape": _shape,
        "Slice": _slice,
        "Softmax": lambda x, *, axis=-1: torch.softmax(x, axis),
        "Softmax before 13": _flat_softmax,
        "Split": _split,
        "Squeeze": _squeeze,
        "Tile": lambda x, repeats: x.repeat(_whole(repeats)),
        "TopK": _top_k,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
