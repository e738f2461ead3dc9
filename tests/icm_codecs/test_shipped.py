"""The weights that the package ships: what they decode, what they refuse, and what they take.

Run as a program, ``python tests/icm_codecs/test_shipped.py NAME``, it records the golden streams of new weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from icm_baselines.vvc import Vvc
from icm_bench.codec import (
    Codec,
    Learned,
    Loads,
    Quality,
    ReportsHeaderBytes,
    objective_of,
    runs_on,
    trained_through,
)
from icm_bench.dataset import open_dataset
from icm_bench.error import CodecError, UsageError
from icm_codecs.bitstream.container import Frame
from icm_codecs.content_weighted.codec import ContentWeighted
from icm_codecs.filtered.codec import VvcFiltered
from icm_codecs.hyperprior.codec import Hyperprior
from icm_codecs.icm.codec import Icm
from icm_codecs.rnn_gdn.codec import RnnGdn
from icm_codecs.rnn_gdn.coder import read_segments
from icm_codecs.rnn_gdn.container import unpack
from icm_codecs.training.recipe import find_recipe
from icm_codecs.tucodec.codec import Tucodec
from tests.helpers.stream import (
    NO_IMAGES,
    check_bad_weights,
    check_damage,
    check_drift,
    check_threads_and_processes,
    image_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = Path(__file__).parents[2] / "codecs" / "icm_codecs" / "weights"
GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
KINDS = ("content-weighted", "hyperprior", "icm-mse", "icm-photos", "rnn-gdn", "tucodec")
"""One of each architecture."""
OWN = [name for name in NAMES if name != "vvc-filtered"]
"""Those whose bitstreams are no other codec's."""
RECORDED: dict[str, tuple[Quality, ...]] = {
    "content-weighted": (1, 4, 6),
    "hyperprior": (1, 4, 8),
    "icm-photos": (1, 4, 8, 10),
    "icm-photos-mse": (1, 4, 8, 10),
    "icm-scenes": (1, 4, 8, 10),
    "rnn-gdn": (1, 4, 16),
    "rnn-gdn-off": (1, 4),
    "tucodec": (0.1, 0.35, 0.7),
    "vvc-filtered": (52, 37, 27),
}
"""The qualities of which there are golden streams; of ``icm``'s other weights 1, 4 and 8."""


def open_shipped(name: str, quality: Quality) -> Any:
    """Return the codec that ships with these weights."""
    match name:
        case "content-weighted":
            return ContentWeighted(quality)
        case "hyperprior":
            return Hyperprior(quality)
        case "rnn-gdn" | "rnn-gdn-off":
            return RnnGdn(quality, gdn=name == "rnn-gdn", coding="adaptive")
        case "tucodec":
            return Tucodec(quality)
        case "vvc-filtered":
            return VvcFiltered(quality, preset="faster")
    return Icm(quality, weights=str(WEIGHTS / f"{name}.safetensors"))


def what_it_says(codec: Any, data: bytes) -> dict[str, NDArray[Any]]:
    """Return the integers that a bitstream holds, by their names."""
    if isinstance(codec, RnnGdn):
        return {"bits": np.stack(read_segments(unpack(data)))}
    if isinstance(codec, VvcFiltered):
        standard = Vvc(37)
        return {"unfiltered": standard.decode(data), "qp": np.array(standard.quality_of(data))}
    found = codec.latents(data)
    return {name: np.asarray(values) for name, values in found._asdict().items() if values is not None}


def digests(codec: Any, data: bytes) -> dict[str, str]:
    return {
        f"{name}_sha256": hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()
        for name, values in what_it_says(codec, data).items()
    }


def record(name: str) -> None:
    """Write down what the weights make of an image, and what a decoder reads in it."""
    streams = {}
    for quality in RECORDED.get(name, (1, 4, 8)):
        codec = open_shipped(name, quality)
        data = codec.encode(image_of(48, 72))
        streams[str(quality)] = {"stream": data.hex(), **digests(codec, data)}
    weights = hashlib.sha256((WEIGHTS / f"{name}.safetensors").read_bytes()).hexdigest()[:12]
    content = {"image": "image_of(48, 72)", "streams": streams, "weights": weights}
    (GOLDEN / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_have_a_recipe_and_a_card(name: str) -> None:
    path = WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size <= 8 * 2**20
    assert find_recipe(name).is_file()
    assert path.with_suffix(".md").is_file()


@pytest.mark.parametrize(
    ("name", "objective", "detectors"),
    [
        ("content-weighted", "mse+ssim", ()),
        ("hyperprior", "mse", ()),
        ("icm-mse", "mse", ()),
        ("icm-photos", "detection", ("onnx:model=deimv2_femto_coco80-c6ad358f", "yolox")),
        ("icm-photos-mse", "mse", ()),
        ("icm-scenes", "detection", ("fasterrcnn_scenes", "maskrcnn_scenes")),
        ("icm-scenes-mse", "mse", ()),
        ("rnn-gdn", "mae", ()),
        ("tucodec", "mse+ssim", ()),
        ("vvc-filtered", "detection", ("onnx:model=deimv2_femto_coco80-c6ad358f", "yolox")),
    ],
)
def test_weights_say_what_they_were_trained_for_and_through_which_detectors(
    name: str, objective: str, detectors: tuple[str, ...]
) -> None:
    codec = open_shipped(name, RECORDED.get(name, (4,))[0])
    for protocol in (Codec, ReportsHeaderBytes, Loads, Learned):
        assert isinstance(codec, protocol)
    assert objective_of(codec) == objective
    assert trained_through(codec) == detectors
    assert runs_on(codec) == "cpu"


@pytest.mark.parametrize("name", NAMES)
def test_recorded_streams_decode_to_the_recorded_integers(name: str) -> None:
    # Recorded on one machine: every other one must recover the very same.
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    for text, recorded in golden["streams"].items():
        codec = open_shipped(name, float(text) if "." in text else int(text))
        assert golden["weights"] in codec.version(), "record the golden streams of the new weights"
        stream = bytes.fromhex(recorded.pop("stream"))
        assert digests(codec, stream) == recorded
        assert codec.decode(stream).shape == (48, 72, 3)


@pytest.mark.parametrize("name", NAMES)
def test_images_come_closer_with_every_bit(name: str) -> None:
    image = open_dataset("scenes", limit=1).images[0].read()[64:160, 128:256]
    points = []
    for quality in RECORDED.get(name, (1, 4, 6)):
        codec = open_shipped(name, quality)
        data = codec.encode(image)
        mse = np.mean((codec.decode(data).astype(float) - image) ** 2)
        points.append((len(data), 10 * np.log10(255**2 / mse)))
    assert points == sorted(points)
    assert [psnr for _, psnr in points] == sorted(psnr for _, psnr in points)
    # Whatever a network for a task paints over, the rest it leaves.
    assert points[-1][1] > 22.0


@pytest.mark.parametrize("name", NAMES)
def test_missing_and_damaged_weights_are_refused(name: str, tmp_path: Path) -> None:
    quality = RECORDED.get(name, (1,))[0]
    made = type(open_shipped(name, quality))
    check_bad_weights(lambda path: made(quality, weights=path), WEIGHTS / f"{name}.safetensors", tmp_path)


@pytest.mark.parametrize("name", OWN)
def test_an_array_that_is_no_image_is_refused(name: str) -> None:
    codec = open_shipped(name, RECORDED.get(name, (1,))[0])
    for array in NO_IMAGES:
        with pytest.raises(CodecError):
            codec.encode(array)


@pytest.mark.parametrize("name", OWN)
def test_a_stream_of_other_weights_is_refused(name: str) -> None:
    ours, theirs = (open_shipped(name, RECORDED.get(name, (1,))[0]) for _ in range(2))
    data = ours.encode(image_of(20, 20))
    theirs._sha256 = "0" * 64
    for method in (theirs.decode, theirs.header_bytes):
        with pytest.raises(CodecError, match="other weights"):
            method(data)


@pytest.mark.parametrize(
    ("codec", "qualities", "hint"),
    [
        (ContentWeighted, (0, 7), "no quality .*; choose 1 to 6"),
        (Hyperprior, (0, 9), "choose 1 to 8"),
        (Icm, (0, 11, 2.5, -1), "choose 1 to 10"),
        (RnnGdn, (0, 17, 2.5, -1), "choose 1 to 16"),
        (Tucodec, (0.0, -1.0, 25.0, math.nan, math.inf), "no target rate"),
    ],
)
def test_a_quality_that_is_none_is_refused(codec: Any, qualities: tuple[float, ...], hint: str) -> None:
    for quality in qualities:
        with pytest.raises(UsageError, match=hint):
            codec(quality)


@pytest.mark.parametrize("name", KINDS)
def test_an_instance_of_any_quality_decodes_any_stream(name: str) -> None:
    low, *_, high = (open_shipped(name, quality) for quality in RECORDED.get(name, (1, 4, 8)))
    data = high.encode(image_of(65, 80))
    assert np.array_equal(low.decode(data), high.decode(data))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_one_thread_two_and_a_fresh_process_read_the_same(name: str, tmp_path: Path) -> None:
    low, *_, high = RECORDED.get(name, (1, 4, 8))
    codec, weights = open_shipped(name, high), WEIGHTS / f"{name}.safetensors"
    check_threads_and_processes(codec, image_of(161, 130), tmp_path, low, weights, codec.pixel_tolerance)


@pytest.mark.parametrize("name", ["hyperprior", "icm-mse", "icm-photos", "tucodec"])
def test_latents_survive_a_drift_of_every_float_network(name: str) -> None:
    steady, drifted = (open_shipped(name, RECORDED.get(name, (1, 4))[1]) for _ in range(2))
    check_drift(steady, drifted, image_of(96, 120))


@pytest.mark.parametrize("name", [name for name in KINDS if name != "rnn-gdn"])
def test_damage_is_refused(name: str) -> None:
    for quality in RECORDED.get(name, (1, 4, 8)):
        check_damage(open_shipped(name, quality), image_of(40, 56))


@pytest.mark.parametrize("name", KINDS)
def test_foreign_data_are_refused(name: str) -> None:
    codec = open_shipped(name, RECORDED.get(name, (1,))[0])
    for data in (b"", b"\xff\xd8\xff\xe0 JFIF", b"\x89PNG\r\n\x1a\n", bytes(1000), b"\xa0" * 50):
        for method in (codec.decode, codec.header_bytes):
            with pytest.raises(CodecError):
                method(data)


@pytest.mark.parametrize("name", ["content-weighted", "hyperprior", "icm-mse", "icm-photos"])
def test_a_forged_payload_neither_crashes_nor_hangs(name: str) -> None:
    codec, random = open_shipped(name, 1), np.random.default_rng(1)
    for size in range(60):
        frame = Frame(codec._model_id, size % 6, 50, 40, random.bytes(size))
        try:
            assert codec.decode(frame.pack()).shape == (40, 50, 3)
        except CodecError as error:
            assert name == "content-weighted", error  # its decoder itself sees some damage
            assert "\n" not in str(error)


if __name__ == "__main__":
    for shipped in sys.argv[1:]:
        record(shipped)
