"""Training of the detectors of ``scenes``, from scratch, on scenes drawn for the purpose."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import MaskRCNN

from icm_bench.datasets.scenes.form import FORMS
from icm_bench.datasets.scenes.scene import HEIGHT, WIDTH
from icm_bench.datasets.scenes.shard import N_SCENES, write_shard
from icm_bench.detectors.scenes import build_mask_rcnn, fold_norms
from icm_bench.error import TrainingError
from icm_bench.network.precision import lower_precision
from icm_bench.network.shard import Shard, shards
from icm_bench.network.target import Target, target_of

_BATCH = 2
_CROP = (352, 480)
_LEAST_LEFT = 0.5
_PEAK_RATE = 1e-3
_WARM_UP_STEPS = 300
_DECAY_SHARE = 0.6
_FIXED_NORMS_SHARE = 0.25
_WEIGHT_DECAY = 0.02
_LARGEST_GRADIENT = 5.0
_AVERAGING = 0.998
_CHECKPOINT_S = 180.0
_LOG_STEPS = 50

_log = logging.getLogger(__name__)


def train_detector(
    output: Path,
    *,
    scenes: Path,
    steps: int = 8600,
    seed: int = 1,
    device: str = "cpu",
    resume: bool = True,
    mask_steps: int = 0,
) -> Path:
    """Train the Mask R-CNN whose backbone, proposals and box head also are the Faster R-CNN.

    The learning rate rises over 300 steps, stays, and falls linearly over the last 60 % of the steps. Over
    the last quarter the batch norms keep their statistics, as they will when folded. Then the mask head alone learns
    for ``mask_steps`` more, at a rate that falls linearly. What is saved is the moving average of the weights, its
    batch norms folded, in half precision.

    Args:
        output: Folder of the checkpoint, of the log and of the weights.
        scenes: Folder of the drawn scenes; every finished shard in it is used, those drawn meanwhile as well.
        steps: Steps of two scenes.
        seed: Fixes the first weights and the order of the scenes.
        device: Where to train.
        resume: Go on from the checkpoint in ``output`` if there is one.
        mask_steps: Steps of the mask head alone, after the others.

    Returns:
        The file of the weights.

    Raises:
        TrainingError: There is no scene, a checkpoint does not fit, or the loss is not finite.
    """
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    run = _Run(build_mask_rcnn().to(device, memory_format=torch.channels_last))
    checkpoint = output / "checkpoint.safetensors"
    if resume and checkpoint.exists():
        run.load(checkpoint)
    rng = np.random.default_rng((seed, run.step))
    started, saved = time.monotonic(), time.monotonic()
    for batch in _batches(rng, scenes):
        if run.step >= steps + mask_steps:
            break
        if run.step >= (1 - _FIXED_NORMS_SHARE) * steps:
            run.fix_norms()
        if run.step >= steps:
            run.freeze_all_but_masks()
        losses = run.advance(batch, _learning_rate(run.step, steps, mask_steps), device)
        if run.step % _LOG_STEPS == 0:
            record = {"step": run.step, "elapsed_s": round(time.monotonic() - started, 1), **losses}
            with (output / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
            _log.info("%s", record)
        if time.monotonic() - saved > _CHECKPOINT_S:
            run.save(checkpoint)
            saved = time.monotonic()
    run.save(checkpoint)
    return export_weights(checkpoint, output / "scenes_rcnn.safetensors")


def export_weights(checkpoint: Path, output: Path) -> Path:
    """Write the weights of a checkpoint as they are shipped: averaged, norms folded, half precision.

    Returns:
        ``output``.
    """
    network = build_mask_rcnn()
    run = _Run(network)
    run.load(checkpoint)
    network.load_state_dict(run.average)
    network.eval()
    fold_norms(network)
    _save(
        {name: value.half() for name, value in network.state_dict().items()}, output, {"step": str(run.step)}
    )
    return output


class _Run:
    """A network, its optimiser, the moving average of its weights, and how far it has come."""

    def __init__(self, network: MaskRCNN) -> None:
        self.network = network.train()
        self.step = 0
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.dense = _DenseHead(network)
        everything = nn.ModuleList([network, self.dense])
        plain = [p for p in everything.parameters() if p.ndim < 2]
        shaped = [p for p in everything.parameters() if p.ndim >= 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": shaped, "weight_decay": _WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
            lr=_PEAK_RATE,
        )
        roi = network.roi_heads
        for module in (network.backbone, network.rpn.head, roi.box_head, roi.mask_head, roi.mask_predictor):
            lower_precision(module)

    def fix_norms(self) -> None:
        """Let batch norms use the statistics that they have gathered, and gather no more."""
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def freeze_all_but_masks(self) -> None:
        """Let the mask head learn and nothing else."""
        self.network.requires_grad_(False)
        self.dense.requires_grad_(False)
        for module in (self.network.roi_heads.mask_head, self.network.roi_heads.mask_predictor):
            module.requires_grad_(True)

    def advance(self, batch: list[tuple[Tensor, Target]], rate: float, device: str) -> dict[str, float]:
        """Take a step and return the losses."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images = [image.to(device) for image, _ in batch]
        targets = [{name: value.to(device) for name, value in target.items()} for _, target in batch]
        losses: dict[str, Tensor] = self.network(images, targets)
        losses["loss_dense"] = self.dense.loss(targets)
        total = torch.stack([loss for loss in losses.values() if loss.requires_grad]).sum()
        if not torch.isfinite(total):
            raise TrainingError(
                f"the loss is {total.item()} at step {self.step}", hint="resume with another seed"
            )
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        self.optimizer.step()
        self.step += 1
        self._average_weights()
        return {name: round(value.item(), 4) for name, value in losses.items()}

    def _average_weights(self) -> None:
        keep = min(_AVERAGING, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)

    def save(self, path: Path) -> None:
        """Write all that is needed to go on."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"dense.{name}": value for name, value in self.dense.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        _save(tensors, path, {"step": str(self.step)})

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        try:
            step, parts = _read_checkpoint(path)
            self.network.load_state_dict(parts["network"])
            self.dense.load_state_dict(parts["dense"])
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(
                "the checkpoint is damaged or another network's", where=path, hint="train into another folder"
            ) from error
        self.average = parts["average"]
        state = self.optimizer.state_dict()
        state["state"] = {}
        for key, value in parts["optimizer"].items():
            index, name = key.split(".", 1)
            state["state"].setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(state)
        self.step = step


def _read_checkpoint(path: Path) -> tuple[int, dict[str, dict[str, Tensor]]]:
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "dense": {}, "optimizer": {}}
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
        for key in file.keys():  # noqa: SIM118  # no mapping: it only has keys()
            part, name = key.split(".", 1)
            parts[part][name] = file.get_tensor(key)
    return step, parts


class _DenseHead(nn.Module):
    """Names the form at every position of every feature map, which teaches the backbone sooner than boxes alone do.

    It is no part of the detectors.
    """

    def __init__(self, network: MaskRCNN) -> None:
        super().__init__()
        self.classify = nn.Conv2d(network.backbone.out_channels, len(FORMS) + 1, 1)
        self.maps: list[Tensor] = []
        network.backbone.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, features: dict[str, Tensor]) -> None:
        self.maps = [map_ for map_ in features.values() if map_.shape[1] == self.classify.in_channels]

    def loss(self, targets: list[Target]) -> Tensor:
        """Return the cross-entropy on the features of the last forward pass, objects and ground weighing the same."""
        losses = []
        for features in self.maps:
            logits = self.classify(features)
            forms = torch.stack([_form_map(target, logits.shape[-2:]) for target in targets])
            entropy = functional.cross_entropy(logits, forms, reduction="none")
            losses += [entropy[forms > 0].sum() / (forms > 0).sum().clamp(min=1), entropy[forms == 0].mean()]
        return torch.stack(losses).mean()


def _form_map(target: Target, size: torch.Size) -> Tensor:
    """Return the category at the middle of each of a map's cells, 0 for the ground."""
    masks, labels = target["masks"], target["labels"]
    strides = [pixels // cells for pixels, cells in zip(masks.shape[-2:], size, strict=True)]
    middles = masks[:, strides[0] // 2 :: strides[0], strides[1] // 2 :: strides[1]]
    return (middles * labels[:, None, None]).sum(dim=0)


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    partial = path.with_suffix(".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial, metadata)
    partial.replace(path)


def _learning_rate(step: int, steps: int, mask_steps: int) -> float:
    if step >= steps:
        return _PEAK_RATE * (steps + mask_steps - step) / mask_steps
    rising = min(1.0, (step + 1) / _WARM_UP_STEPS)
    falling = min(1.0, (steps - step) / (_DECAY_SHARE * steps))
    return _PEAK_RATE * rising * falling


def _batches(rng: np.random.Generator, folder: Path) -> Iterator[list[tuple[Tensor, Target]]]:
    """Yield batches for ever, each epoch over all shards that are finished by then."""
    while True:
        drawn = shards(folder)
        if not drawn:
            raise TrainingError("there are no scenes to train on", where=folder, hint="draw scenes first")
        order = rng.permutation(len(drawn) * N_SCENES)
        for start in range(0, len(order) - _BATCH + 1, _BATCH):
            yield [_sample(rng, drawn[k // N_SCENES], k % N_SCENES) for k in order[start : start + _BATCH]]


def _sample(rng: np.random.Generator, shard: Shard, index: int) -> tuple[Tensor, Target]:
    """Return a crop of a scene, perhaps mirrored, in other light, and its objects."""
    top = int(rng.integers(HEIGHT - _CROP[0] + 1))
    left = int(rng.integers(WIDTH - _CROP[1] + 1))
    box = (slice(top, top + _CROP[0]), slice(left, left + _CROP[1]))
    image = shard.images[index][box].astype(np.float32) / 255
    masks, labels = shard.objects(index, box, _LEAST_LEFT)
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    light = np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.05, 3)).astype(np.float32)
    image = np.clip(image * light, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.1)))
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))
    return pixels, target_of(masks, labels)


def main() -> None:
    """Draw the training scenes that are not on disk, then train."""
    parser = argparse.ArgumentParser(
        prog="python -m icm_bench.detectors.scenes_training", description=__doc__
    )
    parser.add_argument("output", type=Path, help="folder of the checkpoint, the log and the weights")
    parser.add_argument(
        "--scenes", type=Path, default=Path("training/scenes"), help="folder of the drawn scenes"
    )
    parser.add_argument("--n-scenes", type=int, default=1400, help="how many scenes to train on")
    parser.add_argument("--steps", type=int, default=8600, help="steps of two scenes")
    parser.add_argument("--mask-steps", type=int, default=0, help="steps of the mask head alone after them")
    parser.add_argument("--seed", type=int, default=1, help="fixes scenes, first weights and order")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--fresh", dest="resume", action="store_false", help="do not go on from the checkpoint"
    )
    arguments = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for index in range(arguments.pop("n_scenes") // N_SCENES):
        write_shard(arguments["scenes"], arguments["seed"], index)
    train_detector(**arguments)


if __name__ == "__main__":
    main()
