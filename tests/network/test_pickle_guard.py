"""Hostile pickles are refused at once: values that double, lie deep or lie within themselves."""

from __future__ import annotations

import io
import pickle
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icm_bench.detectors.detectron2 import read_weights
from icm_bench.error import DetectorError
from icm_bench.network.checkpoint import read_checkpoint
from icm_bench.network.pickle_guard import RefusedPickleError, check_pickle, check_pth

HEAD = b"\x80\x02"
DOUBLED = b")q\x00" + b"h\x00h\x00\x86q\x00" + b"".join(b"0h\x00h\x00\x86q\x00" for _ in range(60))
"""A tuple that holds itself doubled 61 times, alone on the stack."""

NESTED = b")" + b"\x85" * 10**6
LISTS = b"]" * 10**6 + b"a" * (10**6 - 1)
GROWN_LATER = b"".join(b"]q%c" % number for number in range(100)) + b"".join(
    b"h%ch%cah%ca" % (number, number - 1, number - 1) + b"0" for number in range(99, 0, -1)
)
"""Lists of which each holds the one before twice, filled from the last one to the first."""

VALUES = {"doubled": DOUBLED, "nested": NESTED, "lists": LISTS, "grown later": GROWN_LATER}
PLACES: dict[str, Callable[[bytes], bytes]] = {
    "value": lambda value: b"}U\x01a" + value + b"s",
    "key": lambda value: b"}" + value + b"K\x01s",
    "argument": lambda value: b"cnumpy\ndtype\n" + value + b"\x85R",
    "function": lambda value: value + b")R",
    "shape": lambda value: (
        b"cnumpy.core.numeric\n_frombuffer\n(U\x00cnumpy\ndtype\nU\x02f4\x85R" + value + b"U\x01CtR"
    ),
    "state": lambda value: b"ccollections\nOrderedDict\n)R" + value + b"b",
}


def in_time(read: Callable[[], object], error: type[Exception]) -> str:
    began = time.process_time()
    with pytest.raises(error) as caught:
        read()
    assert time.process_time() - began < 1
    return str(caught.value)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", VALUES)
def test_a_hostile_value_in_any_place_is_refused_within_a_second(
    place: str, value: str, tmp_path: Path
) -> None:
    data = HEAD + PLACES[place](VALUES[value]) + b"."
    (tmp_path / "a.pkl").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    old = b"".join(map(pickle.dumps, (0x1950A86A20F9469CFC6C, 1001, {}))) + data
    (tmp_path / "old.pth").write_bytes(old)
    for name, read in (("a.pkl", read_weights), ("a.pth", read_checkpoint), ("old.pth", read_checkpoint)):
        complaint = in_time(partial(read, tmp_path / name), DetectorError)
        assert f"{name}: the weights are damaged" in complaint


def test_a_value_within_itself_is_refused() -> None:
    with pytest.raises(RefusedPickleError, match="within itself"):
        check_pickle(b"]q\x00h\x00a.")


def test_bytes_that_many_arrays_share_are_not_copied_for_each(tmp_path: Path) -> None:
    text = b"X" + (10**6).to_bytes(4, "little") + b"a" * 10**6 + b"q\x00s"
    copies = b"".join(b"K%cc_codecs\nencode\nh\x00U\x06latin1\x86Rs" % number for number in range(250))
    (tmp_path / "a.pkl").write_bytes(HEAD + b"}U\x04text" + text + copies + b".")
    assert "repeat the same bytes" in in_time(lambda: read_weights(tmp_path / "a.pkl"), DetectorError)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_training_checkpoint_with_its_optimizer_passes(is_zip: bool) -> None:
    names = [f"backbone.layer{number}.weight" for number in range(500)]
    content = {
        "model": {name: torch.zeros(2, 3) for name in names},
        "optimizer": {
            "state": {number: {"momentum_buffer": torch.zeros(2, 3)} for number in range(len(names))},
            "param_groups": [
                {"lr": 0.1, "betas": (0.9, 0.99), "params": [number]} for number in range(len(names))
            ],
        },
    }
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=is_zip)
    check_pth(file.getvalue())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_ordinary_values_of_any_protocol_pass(value: Any, protocol: int) -> None:
    check_pickle(pickle.dumps(value, protocol=protocol))
    check_pickle(pickle.dumps({"w": np.zeros((2, 3))}, protocol=protocol))


@given(st.binary(max_size=300))
def test_any_bytes_pass_or_are_refused(data: bytes) -> None:
    for check in (check_pickle, check_pth):
        try:
            check(data)
        except (RefusedPickleError, zipfile.BadZipFile):
            continue
