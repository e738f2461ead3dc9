"""The VCM anchor: four scales times six QPs, coded once with the codec that they are of, and the front of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icm_baselines.pareto import VtmPareto, VvcPareto
from icm_baselines.vvc import Vvc
from icm_bench.curves.comparison import compare_with_anchor
from icm_bench.curves.curve import rate_accuracy
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import Result
from icm_bench.dataset import Dataset
from icm_bench.error import UsageError
from icm_bench.pipeline.front import front, reduced
from icm_bench.pipeline.readback import stored_in
from icm_bench.pipeline.runner import Summary
from icm_bench.report.browser import Places
from icm_bench.report.page import Pictures, write
from icm_bench.spec import resolve_codec
from icm_bench.testing import photograph
from tests.helpers.made_up import made_up
from tests.helpers.small_run import run_in

CODED = ["vvc:preset=faster", "vvc-pareto:preset=faster"]
LADDERS = ["vvc:preset=faster=47,37", "vvc-pareto:preset=faster=2547,5047,10047,5027,10037"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def together(blobs: Dataset, plugins: Path, runs: Path, tmp_path: Path) -> Summary:
    """Codec and front in one run, over stores that the module's tests share."""
    return measure(blobs, runs, tmp_path)


def measure(blobs: Dataset, runs: Path, folder: Path, codecs: list[str] = CODED) -> Summary:
    qualities = [text for text in LADDERS if text.rpartition("=")[0] in codecs]
    own: dict[str, Any] = {"codecs": codecs, "detector": "fake:contrast=20", "bootstrap": 30, "runs": runs}
    return run_in(blobs.limit(8), folder, qualities=qualities, **own)


@pytest.mark.parametrize("codec_class", [VvcPareto, VtmPareto])
def test_the_ladder_is_every_scale_at_every_qp_of_the_anchor(codec_class: type[VvcPareto]) -> None:
    found = {codec_class(quality).coded_as() for quality in codec_class.qualities}
    name = "vvc:preset=fast" if codec_class is VvcPareto else "vtm"
    scales = ("", ":scale=75", ":scale=50", ":scale=25")
    assert found == {(name + scale, qp) for scale in scales for qp in (22, 27, 32, 37, 42, 47)}
    assert len(codec_class.qualities) == 24


@pytest.mark.parametrize(
    ("codec", "spec"),
    [
        (VvcPareto(10022), "vvc:preset=fast"),
        (VvcPareto(2563, preset="medium"), "vvc:preset=medium:scale=25"),
        (VtmPareto(7500), "vtm:scale=75"),
        (VtmPareto(5037, chroma="444", dir="/opt/vtm"), "vtm:chroma=444:dir=/opt/vtm:scale=50"),
    ],
)
def test_a_point_is_stored_under_the_name_that_a_run_of_that_codec_gives_it(
    codec: VvcPareto | VtmPareto, spec: str
) -> None:
    assert str(resolve_codec(codec.coded_as()[0])[0]) == spec


def test_a_point_is_coded_as_the_codec_that_it_is_stored_as() -> None:
    image = photograph(97, 61)
    for quality, scale in ((5037, "50"), (10037, "100")):
        codec, other = VvcPareto(quality, preset="faster"), Vvc(37, preset="faster", scale=scale)  # type: ignore[arg-type] # a literal, as a loop's variable
        assert codec.encode(image) == other.encode(image)
        assert codec.version() == other.version()


def test_a_bitstream_says_its_own_scale() -> None:
    image = photograph(97, 61)
    data = VvcPareto(5037, preset="faster").encode(image)
    assert VvcPareto(10022).decode(data).shape == image.shape
    assert np.array_equal(VvcPareto(2547).decode(data), Vvc(22).decode(data))


@pytest.mark.parametrize(
    ("quality", "complaint"),
    [
        (
            37,
            r"vvc-pareto quality: 37 is not a scale of 100, 75, 50, 25 % times 100 plus a QP; for 50 % at QP 37",
        ),
        (6037, "vvc-pareto quality: 6037 is not"),
        (5064, "vvc-pareto QP: 64 is not a whole number from 0 to 63"),
        (5037.5, "vvc-pareto QP: 37.5 is not"),
    ],
)
def test_a_quality_that_is_no_scale_and_qp_is_refused(quality: float, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        VvcPareto(quality)


@pytest.mark.slow
def test_codec_and_front_in_one_run_code_every_point_once(
    together: Summary, blobs: Dataset, plugins: Path, runs: Path, tmp_path: Path
) -> None:
    assert together.n_encoded in (5 * 8, 0)
    assert not list((runs / "coded").glob("*/vvc-pareto*"))
    assert measure(blobs, runs, tmp_path).n_jobs == 0
    alone = measure(blobs, runs, tmp_path / "alone", CODED[1:])
    assert alone.n_encoded == 0
    assert alone.results[0].results == together.results[1].results


@pytest.mark.slow
def test_the_curve_is_the_front_by_rate_and_ap_of_the_whole_dataset(together: Summary) -> None:
    plain, anchor = together.results
    assert anchor.codec == "vvc-pareto:preset=faster"
    assert anchor.meta["front"] == {"metric": "map", "points": 5}
    rates, accuracies = rate_accuracy(anchor.curve, monotone="error")
    assert anchor.results["bpp"] == rates.tolist()
    for bpp, accuracy in zip(plain.results["bpp"], plain.results["map"], strict=True):
        assert bpp is not None
        assert accuracy is not None
        assert accuracies[rates <= bpp].max() >= accuracy
    for quality, bpp in zip(anchor.qualities, anchor.results["bpp"], strict=True):
        if quality is not None and quality > 10000:
            assert bpp == plain.results["bpp"][plain.qualities.index(quality - 10000)]
    n_points = len(anchor.qualities)
    assert anchor.replicates is not None
    assert anchor.replicates.bpp.shape == (n_points, 30)
    assert len(anchor.meta["bitstreams"]) == len(anchor.timings["results"]["encode_s"]) == n_points
    assert all(len(anchor.meta["intervals"][key]) == n_points for key in ("bpp", "map"))


@pytest.mark.slow
def test_codec_and_front_stand_in_one_comparison(together: Summary) -> None:
    (compared,) = compare_with_anchor(together.results)
    assert (compared.anchor, compared.codec) == tuple(CODED)
    assert compared.bd_rate.overlap is not None
    assert compared.bd_rate.overlap > 0.3
    assert not compared.mixed


@pytest.mark.slow
def test_the_report_shows_the_pictures_of_the_front(
    together: Summary, blob_files: tuple[Path, Path], runs: Path, tmp_path: Path
) -> None:
    folder, file = blob_files
    pictures = Pictures(stored_in(runs), Places(images=folder, annotations=file), 1)
    assert write(tmp_path / "results", tmp_path / "report.html", pictures=pictures) == []
    assert "vvc-pareto:preset=faster" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def interleaved() -> tuple[Result, Replicates]:
    """Five points: the second is beaten by the first, the fourth has no accuracy."""
    result = made_up(
        "vvc-pareto:preset=fast",
        {"bpp": [0.4, 0.1, 0.2, 0.3, 0.05], "map": [30.0, 10.0, 20.0, None, 12.0]},
        codec_version=["a", "b", "c", "d", "e"],
        intervals={"level": 0.95, "map": [[i, i] for i in range(5)]},
    )
    timings = {"results": {"encode_s": [1.0, 2.0, 3.0, 4.0, 5.0]}, "machine": "this"}
    replicates = Replicates(
        np.arange(10.0).reshape(5, 2), {"map": np.arange(10.0).reshape(5, 2)}, {"map": np.ones(2)}
    )
    return replace(result, categories={"cat": [1.0, 2.0, None, 4.0, 5.0]}, timings=timings), replicates


def test_all_that_belongs_to_a_point_goes_with_it(interleaved: tuple[Result, Replicates]) -> None:
    kept, replicates = front(*interleaved, "map")
    assert kept.results == {"bpp": [0.05, 0.2, 0.4], "map": [12.0, 20.0, 30.0]}
    assert kept.qualities == [5, 3, 1]
    assert kept.meta["codec_version"] == ["e", "c", "a"]
    assert kept.meta["intervals"] == {"level": 0.95, "map": [[4, 4], [2, 2], [0, 0]]}
    assert kept.categories == {"cat": [5.0, None, 1.0]}
    assert kept.timings == {"results": {"encode_s": [5.0, 3.0, 1.0]}, "machine": "this"}
    assert replicates is not None
    assert replicates.bpp[:, 0].tolist() == replicates.metrics["map"][:, 0].tolist() == [8.0, 4.0, 0.0]
    assert front(kept, replicates, "map")[0].results == kept.results


def test_a_curve_without_the_metric_stays_whole(interleaved: tuple[Result, Replicates]) -> None:
    result, _ = interleaved
    assert front(result, None, "psnr-rgb") == (result, None)


@pytest.mark.parametrize(("codec", "n_points"), [("vvc-pareto:preset=fast", 3), ("vvc", 5), ("VTM 12.0", 5)])
def test_only_codecs_that_are_a_front_are_reduced_to_it(
    codec: str, n_points: int, interleaved: tuple[Result, Replicates]
) -> None:
    kept, _ = reduced(replace(interleaved[0], codec=codec), None)
    assert len(kept.qualities) == n_points
