"""Scenes: a world of occluding leaves, ten forms among them, and a camera that looks at it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw
from scipy import ndimage

from icm_bench.datasets.scenes.form import FORMS, Form, draw_form
from icm_bench.datasets.scenes.palette import draw_colours, draw_palette, to_linear
from icm_bench.datasets.scenes.texture import SIDE, textures
from icm_bench.image import Image

WIDTH, HEIGHT = 512, 384
"""The size of a scene in pixels."""

_SAMPLES = 2
_MAX_LEAVES = 6000
_SMALLEST, _LARGEST = 24.0, 150.0
_LEAST_VISIBLE = 0.6

Surfaces = NDArray[np.int32]
"""Which surface each sample shows: 2 HEIGHT x 2 WIDTH indices."""


@dataclass(frozen=True)
class Scene:
    """An image and what is in it.

    Attributes:
        image: The image, 384 x 512 x 3.
        instances: 384 x 512: 0, or 1 + the index of the object that the pixel shows.
        categories: The category ids (1 to 10) of the objects; each shows at least one pixel.
    """

    image: Image
    instances: NDArray[np.uint8]
    categories: tuple[int, ...]


def draw_scene(seed: int | tuple[int, ...]) -> Scene:
    """Draw a scene.

    Surfaces that occlude each other, in sizes that follow a power law, have natural images' scale invariance, their
    spectrum and their edges (Lee, Mumford and Huang, Occlusion models for natural images, IJCV 41, 2001).

    Args:
        seed: Fixes the scene; the same seed gives the same scene.
    """
    rng = np.random.default_rng(seed)
    world = _World(rng)
    world.scatter_leaves()
    objects = world.place_objects()
    world.strew_occluders(objects)
    instances, categories = _visible_instances(world.surfaces, objects)
    return Scene(_photograph(rng, world.radiance()), instances, categories)


@dataclass(frozen=True)
class _Object:
    surface: int
    category: int
    n_samples: int


class _World:
    """Surfaces on top of each other; later ones occlude earlier ones."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.height, self.width = HEIGHT * _SAMPLES, WIDTH * _SAMPLES
        self.canvas = PilImage.new("I", (self.width, self.height), 0)
        self.tones: NDArray[np.float32] = np.ones((self.height, self.width), np.float32)
        self.n_surfaces = 1
        n = _MAX_LEAVES
        self.palette = draw_palette(rng)
        self.colours = draw_colours(rng, self.palette, n)
        self.centres = np.zeros((n, 2), np.float32)
        self.centres[0] = self.width / 2, self.height / 2
        self.radii = np.full(n, float(self.width), np.float32)
        self.steepness = rng.normal(0.0, 0.16, (n, 2)).astype(np.float32)
        self.roundness = (rng.uniform(0.0, 0.35, n) * (rng.random(n) < 0.5)).astype(np.float32)
        self.texture = rng.integers(len(textures()), size=n)
        self.contrast = rng.gamma(1.5, np.exp(rng.uniform(-3.2, -1.4)), n).clip(0, 0.6).astype(np.float32)
        pitch = np.exp(rng.uniform(np.log(0.45), np.log(2.2), n))
        turn = rng.uniform(0, 2 * np.pi, n)
        self.warp = np.stack([pitch * np.cos(turn), pitch * np.sin(turn)], axis=1).astype(np.float32)
        self.offset = rng.integers(SIDE, size=(n, 2)).astype(np.float32)

    @property
    def surfaces(self) -> Surfaces:
        return np.asarray(self.canvas)

    def scatter_leaves(self) -> None:
        """Cover everything with leaves whose radii follow a power law, fewer small ones where it is calm."""
        rng = self.rng
        draw = ImageDraw.Draw(self.canvas)
        smallest, largest = rng.uniform(4.0, 10.0), rng.uniform(180.0, 420.0)
        n = int(np.exp(rng.uniform(np.log(700), np.log(5000))))
        inverse = rng.uniform(largest**-2.0, smallest**-2.0, n)
        radii = inverse**-0.5
        big = np.exp(rng.uniform(np.log(60), np.log(largest), 90))
        radii = np.concatenate([rng.permutation(big), rng.permutation(np.concatenate([radii, big[:30]]))])
        calm = _smooth_field(rng, self.height, self.width) > rng.uniform(0.2, 1.2)
        x, y = rng.uniform(0, self.width, len(radii)), rng.uniform(0, self.height, len(radii))
        for radius, cx, cy in zip(radii, x, y, strict=True):
            if radius < 40 and calm[int(cy), int(cx)]:
                continue
            surface = self._new_surface(cx, cy, radius)
            draw.polygon(_leaf(rng, cx, cy, radius), fill=surface)

    def place_objects(self) -> list[_Object]:
        """Lay objects on the leaves, none hiding much of another."""
        rng = self.rng
        objects: list[_Object] = []
        names = list(FORMS)
        sides = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST), int(rng.integers(6, 13)))) * _SAMPLES
        for side in sorted(sides, reverse=True):
            category = int(rng.integers(len(names)))
            for _ in range(8):
                placed = self._try_object(draw_form(rng, names[category], side), category + 1, objects)
                if placed is not None:
                    objects.append(placed)
                    break
        return objects

    def _try_object(self, form: Form, category: int, objects: list[_Object]) -> _Object | None:
        mask, tone = _rasterise(form)
        h, w = mask.shape
        if h >= self.height or w >= self.width:
            return None
        top = int(self.rng.integers(0, self.height - h))
        left = int(self.rng.integers(0, self.width - w))
        box = (slice(top, top + h), slice(left, left + w))
        if self._hides_too_much(mask, box, objects):
            return None
        surface = self._new_surface(left + w / 2, top + h / 2, max(h, w) / 2)
        self._colour_apart(surface, box)
        self.canvas.paste(surface, (left, top), PilImage.fromarray(mask))
        self.tones[box] = np.where(mask, tone * _bevel(self.rng, mask), self.tones[box])
        return _Object(surface, category, int(mask.sum()))

    def _hides_too_much(
        self, mask: NDArray[np.bool_], box: tuple[slice, slice], objects: list[_Object]
    ) -> bool:
        hidden = np.bincount(self.surfaces[box][mask], minlength=self.n_surfaces)
        if not hidden[[o.surface for o in objects]].any():
            return False
        left = np.bincount(self.surfaces.ravel(), minlength=self.n_surfaces) - hidden
        return any(left[o.surface] < _LEAST_VISIBLE * o.n_samples for o in objects)

    def _colour_apart(self, surface: int, box: tuple[slice, slice]) -> None:
        """Give an object the colour, of a few drawn, that is apart from what it lies on, as things seen are."""
        ground = self.colours[self.surfaces[box][::4, ::4]].reshape(-1, 3).mean(axis=0)
        colours = draw_colours(self.rng, self.palette, 6)
        distance = np.abs((colours - ground) @ np.array([0.5, 0.8, 0.3], np.float32))
        apart = np.flatnonzero(distance > 0.25)
        self.colours[surface] = colours[apart[0] if len(apart) else int(distance.argmax())]
        self.contrast[surface] = min(self.contrast[surface], 0.22)

    def strew_occluders(self, objects: list[_Object]) -> None:
        """Let a few twigs and leaves fall on everything, none hiding much of an object."""
        rng = self.rng
        for _ in range(int(rng.integers(2, 14))):
            cx, cy = rng.uniform(0, self.width), rng.uniform(0, self.height)
            radius = float(np.exp(rng.uniform(np.log(12), np.log(90))))
            points = np.array(_leaf(rng, cx, cy, radius))
            low = np.floor(points.min(axis=0)).astype(int).clip(0)
            high = np.ceil(points.max(axis=0)).astype(int).clip(None, (self.width, self.height))
            if (high - low < 1).any():
                continue
            canvas = PilImage.new("1", (int(high[0] - low[0]), int(high[1] - low[1])))
            ImageDraw.Draw(canvas).polygon([tuple(p) for p in points - low], fill=1)
            mask = np.asarray(canvas)
            box = (slice(low[1], high[1]), slice(low[0], high[0]))
            if self._hides_too_much(mask, box, objects):
                continue
            surface = self._new_surface(cx, cy, radius)
            self.canvas.paste(surface, (int(low[0]), int(low[1])), canvas)
            self.tones[box] = np.where(mask, 1, self.tones[box])

    def _new_surface(self, cx: float, cy: float, radius: float) -> int:
        surface = self.n_surfaces
        self.n_surfaces += 1
        self.centres[surface] = cx, cy
        self.radii[surface] = radius
        return surface

    def radiance(self) -> NDArray[np.float32]:
        """Light the surfaces: height x width x 3 samples of linear light."""
        surfaces = self.surfaces
        y, x = np.mgrid[: self.height, : self.width].astype(np.float32)
        centres = self.centres[surfaces]
        radius = self.radii[surfaces]
        dx, dy = (x - centres[..., 0]) / radius, (y - centres[..., 1]) / radius
        steepness = self.steepness[surfaces]
        shade = 1 + dx * steepness[..., 0] + dy * steepness[..., 1]
        shade -= self.roundness[surfaces] * (dx * dx + dy * dy - 0.4)
        shade += self.contrast[surfaces] * self._textured(surfaces, x, y)
        shade *= self.tones * self._shadow(surfaces) * self._daylight()
        np.clip(shade, 0.04, 3.0, out=shade)
        return np.asarray(to_linear(self.colours)[surfaces] * shade[..., None], np.float32)

    def _textured(
        self, surfaces: Surfaces, x: NDArray[np.float32], y: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        warp, offset = self.warp[surfaces], self.offset[surfaces]
        u = (warp[..., 0] * x - warp[..., 1] * y + offset[..., 0]).astype(np.int32) % SIDE
        v = (warp[..., 1] * x + warp[..., 0] * y + offset[..., 1]).astype(np.int32) % SIDE
        flat = textures().reshape(-1)
        return np.asarray(flat[(self.texture[surfaces].astype(np.int32) * SIDE + u) * SIDE + v])

    def _shadow(self, surfaces: Surfaces) -> NDArray[np.float32]:
        """Darken a sample by what lies above it around it and towards the light."""
        rng = self.rng
        height = (np.arange(self.n_surfaces) / self.n_surfaces).astype(np.float32)[surfaces]
        coarse = height[::_SAMPLES, ::_SAMPLES]
        near = ndimage.gaussian_filter(coarse, 2.5, mode="nearest", truncate=3.0)
        towards_light = tuple(int(v) for v in rng.integers(-5, 6, 2))
        cast = np.roll(ndimage.uniform_filter(coarse, 4, mode="nearest"), towards_light, axis=(0, 1))
        occlusion = np.repeat(np.repeat(np.stack([near, cast]), _SAMPLES, axis=1), _SAMPLES, axis=2)
        depth = np.clip(occlusion - height, 0, 0.5)
        return np.asarray((1 - rng.uniform(0.4, 1.0) * depth[0]) * (1 - rng.uniform(0.1, 0.9) * depth[1]))

    def _daylight(self) -> NDArray[np.float32]:
        field = _smooth_field(self.rng, self.height, self.width)
        return np.asarray(np.exp(self.rng.uniform(0.1, 0.35) * field), np.float32)


def _leaf(rng: np.random.Generator, cx: float, cy: float, radius: float) -> list[tuple[float, float]]:
    """Return the outline of an ellipse, a wavy blob, a polygon or a twig."""
    kind = rng.random()
    turn = rng.uniform(0, 2 * np.pi)
    if kind < 0.25:
        n, squash, wave = 24, rng.uniform(0.4, 1.0), 0.0
    elif kind < 0.6:
        n, squash, wave = 28, rng.uniform(0.4, 1.0), rng.uniform(0.05, 0.25)
    elif kind < 0.85:
        n, squash, wave = int(rng.integers(3, 7)), rng.uniform(0.5, 1.0), 0.0
    else:
        n, squash, wave = 16, rng.uniform(0.04, 0.16), 0.1
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    if n < 8:
        angle = angle + rng.uniform(-0.35, 0.35, n)
    r = np.full(n, radius / np.sqrt(squash))
    for k in (2, 3, 5):
        r = r * (1 + wave * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) / np.sqrt(k))
    x, y = r * np.cos(angle), squash * r * np.sin(angle)
    c, s = np.cos(turn), np.sin(turn)
    return list(zip((cx + c * x - s * y).tolist(), (cy + s * x + c * y).tolist(), strict=True))


def _rasterise(form: Form) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return a form's samples and their tones."""
    w, h = np.ceil(np.max([part.points.max(axis=0) for part in form], axis=0)).astype(int) + 1
    canvas = PilImage.new("F", (int(w), int(h)), 0.0)
    draw = ImageDraw.Draw(canvas)
    for part in form:
        draw.polygon([tuple(p) for p in part.points], fill=part.tone if part.solid else 0.0)
    tone = np.asarray(canvas)
    return tone > 0, tone


def _bevel(rng: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Light a form's edges as if they were rounded."""
    relief = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(1.5, 4.0), mode="constant")
    light = rng.uniform(0, 2 * np.pi)
    dy, dx = np.gradient(relief)
    return np.asarray(1 + rng.uniform(0.5, 2.0) * (np.cos(light) * dx + np.sin(light) * dy), np.float32)


def _smooth_field(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Return a slow field of mean 0 and standard deviation about 1."""
    coarse = ndimage.zoom(rng.normal(size=(5, 6)), (height / 64 / 5, width / 64 / 6), order=3, mode="nearest")
    return np.asarray(
        ndimage.zoom(coarse, (height / coarse.shape[0], width / coarse.shape[1]), order=1), np.float32
    )


def _visible_instances(
    surfaces: Surfaces, objects: list[_Object]
) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """Give each pixel to the object that at least half of its samples show, the upper one where two do."""
    instances = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index, item in enumerate(objects, start=1):
        shown = (surfaces == item.surface).reshape(HEIGHT, _SAMPLES, WIDTH, _SAMPLES)
        instances[shown.sum(axis=(1, 3)) >= _SAMPLES * _SAMPLES / 2] = index
    return instances, tuple(item.category for item in objects)


def _photograph(rng: np.random.Generator, radiance: NDArray[np.float32]) -> Image:
    """Take the image: lens, exposure, white balance, sensor noise, sharpening, tone curve, 8 bits."""
    light = radiance.reshape(HEIGHT, _SAMPLES, WIDTH, _SAMPLES, 3).mean(axis=(1, 3))
    light = ndimage.gaussian_filter(light, (*(rng.uniform(0.3, 0.5),) * 2, 0), mode="nearest", truncate=3.0)
    light *= rng.uniform(0.65, 1.45) * 0.17 / max(float(light.mean()), 0.06)
    light *= rng.normal(1.0, 0.04, 3).astype(np.float32)
    noise = rng.normal(size=light.shape).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, (0.6, 0.6, 0.6), truncate=2.0)
    light += noise * np.sqrt(np.clip(light, 0, None) * rng.uniform(0.2e-5, 2e-5) + 1e-7)
    light = np.clip(light, 0, None)
    light = light / (1 + 0.12 * light) * 1.12
    coded = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * np.clip(light, 1e-6, None) ** (1 / 2.4) - 0.055
    )
    return np.asarray(np.clip(np.round(coded * 255), 0, 255), np.uint8)
