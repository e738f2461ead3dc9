"""Other people's curves are read as they were meant, and say what their rates mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_bench.curves.bdrate import bd_rate
from icm_bench.curves.rate_convention import (
    BITSTREAM,
    ESTIMATED,
    MEAN,
    MEASURED,
    NATIVE,
    POOLED,
    RESIZED,
    UNKNOWN,
    differing,
)
from icm_bench.curves.result import Result, load, save
from icm_bench.error import IcmBenchError, ResultError, UsageError
from icm_bench.formats.compressai import import_compressai, import_compressai_vision
from icm_bench.formats.foreign import Group
from icm_bench.formats.importer import save_imported, with_conventions
from icm_bench.formats.tidy import import_tidy
from icm_bench.pipeline.scoring import CONVENTIONS

KODAK = Group("kodak")
COCO = Group("val2017", "detection", "fasterrcnn_resnet50_fpn")


def _json(folder: Path, content: Any, name: str = "curve.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def _csv(folder: Path, text: str, name: str = "summary.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_measured_curves_follow_the_conventions_of_this_package() -> None:
    assert MEASURED.record() == CONVENTIONS


def test_a_compressai_file(tmp_path: Path) -> None:
    results = {
        "psnr-rgb": [30.0, 33.0],
        "ms-ssim-rgb": [0.9, 0.95],
        "bpp": [0.2, 0.4],
        "encoding_time": [1.0, 1.5],
        "decoding_time": [2.0, 2.5],
    }
    path = _json(
        tmp_path, {"name": "bmshj2018-factorized", "description": "Inference (ans)", "results": results}
    )
    found = import_compressai(path, KODAK)
    assert (found.codec, found.group) == ("bmshj2018-factorized", ("kodak", "fidelity", "none"))
    decibels = found.results["ms-ssim-rgb-db"]
    assert decibels == pytest.approx([10.0, 13.0103], abs=1e-4)
    assert found.results == {
        "psnr-rgb": [30.0, 33.0],
        "ms-ssim-rgb": [0.9, 0.95],
        "ms-ssim-rgb-db": decibels,
        "bpp": [0.2, 0.4],
    }
    assert found.timings == {"results": {"encode_s": [1.0, 1.5], "decode_s": [2.0, 2.5]}}
    assert found.meta["conventions"] == {"bpp": MEAN, "bits": BITSTREAM, "pixels": NATIVE}
    assert found.meta["imported"]["file"] == "curve.json"


def test_a_compressai_file_without_the_wrapper_and_with_the_old_name(tmp_path: Path) -> None:
    found = import_compressai(
        _json(tmp_path, {"bpp": [0.2, 0.4], "psnr": [30.0, 33.0]}, "old one.json"), KODAK
    )
    assert found.codec == "old-one"
    assert found.results == {"psnr-rgb": [30.0, 33.0], "bpp": [0.2, 0.4]}


def test_descending_rates_are_turned_round(tmp_path: Path) -> None:
    path = _json(tmp_path, {"name": "x", "results": {"bpp": [0.8, 0.4, 0.2], "psnr": [36.0, 33.0, 30.0]}})
    assert import_compressai(path, KODAK).results == {"psnr-rgb": [30.0, 33.0, 36.0], "bpp": [0.2, 0.4, 0.8]}


@pytest.mark.parametrize(
    ("content", "bits"),
    [
        ({"description": "Inference (ans)", "results": {"bpp": [1.0], "encoding_time": [1.0]}}, BITSTREAM),
        (
            {
                "description": "Inference (entropy estimation)",
                "results": {"bpp": [1.0], "encoding_time": [1.0]},
            },
            ESTIMATED,
        ),
        ({"description": "Inference (entropy-estimation)", "results": {"bpp": [1.0]}}, ESTIMATED),
        ({"description": "official results", "results": {"bpp": [1.0]}}, UNKNOWN),
        ({"description": None, "results": {"bpp": [1.0]}}, UNKNOWN),
    ],
)
def test_estimated_bits_are_told_from_real_ones(tmp_path: Path, content: dict[str, Any], bits: str) -> None:
    assert import_compressai(_json(tmp_path, content), KODAK).meta["conventions"]["bits"] == bits


def test_published_files_keep_their_bd_rates(shared_data: Callable[[str], Path]) -> None:
    published = shared_data("conformance/bdrate")
    expected = json.loads((published / "expected.json").read_text())["kodak"]["bd_rate_percent"]
    anchor = import_compressai(published / "kodak" / "vtm.json", KODAK).curve
    for name, figures in expected.items():
        curve = import_compressai(published / "kodak" / f"{name}.json", KODAK).curve
        assert bd_rate(anchor, curve, metric="psnr-rgb").value == pytest.approx(figures["pchip"], abs=1e-5)


def test_a_name_can_be_given_and_becomes_a_spec(tmp_path: Path) -> None:
    path = _json(tmp_path, {"name": "BPG 8b 4:4:4 (x265)", "bpp": [1.0]})
    assert import_compressai(path, KODAK, codec="BPG 8b (x265)").codec == "bpg-8b-x265"
    assert import_compressai(path, KODAK, codec="bpg:chroma=444").codec == "bpg:chroma=444"
    with pytest.raises(UsageError):
        import_compressai(path, KODAK, codec="  ")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([1, 2], "not a result file"),
        ({"results": [1, 2]}, "not columns"),
        ({"results": {"psnr": [30.0]}}, "no bpp"),
        ({"results": {"bpp": []}}, "no bpp"),
        ({"results": {"bpp": [0.2, 0.4], "psnr": [30.0]}}, "differ in length"),
        ({"results": {"bpp": [0.2, 0.0]}}, "point 2 has the rate 0.0"),
        ({"results": {"bpp": [0.2, None]}}, "point 2 has the rate None"),
        ({"results": {"bpp": ["0.2"]}}, "'0.2', which is not a finite number"),
        ({"results": {"bpp": [True]}}, "True, which is not"),
        ({"results": {"bpp": [1.0], "psnr": [30.0], "psnr-rgb": [30.0]}}, "two columns of psnr-rgb"),
    ],
)
def test_what_is_no_compressai_file_is_refused(tmp_path: Path, content: Any, what: str) -> None:
    with pytest.raises(ResultError, match=what):
        import_compressai(_json(tmp_path, content), KODAK)


def test_broken_and_missing_files_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_bytes(b"\xff\xfe{")
    for path in (broken, tmp_path / "missing.json", tmp_path):
        with pytest.raises(ResultError):
            import_compressai(path, KODAK)
    for path in (broken, tmp_path / "missing.csv"):
        with pytest.raises(ResultError):
            import_tidy(path)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["bpp", "psnr", "results", "name"]), inner)
    ),
    max_leaves=12,
)


@given(_values)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = _json(tmp_path_factory.mktemp("any"), content)
    try:
        import_compressai(path, KODAK)
    except IcmBenchError:
        return


SUMMARY = "Dataset,qp,avg_bpp,end_accuracy,encode,decode\nmpeg-oiv6,{qp},{bpp},{accuracy},1.0,2.0\n"


def test_a_folder_of_compressai_vision_summaries(tmp_path: Path) -> None:
    for qp, bpp, accuracy in ((22, 0.9, 0.79), (37, 0.1, 0.6), (32, 0.3, 0.7)):
        _csv(tmp_path, SUMMARY.format(qp=qp, bpp=bpp, accuracy=accuracy), f"qp{qp}/evaluation/summary.csv")
    found = import_compressai_vision(tmp_path, COCO, codec="vtm", metric="map50")
    assert found.qualities == [37, 32, 22]
    assert found.results["bpp"] == [0.1, 0.3, 0.9]
    assert found.results["map50"] == pytest.approx([60, 70, 79])
    assert found.meta["conventions"] == {"bpp": POOLED, "bits": BITSTREAM, "pixels": NATIVE}
    assert found.meta["imported"]["accuracy"] == "fraction"
    assert found.meta["imported"]["datasets"] == ["mpeg-oiv6"]


def test_a_summary_in_percent_is_left_in_percent(tmp_path: Path) -> None:
    path = _csv(tmp_path, "qp,avg_bpp,end_accuracy\n37,0.1,30.5\n22,0.9,40.0\n")
    found = import_compressai_vision(path, COCO, codec="vtm")
    assert found.results["map"] == [30.5, 40.0]
    assert found.meta["imported"]["accuracy"] == "percent"


def test_the_unit_can_be_told(tmp_path: Path) -> None:
    path = _csv(tmp_path, "qp,avg_bpp,end_accuracy\n47,0.01,0.5\n")
    assert import_compressai_vision(path, COCO, codec="vtm", unit="percent").results["map"] == [0.5]
    assert import_compressai_vision(path, COCO, codec="vtm", unit="fraction").results["map"] == [50.0]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Dataset,fps,qp,bitrate (kbps),end_accuracy\nTVD,30,22,900,0.5\n", "video"),
        ("qp,avg_bpp\n22,0.9\n", "no column 'end_accuracy'"),
        ("", "cannot be read"),
        ("qp,avg_bpp,end_accuracy\n22,fast,0.5\n", "'fast'"),
        ("Dataset,qp,avg_bpp,end_accuracy\na,22,0.9,0.5\nb,22,0.9,0.5\n", "several datasets: a, b"),
        ("qp,avg_bpp,end_accuracy\n", "no bpp"),
    ],
)
def test_what_is_no_summary_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ResultError, match=what):
        import_compressai_vision(_csv(tmp_path, text), COCO, codec="vtm")


def test_a_folder_without_summaries_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no summary.csv"):
        import_compressai_vision(tmp_path, COCO, codec="vtm")


TIDY = """codec,quality,bpp,map,map50,encode_s,conventions.bpp
vvc:preset=slow,37,0.1,30.0,50.0,2.5,pooled
tcm,0.0025,0.3,33.0,,,
vvc:preset=slow,22,0.9,40.0,60.0,9.5,pooled
tcm,0.05,0.1,29.0,,,
"""


def test_a_tidy_table(tmp_path: Path) -> None:
    vvc, tcm = import_tidy(_csv(tmp_path, TIDY), COCO)
    assert (vvc.codec, tcm.codec) == ("vvc:preset=slow", "tcm")
    assert vvc.qualities == [37, 22]
    assert tcm.qualities == [0.05, 0.0025]
    assert vvc.results == {"bpp": [0.1, 0.9], "map": [30.0, 40.0], "map50": [50.0, 60.0]}
    assert tcm.results == {"bpp": [0.1, 0.3], "map": [29.0, 33.0]}
    assert vvc.timings == {"results": {"encode_s": [2.5, 9.5]}}
    assert tcm.timings == {}
    assert vvc.meta["conventions"] == {"bpp": POOLED, "bits": UNKNOWN, "pixels": UNKNOWN}
    assert tcm.meta["conventions"] == {"bpp": UNKNOWN, "bits": UNKNOWN, "pixels": UNKNOWN}


def test_a_tidy_table_of_several_groups(tmp_path: Path) -> None:
    text = "dataset,task,detector,codec,bpp,map\na,detection,yolox,x,1.0,30\nb,detection,none,x,1.0,31\n"
    assert [result.group for result in import_tidy(_csv(tmp_path, text))] == [
        ("a", "detection", "yolox"),
        ("b", "detection", "none"),
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("codec,bpp,map\nx,1.0,30\n", "no column 'dataset'"),
        ("dataset,task,detector,codec,bpp\n", "no rows"),
        ("dataset,task,detector,codec,bpp\na,detection,yolox,,1.0\n", "a row without"),
        ("dataset,task,detector,codec,bpp,note\na,detection,yolox,x,1.0,good\n", "'note' holds 'good'"),
        (
            "dataset,task,detector,codec,bpp,map\na,detection,yolox,x,1.0,20\na,detection,yolox,x,2.0,nan\n",
            "'map' holds 'nan', which is not a finite number; write a number, or leave the cell empty",
        ),
        ("dataset,task,detector,codec,bpp\n../../a,detection,yolox,x,1.0\n", "not a dataset's name"),
        ("dataset,task,detector,codec,bpp\na,../b,yolox,x,1.0\n", "unknown task"),
        ("dataset,task,detector,codec,bpp\na,detection,../b,x,1.0\n", "not a spec"),
        (
            "dataset,task,detector,codec,bpp,conventions.bits\na,detection,y,x,1.0,real\na,detection,y,x,2.0,guess\n",
            "mixes conventions of bits",
        ),
    ],
)
def test_what_is_no_tidy_table_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(IcmBenchError, match=what):
        import_tidy(_csv(tmp_path, text))


def test_an_imported_curve_can_be_saved_and_read_back(tmp_path: Path) -> None:
    found = import_tidy(_csv(tmp_path, TIDY), COCO)[0]
    (path,) = save_imported([found], tmp_path / "results")
    assert path.relative_to(tmp_path / "results").as_posix() == (
        "val2017/detection/fasterrcnn_resnet50_fpn/vvc+preset=slow.json"
    )
    read = load(path)
    assert read.results == found.results
    assert read.timings == found.timings
    assert read.meta["conventions"] == found.meta["conventions"]
    save_imported([found], tmp_path / "results")


def test_an_imported_curve_never_replaces_a_measured_one(tmp_path: Path) -> None:
    found = import_tidy(_csv(tmp_path, TIDY), COCO)[0]
    (path,) = save_imported([found], tmp_path / "results")
    measured = Result(
        *found.group,
        found.codec,
        found.results,
        {key: value for key, value in found.meta.items() if key != "imported"},
    )
    save(measured, path, None)
    with pytest.raises(ResultError, match="measured here"):
        save_imported([found], tmp_path / "results")


def test_two_imports_of_one_name_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    first = import_compressai(_json(tmp_path, {"name": "VTM", "bpp": [1.0]}), KODAK)
    second = import_compressai(_json(tmp_path, {"name": "vtm", "bpp": [2.0]}), KODAK)
    with pytest.raises(ResultError, match=r"is 'VTM' of .*'vtm' of .* would be called vtm too; .*--codec"):
        save_imported([first, second], tmp_path / "results")
    assert not (tmp_path / "results").exists()
    save_imported([first], tmp_path / "results")
    with pytest.raises(ResultError, match="would be called vtm too"):
        save_imported([second], tmp_path / "results")
    renamed = import_compressai(_json(tmp_path, {"name": "vtm", "bpp": [2.0]}), KODAK, codec="vtm-other")
    assert len(save_imported([renamed], tmp_path / "results")) == 1


def test_the_uncompressed_run_of_a_vision_tree_is_its_uncompressed_accuracy(tmp_path: Path) -> None:
    for name, row in {"uncmp": "uncmp,24.0,0.45", "22": "22,1.5,0.44", "37": "37,0.2,0.31"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.csv").write_text(f"qp,avg_bpp,end_accuracy\n{row}\n")
    found = import_compressai_vision(tmp_path, COCO, codec="vtm")
    assert found.results == {"bpp": [0.2, 1.5], "map": [31.0, 44.0]}
    assert found.qualities == [37, 22]
    assert found.meta["uncompressed"] == {"map": 45.0}


def test_ms_ssim_in_decibels_is_derived_where_a_file_lacks_it(tmp_path: Path) -> None:
    content = {"bpp": [0.1, 0.2], "ms-ssim-rgb": [0.9, 0.99]}
    found = import_compressai(_json(tmp_path, content), KODAK).results
    assert found["ms-ssim-rgb-db"] == pytest.approx([10.0, 20.0])
    content["ms-ssim-rgb-db"] = [10.5, 20.5]
    assert import_compressai(_json(tmp_path, content), KODAK).results["ms-ssim-rgb-db"] == [10.5, 20.5]


def test_conventions_can_be_told(tmp_path: Path) -> None:
    found = import_compressai(_json(tmp_path, {"bpp": [1.0]}), KODAK)
    told = with_conventions(found, bits="estimated", pixels="resized", bpp=None)
    assert told.meta["conventions"] == {"bpp": MEAN, "bits": ESTIMATED, "pixels": RESIZED}
    with pytest.raises(UsageError, match="choose among bitstream, estimated, unknown"):
        with_conventions(found, bits="guessed")
    with pytest.raises(UsageError, match="no convention 'bit=estimated'"):
        with_conventions(found, bit="estimated")


def test_rates_that_do_not_mean_the_same_are_told_apart(tmp_path: Path) -> None:
    measured = {"conventions": CONVENTIONS}
    assert differing(measured, measured) == []
    imported = import_compressai(_json(tmp_path, {"bpp": [1.0], "encoding_time": [1.0]}), KODAK).meta
    assert differing(measured, imported) == [f"bpp is '{POOLED}' in one and '{MEAN}' in the other"]
    assert differing({}, {}) == [f"{key} is unknown in both" for key in ("bpp", "bits", "pixels")]
