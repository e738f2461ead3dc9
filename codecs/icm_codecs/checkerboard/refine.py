"""Refine a latent at the encoder: gradient steps of the training's loss on the one image that is coded.

An analysis network is trained for all images; what it says of one can be bettered by looking at that image alone
(Campos et al., "Content adaptive optimization for neural image compression", CVPR 2019 workshops; for machines Le et
al., "Learned image coding for machines: a content-adaptive approach", ICME 2021). Decoders and bitstreams stay as they
are. The distortion is that of the weights' training, its teachers included: no other detector is asked. Ours is how
the gradient passes the quantiser: the forward pass rounds, the backward pass takes the slope of a soft rounding.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_codecs.bitstream.weights_file import reading
from icm_codecs.checkerboard.checkpoint import CheckerboardCheckpoint
from icm_codecs.checkerboard.network import CheckerboardNetwork
from icm_codecs.checkerboard.training import CheckerboardModel
from icm_codecs.pixel import padded, to_tensor
from icm_codecs.training.ssim_loss import LEAST_SIDE
from icm_codecs.tucodec.network import Estimate

_RATE = 0.02
"""How far a step moves a latent, in quantisation steps; it falls to nothing in a straight line."""

_SOFTNESS = 0.4
"""Width of the soft rounding whose slope the gradient takes, in quantisation steps."""

_TEACHER_SIDE = 320
"""Side of the square at which teachers see whole images, in pixels: that of the training's crops."""


class Refiner:
    """What an encoder refines latents with.

    Args:
        path: The weights file, which holds its recipe.
        model: What it was read as.
        teachers: Files of its teachers, which take turns in this order, beginning with the second; one may be missing,
            or be named for several turns.
        steps: How many steps it takes on an image, each about as long as three encodings.
        device: Where the networks run.

    Raises:
        CodecError: The weights hold no recipe.
        UsageError: They were trained through no detector, no file of one is given, or a file is none of theirs.
        TrainingError: A teacher cannot be used.
    """

    def __init__(
        self, path: Path, model: CheckerboardCheckpoint, teachers: Sequence[Path], steps: int, device: str
    ) -> None:
        with reading(path, "holds no recipe to refine by"):
            tables = tomllib.loads(model.facts["recipe"])
        tables["task"] = _with_files(tables.get("task", {}), teachers, path)
        with torch.inference_mode(False):
            self._trained = CheckerboardModel.from_recipe(tables)
            self._trained.start_from(path)
            self._trained.prepare(None, None)
        self._trained.to(device).requires_grad_(False)
        self._steps, self._device = steps, device

    def refine(self, image: Image, hyper: Tensor, scaled: Tensor, position: float) -> Tensor:
        """Return a better scaled latent for an image, latent x H x W; its hyper-latent stays.

        Args:
            image: The image, H x W x 3.
            hyper: Its hyper-latent, hyper x h x w, whole numbers.
            scaled: The latent to begin with, not rounded.
            position: Where the rate point lies.
        """
        height, width = image.shape[:2]
        if min(height, width) < LEAST_SIDE:
            return scaled
        network, where = self._trained.network, torch.tensor([position], device=self._device)
        with torch.inference_mode(False), torch.enable_grad():
            original = to_tensor(image, self._device)
            latent = padded(scaled[None].clone(), 4).requires_grad_()
            fixed = hyper[None].clone().to(latent)
            adam = torch.optim.Adam([latent], lr=_RATE, betas=(0.9, 0.99))
            for step in range(self._steps):
                adam.param_groups[0]["lr"] = _RATE * (1.0 - step / self._steps)
                with torch.autocast(original.device.type, torch.bfloat16):
                    estimate = _estimate(network, latent, fixed, where)
                seen = Estimate(
                    estimate.image[..., :height, :width].float(),
                    estimate.unfiltered[..., :height, :width].float(),
                    estimate.bits,
                )
                # A training's teachers have no share in its step 0: these count from 1.
                distortion, _ = self._trained.distortion(seen, original, [], step + 1)
                bpp = seen.bits / (height * width)
                loss = bpp + self._trained.lambdas_at(where) * 255.0**2 * distortion
                (latent.grad,) = torch.autograd.grad(loss.sum(), [latent])
                adam.step()
            return latent.detach()[0, :, : scaled.shape[1], : scaled.shape[2]]


def _with_files(task: Mapping[str, Any], files: Sequence[Path], where: Path) -> dict[str, Any]:
    """Return a recipe's ``[task]`` with the given files as its teachers, which have their share from the first step."""
    known = {entry["onnx"]: entry for entry in task.get("teachers", ()) if "onnx" in entry}
    if not known:
        what = "the weights were trained through no detector of which there is a file"
        raise UsageError(what, where=where.stem, hint="leave out refine")
    strange = [file.name for file in files if file.name not in known]
    if strange or not files:
        what = f"the weights were not trained through {strange[0]}" if strange else "no teacher is given"
        raise UsageError(what, where=where.stem, hint=f"give teachers=FILE, one of {', '.join(known)}")
    teachers = [{**known[file.name], "onnx": str(file)} for file in files]
    return {**task, "teachers": teachers, "share_steps": 1, "sizes": [_TEACHER_SIDE]}


def _estimate(network: CheckerboardNetwork, latent: Tensor, hyper: Tensor, position: Tensor) -> Estimate:
    coded = network.code(latent, position, hyper=hyper, rounding=_soft_gradient_round)
    unfiltered, decoded = network.decode(coded.decoded, position)
    return Estimate(decoded, unfiltered, network.bits(latent, coded, position, _soft_gradient_round))


def _soft_gradient_round(x: Tensor) -> Tensor:
    """Round to whole numbers; the gradient is that of a curve that is steep halfway between them."""
    with torch.autocast(x.device.type, enabled=False):
        middle = torch.floor(x.detach().float()) + 0.5
        soft = middle + 0.5 * torch.tanh((x.float() - middle) / _SOFTNESS) / math.tanh(0.5 / _SOFTNESS)
        return soft + (torch.round(x.detach().float()) - soft.detach())
