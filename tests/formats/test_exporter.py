"""What goes out can be read by those it is meant for."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pycocotools.coco import COCO

from icm_bench.curves.result import Result, load
from icm_bench.dataset import Dataset
from icm_bench.error import ResultError, StoreError
from icm_bench.formats.compressai import import_compressai
from icm_bench.formats.exporter import export_compressai, export_tidy
from icm_bench.formats.foreign import Group
from icm_bench.formats.tidy import import_tidy
from icm_bench.metrics.coco_ap import METRICS, GroundTruth, score
from icm_bench.pipeline import store
from icm_bench.pipeline.export import export_coco, export_codec_compare
from tests.helpers.made_up import made_up
from tests.helpers.small_run import run_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measured")


@pytest.fixture
def measured(blobs: Dataset, folder: Path, plugins: Path) -> Path:
    """A run of a lossy codec and a lossless one, made once."""
    if not (folder / "results").exists():
        run_in(
            blobs,
            folder,
            codecs=["jpeg:subsampling=444", "png"],
            qualities=["jpeg:subsampling=444=40,9"],
            bootstrap=20,
        )
    return folder


@pytest.fixture
def jpeg(measured: Path) -> Result:
    return load(measured / "results" / "blobs" / "detection" / "fake" / "jpeg+subsampling=444.json")


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def _strict_json(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=_no_constant)


def test_a_tidy_table_comes_back_as_it_went(jpeg: Result, tmp_path: Path) -> None:
    export_tidy([jpeg], tmp_path / "tidy.csv")
    (back,) = import_tidy(tmp_path / "tidy.csv")
    order = [jpeg.qualities.index(quality) for quality in back.qualities]
    assert (back.group, back.codec) == (jpeg.group, jpeg.codec)
    for key, values in back.results.items():
        assert values == [jpeg.results[key][index] for index in order]
    assert set(back.results) == set(jpeg.results)
    assert back.meta["conventions"] == jpeg.meta["conventions"]
    assert back.meta["uncompressed"]["map"] == jpeg.meta["uncompressed"]["map"]
    assert set(back.timings["results"]) == set(jpeg.timings["results"])


def test_a_tidy_table_has_a_row_an_operating_point(measured: Path, jpeg: Result, tmp_path: Path) -> None:
    png = load(measured / "results" / "blobs" / "detection" / "fake" / "png.json")
    export_tidy([jpeg, png], tmp_path / "tidy.csv")
    frame = pd.read_csv(tmp_path / "tidy.csv")
    assert frame["codec"].tolist() == ["jpeg:subsampling=444"] * 2 + ["png"]
    assert frame["psnr-rgb"].isna().tolist() == [False, False, True]
    with (tmp_path / "tidy.csv").open(newline="") as file:
        assert next(csv.reader(file))[:6] == ["dataset", "task", "detector", "codec", "quality", "bpp"]


def test_a_compressai_file_can_be_read_by_its_importer(jpeg: Result, tmp_path: Path) -> None:
    export_compressai(jpeg, tmp_path / "jpeg.json")
    content = _strict_json(tmp_path / "jpeg.json")
    assert content["results"]["bpp"] == sorted(content["results"]["bpp"])
    assert all(len(values) == 2 and None not in values for values in content["results"].values())
    assert content["meta"]["qualities"] == [9, 40]
    back = import_compressai(tmp_path / "jpeg.json", Group("blobs", "detection", "fake"))
    assert back.codec == "jpeg:subsampling=444"
    assert back.meta["conventions"] == jpeg.meta["conventions"]
    index = back.results["bpp"].index(jpeg.results["bpp"][0])
    assert back.results["map"][index] == jpeg.results["map"][0]


def test_metrics_that_are_not_defined_everywhere_are_left_out_of_a_compressai_file(tmp_path: Path) -> None:
    result = made_up("x", {"bpp": [0.2, 0.1], "map": [30.0, 20.0], "map_small": [None, 1.0]})
    export_compressai(result, tmp_path / "x.json")
    assert _strict_json(tmp_path / "x.json")["results"] == {"bpp": [0.1, 0.2], "map": [20.0, 30.0]}


def test_a_figure_that_is_not_finite_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="not finite"):
        export_compressai(made_up("x", {"bpp": [0.2], "map": [math.inf]}), tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_a_coco_result_file_scores_as_the_curve_says(
    measured: Path, jpeg: Result, blobs: Dataset, blob_files: tuple[Path, Path], tmp_path: Path
) -> None:
    point = measured / "runs" / "predicted" / "blobs" / "jpeg+subsampling=444" / "9" / "fake"
    n_rows = export_coco(point, tmp_path / "rows.json", images=[record.id for record in blobs.images])
    rows = _strict_json(tmp_path / "rows.json")
    assert n_rows == len(rows) > 0
    assert set(rows[0]) >= {"image_id", "category_id", "bbox", "score"}
    assert None not in rows[0].values()
    truth = COCO(str(blob_files[1]))
    truth.loadRes(str(tmp_path / "rows.json"))
    figures = score(GroundTruth.from_coco(truth.dataset), rows, "detection").metrics()
    index = jpeg.qualities.index(9)
    for name in METRICS:
        if name in jpeg.results:
            assert figures[name] == pytest.approx(jpeg.results[name][index], rel=1e-9)


def test_a_codec_compare_batch(measured: Path, blobs: Dataset, tmp_path: Path) -> None:
    names = {record.id: record.path.name for record in blobs.images}
    codec = measured / "runs" / "coded" / "blobs" / "jpeg+subsampling=444"
    n_rows = export_codec_compare(codec, tmp_path / "batch.json", names)
    content = _strict_json(tmp_path / "batch.json")
    assert len(content["constant_descriptions"]) == len(content["constant_values"])
    assert all(len(entry) == 1 for entry in content["constant_descriptions"] + content["field_descriptions"])
    fields = [next(iter(entry)) for entry in content["field_descriptions"]]
    frame = pd.DataFrame(content["field_values"], columns=fields)
    assert n_rows == len(frame) == 2 * len(blobs.images)
    assert frame["quality"].drop_duplicates().tolist() == [9, 40]
    assert set(frame["original_name"]) == set(names.values())
    low = frame[frame["quality"] == 9]
    result = load(measured / "results" / "blobs" / "detection" / "fake" / "jpeg+subsampling=444.json")
    pooled = 8 * low["encoded_size"].sum() / (low["width"] * low["height"]).sum()
    index = result.qualities.index(9)
    assert pooled == pytest.approx(result.results["bpp"][index])
    assert low["bpp"].mean() == pytest.approx(result.results["bpp_mean"][index])
    assert low["psnr"].mean() == pytest.approx(result.results["psnr-rgb"][index])


def test_a_lossless_image_has_a_finite_psnr_in_a_batch(measured: Path, tmp_path: Path) -> None:
    export_codec_compare(measured / "runs" / "coded" / "blobs" / "png", tmp_path / "batch.json")
    content = _strict_json(tmp_path / "batch.json")
    assert {row[-1] for row in content["field_values"]} == {99.0}
    assert content["field_values"][0][0] == "1"


def test_a_store_that_is_not_whole_is_refused(measured: Path, tmp_path: Path) -> None:
    point = measured / "runs" / "coded" / "blobs" / "png"
    quality = next(entry for entry in point.iterdir() if entry.is_dir())
    copy = tmp_path / "coded" / "blobs" / "png" / quality.name
    copy.mkdir(parents=True)
    shards = sorted(quality.glob("*.parquet"))
    for shard in shards[1:]:
        (copy / shard.name).write_bytes(shard.read_bytes())
    with pytest.raises(StoreError, match="lacks a shard"):
        export_codec_compare(copy.parent, tmp_path / "batch.json")
    (copy / shards[0].name).write_bytes(shards[0].read_bytes())
    (copy / shards[-1].name).unlink()
    with pytest.raises(StoreError, match=r"compared/.*: no such shard; finish the run first"):
        export_codec_compare(copy.parent, tmp_path / "batch.json")
    compared = tmp_path / "compared" / copy.relative_to(tmp_path / "coded")
    shutil.copytree(measured / "runs" / compared.relative_to(tmp_path), compared)
    with pytest.raises(StoreError, match="lacks image"):
        export_codec_compare(copy.parent, tmp_path / "batch.json", dict.fromkeys(range(1, 21), "x"))
    header = store.read_header(shards[-1])
    store.write(copy / shards[0].name, store.read(shards[0]), {**header, "bitstreams": "others"})
    with pytest.raises(StoreError, match="is of other bitstreams than the coded shard"):
        export_codec_compare(copy.parent, tmp_path / "batch.json")
    header["identity"]["codec_version"] = "another"
    store.write(copy / shards[-1].name, store.read(shards[-1]), header)
    with pytest.raises(StoreError, match="other conditions"):
        export_codec_compare(copy.parent, tmp_path / "batch.json")
    assert not (tmp_path / "batch.json").exists()


@pytest.mark.parametrize("export", [export_coco, export_codec_compare])
def test_a_folder_that_is_no_store_is_refused(export: Any, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StoreError):
            export(folder, tmp_path / "out.json")


def test_an_image_without_a_name_is_refused(measured: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="has no name"):
        export_codec_compare(
            measured / "runs" / "coded" / "blobs" / "png", tmp_path / "batch.json", {1: "a.png"}
        )
