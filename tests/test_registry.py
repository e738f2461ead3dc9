"""Finding plug-ins through entry points, with real distributions on a path of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from icm_bench import registry
from icm_bench.error import IcmBenchError, UsageError
from tests.helpers.plugin import distribute


def test_a_third_partys_codec_is_found_like_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_codec.py").write_text("class Theirs:\n    name = 'theirs'\n")
    distribute(tmp_path, "their-codec", {"icm_bench.codecs": {"theirs": "their_codec:Theirs"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"theirs", "jpeg", "vvc", "icm"} <= set(registry.names("codec"))
    assert registry.load("codec", "theirs").name == "theirs"
    assert registry.provider("codec", "theirs") == "their-codec"


def test_two_providers_of_one_name_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribute(tmp_path, "impostor", {"icm_bench.codecs": {"jpeg": "impostor:Jpeg"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="codec 'jpeg': two providers .*; uninstall one"):
        registry.load("codec", "jpeg")


def test_a_provider_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribute(tmp_path, "broken", {"icm_bench.codecs": {"broken": "no_such_module:Codec"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        IcmBenchError, match="codec 'broken': its provider no_such_module:Codec cannot be imported"
    ):
        registry.load("codec", "broken")


@pytest.mark.parametrize("kind", ["codec", "detector", "dataset"])
def test_an_unknown_name_lists_the_known_ones(kind: registry.Kind) -> None:
    with pytest.raises(UsageError, match=f"unknown {kind} 'zzzzzz'; known: "):
        registry.load(kind, "zzzzzz")
