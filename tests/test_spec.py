"""Specs on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icm_bench.codec import (
    always_named,
    coded_as,
    complete_options,
    front_of,
    header_bytes,
    label_of,
    load,
    n_parameters,
    objective_of,
    runs_on,
    trained_through,
)
from icm_bench.error import UsageError
from icm_bench.spec import (
    CODEC_SUPPLIED,
    DETECTOR_SUPPLIED,
    Spec,
    arguments,
    create_codec,
    parse_qualities,
    resolve_codec,
)

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters=":", categories=("L", "N", "P", "S")), min_size=1
)


class Example:
    def __init__(
        self,
        quality: int,
        *,
        device: str = "cpu",
        preset: Literal["fast", "slow"] = "fast",
        threads: int = 1,
        tune: bool = False,
        scale: float = 1.0,
        filter_: Literal["box", "cubic"] | None = None,
        weights: Path | None = None,
    ) -> None: ...


@given(
    name=NAMES, options=st.dictionaries(NAMES.map(lambda name: name.replace("-", "_")), VALUES, max_size=4)
)
def test_a_spec_survives_being_written_and_read(name: str, options: dict[str, str]) -> None:
    spec = Spec(name, tuple(sorted(options.items())))
    assert Spec.parse(str(spec)) == spec


@given(st.text())
def test_any_text_is_a_spec_or_a_usage_error(text: str) -> None:
    try:
        Spec.parse(text)
    except UsageError as error:
        assert "\n" not in str(error).replace(text, "")


@given(name=NAMES, value=VALUES)
def test_a_file_name_holds_nothing_that_a_file_system_objects_to(name: str, value: str) -> None:
    file_name = Spec(name, (("option", value),)).file_name
    assert not set(file_name) & set('/\\:*?"<>|')
    assert file_name.isascii()
    assert len(f"{file_name}.resamples.parquet") <= 255


def test_long_specs_that_differ_in_one_character_have_two_file_names() -> None:
    one, other = (Spec.parse(f"icm:weights=/{'folder/' * 60}{name}.safetensors") for name in "ab")
    assert one.file_name != other.file_name
    assert one.file_name.startswith("icm+weights=%2Ffolder")


def test_the_order_of_options_does_not_make_another_codec() -> None:
    assert Spec.parse("a:x=1:b=2") == Spec.parse("a:b=2:x=1")
    assert Spec.parse("a:x=1:b=2").file_name == "a+b=2+x=1"


def test_a_part_without_a_sign_is_the_variant() -> None:
    assert Spec.parse("detectron2:faster_rcnn_R_50_FPN_3x").options == (
        ("variant", "faster_rcnn_R_50_FPN_3x"),
    )


def test_options_become_values_of_the_annotated_types() -> None:
    spec = Spec.parse("example:preset=slow:threads=4:tune=on:scale=0.5:filter_=box")
    assert arguments(spec, Example, CODEC_SUPPLIED) == {
        "preset": "slow",
        "threads": 4,
        "tune": True,
        "scale": 0.5,
        "filter_": "box",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("example:presett=slow", "unknown option of example 'presett'; did you mean 'preset'?"),
        ("example:preset=placebo", "example:preset=placebo: no such value; known: fast, slow"),
        (
            "example:threads=many",
            "example:threads=many: not a value of this option; give a value of type int",
        ),
        ("example:tune=perhaps", "give on or off"),
        ("example:device=cuda", "unknown option of example 'device'"),
        ("example:quality=3", "unknown option of example 'quality'"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        arguments(Spec.parse(text), Example, CODEC_SUPPLIED | DETECTOR_SUPPLIED)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", ":", "a:=1", "a:b=", "a:b=1:b=2", "a b", "-a", "a:1x=2"])
def test_what_is_not_a_spec_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Spec.parse(text)


def test_ladders_are_read_per_codec() -> None:
    assert parse_qualities(["vvc=22,27", "vvc:preset=slow=32", "jpeg2000=0.5"]) == {
        "vvc": (22, 27),
        "vvc:preset=slow": (32,),
        "jpeg2000": (0.5,),
    }


@pytest.mark.parametrize(
    "text", ["vvc", "vvc=", "=22", "vvc=a", "vvc=22,22", "vvc=nan", "vvc=inf", "vvc=22,,27"]
)
def test_a_broken_ladder_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_qualities([text])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("icm:domain=scenes:objective=detection", "icm"),
        ("icm:domain=scenes:objective=detection:roi=off", "icm, no ROI"),
        ("icm:domain=scenes:objective=mse", "icm, for fidelity"),
        ("icm:weights=there/mine.safetensors", "icm, mine"),
        ("vvc:preset=medium", "VVC medium"),
        ("vvc:preset=medium:scale=50", "VVC medium, scale 50"),
        ("vvc-pareto:preset=fast", "VVC fast, front"),
        ("vtm:dir=/opt/vtm", "VTM"),
        ("avif", "AVIF aom"),
        ("jpeg:subsampling=444", "jpeg, subsampling=444"),
    ],
)
def test_legends_have_a_short_label(text: str, label: str) -> None:
    spec, cls = resolve_codec(text)
    assert label_of(cls, dict(spec.options)) == label


def test_a_codec_without_hooks_has_their_defaults() -> None:
    codec = create_codec(Spec.parse("png"), 0, "cpu")
    load(codec)
    assert (objective_of(codec), trained_through(codec), n_parameters(codec)) == (None, (), 0)
    assert (coded_as(codec), runs_on(codec), header_bytes(codec, b"")) == (None, "cpu", None)
    cls = type(codec)
    assert (front_of(cls), always_named(cls)) == (None, ())
    assert complete_options(cls, {"a": "b"}, task="", provider="") == {"a": "b"}


def test_an_option_that_belongs_to_the_identity_is_always_named() -> None:
    spec, cls = resolve_codec("vvc")
    assert dict(spec.options).keys() >= {"preset"}
    assert cls.name == "vvc"
    assert resolve_codec(str(spec))[0] == spec


def test_an_unknown_codec_is_answered_with_the_nearest_and_all_known() -> None:
    with pytest.raises(UsageError, match=r"unknown codec 'jepg'; did you mean 'jpeg'\? known: .*vvc"):
        resolve_codec("jepg")
