"""detectron2's detectors for COCO and for Cityscapes, by the names of its model zoo."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import PIL
import torch
import torchvision
from torch import Tensor, nn

from icm_bench.datasets.cityscapes_category import CATEGORIES as CITYSCAPES
from icm_bench.datasets.coco_category import CATEGORIES as COCO
from icm_bench.detector import Prediction, Task
from icm_bench.detectors.array_pickle import read_pickled_state
from icm_bench.detectors.device import network_errors, open_device
from icm_bench.detectors.mask import run_lengths
from icm_bench.download import download
from icm_bench.error import DetectorError, DownloadError, UsageError, unknown
from icm_bench.file import packaged_table
from icm_bench.image import Image, first_line
from icm_bench.network.checkpoint import (
    READERS,
    Checkpoint,
    Reader,
    cache_folder,
    load_into,
    read_checkpoint,
    read_pth,
)

INSTALLATION = "https://detectron2.readthedocs.io/en/latest/tutorials/install.html"
"""Where detectron2 says how it is installed."""


@dataclass(frozen=True)
class ZooModel:
    """A model of detectron2's zoo.

    Attributes:
        name: Its name in the zoo, which is that of its configuration file.
        folder: The folder of that file, which says what the model was trained on.
        published: Its published AP in percent on val2017, by task; empty for a model of other images.
        tasks: What it predicts.
        categories: What it can name; the zoo's contiguous numbers of classes count the ids in their order.
    """

    name: str
    folder: str
    published: Mapping[Task, float]
    tasks: tuple[Task, ...]
    categories: Mapping[int, str] = field(repr=False)

    @property
    def config(self) -> str:
        """The path of its configuration file in the zoo."""
        return f"{self.folder}/{self.name}.yaml"


def _model(row: Mapping[str, str]) -> ZooModel:
    both: tuple[Task, ...] = ("detection", "segmentation")
    folder = row["folder"]
    return ZooModel(
        name=row["name"],
        folder=folder,
        published=MappingProxyType({task: float(row[task]) for task in both if row[task]}),
        tasks=both[:1] if folder == "COCO-Detection" else both,
        categories=CITYSCAPES if folder == "Cityscapes" else COCO,
    )


ZOO: Mapping[str, ZooModel] = MappingProxyType(
    {row["name"]: _model(row) for row in packaged_table("icm_bench.detectors", "detectron2.csv")}
)
"""The models that find objects by themselves: COCO's, with the figures that the zoo publishes beside them, and the one
of Cityscapes, which has 36.5 % of Cityscapes' own mask AP on its validation images."""

_DIGEST = re.compile(r"_([0-9a-f]{6,32})\.pkl$")
# Older files carry what the networks of today compute from their configuration.
_NO_WEIGHT = re.compile(r"(^|\.)(anchor_generator\.cell_anchors\.\d+|pixel_mean|pixel_std)$")


class Detectron2:
    """A detector of detectron2's model zoo: Faster R-CNN, Mask R-CNN or RetinaNet, as its configuration file says.

    An image is seen alone, in the order of channels and at the size that detectron2 gives it for testing; the lowest
    score and the number of detections are the configuration's (0.05 and 100), as for the published figures.

    Args:
        variant: The model's name in the zoo, for instance ``faster_rcnn_R_50_FPN_3x``.
        weights: A ``.pkl``, ``.pth`` or ``.safetensors`` file; by default the zoo's, fetched once into
            ``$ICM_BENCH_CACHE`` (``~/.cache/icm-bench``).
        device: ``cpu`` or ``cuda``, or ``cuda:1`` and so on.

    Raises:
        UsageError: There is no such variant.
        DetectorError: detectron2 or the device is missing, or the weights are not this model's.
        DownloadError: The zoo's weights cannot be fetched.
    """

    name: ClassVar[str] = "detectron2"
    categories: Mapping[int, str] = MappingProxyType({})
    """Of an instance, what its variant can name."""
    tasks: tuple[Task, ...] = ("detection", "segmentation")
    """What one or another variant does; of an instance, what its own does."""
    published: Mapping[Task, float] = MappingProxyType({})
    """Of an instance, the figures of its variant."""

    def __init__(
        self, *, variant: str | None = None, weights: Path | None = None, device: str = "cpu"
    ) -> None:
        model = zoo_model(variant)
        self.published = model.published
        self.tasks = model.tasks
        self.categories = model.categories
        self._ids = sorted(model.categories)
        library = _Library.load()
        self._device = open_device(device, self.name)
        config = library.config(model, self._device)
        path = fetch_weights(library.url(model), model.name) if weights is None else weights
        checkpoint = read_weights(path)
        network = library.build(config)
        load_into(network, _completed(checkpoint, network.state_dict()), path)
        self._network = network.eval().requires_grad_(False)
        self._resize = library.resize(config)
        self._is_bgr = config.INPUT.FORMAT == "BGR"
        self._version = f"{library.version(config)}, weights {checkpoint.sha256[:12]}, {self._device}"

    def predict(self, image: Image) -> list[Prediction]:
        """Return at most 100 boxes, and masks where the model has them, in the image's pixels, best first.

        Raises:
            DetectorError: The network fails, for instance for want of memory.
        """
        found = self._infer(image)
        corners: Tensor = found.pred_boxes.tensor
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
        rows: list[Prediction] = [
            {"category_id": self._ids[index], "bbox": box, "score": score}
            for index, box, score in zip(
                found.pred_classes.tolist(), boxes.tolist(), found.scores.tolist(), strict=True
            )
        ]
        if found.has("pred_masks"):
            for row, mask in zip(rows, found.pred_masks, strict=True):
                row["segmentation"] = run_lengths(mask)
        return rows

    def version(self) -> str:
        """Name detectron2's, torch's, torchvision's, Pillow's, the configuration's and the weights' version."""
        return self._version

    def _infer(self, image: Image) -> Any:
        height, width = image.shape[:2]
        channels = image[:, :, ::-1] if self._is_bgr else image
        with (
            network_errors(self.name, image),
            torch.no_grad(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            resized = self._resize.get_transform(channels).apply_image(channels)
            pixels = torch.from_numpy(resized.astype("float32").transpose(2, 0, 1).copy())
            (found,) = self._network([{"image": pixels, "height": height, "width": width}])
            return found["instances"].to("cpu")


def zoo_model(variant: str | None) -> ZooModel:
    """Return a model of the zoo by its name.

    Raises:
        UsageError: There is no such model, or none was named.
    """
    if variant is None:
        raise UsageError(
            "names no model of detectron2's zoo",
            where="detector 'detectron2'",
            hint="choose one, for instance detectron2:faster_rcnn_R_50_FPN_3x",
        )
    if variant not in ZOO:
        raise unknown("model of detectron2's zoo", variant, list(ZOO))
    return ZOO[variant]


def fetch_weights(url: str, variant: str) -> Path:
    """Return the cached file of a model's published weights, fetched first where it is not there.

    Args:
        url: Its address; the file's name ends in ``_`` and the first digits of its MD5, as the zoo's names do.
        variant: The model's name, which becomes the name of a folder.

    Raises:
        DownloadError: It cannot be fetched, its MD5 is another one, or its name does not tell it.
    """
    name = PurePosixPath(url).name
    digest = _DIGEST.search(name)
    if digest is None:
        raise DownloadError(
            "the name of the weights does not tell their MD5", where=url, hint="give --detector-weights FILE"
        )
    path = cache_folder() / "detectron2" / variant / name
    download(url, path, md5=digest[1])
    return path


def read_weights(path: Path) -> Checkpoint:
    """Return the weights in a ``.pkl`` file of the zoo, or in a ``.pth`` or ``.safetensors`` file.

    The zoo's files are pickles of NumPy arrays, which are read without unpickling them; a ``.pth`` file is read by
    torch's restricted unpickler. Either may hold the weights themselves, or hold them as ``model`` among other things,
    as detectron2's own checkpoints do.

    Raises:
        DetectorError: The file is missing, of another kind, damaged, or does not hold finite tensors by name.
    """
    return read_checkpoint(path, _READERS)


def _read_pickle(data: bytes) -> dict[str, Tensor]:
    arrays = read_pickled_state(data)
    return {
        name: torch.from_numpy(np.array(values, values.dtype.newbyteorder("=")))
        for name, values in arrays.items()
    }


def _read_pth(data: bytes) -> Any:
    content = read_pth(data)
    return content["model"] if isinstance(content, dict) and "model" in content else content


_READERS: Mapping[str, Reader] = MappingProxyType(
    {**READERS, ".pkl": _read_pickle, ".pt": _read_pth, ".pth": _read_pth}
)


def _completed(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> Checkpoint:
    """Return a checkpoint as today's networks have it: without what is no weight, with statistics of normalisation.

    Files of early versions have none: there the weights of a normalisation are all that it does.
    """
    state = {name: tensor for name, tensor in checkpoint.state.items() if not _NO_WEIGHT.search(name)}
    if not any(name.endswith(".running_var") for name in state):
        for name, tensor in wanted.items():
            if name.endswith(".running_mean"):
                state[name] = torch.zeros_like(tensor)
            elif name.endswith(".running_var"):
                state[name] = torch.ones_like(tensor)
    return Checkpoint(state, checkpoint.sha256)


@dataclass(frozen=True)
class _Library:
    """The parts of detectron2 that are used here, imported when they are."""

    package: Any
    zoo: Any
    modeling: Any
    transforms: Any

    @classmethod
    def load(cls) -> _Library:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what it still does in ways that its own needs have left
                return cls(
                    import_module("detectron2"),
                    import_module("detectron2.model_zoo"),
                    import_module("detectron2.modeling"),
                    import_module("detectron2.data.transforms"),
                )
        except ImportError as error:
            is_absent = isinstance(error, ModuleNotFoundError) and error.name == "detectron2"
            what = "is not installed" if is_absent else f"cannot be imported ({first_line(error)})"
            raise DetectorError(
                f"detectron2 {what}", where="detector 'detectron2'", hint=f"install it as {INSTALLATION} says"
            ) from error

    def config(self, model: ZooModel, device: torch.device) -> Any:
        config = self._asked(self.zoo.get_config, model)
        config.MODEL.DEVICE = str(device)
        return config

    def url(self, model: ZooModel) -> str:
        return str(self._asked(self.zoo.get_checkpoint_url, model))

    def build(self, config: Any) -> nn.Module:
        network: nn.Module = self.modeling.build_model(config)
        return network

    def resize(self, config: Any) -> Any:
        shortest = config.INPUT.MIN_SIZE_TEST
        return self.transforms.ResizeShortestEdge([shortest, shortest], config.INPUT.MAX_SIZE_TEST)

    def version(self, config: Any) -> str:
        settings = config.clone()
        settings.MODEL.DEVICE = ""
        digest = hashlib.sha256(settings.dump().encode()).hexdigest()
        return (
            f"detectron2 {self._release()}, torch {torch.__version__}, torchvision {torchvision.__version__}, "
            f"pillow {PIL.__version__}, configuration {digest[:8]}"
        )

    def _release(self) -> str:
        """Return the version, and the commit where pip has recorded it, since the number has long stood still."""
        try:
            record = json.loads(distribution("detectron2").read_text("direct_url.json") or "{}")
        except (PackageNotFoundError, ValueError):
            record = {}
        commit = record.get("vcs_info", {}).get("commit_id", "")
        number = self.package.__version__
        return f"{number} ({commit[:12]})" if commit else str(number)

    def _asked(self, question: Callable[[str], Any], model: ZooModel) -> Any:
        try:
            return question(model.config)
        except RuntimeError as error:
            raise DetectorError(
                f"the detectron2 that is installed does not know {model.name} ({first_line(error)})",
                where="detector 'detectron2'",
                hint=f"install it anew as {INSTALLATION} says",
            ) from error
