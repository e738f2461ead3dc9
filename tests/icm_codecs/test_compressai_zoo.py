"""CompressAI's models as codecs, with narrow networks: the published weights are far too large for a test."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from icm_bench import registry
from icm_bench.codec import Codec, Learned, Loads, ReportsHeaderBytes
from icm_bench.download import Patience
from icm_bench.error import CodecError, DownloadError, UsageError, WeightsError
from icm_bench.testing import check_codec, photograph
from icm_codecs import compressai_zoo
from icm_codecs.bitstream.container import Frame, unpack
from tests.helpers.learning import blocks, pixels
from tests.helpers.stream import NO_IMAGES

with warnings.catch_warnings():
    # Its own dependencies warn of their future while they are imported.
    warnings.simplefilter("ignore")
    from compressai.zoo.image import cfgs, model_architectures, model_urls

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = [codec.name for codec in compressai_zoo.CODECS]
QUICK = ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean"]
CODECS = {codec.name: codec for codec in compressai_zoo.CODECS}
SIZES = [(1, 1), (1, 17), (63, 65), (64, 64), (3, 130)]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def narrow(name: str, seed: int = 1) -> Any:
    torch.manual_seed(seed)
    return model_architectures[name](*([8] if name.startswith("cheng") else [8, 12]))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """State dictionaries of narrow, randomly initialised models, with latents that are not all zero."""
    folder = tmp_path_factory.mktemp("random")
    found = {}
    for name in NAMES:
        model = narrow(name)
        state = scale_latents(model.state_dict(), last_convolution(model), 20.0)
        found[name] = folder / f"{name}.safetensors"
        safetensors.torch.save_file(state, found[name])
    return found


def last_convolution(model: Any) -> str:
    """Return the name of the analysis transform's last convolution that is not inside a block."""
    return f"g_a.{max(i for i, layer in enumerate(model.g_a) if isinstance(layer, torch.nn.Conv2d))}."


def scale_latents(state: dict[str, Tensor], convolution: str, factor: float) -> dict[str, Tensor]:
    return {key: value * factor if key.startswith(convolution) else value for key, value in state.items()}


def codec_of(name: str, files: dict[str, Path], quality: int = 1) -> compressai_zoo.ZooCodec:
    return CODECS[name](quality, weights=str(files[name]))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_installed_under_compressais_name_with_compressais_qualities(name: str) -> None:
    assert registry.load("codec", name) is CODECS[name]
    assert list(CODECS[name].qualities) == sorted(cfgs[name])
    assert set(model_urls[name]) == {"mse", "ms-ssim"}


@pytest.mark.parametrize("name", NAMES)
def test_every_published_file_says_its_digest(name: str) -> None:
    for metric in ("mse", "ms-ssim"):
        for quality in CODECS[name].qualities:
            file = compressai_zoo.cached_file(compressai_zoo.published_url(name, metric, int(quality)))
            assert re.fullmatch(r"[0-9a-f]{8}", compressai_zoo._published_digest(file))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_size_comes_back_as_it_went_in(
    name: str, height: int, width: int, files: dict[str, Path]
) -> None:
    codec = codec_of(name, files)
    assert isinstance(codec, Codec)
    assert isinstance(codec, ReportsHeaderBytes)
    assert isinstance(codec, Loads)
    assert isinstance(codec, Learned)
    image = photograph(width, height)
    decoded = codec.decode(codec.encode(image))
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("name", QUICK)
def test_decoded_pixels_are_those_of_the_forward_pass(name: str, files: dict[str, Path]) -> None:
    # An independent way to the same image: quantised latents straight into the synthesis, nothing coded.
    codec = codec_of(name, files)
    image = photograph(128, 64)
    seen = codec.decode(codec.encode(image))
    model = compressai_zoo._build(name, safetensors.torch.load_file(files[name]))
    with torch.no_grad():
        estimate = model(pixels(image)[None])
        if name == "bmshj2018-factorized":
            bits = -torch.log2(estimate["likelihoods"]["y"]).sum().item()
            assert 8 * len(codec.encode(image)) == pytest.approx(bits, rel=0.05, abs=8 * 20)
    wanted = estimate["x_hat"][0].clamp(0, 1).permute(1, 2, 0).numpy() * 255.0
    # Context models have no such second way: in one pass they round around zero, coded they round around their means.
    assert np.abs(seen - wanted).max() <= 0.51


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_thread_and_two_write_the_same_bytes_and_leave_the_setting(
    name: str, files: dict[str, Path]
) -> None:
    image = photograph(100, 70)
    one = codec_of(name, files)
    data = one.encode(image)
    pixels = one.decode(data)
    torch.set_num_threads(2)
    two = codec_of(name, files)
    assert two.encode(image) == data
    assert np.array_equal(two.decode(data), pixels)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", QUICK)
def test_damage_is_refused(name: str, files: dict[str, Path]) -> None:
    codec = codec_of(name, files)
    data = codec.encode(photograph(64, 64))
    for length in range(0, len(data), 5):
        with pytest.raises(CodecError):
            codec.decode(data[:length])
    rng = np.random.default_rng(1)
    for position in rng.integers(0, 8 * len(data), 300).tolist():
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << (position % 8)
        with pytest.raises(CodecError):
            codec.decode(bytes(damaged))


@pytest.mark.parametrize("name", NAMES)
def test_forged_payload_neither_crashes_nor_hangs(name: str, files: dict[str, Path]) -> None:
    codec = codec_of(name, files)
    rng = np.random.default_rng(2)
    frame = unpack(codec.encode(photograph(60, 50)))
    for size in (0, 1, 3, 5, 40, 400) * (10 if name in QUICK else 1):
        payload = rng.bytes(size)
        if size > 3:
            payload = (size // 2).to_bytes(3, "big") + payload[3:]
        forged = Frame(frame.model, frame.quality, 60, 50, payload).pack()
        try:
            assert codec.decode(forged).shape == (50, 60, 3)
        except CodecError as error:
            assert "length field" in str(error)


def test_stream_of_another_model_or_quality_is_refused(files: dict[str, Path]) -> None:
    codec = codec_of("mbt2018-mean", files)
    data = codec.encode(photograph(20, 20))
    for other in (codec_of("bmshj2018-hyperprior", files), codec_of("mbt2018-mean", files, 2)):
        with pytest.raises(CodecError, match="other weights"):
            other.decode(data)


def test_array_that_is_no_image_is_refused(files: dict[str, Path]) -> None:
    for array in NO_IMAGES:
        with pytest.raises(CodecError):
            codec_of("bmshj2018-factorized", files).encode(array)


@pytest.mark.parametrize(("name", "quality"), [("mbt2018", 9), ("cheng2020-attn", 7), ("mbt2018", 1.5)])
def test_unknown_quality_is_refused(name: str, quality: float) -> None:
    with pytest.raises(UsageError, match="choose 1 to"):
        CODECS[name](quality)


def test_unknown_metric_is_refused() -> None:
    unknown: Any = "psnr"
    with pytest.raises(UsageError, match="choose mse or ms-ssim"):
        compressai_zoo.Mbt2018(1, metric=unknown)


@pytest.mark.parametrize("name", NAMES)
def test_without_weights_a_line_says_how_to_get_them_and_nothing_is_fetched(
    name: str, empty_cache: Path
) -> None:
    codec = CODECS[name](1)
    for ask in (codec.version, codec.load, lambda: codec.encode(photograph(8, 8))):
        with pytest.raises(WeightsError, match=f"python -m icm_codecs.compressai_zoo {name} mse") as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert not empty_cache.exists()


def test_weights_of_another_kind_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    image = photograph(8, 8)
    with pytest.raises(CodecError, match="weights=FILE"):
        compressai_zoo.Mbt2018(1, weights=str(tmp_path / "absent.pth")).version()
    with pytest.raises(CodecError, match="of another model"):
        compressai_zoo.Bmshj2018Factorized(1, weights=str(files["mbt2018"])).encode(image)
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"no weights at all")
    with pytest.raises(CodecError, match="damaged"):
        compressai_zoo.Mbt2018(1, weights=str(damaged)).encode(image)


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    file = tmp_path / "harmful.pth"
    file.write_bytes(pickle.dumps({"g_a.0.weight": Harm()}))
    with pytest.raises(CodecError, match="damaged"):
        compressai_zoo.Mbt2018(1, weights=str(file)).load()
    torch.save({"g_a.0.weight": Harm()}, file)
    with pytest.raises(CodecError, match="damaged"):
        compressai_zoo.Mbt2018(1, weights=str(file)).load()
    assert not (tmp_path / "harm").exists()


def test_version_names_libraries_and_weights(files: dict[str, Path]) -> None:
    version = codec_of("mbt2018-mean", files).version()
    assert hashlib.sha256(files["mbt2018-mean"].read_bytes()).hexdigest()[:12] in version
    assert "compressai" in version
    assert "torch" in version


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name a state dictionary's entries as CompressAI did when it published its files."""
    kinds = {"_bias": "_biases.", "_matrix": "_matrices.", "_factor": "_factors."}
    return {
        re.sub(r"(_bias|_matrix|_factor)(\d)$", lambda match: kinds[match[1]] + match[2], key): value
        for key, value in state.items()
    }


def publish(folder: Path, name: str) -> str:
    """Put a narrow model where published weights lie, under a name of their kind."""
    model = narrow(name)
    model.update()
    torch.save(old_names(model.state_dict()), folder / "weights")
    digest = hashlib.sha256((folder / "weights").read_bytes()).hexdigest()
    file = f"{name}-prior-1-{digest[:8]}.pth.tar"
    (folder / "weights").rename(folder / file)
    return file


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018"])
def test_published_weights_are_fetched_once_and_then_code(
    name: str, site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    base, folder = site
    url = f"{base}/{publish(folder, name)}"
    monkeypatch.setitem(model_urls[name]["mse"], 1, url)
    with pytest.raises(WeightsError):
        CODECS[name](1).version()
    file = compressai_zoo.fetch(url)
    assert file.is_relative_to(empty_cache)
    (folder / file.name).unlink()
    assert compressai_zoo.fetch(url) == file
    codec = CODECS[name](1)
    assert file.name in codec.version()
    assert codec.decode(codec.encode(photograph(30, 20))).shape == (20, 30, 3)
    file.write_bytes(b"something else")
    with pytest.raises(CodecError, match="not the published ones"):
        CODECS[name](1).load()


def test_another_file_than_the_published_one_is_not_kept(site: tuple[str, Path], empty_cache: Path) -> None:
    base, folder = site
    (folder / "mbt2018-1-3f36cd77.pth.tar").write_bytes(b"another file")
    with pytest.raises(DownloadError, match="not the expected file"):
        compressai_zoo.fetch(f"{base}/mbt2018-1-3f36cd77.pth.tar")
    with pytest.raises(DownloadError, match="404"):
        compressai_zoo.fetch(f"{base}/mbt2018-2-43b70cdd.pth.tar", patience=Patience(attempts=1))
    assert not [path for path in empty_cache.rglob("*") if path.is_file()]


def test_the_command_fetches_a_ladder(
    site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, folder = site
    url = f"{base}/{publish(folder, 'mbt2018-mean')}"
    for quality in compressai_zoo.Mbt2018Mean.qualities:
        monkeypatch.setitem(model_urls["mbt2018-mean"]["ms-ssim"], quality, url)
    assert compressai_zoo.main(["mbt2018-mean", "ms-ssim"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    compressai_zoo.Mbt2018Mean(3, metric="ms-ssim").load()
    for arguments in (["mbt2018-maen"], [], ["mbt2018", "psnr"]):
        assert compressai_zoo.main(arguments) == 2
    assert "usage" in capsys.readouterr().err


# Without a hyperprior, with one, with a context model: the other models differ from these in their transforms alone.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018"])
def test_every_kind_of_model_conforms(name: str, tmp_path: Path) -> None:
    # Untrained networks return noise: a few steps teach them to tell colours and sides apart.
    model = narrow(name)
    image = pixels(blocks())
    turned = torch.stack([image[:, :, :64], image[:, :, 32:], image[:, :, 16:80].flip(0)])
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = (model(turned)["x_hat"] - turned).square().mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    middle = CODECS[name].qualities[len(CODECS[name].qualities) // 2]
    for quality in CODECS[name].qualities:
        if name == "bmshj2018-factorized":
            # Its prior is as wide as it begins: only latents far outside cost more the larger they are.
            state = scale_latents(model.state_dict(), last_convolution(model), 4.0**quality)
            state["g_s.0.weight"] = state["g_s.0.weight"] * 4.0**-quality
        else:
            state = scale_latents(model.state_dict(), last_convolution(model), 1.5 ** (quality - middle))
        torch.save(state, tmp_path / f"{quality}.pth")
    check_codec(CODECS[name], weights=str(tmp_path / "{quality}.pth"))
