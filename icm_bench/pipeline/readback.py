"""What runs have left behind, read back: tables of results, decoded images and predictions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icm_bench.codec import Quality
from icm_bench.curves.result import Result, find
from icm_bench.error import StoreError, UsageError, unknown
from icm_bench.image import Image
from icm_bench.pipeline import store
from icm_bench.pipeline.plan import UNCOMPRESSED, stored_as
from icm_bench.pipeline.stage import decode_stored
from icm_bench.pipeline.store import Store
from icm_bench.spec import Spec

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = Literal["point", "category", "image"]
"""What a row of a table of results is of: an operating point, a category at one, or an image at one."""

_RUN = "run the measurement with this --runs"


def load_results(
    root: str | Path = "results", *, by: Rows = "point", runs: str | Path = "runs"
) -> pd.DataFrame:
    """Return the results below a folder as a table; ``runs`` has their stores, for a row an image.

    Returns:
        Columns dataset, task, detector, codec and quality, and beside them, by operating point: bpp, the metrics (AP
        in percent, PSNR in dB), the limits of their 95 % intervals as ``map_low`` and ``map_high``, ``encode_s`` and
        ``decode_s`` (mean seconds an image, where timings are stored), and ``uncompressed_map``; by category: bpp,
        category and its AP in percent, ``map``; by image: image_id, width, height, n_bytes, bpp, ``encode_s``,
        ``decode_s`` and ``psnr-rgb`` in dB, infinite for a lossless image.

    Raises:
        ResultError: The folder does not exist, or a file in it is broken.
        StoreError: The stores lack images of a curve, or hold those of another measurement.
        UsageError: There are no such rows.
    """
    import pandas as pd

    if by not in get_args(Rows):
        raise unknown("row", by, list(get_args(Rows)))
    results = find(Path(root))
    if by == "image":
        tables = [_by_image(result, Store(Path(runs))) for result in results]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    of_result = _by_point if by == "point" else _by_category
    return pd.DataFrame([row for result in results for row in of_result(result)])


def decoded(result: Result, quality: Quality, image_id: int, *, runs: str | Path = "runs") -> Image:
    """Return an image as the codec of a curve decoded it, from its bitstream in the stores of the curve's run.

    Raises:
        StoreError: The stores lack the image, hold another measurement, or the decoder makes other pixels by now.
        UsageError: The curve has no such operating point.
    """
    return StoredPoint(result, quality, Store(Path(runs))).decode(image_id)[0]


def predictions(
    result: Result, quality: Quality | None = None, *, runs: str | Path = "runs"
) -> list[dict[str, Any]]:
    """Return what the detector of a curve saw at one operating point, None for the uncompressed images.

    Returns:
        COCO result rows: image_id, category_id, bbox [x, y, width, height] in pixels, score 0 to 1, and segmentation,
        which is None for a detector of boxes.

    Raises:
        StoreError: The stores lack the point, or hold another measurement.
        UsageError: The curve has no such operating point.
    """
    return StoredPoint(result, quality, Store(Path(runs))).predictions()


def stored_in(runs: str | Path) -> Callable[[Result, Quality | None], StoredPoint]:
    """Return what gives an operating point of a curve out of the stores in a folder."""
    return functools.partial(StoredPoint, store=Store(Path(runs)))


@dataclass(frozen=True)
class StoredPoint:
    """One operating point of a curve in the stores.

    Attributes:
        result: The curve.
        quality: The operating point; None for the uncompressed images.
        store: The stores.
    """

    result: Result
    quality: Quality | None
    store: Store

    def decode(self, image_id: int, place: int | None = None) -> tuple[Image, int]:
        """Return an image as its stored bitstream decodes, and the bitstream's bytes.

        ``place`` is how many images of the dataset come before it, where that is known.
        """
        for path in self._shards(self._coded_folder, place):
            ids = store.read(path, ["image_id"])["image_id"].to_pylist()
            if image_id not in ids:
                continue
            row = store.read(path).slice(ids.index(image_id), 1).to_pylist()[0]
            device = store.read_header(path).get("device", "cpu")
            try:
                return decode_stored(*self._coder, device, row), len(row["bitstream"])
            except StoreError as error:
                raise StoreError(error.what, where=path, hint=error.hint) from error
        raise StoreError(
            f"holds no image {image_id}", where=self._coded_folder, hint="use an id of the dataset"
        )

    def images(self) -> pa.Table:
        """Return the rows of all images in the coded store, without their bitstreams, and their squared errors."""
        return pa.concat_tables([store.per_image(path) for path in self._shards(self._coded_folder, None)])

    def predictions(self, place: int | None = None, least_score: float = 0.0) -> list[dict[str, Any]]:
        """Return detections as COCO result rows.

        Args:
            place: Of the image with so many before it in the dataset, and of its neighbours; of all where None.
            least_score: From what score on.
        """
        rows: list[dict[str, Any]] = []
        for path in self._shards(self._predicted_folder, place):
            table = store.read(path, ["image_id", "predictions"])
            of_images = table["predictions"].combine_chunks()
            found = of_images.flatten()
            # Most detections score low: they are left out before they become Python's objects.
            is_kept = pc.greater_equal(pc.struct_field(found, "score"), least_score)
            images = table["image_id"].take(pc.list_parent_indices(of_images).filter(is_kept))
            rows += [
                {"image_id": image_id, **row}
                for image_id, row in zip(images.to_pylist(), found.filter(is_kept).to_pylist(), strict=True)
            ]
        return rows

    @cached_property
    def _coder(self) -> tuple[Spec, Quality]:
        """The codec and the quality that the point is coded and stored as."""
        known = self.result.qualities
        if self.quality is None or self.quality not in known:
            raise unknown("quality", str(self.quality), [str(each) for each in known if each is not None])
        return stored_as(Spec.parse(self.result.codec), self.quality)

    @property
    def _coded_folder(self) -> Path:
        spec, quality = self._coder
        return self.store.folder("coded", self.result.stored_as, spec.file_name, quality)

    @property
    def _predicted_folder(self) -> Path:
        spec, quality = (UNCOMPRESSED, None) if self.quality is None else self._coder
        codec = spec if isinstance(spec, str) else spec.file_name
        detector = Spec.parse(self.result.detector).file_name
        return self.store.folder("predicted", self.result.stored_as, codec, quality, detector)

    def _shards(self, folder: Path, place: int | None) -> Iterator[Path]:
        if not folder.is_dir():
            raise StoreError("no such shards", where=folder, hint=_RUN)
        shard = None if place is None else folder / store.shard_name(place // store.SHARD_IMAGES)
        for path in store.shards(folder) if shard is None else [shard]:
            self._check(path)
            yield path

    def _check(self, path: Path) -> None:
        """Refuse a shard that was not made when the curve was measured."""
        try:
            identity = store.read_header(path)["identity"]
        except FileNotFoundError:
            raise StoreError("no such shard", where=path, hint=_RUN) from None
        meta = self.result.meta
        expected = {"dataset": meta["dataset"].get("fingerprint")}
        if "detector" in identity:
            expected["detector_version"] = meta["detector"].get("version")
        versions = meta.get("codec_version")
        if self.quality is not None and versions:
            expected["codec_version"] = versions[self.result.qualities.index(self.quality)]
        for key, wanted in expected.items():
            if wanted is not None and identity.get(key) != wanted:
                raise StoreError(
                    f"is of another {key} than the curve ({identity.get(key)}, the curve {wanted})",
                    where=path,
                    hint="name the --runs of the curve, or run again with --fresh",
                )


def _of(result: Result, quality: Quality | None) -> dict[str, Any]:
    group = dict(zip(("dataset", "task", "detector"), result.group, strict=True))
    return group | {"codec": result.codec, "quality": quality}


def _by_point(result: Result) -> Iterator[dict[str, Any]]:
    timed = result.timings.get("results", {})
    uncompressed = result.meta.get("uncompressed") or {}
    bounds = {key: each for key, each in result.meta.get("intervals", {}).items() if isinstance(each, list)}
    for index, quality in enumerate(result.qualities):
        row = _of(result, quality)
        for key, values in result.results.items():
            row[key] = values[index]
            if bounds.get(key):
                row[f"{key}_low"], row[f"{key}_high"] = bounds[key][index]
        row |= {key: values[index] for key, values in timed.items()}
        yield row | {"uncompressed_map": uncompressed.get("map")}


def _by_category(result: Result) -> Iterator[dict[str, Any]]:
    for index, quality in enumerate(result.qualities):
        for category, values in result.categories.items():
            bpp = result.results["bpp"][index]
            yield _of(result, quality) | {"bpp": bpp, "category": category, "map": values[index]}


def _by_image(result: Result, stores: Store) -> pd.DataFrame:
    import pandas as pd

    tables: list[pd.DataFrame] = []
    for quality in result.qualities:
        if quality is None:
            raise UsageError("was not measured here: nothing is stored of its images", where=result.codec)
        frame: pd.DataFrame = StoredPoint(result, quality, stores).images().to_pandas()
        frame.insert(4, "bpp", 8 * frame["n_bytes"] / (frame["width"] * frame["height"]))
        with np.errstate(divide="ignore"):
            frame["psnr-rgb"] = 10 * np.log10(255**2 / frame.pop("mse_rgb"))
        for place, (key, value) in enumerate(_of(result, quality).items()):
            frame.insert(place, key, value)
        tables.append(frame)
    return pd.concat(tables, ignore_index=True)
