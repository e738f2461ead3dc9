"""The ten forms that a detector has to find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A polygon of a form.

    Attributes:
        points: n x 2 corners (x right, y down) in the form's own units.
        solid: Whether the polygon adds to the form; else it is cut out of what was added before.
        tone: How much lighter (above 1) or darker the part is than the form's colour.
    """

    points: Points
    solid: bool = True
    tone: float = 1.0


Form = tuple[Part, ...]


def _disc(radius: float, x: float = 0.0, y: float = 0.0, squash: float = 1.0) -> Points:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * squash * np.sin(angle)], axis=1)


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _star(rng: np.random.Generator) -> Form:
    n = int(rng.integers(5, 7))
    radius = np.where(np.arange(2 * n) % 2 == 0, 1.0, rng.uniform(0.38, 0.5))
    angle = np.arange(2 * n) * np.pi / n - np.pi / 2
    return (Part(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)),)


def _ring(rng: np.random.Generator) -> Form:
    return Part(_disc(1.0)), Part(_disc(rng.uniform(0.5, 0.68)), solid=False)


def _cross(rng: np.random.Generator) -> Form:
    half = rng.uniform(0.2, 0.34)
    reach = rng.uniform(0.8, 1.0)
    return Part(_box(-half, -1, half, 1)), Part(_box(-reach, -half, reach, half))


def _arrow(rng: np.random.Generator) -> Form:
    half, head, neck = rng.uniform(0.12, 0.24), rng.uniform(0.5, 0.75), rng.uniform(-0.2, 0.15)
    barb = neck + rng.uniform(0.0, 0.15)
    corners = [(0, -1), (head, barb), (half, neck), (half, 1), (-half, 1), (-half, neck), (-head, barb)]
    return (Part(np.array(corners, np.float64)),)


def _crescent(rng: np.random.Generator) -> Form:
    inner = rng.uniform(0.78, 0.92)
    return Part(_disc(1.0)), Part(_disc(inner, x=rng.uniform(0.42, 0.58)), solid=False)


def _key(rng: np.random.Generator) -> Form:
    bow, shaft = rng.uniform(0.42, 0.52), rng.uniform(0.1, 0.14)
    teeth = int(rng.integers(2, 4))
    tops = 1 - 0.24 * np.arange(1, teeth + 1)
    reach = rng.uniform(0.3, 0.45, teeth)
    return (
        Part(_disc(bow, y=bow - 1)),
        Part(_box(-shaft, bow - 1, shaft, 1)),
        *(Part(_box(0, top, r, top + 0.14)) for top, r in zip(tops, reach, strict=True)),
        Part(_disc(bow * rng.uniform(0.45, 0.6), y=bow - 1), solid=False),
    )


def _ladder(rng: np.random.Generator) -> Form:
    width, rail, rung = rng.uniform(0.4, 0.55), rng.uniform(0.1, 0.14), rng.uniform(0.05, 0.07)
    rungs = np.linspace(-0.75, 0.75, int(rng.integers(4, 6)))
    return (
        Part(_box(-width, -1, -width + rail, 1)),
        Part(_box(width - rail, -1, width, 1)),
        *(Part(_box(-width, y - rung, width, y + rung), tone=0.9) for y in rungs),
    )


def _mug(rng: np.random.Generator) -> Form:
    foot, grip = rng.uniform(0.45, 0.62), rng.uniform(0.42, 0.52)
    body = np.array([(-0.66, -0.75), (0.66, -0.75), (foot, 0.85), (-foot, 0.85)])
    return (
        Part(_disc(grip, x=0.66)),
        Part(_disc(grip * rng.uniform(0.5, 0.62), x=0.68), solid=False),
        Part(body),
        Part(_disc(foot, y=0.85, squash=0.3)),
        Part(_disc(0.66, y=-0.75, squash=0.3), tone=1.15),
        Part(_disc(0.56, y=-0.75, squash=0.26), tone=0.45),
    )


def _gear(rng: np.random.Generator) -> Form:
    n = int(rng.integers(8, 12))
    root = rng.uniform(0.72, 0.78)
    profile = np.tile([root, 1.0, 1.0, root], n)
    angle = (np.arange(n)[:, None] + np.array([-0.28, -0.18, 0.18, 0.28])).ravel() * 2 * np.pi / n
    teeth = np.stack([profile * np.cos(angle), profile * np.sin(angle)], axis=1)
    return Part(teeth), Part(_disc(root * 0.8), tone=0.85), Part(_disc(rng.uniform(0.2, 0.32)), solid=False)


def _fork(rng: np.random.Generator) -> Form:
    tines = int(rng.integers(3, 5))
    half, tine, handle = rng.uniform(0.36, 0.44), 0.075, rng.uniform(0.09, 0.13)
    neck = rng.uniform(-0.35, -0.2)
    shoulder = [
        (-half, neck),
        (half, neck),
        (0.7 * half, neck + 0.26),
        (handle, neck + 0.4),
        (-handle, neck + 0.4),
    ]
    head = np.array([*shoulder, (-0.7 * half, neck + 0.26)])
    return (
        *(
            Part(_box(x - tine, -1, x + tine, neck + 0.02))
            for x in np.linspace(-half + tine, half - tine, tines)
        ),
        Part(head),
        Part(_box(-handle, neck + 0.2, handle, 1)),
    )


FORMS: Mapping[str, Callable[[np.random.Generator], Form]] = MappingProxyType(
    {
        "star": _star,
        "ring": _ring,
        "cross": _cross,
        "arrow": _arrow,
        "crescent": _crescent,
        "key": _key,
        "ladder": _ladder,
        "mug": _mug,
        "gear": _gear,
        "fork": _fork,
    }
)
"""What draws each form's parts, by its category's name, in the order of the category ids 1 to 10."""


def draw_form(rng: np.random.Generator, name: str, side: float) -> Form:
    """Draw a form in a pose.

    Args:
        rng: The source of chance.
        name: A key of ``FORMS``.
        side: The square root of the area of the form's bounding box, in pixels.

    Returns:
        The form's parts in pixels, its bounding box's upper left corner at the origin.
    """
    parts = FORMS[name](rng)
    pose = _draw_pose(rng)
    tilt = rng.uniform(-0.12, 0.12, 2)
    corners = [_project(part.points @ pose.T, tilt) for part in parts]
    everything = np.concatenate(corners)
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = side / np.sqrt(np.prod(high - low))
    return tuple(
        Part((points - low) * scale, part.solid, part.tone)
        for points, part in zip(corners, parts, strict=True)
    )


def _draw_pose(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(-np.pi / 4, np.pi / 4)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    stretch = np.exp(rng.uniform(-0.2, 0.2))
    mirror = rng.choice([-1.0, 1.0])
    shear = np.array([(mirror * stretch, rng.uniform(-0.15, 0.15)), (0.0, 1 / stretch)])
    return np.asarray(turn @ shear)


def _project(points: Points, tilt: NDArray[np.float64]) -> Points:
    return np.asarray(points / (1 + points @ tilt)[:, None])
