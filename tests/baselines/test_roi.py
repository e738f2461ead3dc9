"""Codecs with a region of interest: the background costs fewer bits, the region keeps its own, decoders are plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icm_baselines.hevc import Hevc
from icm_baselines.jpeg import Jpeg
from icm_baselines.region import Region, covered
from icm_baselines.roi import HevcRoi, JpegRoi, VvcRoi, attenuated
from icm_baselines.vvc import Vvc
from icm_bench.codec import Codec, coded_as, guide_of, label_of, trained_through
from icm_bench.curves.comparison import compare_with_anchor
from icm_bench.curves.curve import rate_accuracy
from icm_bench.dataset import Dataset, open_dataset
from icm_bench.detectors.mask import run_lengths
from icm_bench.error import UsageError
from icm_bench.image import Image, decode_image
from icm_bench.pipeline.runner import Summary
from icm_bench.report.style import GUIDED_BY_JUDGE, labels_of
from icm_bench.spec import resolve_codec
from icm_bench.testing import photograph
from icm_codecs.icm.codec import Icm
from tests.helpers.small_run import run_in

LADDERS = ["jpeg=10,30,80", "jpeg-roi:roi=fake=20010,20030,50030,50080,100010,100030,100080"]


@pytest.fixture
def scene(plugins: Path) -> Image:
    """A textured image with one red object, which the fake detector finds, in its middle."""
    image: Image = (photograph(160, 128, seed=3) // 2 + 60).astype(np.uint8)
    image[48:80, 56:104] = (230, 30, 30)
    image[48:80:4, 56:104] = (200, 60, 20)
    return image


def errors(image: Image, decoded: Image) -> tuple[float, float]:
    """Return the squared error within the object and outside of it."""
    error = ((decoded.astype(float) - image) ** 2).mean(axis=2)
    inside = np.zeros(error.shape, bool)
    inside[48:80, 56:104] = True
    return float(error[inside].mean()), float(error[~inside].mean())


def measure(blobs: Dataset, folder: Path, detector: str) -> Summary:
    return run_in(
        blobs.limit(8),
        folder,
        codecs=["jpeg", "jpeg-roi:roi=fake"],
        detector=detector,
        qualities=LADDERS,
        bootstrap=20,
    )


@pytest.mark.parametrize(
    ("codec", "options", "label"),
    [
        (VvcRoi, {"preset": "medium", "roi": "icm"}, "VVC medium, ROI by icm"),
        (HevcRoi, {"preset": "slow", "roi": "onnx", "weights": "/data/deim.onnx"}, "HEVC slow, ROI by deim"),
        (JpegRoi, {"roi": "fake", "score": "0.3"}, "JPEG, ROI by fake, score 0.3"),
    ],
)
def test_a_label_says_what_finds_the_region(codec: type[Codec], options: dict[str, str], label: str) -> None:
    assert label_of(codec, options) == label


def test_the_background_is_pulled_towards_its_mean_and_the_region_is_left_alone() -> None:
    image, share = photograph(40, 30), np.zeros((30, 40))
    share[10:20, 10:25] = 1.0
    found = attenuated(image, share, 0.2)
    inside = share == 1.0
    assert np.array_equal(found[inside], image[inside])
    mean = image[~inside].mean(axis=0)
    expected = 0.2 * image[~inside] + 0.8 * mean
    assert np.abs(found[~inside] - expected).max() <= 0.5 + 1e-9


@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_attenuation_keeps_images_images(alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 9, 2))
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    found = attenuated(image, rng.random((height, width)), alpha)
    assert (found.shape, found.dtype) == (image.shape, image.dtype)
    assert np.array_equal(attenuated(image, np.ones((height, width)), alpha), image)
    assert np.array_equal(attenuated(image, rng.random((height, width)), 1.0), image)


def test_a_region_is_the_detections_above_the_score_and_their_margin(scene: Image) -> None:
    for margin in (0, 5):
        share = Region("fake", score=0.1, margin=margin).share(scene)
        rows, columns = np.nonzero(share)
        found = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
        assert found == (48 - margin, 80 + margin, 56 - margin, 104 + margin)
    assert not Region("fake", score=1.0).share(scene).any()


def test_soft_edges_fall_from_the_margin_on(scene: Image) -> None:
    share = Region("fake", score=0.1, margin=2, soft=10).share(scene)
    along = share[64, 103:120]
    assert (along[:3] == 1.0).all()
    assert (np.diff(along[2:13]) < 0.0).all()
    assert (along[13:] == 0.0).all()


def test_masks_are_taken_where_there_are_masks_and_boxes_elsewhere() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 3:7] = np.eye(4, dtype=bool)
    rows = [{"bbox": [3, 5, 4, 4], "segmentation": run_lengths(mask)}]
    assert np.array_equal(covered(rows, 20, 30), mask)
    box = covered([{"bbox": [-2.5, 4.2, 6.0, 30.0]}], 20, 30)
    assert np.array_equal(np.argwhere(box), [(y, x) for y in range(4, 20) for x in range(4)])


def test_icms_own_network_finds_the_objects_of_scenes() -> None:
    scenes = open_dataset("scenes", limit=2)
    truth = scenes.ground_truth
    assert truth is not None
    for record in scenes.images:
        own = [row for row in truth["annotations"] if row["image_id"] == record.id]
        objects = covered(own, record.height, record.width)
        share = Region("icm", score=0.4).share(record.read())
        assert share[objects].mean() > 2 * share[~objects].mean()


def test_where_nothing_is_attenuated_the_point_is_the_plain_codecs() -> None:
    for codec, plain in (
        (VvcRoi(100037, preset="faster"), "vvc:preset=faster"),
        (JpegRoi(100050), "jpeg"),
    ):
        stored = coded_as(codec)
        assert stored is not None
        assert str(resolve_codec(stored[0])[0]) == plain
    assert coded_as(JpegRoi(20050)) is None
    assert JpegRoi(100050).version() == Jpeg(50).version()


def test_the_plain_decoder_reads_a_stream_of_fewer_bytes_whose_region_is_as_good(scene: Image) -> None:
    for guided, plain in (
        (JpegRoi(20050, roi="fake", score=0.1), Jpeg(50)),
        (VvcRoi(20037, roi="fake", score=0.1, preset="faster"), Vvc(37, preset="faster")),
    ):
        data, usual = guided.encode(scene), plain.encode(scene)
        assert len(data) < 0.8 * len(usual)
        inside, outside = errors(scene, plain.decode(data))
        usual_inside, usual_outside = errors(scene, plain.decode(usual))
        assert inside < 1.2 * usual_inside
        assert outside > 2 * usual_outside


def test_x265_heeds_the_offset_outside_the_region_and_there_alone(scene: Image) -> None:
    plain = HevcRoi(30, roi="fake", score=0.1, preset="fast")
    guided = HevcRoi(12030, roi="fake", score=0.1, preset="fast")
    usual, data = plain.encode(scene), guided.encode(scene)
    assert len(data) < 0.6 * len(usual)
    inside, outside = errors(scene, Hevc(22).decode(data))
    usual_inside, usual_outside = errors(scene, Hevc(22).decode(usual))
    assert inside < 1.3 * usual_inside
    assert outside > 2 * usual_outside


def test_a_rate_factor_without_a_region_codes_about_as_the_same_qp(scene: Image) -> None:
    by_factor, by_qp = HevcRoi(32, preset="fast").encode(scene), Hevc(32, preset="fast").encode(scene)
    assert len(by_factor) == pytest.approx(len(by_qp), rel=0.05)


def test_an_offset_of_eight_steps_codes_an_image_without_objects_about_as_a_qp_eight_higher(
    scene: Image,
) -> None:
    coarser = HevcRoi(8030, roi="fake", score=1.0, preset="fast").encode(scene)
    assert len(coarser) == pytest.approx(len(Hevc(38, preset="fast").encode(scene)), rel=0.1)


def test_the_curve_is_a_front_and_says_what_guided_it(blobs: Dataset, plugins: Path, tmp_path: Path) -> None:
    plain, guided = measure(blobs, tmp_path, "fake:contrast=20").results
    assert guided.codec == "jpeg-roi:roi=fake"
    assert guided.meta["guide"] == {"spec": "fake", "is_judge": False}
    assert "guide" not in plain.meta
    assert guided.meta["front"] == {"metric": "map", "points": 7}
    rates, _ = rate_accuracy(guided.curve, monotone="error")
    assert guided.results["bpp"] == rates.tolist()
    (compared,) = compare_with_anchor([plain, guided])
    assert compared.bd_rate.overlap is not None
    assert not labels_of([plain, guided])[guided.codec].endswith(GUIDED_BY_JUDGE)


def test_a_region_from_the_judge_itself_is_marked(blobs: Dataset, plugins: Path, tmp_path: Path) -> None:
    plain, guided = measure(blobs, tmp_path, "fake").results
    assert guided.meta["guide"]["is_judge"]
    labels = labels_of([plain, guided])
    assert labels[guided.codec].endswith(GUIDED_BY_JUDGE)
    assert not labels[plain.codec].endswith(GUIDED_BY_JUDGE)
    named = labels_of([plain, guided, replace(guided, codec=f"{guided.codec}:soft=8")], {"jpeg": "mine"})
    assert all(text.endswith(GUIDED_BY_JUDGE) for codec, text in named.items() if codec != "jpeg")


def test_a_detector_from_a_file_finds_the_region_and_names_its_weights(
    shared_data: Callable[[str], Path],
) -> None:
    weights = shared_data("detectors/yolox_nano_coco80.onnx")
    path = shared_data("coco/val2017/000000005001.jpg")
    image = decode_image(path.read_bytes(), where=path)
    codec = JpegRoi(20050, roi="onnx", weights=str(weights), score=0.3)
    guide = guide_of(codec)
    assert guide is not None
    assert guide.spec.startswith("onnx:model=yolox_nano_coco80-")
    assert guide.spec[-8:] in codec.version()
    assert 0.0 < Region("onnx", str(weights), 0.3).share(image).mean() < 1.0


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: JpegRoi(30050), "jpeg-roi quality: 30050 is not one of 20, 50, 80, 100 times 1000"),
        (lambda: VvcRoi(20064), "vvc QP"),
        (lambda: HevcRoi(5030), "hevc-roi quality: 5030"),
        (lambda: JpegRoi(20050, score=1.5), "jpeg-roi:score=1.5"),
        (lambda: JpegRoi(20050, margin=-1), "jpeg-roi:margin=-1"),
        (lambda: JpegRoi(20050, roi="nobody").version(), "nobody"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        make()


def test_a_region_by_icm_is_a_lesson_of_the_detectors_that_taught_it() -> None:
    assert trained_through(JpegRoi(20050)) == trained_through(Icm(1, domain="scenes", objective="detection"))
    assert "fasterrcnn_scenes" in trained_through(JpegRoi(20050))
    assert trained_through(JpegRoi(20050, roi="fake")) == ()


def test_photographs_need_a_detector_that_knows_them() -> None:
    with pytest.raises(UsageError, match="drawn scenes alone.*roi=onnx:weights=FILE"):
        resolve_codec("vvc-roi", task="detection", provider="coco")
    assert (
        str(resolve_codec("vvc-roi", task="detection", provider="scenes")[0]) == "vvc-roi:preset=fast:roi=icm"
    )


def test_weights_without_an_roi_network_are_refused() -> None:
    weights = Path(__file__).parents[2] / "codecs/icm_codecs/weights/icm-scenes-mse.safetensors"
    with pytest.raises(UsageError, match="no ROI network"):
        Region("icm", str(weights)).share(photograph(32, 32))
