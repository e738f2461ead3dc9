from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_bench.spec import resolve_codec
from icm_codecs.bitstream.container import Frame
from icm_codecs.bitstream.integer_layer import MEAN_BITS
from icm_codecs.icm.checkpoint import load_checkpoint
from icm_codecs.icm.codec import Icm
from icm_codecs.icm.coder import IcmCoder
from tests.helpers import stream
from tests.helpers.stream import image_of

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = Path(__file__).parents[3] / "codecs" / "icm_codecs" / "weights" / "icm-mse.safetensors"


def psnr(a: Image, b: Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.fixture(scope="module")
def ladder() -> list[Icm]:
    return [Icm(quality, weights=str(WEIGHTS)) for quality in range(1, 9)]


@pytest.fixture(scope="module")
def codec(ladder: list[Icm]) -> Icm:
    return ladder[4]


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(Icm.qualities))
def test_any_small_noise_image_survives(height: int, width: int, quality: int) -> None:
    codec = Icm(quality)
    noise = np.random.default_rng(height * 41 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert codec.decode(codec.encode(noise)).shape == noise.shape


@pytest.mark.parametrize("level", [0, 127, 255])
def test_flat_image_stays_flat_and_costs_little(codec: Icm, level: int) -> None:
    image = np.full((96, 96, 3), level, dtype=np.uint8)
    data = codec.encode(image)
    assert len(data) < 96 * 96 // 8
    assert np.abs(codec.decode(data).astype(int) - level).mean() < 8


def test_rate_and_fidelity_rise_along_the_ladder(ladder: list[Icm]) -> None:
    image = image_of(192, 256)
    streams = [codec.encode(image) for codec in ladder]
    sizes = [len(stream) for stream in streams]
    fidelity = [psnr(image, codec.decode(stream)) for codec, stream in zip(ladder, streams, strict=True)]
    assert sizes == sorted(sizes)
    assert fidelity[-1] > fidelity[4] > fidelity[0]


def test_input_is_left_as_it_was(codec: Icm) -> None:
    image = image_of(33, 34)
    image.setflags(write=False)
    codec.encode(image)
    assert np.array_equal(codec.encode(image[::-1][::-1]), codec.encode(image))


def test_one_thread_and_two_recover_the_same_latents_and_pixels(codec: Icm) -> None:
    stream.check_threads(codec, codec.encode(image_of(161, 240)), tolerance=0)


def test_latents_survive_a_drift_of_every_float_network() -> None:
    image, steady, drifted = image_of(96, 120), Icm(6), Icm(6)
    stream.check_drift(steady, drifted, image)
    data = steady.encode(image)
    assert psnr(drifted.decode(data), steady.decode(data)) > 35


def test_a_lambda_of_bits_moves_symbols_towards_zero_for_less_than_it_saves() -> None:
    scene = Path(__file__).parents[3] / "icm_bench" / "datasets" / "scenes" / "val" / "000003.webp"
    image, coders = np.asarray(PillowImage.open(scene).convert("RGB"))[:160, :240], {}
    for weight in (0.0, 0.02):
        checkpoint = dataclasses.replace(
            load_checkpoint(WEIGHTS.with_name("icm-scenes-mse.safetensors")), rdoq_lambda=weight
        )
        coders[weight] = IcmCoder(checkpoint, 5, "cpu")
    frames = {
        weight: Frame(b"", 5, 240, 160, coder.entropy_code(*coder.analyse(image)))
        for weight, coder in coders.items()
    }
    (nearest, moved) = (coders[weight].entropy_decode(frame) for weight, frame in frames.items())
    _, mean = checkpoint.hyper_synthesis.apply(nearest.hyper[None], 5)
    symbol = (nearest.latent - mean[0, :, :10, :15]) / 2**MEAN_BITS
    step = (nearest.latent - moved.latent) / 2**MEAN_BITS * symbol.sign()
    assert step.unique().tolist() == [0, 1]
    # What the network was trained to keep low: bits and the squared error at quality 6's lambda.
    costs = [
        8 * len(frame.payload) / (160 * 240)
        + 0.0088 * np.mean((coders[weight].synthesise(frame, latents).astype(float) - image) ** 2)
        for (weight, frame), latents in zip(frames.items(), (nearest, moved), strict=True)
    ]
    assert len(frames[0.02].payload) < 0.97 * len(frames[0.0].payload)
    assert costs[1] < costs[0]


def test_decoder_recovers_what_the_encoder_chose(codec: Icm) -> None:
    image = image_of(80, 112)
    hyper, scaled, _, _ = codec._coder.analyse(image)
    found = codec.latents(codec.encode(image))
    assert torch.equal(found.hyper, hyper[0])
    # Whole steps around the mean: the nearest, or the next towards it; but for what is too unlikely to be sent.
    error = (found.latent / 2**MEAN_BITS - scaled[0]).abs()
    assert (error > 0.51).float().mean() < 0.05
    assert (error > 1.01).float().mean() < 1e-3


@pytest.mark.parametrize(
    ("domain", "objective"), [("photos", "beauty"), ("scenes", "beauty"), ("sea", "mse")]
)
def test_weights_that_are_not_shipped_are_refused(domain: Any, objective: Any) -> None:
    with pytest.raises(UsageError, match="has no weights of the domain"):
        Icm(1, domain=domain, objective=objective)


@pytest.mark.parametrize(
    ("text", "task", "provider", "wanted"),
    [
        ("icm", "detection", "scenes", "icm:domain=scenes:objective=detection"),
        ("icm", "segmentation", "scenes-poses", "icm:domain=scenes:objective=segmentation"),
        ("icm", "fidelity", "scenes", "icm:domain=scenes:objective=mse"),
        ("icm", "detection", "coco", "icm:domain=photos:objective=detection"),
        ("icm", "fidelity", "coco", "icm:domain=photos:objective=mse"),
        ("icm:objective=mse", "detection", "scenes", "icm:domain=scenes:objective=mse"),
        ("icm:domain=photos", "fidelity", "scenes", "icm:domain=photos:objective=mse"),
        ("icm:weights=a.safetensors", "detection", "scenes", "icm:weights=a.safetensors"),
    ],
)
def test_task_and_dataset_choose_the_weights(text: str, task: str, provider: str, wanted: str) -> None:
    assert str(resolve_codec(text, task=task, provider=provider)[0]) == wanted


def test_weights_for_both_tasks_code_an_image_once() -> None:
    assert Icm(2, domain="photos", objective="segmentation").coded_as() == (
        "icm:domain=photos:objective=detection",
        2,
    )
    assert Icm(2, domain="photos", objective="detection").coded_as() is None
    assert Icm(2, domain="photos", objective="mse").coded_as() is None


def test_former_name_of_an_option_is_understood_and_says_the_present_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec, _ = resolve_codec("icm:attention=off", task="detection", provider="scenes")
    assert str(spec) == "icm:domain=scenes:objective=detection:roi=off"
    assert "write icm:roi=off" in caplog.text


def test_a_name_that_begins_as_the_drawn_images_do_is_no_drawn_dataset() -> None:
    spec, _ = resolve_codec("icm", task="detection", provider="scenes-of-mine")
    assert str(spec) == "icm:domain=photos:objective=detection"


def test_header_is_ten_bytes_for_a_photograph(codec: Icm) -> None:
    data = codec.encode(image_of(256, 256))
    assert codec.header_bytes(data) == 10


def test_photograph_is_coded_better_than_by_jpeg(
    ladder: list[Icm], tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    with PillowImage.open(shared_data("kodak") / "kodim04.png") as file:
        image = np.asarray(file.convert("RGB"))
    data = ladder[3].encode(image)
    fidelity = psnr(image, ladder[3].decode(data))
    path = tmp_path / "photograph.jpg"
    for quality in range(95, 0, -1):
        PillowImage.fromarray(image).save(path, quality=quality, optimize=True)
        if path.stat().st_size <= len(data):
            break
    with PillowImage.open(path) as file:
        assert fidelity > psnr(image, np.asarray(file))
