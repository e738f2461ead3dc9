from __future__ import annotations

import importlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from icm_bench import registry
from icm_bench.error import CodecError, TrainingError
from icm_bench.image import Image
from icm_codecs.icm.checkpoint import load_checkpoint, save_checkpoint, start_from
from icm_codecs.icm.codec import Icm
from icm_codecs.icm.network import IcmNetwork
from icm_codecs.icm.recipe import Knot, LossWeights, Schedule, recipe_of
from icm_codecs.icm.stage import fit_residual, start_staged
from icm_codecs.training.detector_loss import FrozenDetector, Task
from icm_codecs.training.images import ImageFolders
from icm_codecs.training.recipe import Loss, optimisation_of, read_tables
from icm_codecs.training.train import export, find_recipe, find_weights, train
from icm_codecs.training.trainable import Trainable
from tests.helpers.scenes import write_scenes

# Lightning warns of loggers, workers and its own dependencies.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]

NETWORK = """
name = "tiny"

[network]
fine = 16
wide = 24
latent = 16
hyper = 8
hyper_wide = 12

[loss]
lambdas = [0.002, 0.02]
"""
RECIPE = f"""{NETWORK}
[optimisation]
steps = 110
batch = 4
crop = 64
rate = 2e-3
warmup_steps = 10
"""
TASK_RECIPE = f"""{NETWORK}
[task]
detector = "maskrcnn_scenes"
lambdas = [1.0, 4.0]
features = 1.0

[[schedule]]
step = 0
mse = 1.0
task = 1.0

[[schedule]]
step = 20
rate = 0.5
mse = 0.1
task = 1.0

[optimisation]
steps = 60
snapshots = [1]
batch = 2
crop = [128, 192]
rate = 2e-3
warmup_steps = 5
checkpoint_minutes = 0.01
"""
SHIPPED = Path(__file__).parents[3] / "codecs" / "icm_codecs" / "recipes"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(1)
    for number in range(4):
        y, x = np.mgrid[0:80, 0:96]
        waves = [np.sin(x / random.uniform(5, 30) + y / random.uniform(5, 30)) for _ in range(3)]
        image = (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
        PillowImage.fromarray(image).save(folder / f"{number}.png")
    PillowImage.fromarray(image[:20, :30]).save(folder / "small.png")
    return folder


@pytest.fixture(scope="module")
def trained(recipe: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in two calls, the second of which goes on from the first."""
    output = tmp_path_factory.mktemp("output")
    first = train(recipe, data=[images], output=output, device="cpu", max_steps=40)
    assert load_checkpoint(first).facts["steps"] == "40"
    return train(recipe, data=[images], output=output, device="cpu")


def losses(output: Path) -> dict[int, float]:
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")

    events = module.EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars("loss")}


def corner(images: Path) -> Image:
    """Return 64x64 pixels of the first image."""
    return np.ascontiguousarray(ImageFolders([images]).image(0)[:64, :64])


def network_of(recipe: Path) -> IcmNetwork:
    plan = recipe_of(read_tables(recipe))
    return IcmNetwork(plan.shape, plan.loss.lambdas, plan.roi.levels, plan.residual)


def repeated(image: Image, count: int) -> torch.Tensor:
    """Return an image as a batch of equal samples in 0..1."""
    return torch.from_numpy(np.stack([image] * count)).permute(0, 3, 1, 2) / 255.0


def test_training_goes_on_where_it_was_stopped_and_lowers_the_loss(trained: Path) -> None:
    assert load_checkpoint(trained).facts["steps"] == "110"
    found = losses(trained.parent)
    assert sorted(found) == [49, 99]
    assert found[99] < 0.8 * found[49]


def test_trained_codec_codes_an_image(trained: Path, images: Path) -> None:
    image = ImageFolders([images]).image(0)
    for quality in (1, 2):
        codec = Icm(quality, weights=str(trained))
        decoded = codec.decode(codec.encode(image))
        assert decoded.shape == image.shape
    assert np.mean((decoded.astype(float) - image) ** 2) < np.var(image.astype(float))


def test_streams_of_the_shipped_model_are_foreign_to_it(trained: Path) -> None:
    data = Icm(1).encode(np.zeros((16, 16, 3), dtype=np.uint8))
    with pytest.raises(CodecError, match="other weights"):
        Icm(1, weights=str(trained)).decode(data)


def check_rates(network: IcmNetwork, weights: Path, crop: Image, *, tolerance: int) -> None:
    """Check that a network of two rate points estimates what a crop really takes."""
    torch.manual_seed(1)
    with torch.no_grad():
        bits = network(repeated(crop, 64)).bits
    for quality in (1, 2):
        codec = Icm(quality, weights=str(weights))
        data = codec.encode(crop)
        payload = len(data) - codec.header_bytes(data)
        assert 8 * payload == pytest.approx(float(bits[quality - 1 :: 2].mean()), rel=0.15, abs=tolerance)


def test_estimated_rate_is_the_real_rate(trained: Path, recipe: Path, images: Path) -> None:
    network = network_of(recipe)
    start_from(network, trained)
    check_rates(network, trained, corner(images), tolerance=64)


def test_export_writes_the_same_file_again(trained: Path, recipe: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    export(recipe, trained.parent / "last.ckpt", again)
    assert again.read_bytes() == trained.read_bytes()


def test_new_training_starts_from_a_weights_file(
    trained: Path, recipe: Path, images: Path, tmp_path: Path
) -> None:
    train(recipe, data=[images], output=tmp_path, device="cpu", max_steps=50, start=trained)
    assert losses(tmp_path)[49] < losses(trained.parent)[49]


DETAILED = RECIPE.replace("latent = 16", "latent = 24\ndetail = 8\ndetailed = 1").replace(
    "steps = 110", "steps = 60"
)


@pytest.fixture(scope="module")
def detailed(trained: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an enhancement layer."""
    folder = tmp_path_factory.mktemp("detailed")
    path = folder / "detailed.toml"
    path.write_text(DETAILED)
    return train(path, data=[images], output=folder, device="cpu", start=trained)


def test_second_layer_adds_nothing_until_it_is_trained(trained: Path, detailed: Path, images: Path) -> None:
    plan = recipe_of(read_tables(detailed.parent / "detailed.toml"))
    network = IcmNetwork(plan.shape, plan.loss.lambdas)
    start_staged(network, trained)
    first = IcmNetwork(replace(plan.shape, latent=16, detail=0, detailed=0), plan.loss.lambdas)
    start_from(first, trained)
    batch = repeated(corner(images), 2)
    # Both samples are coded at the highest quality, which stands on the one below.
    assert network.coded_at(batch).tolist() == [1, 1]
    assert torch.equal(network(batch).image[0], first(batch).image[0])


def test_training_a_second_layer_leaves_the_first_frozen(trained: Path, detailed: Path, images: Path) -> None:
    before, after = load_checkpoint(trained), load_checkpoint(detailed)
    found = after.synthesis.state_dict()
    for name, value in before.synthesis.state_dict().items():
        if "modulation" in name:
            assert torch.equal(found[name][1], value[0]), name
        else:
            assert torch.equal(found[name], value), name
    assert torch.equal(after.gain[0, :16], before.gain[0])
    assert float(after.synthesis.get_parameter("detail.head.weight").abs().max()) > 0.0
    image = ImageFolders([images]).image(0)
    one, other = (Icm(1, weights=str(weights)) for weights in (detailed, trained))
    assert len(one.encode(image)) == len(other.encode(image))
    assert np.array_equal(one.decode(one.encode(image)), other.decode(other.encode(image)))
    errors = []
    for quality in (1, 2):
        codec = Icm(quality, weights=str(detailed))
        errors.append(np.mean((codec.decode(codec.encode(image)).astype(float) - image) ** 2))
    assert errors[1] < 0.9 * errors[0]


def test_estimated_rate_of_a_second_layer_is_what_it_adds(detailed: Path, images: Path) -> None:
    network = network_of(detailed.parent / "detailed.toml")
    start_staged(network, detailed)
    crop = corner(images)
    torch.manual_seed(1)
    with torch.no_grad():
        bits = float(network(repeated(crop, 64)).bits.mean())
    first, both = (len(Icm(quality, weights=str(detailed)).encode(crop)) for quality in (1, 2))
    assert 8 * (both - first) == pytest.approx(bits, rel=0.15, abs=64)


def test_second_layer_needs_a_first_of_its_shape(detailed: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="further layers need a first"):
        train(detailed.parent / "detailed.toml", data=[images], output=tmp_path, device="cpu")
    with pytest.raises(CodecError, match="another shape"):
        train(SHIPPED / "icm-mse.toml", data=[images], output=tmp_path, device="cpu", start=detailed)


ROI_RECIPE = RECIPE.replace("[loss]", "roi = 8\n\n[roi]\nfirst = [0, 4, 8, 14]\n\n[loss]").replace(
    "steps = 110", "steps = 30"
)


@pytest.fixture(scope="module")
def with_roi(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train roi, from labels, for a network that has none."""
    folder = tmp_path_factory.mktemp("with_roi")
    write_scenes(folder / "scenes", 5)
    path = folder / "with_roi.toml"
    taught = 'learned = true\nbegin = "fasterrcnn_scenes"\nfirst'
    path.write_text(ROI_RECIPE.replace("first", taught).replace("crop = 64", "crop = 128"))
    return train(path, data=[folder / "scenes"], output=folder, device="cpu", start=trained)


def test_training_roi_leaves_the_rest_as_it_was(trained: Path, with_roi: Path, images: Path) -> None:
    before, after = load_checkpoint(trained), load_checkpoint(with_roi)
    for name, value in before.synthesis.state_dict().items():
        assert torch.equal(after.synthesis.state_dict()[name], value), name
    for name, value in before.analysis.state_dict().items():
        assert torch.equal(after.analysis.state_dict()[name], value), name
    # Its logarithm is what is kept in between.
    torch.testing.assert_close(after.gain, before.gain, rtol=1e-6, atol=0.0)
    assert float(after.analysis.get_parameter("roi.head.weight").abs().max()) > 0.0
    image = corner(images)
    codec = Icm(2, weights=str(with_roi))
    assert codec.latents(codec.encode(image)).levels is not None
    assert codec.decode(codec.encode(image)).shape == image.shape


def test_training_with_roi_leaves_it_frozen_and_estimates_real_rates(
    with_roi: Path, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "on.toml"
    path.write_text(ROI_RECIPE)
    weights = train(path, data=[images], output=tmp_path, device="cpu", start=with_roi)
    before, after = (
        load_checkpoint(with_roi).analysis.state_dict(),
        load_checkpoint(weights).analysis.state_dict(),
    )
    moved = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert moved
    assert not any("roi" in name for name in moved)
    network = network_of(path)
    start_staged(network, weights)
    check_rates(network, weights, corner(images), tolerance=96)


def test_roi_is_taught_by_labels_and_begins_as_a_detector_of_its_shape(
    trained: Path, with_roi: Path, images: Path, tmp_path: Path
) -> None:
    recipe = with_roi.parent / "with_roi.toml"
    with pytest.raises(TrainingError, match="need the objects"):
        train(recipe, data=[images], output=tmp_path, device="cpu", start=trained)
    other = tmp_path / "other.toml"
    other.write_text(recipe.read_text().replace("fasterrcnn_scenes", "yolox"))
    with pytest.raises(TrainingError, match="cannot begin with the layers of this detector"):
        train(other, data=[with_roi.parent / "scenes"], output=tmp_path, device="cpu", start=trained)


def test_third_layer_is_measured_and_leaves_the_rest_as_it_was(
    with_roi: Path, images: Path, tmp_path: Path
) -> None:
    tables = """
[residual]
steps = [4.0]
coarser = [[0, 0, 4, 8]]

[task]
detector = "fasterrcnn_scenes"
lambdas = [1.0, 1.0]
losses = 0.0

[loss]"""
    path = tmp_path / "third.toml"
    path.write_text(ROI_RECIPE.replace("[loss]", tables))
    with pytest.raises(TrainingError, match="further layers need a first"):
        train(path, data=[images], output=tmp_path, device="cpu")
    network, task = network_of(path), recipe_of(read_tables(path)).task
    start_staged(network, with_roi)
    assert task is not None
    fit_residual(network, ImageFolders([images]), FrozenDetector(task))
    weights = tmp_path / "third.safetensors"
    save_checkpoint(network, weights, {"name": "third"})
    before, after = load_checkpoint(with_roi), load_checkpoint(weights)
    for name, value in before.synthesis.state_dict().items():
        assert torch.equal(after.synthesis.state_dict()[name], value), name
    image = corner(images)
    assert Icm.ladder({"weights": str(weights)}) == (1, 2, 3)
    decoded = [
        Icm(q, weights=str(weights)).decode(Icm(q, weights=str(weights)).encode(image)) for q in (2, 3)
    ]
    errors = [float(np.mean((one.astype(float) - image) ** 2)) for one in decoded]
    # Half of what was missing at least, though the transform was measured on five small images.
    assert errors[1] < 0.5 * errors[0]
    # What is measured already is not measured anew.
    again = network_of(path)
    start_staged(again, weights)
    fitted = again.synthesis.get_parameter("residual.basis").clone()
    fit_residual(again, ImageFolders([images]), FrozenDetector(task))
    assert torch.equal(again.synthesis.get_parameter("residual.basis"), fitted)


@pytest.mark.slow
def test_snapshots_on_the_way_are_weights_files(recipe: Path, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "ladder.toml"
    path.write_text(RECIPE.replace("steps = 110", "steps = 6\nsnapshots = [2, 4]"))
    last = train(path, data=[images], output=tmp_path, device="cpu")
    steps = [load_checkpoint(tmp_path / f"tiny-{step}.safetensors").facts["steps"] for step in (2, 4)]
    assert steps == ["2", "4"]
    assert (tmp_path / "tiny-2.safetensors").read_bytes() != last.read_bytes()


@pytest.mark.slow
def test_training_through_a_detector_goes_on_after_a_kill_and_lowers_its_loss(
    tmp_path: Path,
) -> None:
    """The recipe of the shipped weights, its networks narrower, its crops smaller and its schedule without a wait."""
    data, output = tmp_path / "scenes", tmp_path / "output"
    write_scenes(data, 5)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TASK_RECIPE)
    command = [sys.executable, "-m", "icm_bench.cli", "train", str(recipe), "--data", str(data)]
    command += ["--output", str(output), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while not (output / "tiny-1.safetensors").exists() and first.poll() is None:
            time.sleep(0.05)
        first.kill()
    assert (output / "last.ckpt").exists()
    killed_at = torch.load(output / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < killed_at < 60
    subprocess.run(command, check=True, capture_output=True)
    losses_after = {
        step: task_loss(output / name, data)
        for step, name in ((1, "tiny-1.safetensors"), (60, "tiny.safetensors"))
    }
    assert losses_after[60] < 0.9 * losses_after[1]


def task_loss(weights: Path, data: Path) -> float:
    """Return the feature loss of a whole scene, really coded."""
    image = np.asarray(np.load(data / "5-0000" / "images.npy")[0])
    codec = Icm(2, weights=str(weights))
    decoded, original = (
        torch.from_numpy(image.transpose(2, 0, 1).copy())[None] / 255.0
        for image in (codec.decode(codec.encode(image)), image)
    )
    detector = FrozenDetector(Task("maskrcnn_scenes", (1.0,), losses=0.0, features=1.0))
    return float(detector.loss(decoded, original, [], lambdas=torch.ones(1)))


def test_damaged_checkpoint_is_refused(recipe: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="not a checkpoint"):
        train(recipe, data=[images], output=tmp_path, device="cpu", max_steps=1)


def test_checkpoint_of_another_shape_is_refused(trained: Path, images: Path, tmp_path: Path) -> None:
    wider = tmp_path / "wider.toml"
    wider.write_text(RECIPE.replace("wide = 24", "wide = 32"))
    with pytest.raises(TrainingError, match="another shape"):
        train(wider, data=[images], output=trained.parent, device="cpu")


def test_folder_without_images_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no image"):
        train(recipe, data=[tmp_path], output=tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("lambdas = [0.002, 0.02]", "lambdas = [0.02, 0.002]"), "rise"),
        (("batch = 4", "batch = 3"), "batch"),
        (("crop = 64", "crop = 100"), "crop"),
        (("steps = 110", "epochs = 160"), "unknown entries epochs"),
        (('name = "tiny"', "name = "), "TOML"),
        (("[loss]", "[los]"), "unknown tables los"),
        (("crop = 64", "crop = [64, 64, 64]"), "crop"),
        (("latent = 16", "latent = 16\ndetail = 16\ndetailed = 1"), "detail is from"),
        (("latent = 16", "latent = 16\ndetail = 4"), "detailed counts"),
        (("[loss]", "[loss]\nbackground = 2.0"), "background"),
        (("[loss]", "[task]\ndetector = 'x'\nlambdas = [1.0]\n[loss]"), "task lambdas"),
        (("[loss]", "[coding]\nrdoq_lambda = -0.1\n[loss]"), "rdoq_lambda"),
        (("[loss]", "[coding]\nprice = 0.1\n[loss]"), "unknown entries price"),
        (("[loss]", "[[schedule]]\nstep = 0\ntask = 1.0\n[loss]"), "names one"),
        (
            ("[loss]", "[residual]\nsteps = [4.0]\ncoarser = [[0, 0, 5, 9]]\n[loss]"),
            "residual has as many points",
        ),
        (("[loss]", "[residual]\nsteps = [2.0, 4.0]\ncoarser = [[0], [0]]\n[loss]"), "falling steps"),
    ],
)
def test_impossible_recipe_is_refused(
    change: tuple[str, str], complaint: str, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace(*change))
    with pytest.raises(TrainingError, match=complaint):
        train(path, data=[images], output=tmp_path, device="cpu")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipe_is_a_recipe(path: Path) -> None:
    tables = read_tables(path)
    assert tables["name"] == path.stem
    assert optimisation_of(tables).steps > 0
    model = registry.load("trainer", tables["codec"]).from_recipe(tables)
    # In half precision, as the package carries them.
    assert 2 * sum(parameter.numel() for parameter in model.parameters()) <= 8 * 2**20
    assert isinstance(model, Trainable)


def test_recipe_is_found_by_name_and_by_path(recipe: Path) -> None:
    assert find_recipe("icm-mse") == SHIPPED / "icm-mse.toml"
    assert find_recipe(str(recipe)) == recipe
    with pytest.raises(TrainingError, match="icm-mse"):
        find_recipe("icm-beauty")


def test_weights_are_found_by_name_and_by_path() -> None:
    path = SHIPPED.with_name("weights") / "icm-mse.safetensors"
    assert find_weights("icm-mse") == find_weights(str(path)) == path
    with pytest.raises(TrainingError, match="icm-mse"):
        find_weights("icm-beauty")


def test_loss_weights_move_in_straight_lines_between_knots() -> None:
    schedule = Schedule((Knot(step=10, rate=0.0, task=0.0), Knot(step=20, rate=1.0, task=4.0)))
    assert schedule.weights(0) == LossWeights(0.0, 1.0, 0.0)
    assert schedule.weights(10) == LossWeights(0.0, 1.0, 0.0)
    assert schedule.weights(15) == LossWeights(0.5, 1.0, 2.0)
    assert schedule.weights(20) == LossWeights(1.0, 1.0, 4.0)
    assert schedule.weights(1000) == LossWeights(1.0, 1.0, 4.0)


def test_balance_moves_the_gradient_between_the_qualities() -> None:
    even = Loss((0.01, 0.04), balance=0.0).quality_weights()
    rooted = Loss((0.01, 0.04), balance=0.5).quality_weights()
    assert even == (1.0, 1.0)
    assert rooted == pytest.approx((4 / 3, 2 / 3))


@pytest.mark.slow
def test_codec_with_losses_of_its_own_is_trained_by_the_same_loop(images: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    text = RECIPE.replace("[network]", 'codec = "tucodec"\n[network]\nstride = 16\npost = 4')
    recipe.write_text(
        text.replace("steps = 110", "steps = 4").replace("warmup_steps = 10", "warmup_steps = 1")
    )
    first = train(recipe, data=[images], output=tmp_path, device="cpu", max_steps=2).read_bytes()
    assert train(recipe, data=[images], output=tmp_path, device="cpu").read_bytes() != first
    again = tmp_path / "again.safetensors"
    export(recipe, tmp_path / "last.ckpt", again)
    assert again.read_bytes() == (tmp_path / "tiny.safetensors").read_bytes()
    train(recipe, data=[images], output=tmp_path / "new", device="cpu", max_steps=1, start=again)
    recipe.write_text(recipe.read_text().replace("wide = 24", "wide = 32"))
    with pytest.raises(TrainingError, match="another shape"):
        train(recipe, data=[images], output=tmp_path, device="cpu")
    recipe.write_text(recipe.read_text().replace('"tucodec"', '"telepathy"'))
    with pytest.raises(TrainingError, match="cannot be trained"):
        train(recipe, data=[images], output=tmp_path / "other", device="cpu")
