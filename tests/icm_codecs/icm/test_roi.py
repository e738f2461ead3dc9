from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_bench.datasets.scenes import Scenes
from icm_bench.detectors.scenes import FasterRcnnScenes
from icm_bench.image import Image
from icm_codecs.bitstream.container import Frame
from icm_codecs.bitstream.integer_layer import MEAN_BITS
from icm_codecs.bitstream.table import SCALES, Decoder, Encoder
from icm_codecs.bitstream.weights_file import find_weights
from icm_codecs.icm.checkpoint import load_checkpoint
from icm_codecs.icm.codec import Icm
from icm_codecs.icm.coder import IcmCoder
from icm_codecs.icm.roi import MOST_COARSENING, RoiLevels, RoiNetwork, n_contexts
from icm_codecs.icm.roi_map import MapCoder, map_tables, share_of

pytestmark = pytest.mark.usefixtures("one_thread")


def coder_of(n_levels: int, seed: int) -> MapCoder:
    """Make a coder of maps with tables from random counts."""
    counts = torch.rand(n_contexts(n_levels), n_levels, generator=torch.Generator().manual_seed(seed)) ** 8
    return MapCoder(map_tables(1000.0 * counts), n_levels)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_any_map_comes_back(rows: int, columns: int, n_levels: int, seed: int) -> None:
    levels = torch.from_numpy(np.random.default_rng(seed).integers(0, n_levels, (rows, columns)))
    coder = coder_of(n_levels, seed % 7)
    encoder = Encoder()
    coder.put(encoder, levels)
    # As in a bitstream, other symbols follow.
    after = torch.arange(16) % n_levels
    encoder.put(after, torch.zeros(16, dtype=torch.int64), coder.tables)
    decoder = Decoder(encoder.bytes(), most_symbols=rows * columns + 16)
    assert torch.equal(coder.take(decoder, rows, columns), levels)
    assert torch.equal(decoder.take(torch.zeros(16, dtype=torch.int64), coder.tables), after)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.integers(1, 6), st.integers(1, 6))
def test_any_bytes_are_a_map(data: bytes, rows: int, columns: int) -> None:
    found = coder_of(3, 1).take(Decoder(data, most_symbols=rows * columns), rows, columns)
    assert found.shape == (rows, columns)
    assert found.min() >= 0
    assert found.max() < 3


def test_a_map_costs_what_its_neighbours_leave_open() -> None:
    # Two halves: with tables that were counted on such maps, next to nothing is left to say.
    levels = torch.zeros(20, 30, dtype=torch.int64)
    levels[:, 15:] = 1
    noise = torch.from_numpy(np.random.default_rng(1).integers(0, 2, (20, 30)))
    counts = torch.zeros(n_contexts(2), 2)
    counts[:, 0] = counts[:, 1] = 1.0
    # Left, above, above to the right; 2 is outside.
    for left, above, right in np.ndindex(3, 3, 3):
        same = {left, above, right} - {2}
        if len(same) == 1:
            counts[9 * left + 3 * above + right, same.pop()] = 1000.0
    coder = MapCoder(map_tables(counts), 2)
    sizes = []
    for each in (levels, noise):
        encoder = Encoder()
        coder.put(encoder, each)
        sizes.append(len(encoder.bytes()))
    assert sizes[0] < 30
    assert sizes[1] > 100


def test_levels_follow_the_probability_of_an_object() -> None:
    levels = RoiLevels((0.5, 0.1), (0, 3, 9))
    probabilities = torch.tensor([0.99, 0.51, 0.49, 0.11, 0.09, 0.001])
    assert levels.of(torch.logit(probabilities)).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "levels",
    [
        {"probabilities": (0.1, 0.5), "first": (0, 3, 9)},
        {"probabilities": (0.5,), "first": (0, 3, 9)},
        {"probabilities": (0.5,), "first": (3, 0)},
        {"probabilities": (0.5,), "first": (0, MOST_COARSENING + 1)},
        {"probabilities": (0.5,), "first": (0, 3), "second": [(0, 3, 9)]},
        {"probabilities": (1.5,), "first": (0, 3)},
    ],
)
def test_impossible_levels_are_refused(levels: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="rising step for each level"):
        RoiLevels.from_dict(levels)


def test_levels_survive_their_own_words() -> None:
    levels = RoiLevels((0.5, 0.1), (0, 3, 9), ((0, 5, 63),))
    assert RoiLevels.from_dict(levels.as_dict()) == levels
    # The first quality sends no enhancement layer.
    assert levels.coarsening(2).tolist() == [[[0, 3, 9], [0, 3, 9]], [[0, 3, 9], [0, 5, 63]]]


def test_no_share_is_so_near_a_half_that_machines_could_round_it_differently() -> None:
    for places in range(MOST_COARSENING + 1):
        exact = 2**16 * math.exp(-SCALES.step * places)
        assert abs(exact % 1.0 - 0.5) > 1e-6
        assert share_of(places) == round(exact)
    assert share_of(0) == 2**16
    assert share_of(MOST_COARSENING) > 0


def test_attention_begins_with_what_the_detector_sees() -> None:
    backbone = FasterRcnnScenes.network(weights=None).backbone
    roi = RoiNetwork(8)
    roi.begin_with(backbone)
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = roi.eighth(roi.quarter(torch.relu(roi.stem((image - 0.42) / 0.2))))
        theirs = backbone.stages[0](backbone.stem((image - 0.42) / 0.2))
    torch.testing.assert_close(ours, theirs)
    # Before it has learned anything, it says the same everywhere.
    assert len(roi(image).unique()) == 1


WEIGHTS = find_weights("icm-scenes")


@pytest.fixture(scope="module")
def scene() -> Image:
    return Scenes.open().images[3].read()


@pytest.mark.parametrize("quality", [2, 6, 8])
def test_most_bits_go_where_objects_are(quality: int) -> None:
    dataset = Scenes.open().limit(3)
    truth = dataset.ground_truth
    assert truth is not None
    codec = Icm(quality, weights=str(WEIGHTS))
    inside, outside = [], []
    for record in dataset.images:
        image = record.read()
        levels = codec.latents(codec.encode(image)).levels
        assert levels is not None
        near = np.zeros(levels.shape, bool)
        for row in truth["annotations"]:
            if row["image_id"] == record.id:
                left, top, width, height = (round(value / 16) for value in row["bbox"])
                near[top : top + max(1, height), left : left + max(1, width)] = True
        inside.append(levels.numpy()[near])
        outside.append(levels.numpy()[~near])
    # Level 0 is where steps are finest.
    assert (np.concatenate(inside) == 0).mean() > 0.6
    assert (np.concatenate(outside) == 0).mean() < 0.25


@pytest.mark.parametrize("quality", [2, 6])
def test_coarser_steps_cost_less_and_lose_only_where_they_are(quality: int, scene: Image) -> None:
    coder = IcmCoder(load_checkpoint(WEIGHTS), quality - 1, "cpu")
    hyper, scaled, levels, _ = coder.analyse(scene)
    assert levels is not None
    rows, columns = levels.shape
    fine, half = torch.zeros_like(levels), torch.zeros_like(levels)
    half[:, columns // 2 :] = 3
    sizes, decoded = [], []
    for each in (fine, half):
        payload = coder.entropy_code(hyper, scaled, each)
        frame = Frame(b"", quality - 1, 16 * columns, 16 * rows, payload)
        latents = coder.entropy_decode(frame)
        assert latents.levels is not None
        assert torch.equal(latents.levels, each)
        sizes.append(len(payload))
        decoded.append((latents, coder.synthesise(frame, latents)))
    assert sizes[1] < 0.8 * sizes[0]
    (fine_latents, fine_image), (half_latents, half_image) = decoded
    split = columns // 2
    assert torch.equal(fine_latents.latent[:, :, :split], half_latents.latent[:, :, :split])
    # The networks look a little further than a position.
    left = slice(0, 16 * (split - 6))
    assert np.array_equal(fine_image[:, left], half_image[:, left])
    right = slice(16 * (split + 6), None)
    errors = [
        np.mean((image[:, right].astype(float) - scene[:, right]) ** 2) for image in (fine_image, half_image)
    ]
    assert errors[1] > 1.2 * errors[0]


def test_a_step_that_is_coarser_quantises_as_a_lower_gain_would(
    scene: Image,
) -> None:
    """What a level does is what the ladder of scales says it does: no symbol is off by more than rounding."""
    checkpoint = load_checkpoint(WEIGHTS)
    coder = IcmCoder(checkpoint, 4, "cpu")
    hyper, scaled, levels, _ = coder.analyse(scene)
    assert levels is not None
    assert checkpoint.roi_steps is not None
    places = checkpoint.roi_steps.levels.first[2]
    share = math.exp(-SCALES.step * places)
    coarse = torch.full_like(levels, 2)
    frame = Frame(b"", 4, scene.shape[1], scene.shape[0], coder.entropy_code(hyper, scaled, coarse))
    latent = coder.entropy_decode(frame).latent * 2.0**-MEAN_BITS / share
    index, _ = checkpoint.hyper_synthesis.apply(hyper, 4)
    sent = (index[0, : scaled.shape[1]] > places)[:, : levels.shape[0], : levels.shape[1]]
    # Half a step, which is coarser, and the rounding of the mean.
    assert (latent - scaled[0]).abs()[sent].max() <= (0.5 + 2.0**-MEAN_BITS) / share
    assert (latent - scaled[0]).abs()[sent].mean() > 0.1 / share


def test_attention_can_be_left_out(scene: Image) -> None:
    seen, unseen = Icm(4, weights=str(WEIGHTS)), Icm(4, weights=str(WEIGHTS), roi=False)
    with_map, without = seen.encode(scene), unseen.encode(scene)
    levels = seen.latents(without).levels
    assert levels is not None
    assert not levels.any()
    assert len(with_map) < 0.8 * len(without)
    # Either decodes what the other wrote.
    assert np.array_equal(seen.decode(without), unseen.decode(without))


def test_weights_without_attention_send_no_map() -> None:
    assert load_checkpoint(find_weights("icm-mse")).roi_steps is None
    codec = Icm(3, weights=str(find_weights("icm-mse")))
    assert codec.latents(codec.encode(np.zeros((32, 48, 3), np.uint8))).levels is None
