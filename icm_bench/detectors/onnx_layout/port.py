"""Find the inputs and outputs of a graph that belong to a layout."""

from __future__ import annotations

from icm_bench.detectors.onnx_layout.layout import Graph, ImageInput, LayoutMismatch, SizeMismatch
from icm_bench.detectors.onnx_model import Port


def image_input(graph: Graph, size: tuple[int, int] | None, side: int | None) -> ImageInput:
    """Return the image's input, with the size that the graph fixes, else the one asked for, else the family's."""
    for port in graph.inputs:
        if port.kind not in ("float", "float16", "uint8"):
            continue
        for axes, last, batch in (
            ((1, 3, None, None), False, True),
            ((1, None, None, 3), True, True),
            ((3, None, None), False, False),
        ):
            if port.fits(*axes):
                height, width = port.shape[1:3] if last else port.shape[-2:]
                if size is not None:
                    if not port.fits(*((1, *size, 3) if last else (*axes[:-2], *size))):
                        raise SizeMismatch(f"its input is {port}, not {size[1]} wide and {size[0]} high")
                    fixed: tuple[int, int] | None = size
                elif height is None or width is None:
                    fixed = None if side is None else (height or side, width or side)
                else:
                    fixed = (height, width)
                return ImageInput(port.name, fixed, port.kind, last, batch)
    raise LayoutMismatch("no input takes an image of three channels")


def only_image(graph: Graph, size: tuple[int, int] | None, side: int | None) -> ImageInput:
    """Return the image's input of a graph that takes nothing else."""
    if len(graph.inputs) != 1:
        raise LayoutMismatch(f"{len(graph.inputs)} inputs instead of the image alone")
    return image_input(graph, size, side)


def count_outputs(graph: Graph, *numbers: int) -> tuple[Port, ...]:
    """Return the outputs of a graph; refuse other numbers of them than the given ones."""
    if len(graph.outputs) not in numbers:
        raise LayoutMismatch(f"{len(graph.outputs)} outputs instead of {' or '.join(map(str, numbers))}")
    return graph.outputs


def require_axes(port: Port, *axes: int | None) -> None:
    """Refuse an output of another shape; None is an axis of any length."""
    if not port.fits(*axes):
        wanted = "x".join("?" if axis is None else str(axis) for axis in axes)
        raise LayoutMismatch(f"{port} instead of {wanted}")
