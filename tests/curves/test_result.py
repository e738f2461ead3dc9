"""Result files are checked when they are read, and belong to what stands beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_bench.curves.comparison import compare_with_anchor, fixed_accuracies
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import Result, find, is_as_written, load, path_of, save
from icm_bench.curves.schema import columns_digest
from icm_bench.error import ResultError
from icm_bench.file import below
from tests.helpers.edited import edited

RATES = [0.1, 0.2, 0.4]


def make(codec: str = "jpeg", scale: float = 1.0, **changes: Any) -> Result:
    return Result(
        dataset="blobs",
        task="detection",
        detector="fake",
        codec=codec,
        results={"bpp": [scale * rate for rate in RATES], "map": [20.0, 26.0, 31.0]},
        categories={"blob": [20.0, None, 31.0]},
        meta={
            "qualities": [1, 2, 3],
            "dataset": {"fingerprint": "f" * 64, "images": 8, "provider": "scenes", "limit": 8},
            "detector": {"version": "1"},
            "uncompressed": {"map": 33.0},
            "conventions": {"bpp": "pooled"},
        },
        timings={"results": {"encode_s": [1.0, 2.0, 3.0]}, "machine": {"cores": 2}},
        **changes,
    )


def replicates(scale: float = 1.0, n: int = 40) -> Replicates:
    rng = np.random.default_rng(1)
    bpp = scale * np.array(RATES)[:, None] * rng.uniform(0.98, 1.02, n)
    return Replicates(bpp, {"map": np.array([20.0, 26.0, 31.0])[:, None] + rng.normal(0, 0.1, (3, n))})


def write(root: Path, codec: str = "jpeg", scale: float = 1.0, n: int = 40) -> Path:
    path = path_of(root, "blobs", "detection", "fake", codec)
    save(make(codec, scale), path, replicates(scale, n) if n else None)
    return path


Change = Callable[[dict[str, Any]], None]


def _set(*keys: Any, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        at: Any = content
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value

    return change


def _sets(*keys: Any, values: Sequence[Any]) -> list[Change]:
    return [_set(*keys, value=value) for value in values]


def _drop(*keys: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        at: Any = content
        for key in keys[:-1]:
            at = at[key]
        del at[keys[-1]]

    return change


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write(tmp_path)


def refusal(path: Path) -> str:
    """Return the one line that a file is refused with."""
    with pytest.raises(ResultError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name.removesuffix(".json") + ending)


def test_a_result_is_read_as_it_was_written(written: Path) -> None:
    found = load(written)
    assert (found.dataset, found.codec, found.warnings) == ("blobs", "jpeg", ())
    assert found.results["map"] == [20.0, 26.0, 31.0]
    assert found.timings["results"]["encode_s"] == [1.0, 2.0, 3.0]
    assert found.replicates is not None
    assert found.replicates.bpp.shape == (3, 40)
    assert (found.meta["schema"], found.meta["dataset"]["provider"]) == (2, "scenes")


def test_seconds_do_not_change_the_curves_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = path.read_bytes()
    slower = make()
    slower.timings["results"]["encode_s"][0] = 9.0
    save(slower, path, replicates())
    assert path.read_bytes() == before
    assert load(path).timings["results"]["encode_s"][0] == 9.0


def test_the_same_result_gives_the_same_bytes(written: Path) -> None:
    before = {path: path.read_bytes() for path in written.parent.iterdir()}
    found = load(written)
    save(found, written, found.replicates)
    assert {path: path.read_bytes() for path in written.parent.iterdir()} == before


def test_a_curve_without_replicates_leaves_no_older_ones_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert beside(path, ".resamples.parquet").exists()
    write(tmp_path, n=0)
    assert not beside(path, ".resamples.parquet").exists()


@pytest.mark.parametrize("ending", [".resamples.parquet", ".timings.json"])
def test_a_file_of_another_curve_is_not_used_and_says_so(tmp_path: Path, ending: str) -> None:
    first, second = write(tmp_path, "jpeg"), write(tmp_path, "vvc", 0.5, n=20)
    shutil.copy(beside(second, ending), beside(first, ending))
    found = load(first)
    assert found.warnings == (
        f"jpeg{ending} is not the file that was written with the curve, and is not used",
    )
    if ending == ".timings.json":
        assert found.timings == {}
    else:
        assert found.replicates is None
        (compared,) = compare_with_anchor([load(write(tmp_path, "png")), found], anchor="png")
        assert compared.bd_rate.value == 0
        assert compared.bd_rate.reason == f"no interval: {found.warnings[0]}"
        (rate,) = fixed_accuracies([found], [-5.0])
        assert rate.rate.reason == compared.bd_rate.reason


@pytest.mark.parametrize(
    "change",
    [
        _set("results", "map", 1, value=26.5),
        _set("categories", "blob", 0, value=99.0),
        _set("meta", "uncompressed", "map", value=34.0),
        _set("meta", "qualities", 0, value=7),
    ],
    ids=["results", "categories", "uncompressed", "qualities"],
)
def test_a_value_that_was_changed_by_hand_is_refused(written: Path, change: Change) -> None:
    with edited(written) as content:
        change(content)
    assert "was changed after it was written" in refusal(written)


def test_every_flipped_bit_of_a_curve_is_refused(written: Path) -> None:
    data = written.read_bytes()
    rng = np.random.default_rng(3)
    for position in rng.choice(len(data), 300, replace=False):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        written.write_bytes(bytes(changed))
        refusal(written)


def test_every_flipped_bit_of_the_replicates_is_found(written: Path) -> None:
    path = beside(written, ".resamples.parquet")
    data = path.read_bytes()
    for position in np.random.default_rng(4).choice(len(data), 60, replace=False):
        changed = bytearray(data)
        changed[position] ^= 4
        path.write_bytes(bytes(changed))
        assert load(written).replicates is None


def test_a_file_of_the_first_schema_is_read(written: Path) -> None:
    with edited(written) as content:
        content["meta"]["schema"] = 1
        for key in ("digest", "files"):
            del content["meta"][key]
        for key in ("provider", "limit"):
            del content["meta"]["dataset"][key]
    found = load(written)
    assert found.warnings == ()
    assert found.replicates is not None


def test_a_file_whose_digest_is_of_its_values_alone_is_read(written: Path) -> None:
    with edited(written) as content:
        content["meta"]["digest"] = columns_digest(content)
    assert load(written).replicates is not None
    with edited(written) as content:
        content["results"]["map"][0] += 1
    assert "was changed after it was written" in refusal(written)


def test_a_file_of_other_bytes_for_the_same_content_is_read_and_is_not_as_written(written: Path) -> None:
    assert is_as_written(load(written))
    text = written.read_text()
    for old, new in (("\n ", "\n  "), ("\n}", "\n}\n")):
        written.write_text(text.replace(old, new))
        assert not is_as_written(load(written))


WRONG: list[Change] = [
    *_sets("name", values=(None, 3, ["jpeg"], "", "a/b", "../up", "jpeg\x1b[31m", "a b")),
    *_sets("meta", "dataset", "name", values=(None, "../../..", "/abs", "..", "", "a\nb", 4)),
    *_sets("meta", "detector", "spec", values=(None, "../..", [], 1.5)),
    *_sets("meta", "task", values=(None, "../x", "tracking", 3)),
    *_sets("results", "map", values=(None, "text", 3.0, {"a": 1}, [1.0], [20.0, "26", 31.0])),
    *_sets("results", "bpp", values=(None, [], [0.1, 0.2, 0.0], [0.1, None, 0.4], [True] * 3)),
    *_sets("meta", "qualities", values=(None, "123", ["1", "2", "3"], [1, 2])),
    *_sets("meta", "intervals", values=([], {"map": [[1.0], [2.0], [3.0]]}, {"map": "x"})),
    *_sets("meta", "uncompressed", values=(4, {"map": "33"}, {"intervals": {"map": [1.0]}})),
    _set("meta", "dataset", value=None),
    _set("meta", "dataset", "images", value="8"),
    _set("meta", "detector", value="fake"),
    _set("meta", "conventions", value=["pooled"]),
    _set("meta", "versions", value={"numpy": 2}),
    _set("meta", "bitstreams", value=["a"]),
    _set("meta", "schema", value="2"),
    _set("meta", value=None),
    _set("results", value=[]),
    _set("categories", value={"blob": [1.0]}),
    _set("description", value=7),
    *(_drop(key) for key in ("name", "meta", "results")),
    *(_drop("meta", key) for key in ("schema", "task", "dataset", "detector", "qualities", "digest")),
]


@pytest.mark.parametrize("change", WRONG, ids=range(len(WRONG)))
def test_a_field_of_a_wrong_type_is_one_line(written: Path, change: Change) -> None:
    with edited(written) as content:
        change(content)
    assert str(written) in refusal(written)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 200_000,
        '{"a":' * 200_000,
        '{"name": NaN}',
        '{"name": 1e999}',
        '{"name": "\\ud800"}',
        "\ufeff{}",
        "{}",
    ],
    ids=lambda text: text[:12],
)
def test_a_text_that_is_no_result_is_one_line(written: Path, text: str) -> None:
    written.write_text(text)
    refusal(written)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("dataset.images", None),
        ("dataset.truth", []),
        ("uncompressed.map", {}),
        ("uncompressed.intervals", 7),
        ("uncompressed.intervals", {"map": [1.0]}),
        ("intervals.map", 5),
        ("intervals.map", [[1.0, 2.0]]),
        ("fidelity.undefined", ["psnr-rgb"]),
        ("guide", None),
        ("guide", {"spec": "fake"}),
        ("guide", []),
        ("published", {}),
        ("decoder_kmac", None),
    ],
)
def test_a_fact_of_a_wrong_type_is_refused_however_its_digest_holds(
    written: Path, place: str, value: Any
) -> None:
    *outer, last = place.split(".")
    with edited(written, digest=True) as content:
        facts = content["meta"]
        for key in outer:
            facts = facts.setdefault(key, {})
        facts[last] = value
    assert "is not a result file (" in refusal(written)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["name", "results", "categories", "meta", "description"]), _json)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_any_value_in_place_of_a_field_is_read_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    save(make(), path, None)
    with edited(path) as content:
        content[key] = value
    try:
        load(path)
    except ResultError as error:
        assert "\n" not in str(error)


def test_broken_files_are_named_and_the_others_are_found(tmp_path: Path) -> None:
    write(tmp_path, "jpeg")
    write(tmp_path, "vvc").write_text("{}")
    with pytest.raises(ResultError, match=r"vvc\.json"):
        list(find(tmp_path))
    errors: list[ResultError] = []
    assert [found.codec for found in find(tmp_path, errors.append)] == ["jpeg"]
    assert len(errors) == 1


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/abs", "a\\b", "a\0b"])
def test_no_name_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ResultError, match="cannot be the name"):
        below(tmp_path, "results", name)


def test_curves_of_different_images_have_no_paired_interval(tmp_path: Path) -> None:
    first, second = load(write(tmp_path, "jpeg")), load(write(tmp_path, "vvc", 0.5))
    second.meta["dataset"]["fingerprint"] = "0" * 64
    (compared,) = compare_with_anchor([first, second], anchor="jpeg")
    assert compared.bd_rate.value == pytest.approx(-50)
    assert compared.bd_rate.low is None
    assert compared.bd_rate.reason == "no interval: the curves were measured on different images"
