"""LPIPS, how alike two images look to a network (Zhang et al., CVPR 2018), by torchmetrics (the extra ``lpips``)."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Final

from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_bench.metrics.image_metric import Outcome
from icm_bench.network.checkpoint import fetch_checkpoint, load_into, read_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

ALEXNET: Final = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
"""AlexNet of torchvision, 233 MiB; the name ends in the first digits of its SHA-256."""

MIN_SIDE: Final = 32
"""Below this many pixels the last layers have no place for their windows."""


class Lpips:
    """LPIPS v0.1 with AlexNet, as 1 - LPIPS, so that higher is better: 1 for equal images.

    The linear layers come with torchmetrics; AlexNet's weights are fetched on first use into the cache.

    Raises:
        UsageError: torchmetrics is not installed.
    """

    name: ClassVar[str] = "lpips"
    label: ClassVar[str] = "1 - LPIPS"
    unit: ClassVar[str] = ""
    digits: ClassVar[int] = 4

    def __init__(self) -> None:
        try:
            self._torchmetrics = version("torchmetrics")
        except PackageNotFoundError as error:
            raise UsageError(
                "torchmetrics is not installed", where="metric 'lpips'", hint="install icm-bench[lpips]"
            ) from error

    def measure(self, outcome: Outcome) -> float | None:
        """Return 1 - LPIPS of the decoded image against the original; None where a side is below 32 pixels.

        Raises:
            DownloadError: AlexNet's weights are not in the cache and cannot be fetched.
            DetectorError: They are damaged, or of another network.
        """
        import torch

        if min(outcome.original.shape[:2]) < MIN_SIDE:
            return None
        with torch.no_grad():
            return 1.0 - float(self._network(_tensor(outcome.original), _tensor(outcome.decoded)))

    def version(self) -> str:
        """Name torchmetrics, torch and AlexNet's weights."""
        return f"LPIPS 0.1, torchmetrics {self._torchmetrics}, torch {version('torch')}, {PurePosixPath(ALEXNET).stem}"

    @cached_property
    def _network(self) -> Any:
        from torchmetrics.functional.image.lpips import _LPIPS

        path = fetch_checkpoint(ALEXNET)
        checkpoint = read_checkpoint(path)
        network = _LPIPS(net="alex", pnet_rand=True)
        # Its slices number AlexNet's layers as torchvision does: slice2.3 is features.3.
        published = {name: f"features.{name.partition('.')[2]}" for name in network.net.state_dict()}
        state = {
            own: checkpoint.state[theirs] for own, theirs in published.items() if theirs in checkpoint.state
        }
        load_into(network.net, replace(checkpoint, state=state), path)
        return network


def _tensor(image: Image) -> Tensor:
    import torch

    # From -1 to 1, as the published network takes them.
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
