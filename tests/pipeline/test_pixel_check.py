"""A stored bitstream is decoded as it was coded, and compared as its codec says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from icm_bench.dataset import Dataset
from icm_bench.error import StoreError
from icm_bench.pipeline import stage, store
from icm_bench.pipeline.stage import decode_stored
from icm_bench.spec import Spec
from tests.helpers.plugin import install
from tests.helpers.small_run import run_in

CODEC = '''
import os
import numpy as np
import torch
from icm_bench.testing import FakeCodec

class Wavering(FakeCodec):
    """Decodes other pixels on several threads, as networks do, and by what a variable says."""

    name = "wavering"

    def decode(self, data):
        image = super().decode(data)
        off = int(os.environ.get("OFF", 0)) + 9 * (torch.get_num_threads() > 1)
        return np.clip(image.astype(int) + off, 0, 255).astype(np.uint8)

class Tolerant(Wavering):
    name = "tolerant"
    pixel_tolerance = 2
'''


@pytest.fixture
def coded(plugins: Path, blobs: Dataset, tmp_path: Path) -> Path:
    (plugins / "wavering.py").write_text(CODEC)
    install(plugins, "codecs", wavering="wavering:Wavering", tolerant="wavering:Tolerant")
    stage.forget()
    some = blobs.limit(2)
    ladders = {"codecs": ["wavering", "tolerant"], "qualities": ["wavering=5", "tolerant=5"]}
    run_in(some, tmp_path, task="fidelity", **ladders)
    return tmp_path / "runs" / "coded" / some.name


def decode(coded: Path, name: str) -> None:
    path = coded / name / "5" / "00000.parquet"
    assert store.read_header(path)["device"] == "cpu"
    for row in store.read(path).to_pylist():
        decode_stored(Spec.parse(name), 5, "cpu", row)


def test_what_was_coded_on_one_thread_is_decoded_on_one(coded: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        decode(coded, "wavering")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_pixels_may_differ_by_what_the_codec_declares_and_not_at_all_where_it_declares_nothing(
    coded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFF", "2")
    decode(coded, "tolerant")
    with pytest.raises(StoreError, match="no longer decodes to the pixels .*; .* give --again wavering"):
        decode(coded, "wavering")
    monkeypatch.setenv("OFF", "3")
    with pytest.raises(StoreError, match="values differ by up to 3 levels, and the codec declares 2"):
        decode(coded, "tolerant")
    assert "decoded_sample" not in store.read(coded / "wavering" / "5" / "00000.parquet").column_names
