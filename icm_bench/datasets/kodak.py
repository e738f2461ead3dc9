"""The Kodak set: the 24 images on which pixel fidelity is compared everywhere, checked pixel by pixel."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from icm_bench.dataset import Dataset, DatasetProvider, ImageRecord, need, refuse
from icm_bench.download import Patience, Progress, download
from icm_bench.error import DatasetError
from icm_bench.image import pixel_digest, printable, read_image

KODAK_URL: Final = "http://r0k.us/graphics/kodak/kodak"
"""Where the images are published. The checksums vouch for the files."""

KODAK_URL_VARIABLE: Final = "ICM_BENCH_KODAK_URL"


@dataclass(frozen=True)
class KodakImage:
    """What an image must be.

    Attributes:
        n_bytes: Size of its PNG file as published.
        width: In pixels.
        height: In pixels.
        sha256: Of its PNG file as published.
        pixels: :func:`icm_bench.image.pixel_digest` of the image, whatever file it is read from.
    """

    n_bytes: int
    width: int
    height: int
    sha256: str
    pixels: str


IMAGES: Final = (
    KodakImage(
        736_501,
        768,
        512,
        "a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd",
        "06e3e6aebdab237ebb34040d2f11f7484ff960184672856382bda46046703d00",
    ),
    KodakImage(
        617_995,
        768,
        512,
        "4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd",
        "b4a26122ee6c400317a7899e1aa82ebeebe1e91030542eb653801469c8ebc10b",
    ),
    KodakImage(
        502_888,
        768,
        512,
        "e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db",
        "37b5fd40d1d7a4d3526225f99fb863fc773105cefeed871a5704fe573751897d",
    ),
    KodakImage(
        637_432,
        512,
        768,
        "e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa",
        "0347d7161ddba603e3338ec213ec66bb4300bfc2bb5d2b83d1b65cecf635db59",
    ),
    KodakImage(
        785_610,
        768,
        512,
        "10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53",
        "e4e1b21f322f229c519dca9ba741cfde9f6b2e53b22497fb2806190e72fd7288",
    ),
    KodakImage(
        618_959,
        768,
        512,
        "363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18",
        "c7c8bed0652ca165312bf7e64107f0e987f9c00be4e9432acead3a1b3c581eba",
    ),
    KodakImage(
        566_322,
        768,
        512,
        "b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4",
        "743c66ef9fabbd53030016cabda267c589e4fc484e16d7d1b803072c4535e4d4",
    ),
    KodakImage(
        788_470,
        768,
        512,
        "ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7",
        "be89b3924df54e8b43f4925b2a341807a82f3957ea54bdc9551bf119feee97a5",
    ),
    KodakImage(
        582_899,
        512,
        768,
        "6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d",
        "f612d7f79e06985954b8cce41454ed2bd161e6ff8529821fd93ad41a6e841fb0",
    ),
    KodakImage(
        593_463,
        512,
        768,
        "9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23",
        "0c1f95d0589d18e1543d3e8fa8b5a5d21e04dc692200a2c4b12d7c3452221d76",
    ),
    KodakImage(
        621_023,
        768,
        512,
        "7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6",
        "eb08fea2232ea948b997fffe0ade4db3ea2d2f170abd5e89ae4b09e2d093158c",
    ),
    KodakImage(
        531_024,
        768,
        512,
        "d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980",
        "0bcd24c7758d417939f14387cab29e6307eb801078782635ad3e6601b7739d06",
    ),
    KodakImage(
        822_712,
        768,
        512,
        "bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08",
        "7010433459d221b57b03ecc4e4f197a2b80b8f6516474c66a8afe998a9b7c801",
    ),
    KodakImage(
        692_201,
        768,
        512,
        "55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e",
        "777af60fa67e140578254f6aa448619aca44f3cea1b4d857893fee84f97b6e39",
    ),
    KodakImage(
        612_582,
        768,
        512,
        "7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683",
        "1141325499063c97ade4024280aedeb21c5701c2d75b0abf5b2531008cbedba4",
    ),
    KodakImage(
        534_247,
        768,
        512,
        "a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54",
        "6148dabd55fc4e14e590e40c2cd94e6c255bc5b1efc5dd5936978f3e89baf699",
    ),
    KodakImage(
        602_078,
        512,
        768,
        "37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b",
        "99e653a24c07023131ef17d170c8964b1a05b2c08b266b4344cce0e7c4c5978e",
    ),
    KodakImage(
        780_947,
        512,
        768,
        "1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa",
        "e3d9efcff6c971038ef641b8422d8fd2b721b2e7df2dc86646defc320bea68af",
    ),
    KodakImage(
        671_476,
        512,
        768,
        "b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc",
        "6cd4a6f480bc11d0ab8f881ff9cb4e98c97c19167205855ae4c54c7eeb46e334",
    ),
    KodakImage(
        492_462,
        768,
        512,
        "3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a",
        "0d04311480a4db0d81adfceebda8de957d9964a5ba616237034cb31bb6ee3c68",
    ),
    KodakImage(
        637_051,
        768,
        512,
        "ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b",
        "13e4db9570ee90cc035108d571d3268af858215e91fed4d97f016d951002a08e",
    ),
    KodakImage(
        701_970,
        768,
        512,
        "1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29",
        "83368c26a3e86d8263a33a599f3211e0ee1a8c9c9b65276f79eae595af4dbfa7",
    ),
    KodakImage(
        557_596,
        768,
        512,
        "e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf",
        "00acb56ec2d86a24f2cdd6dc7ce7629ee9b2e58656c94fe40b6d4e6d837e81ad",
    ),
    KodakImage(
        706_397,
        768,
        512,
        "1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96",
        "d4fdaf908f12858204617a0a6dc689c9a495de2f80c6c79e2eec819fbc68efd9",
    ),
)
"""``kodim01`` to ``kodim24``."""


class Kodak(DatasetProvider):
    """The 24 images of the Kodak set as ``kodim01.png`` to ``kodim24.png`` in one folder; no ground truth."""

    name: ClassVar[str] = "kodak"

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return the set under ``data_root``.

        Its fingerprint is of the pixels, which losslessly optimised files share with those that are published.

        Raises:
            DatasetError: An image is missing, broken, or another image than the published one.
        """
        refuse(cls.name, images=images, annotations=annotations)
        root = need(cls.name, "data_root", data_root, "the folder that holds kodim01.png to kodim24.png")
        paths = [_path(root, number) for number in range(1, len(IMAGES) + 1)]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise DatasetError(
                f"lacks {len(missing)} of the {len(IMAGES)} images: {', '.join(missing)}",
                where=printable(root),
                hint="fetch them with icm-bench data kodak",
            )
        records = []
        fingerprint = hashlib.sha256()
        for number, (path, published) in enumerate(zip(paths, IMAGES, strict=True), start=1):
            if pixel_digest(read_image(path)) != published.pixels:
                raise DatasetError(
                    "is not the image that was published under this name",
                    where=printable(path),
                    hint="remove it and fetch it with icm-bench data kodak",
                )
            records.append(ImageRecord(number, path, published.width, published.height))
            fingerprint.update(f"{number} {published.width}x{published.height} {published.pixels}\n".encode())
        return Dataset(cls.name, tuple(records), None, fingerprint.hexdigest())


def fetch_kodak(
    root: Path,
    *,
    base_url: str | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """Fetch the images that are not there yet, 15 MB in all, and return their folder.

    Args:
        root: Where the images go.
        base_url: Another server with images of these names; by default the environment's ``ICM_BENCH_KODAK_URL``, or
            else where they are published.
        progress: What to tell of the bytes that arrive.
        patience: How long to bear with the network.

    Raises:
        DownloadError: As :func:`icm_bench.download.download`.
    """
    base = (base_url or os.environ.get(KODAK_URL_VARIABLE) or KODAK_URL).rstrip("/")
    for number, published in enumerate(IMAGES, start=1):
        path = _path(root, number)
        download(
            f"{base}/{path.name}",
            path,
            sha256=published.sha256,
            size=published.n_bytes,
            progress=progress,
            patience=patience or Patience(),
        )
    return root


def _path(root: Path, number: int) -> Path:
    return root / f"kodim{number:02d}.png"
