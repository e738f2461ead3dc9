from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from icm_bench.error import DetectorError, DownloadError
from icm_bench.network.checkpoint import cache_folder, fetch_checkpoint, load_into, read_checkpoint

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([0.5, -0.5])}


def saved(path: Path, state: object = None) -> Path:
    content: Any = STATE if state is None else state
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.PTH", "a.safetensors"])
def test_state_and_digest_are_read(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    checkpoint = read_checkpoint(path)
    assert checkpoint.state.keys() == STATE.keys()
    assert torch.equal(checkpoint.state["weight"], STATE["weight"])
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil-was-here"),))


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_code_in_a_file_is_not_run(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"weight": Evil()}))
    else:
        torch.save({"weight": Evil()}, path)
    with pytest.raises(DetectorError, match=r"evil\.pth: the weights are damaged, or hold more than tensors"):
        read_checkpoint(path)
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.95])
def test_truncated_files_are_errors_of_one_line(tmp_path: Path, name: str, share: float) -> None:
    path = saved(tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DetectorError, match="the weights are damaged") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [[1, 2], {"weight": 3}, {1: torch.zeros(1)}, torch.zeros(2), {"model": STATE}]
)
def test_file_without_a_state_dictionary_is_an_error(tmp_path: Path, content: object) -> None:
    with pytest.raises(DetectorError, match="holds no state dictionary"):
        read_checkpoint(saved(tmp_path / "a.pth", content))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_an_error(tmp_path: Path, value: float) -> None:
    state = {"weight": torch.tensor([1.0, value])}
    with pytest.raises(DetectorError, match="tensor weight holds numbers that are not finite"):
        read_checkpoint(saved(tmp_path / "a.safetensors", state))


def test_absent_file_and_other_kinds_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="cannot be read"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(
        DetectorError, match=r"of the kind '\.onnx' are not read; give a \.pt, \.pth or \.safetensors"
    ):
        read_checkpoint(tmp_path / "a.onnx")


def test_checkpoint_is_loaded_into_its_model(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth")
    model = nn.Linear(3, 2)
    load_into(model, read_checkpoint(path), path)
    assert torch.equal(model.weight, STATE["weight"])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": STATE["weight"]}, r"1 tensors missing, e\.g\. bias"),
        (STATE | {"more": torch.zeros(1)}, r"1 tensors too many, e\.g\. more"),
        ({"w": torch.zeros(1)}, r"2 tensors missing, e\.g\. bias and 1 tensors too many, e\.g\. w"),
        (STATE | {"weight": torch.zeros(3, 2)}, r"weight is \[3, 2\] instead of \[2, 3\]"),
    ],
)
def test_checkpoint_of_another_model_is_an_error_of_one_line(
    tmp_path: Path, state: dict[str, torch.Tensor], message: str
) -> None:
    path = saved(tmp_path / "a.pth", state)
    with pytest.raises(DetectorError, match=f"a.pth: the weights are of another model .{message}") as caught:
        load_into(nn.Linear(3, 2), read_checkpoint(path), path)
    assert "\n" not in str(caught.value)


def test_published_checkpoint_is_fetched_once_and_checked_against_its_name(
    tmp_path: Path, site: tuple[str, Path]
) -> None:
    url, folder = site
    path = saved(folder / "a.pth")
    name = f"model_coco-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    path.rename(path.with_name(name))
    fetched = fetch_checkpoint(f"{url}/{name}")
    assert fetched == tmp_path / "cache" / name
    assert read_checkpoint(fetched).state.keys() == STATE.keys()
    path.with_name(name).unlink()
    assert fetch_checkpoint(f"{url}/{name}") == fetched

    path.with_name("other-12345678.pth").write_bytes(b"other")
    with pytest.raises(DownloadError, match="not the expected file"):
        fetch_checkpoint(f"{url}/other-12345678.pth")


def test_cache_lies_where_the_platform_keeps_caches_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ICM_BENCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "icm-bench"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder() == tmp_path / "caches" / "icm-bench"
