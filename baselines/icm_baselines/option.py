"""What a codec's constructor may be given, checked."""

from __future__ import annotations

from collections.abc import Mapping

from icm_bench.codec import Quality
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image, check_image


def short_label(name: str, options: Mapping[str, str], *, named: str = "", unsaid: str = "") -> str:
    """Return a label: the name with one option's value behind it, and the other options.

    Args:
        name: The format's name.
        options: A canonical spec's.
        named: The option whose value needs no name.
        unsaid: The option that makes no difference to what is measured.
    """
    others = [f"{key} {value}" for key, value in options.items() if key not in (named, unsaid)]
    return ", ".join([" ".join(filter(None, [name, options.get(named, "")])), *others])


def whole(value: Quality, low: int, high: int, *, where: str) -> int:
    """Return a whole number within bounds.

    Raises:
        UsageError: It is not whole or lies outside.
    """
    if value != int(value) or not low <= value <= high:
        raise UsageError(f"{value:g} is not a whole number from {low} to {high}", where=where)
    return int(value)


def real(value: Quality, low: float, high: float, *, where: str) -> float:
    """Return a number within bounds.

    Raises:
        UsageError: It lies outside.
    """
    if not low <= value <= high:
        raise UsageError(f"{value:g} is not a number from {low:g} to {high:g}", where=where)
    return float(value)


def check_sides(image: Image, width: int, height: int, *, where: str) -> None:
    """Refuse an image that is larger, in pixels, than a format or its encoder can code.

    Raises:
        CodecError: It is larger, or no image.
    """
    check_image(image, where=where)
    if image.shape[1] > width or image.shape[0] > height:
        raise CodecError(
            f"codes images of {width}x{height} pixels at most, not one of {image.shape[1]}x{image.shape[0]}",
            where=where,
            hint="leave the image out, or scale it down",
        )
