"""Specs: ``name[:option=value]...``, the identity of a codec or a detector wherever it is named."""

from __future__ import annotations

import hashlib
import inspect
import re
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import quote

from icm_bench import registry
from icm_bench.codec import Codec, Programs, Quality, always_named, complete_options
from icm_bench.detector import Detector, NamedByWeights
from icm_bench.error import UsageError, unknown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_MOST_CHARACTERS = 200
_DIGITS = 12

CODEC_SUPPLIED = frozenset({"quality", "device", "programs"})
"""What the harness gives a codec's constructor; the rest are the codec's options."""

DETECTOR_SUPPLIED = frozenset({"weights", "device"})
"""What the harness gives a detector's constructor; the rest are the detector's options."""

_SWITCH = {"on": True, "off": False, "true": True, "false": False, "1": True, "0": False}
_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, order=True)
class Spec:
    """A name with options, the options sorted by name.

    Attributes:
        name: The entry point's name.
        options: Pairs of option and value, both as written.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read a spec as it stands on the command line.

        A part without ``=`` is the option ``variant``: ``detectron2:faster_rcnn_R_50_FPN_3x``.

        Raises:
            UsageError: The text is not a spec, or names an option twice.
        """
        name, *parts = text.strip().split(":")
        if not _NAME.fullmatch(name):
            raise UsageError(f"'{text}' is not a spec", hint="write name[:option=value]...")
        options: dict[str, str] = {}
        for part in parts:
            key, separator, value = part.partition("=")
            if not separator:
                key, value = "variant", part
            if not key.isidentifier() or not value:
                raise UsageError(f"'{part}' is not option=value", where=f"spec '{text}'")
            if key in options:
                raise UsageError(f"option '{key}' is given twice", where=f"spec '{text}'")
            options[key] = value
        return cls(name, tuple(sorted(options.items())))

    def __str__(self) -> str:
        return ":".join([self.name, *(f"{key}={value}" for key, value in self.options)])

    @property
    def file_name(self) -> str:
        """The spec as a portable file name: ``+`` for the colons, anything unusual percent-encoded."""
        return file_name_of(str(self))


def file_name_of(spec: str) -> str:
    """Return a spec, or a name that other programs gave, as a portable file name.

    A long one, as of options that are paths, ends in a hash of the whole: file systems allow 255 characters, of which
    results' suffixes take some.
    """
    name = "+".join(quote(part, safe="=,._-") for part in spec.split(":"))
    if len(name) <= _MOST_CHARACTERS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: _MOST_CHARACTERS - 1 - _DIGITS]}-{digest}"


def resolve_codec(text: str, *, task: str = "", provider: str = "") -> tuple[Spec, type[Codec]]:
    """Return the canonical spec and the class of a codec, its options checked.

    The canonical spec carries the options that :class:`~icm_bench.codec.CompletesOptions` adds and those that
    :class:`~icm_bench.codec.AlwaysNames` names: ``vvc`` becomes ``vvc:preset=fast``.

    Args:
        text: The spec as the user wrote it.
        task: What is measured, empty where nothing is.
        provider: The name of the dataset's provider, empty where it is not known.

    Raises:
        UsageError: The codec, an option or an option's value does not exist.
    """
    spec = Spec.parse(text)
    cls = registry.load("codec", spec.name)
    parameters = _parameters(cls, CODEC_SUPPLIED)
    options = complete_options(cls, dict(spec.options), task=task, provider=provider)
    for key in always_named(cls):
        options.setdefault(key, str(parameters[key].default))
    spec = Spec(spec.name, tuple(sorted(options.items())))
    arguments(spec, cls, CODEC_SUPPLIED)
    return spec, cls


def create_codec(spec: Spec, quality: Quality, device: str, programs: Programs | None = None) -> Codec:
    """Return a codec, of a spec whose options are complete as :func:`resolve_codec` returns it, at a quality.

    Its networks run on the device: "cpu", "cuda", ... With no ``programs``, a codec that runs some looks for them.

    Raises:
        UsageError: The codec, an option, an option's value or the quality does not exist.
    """
    cls = registry.load("codec", spec.name)
    options = arguments(spec, cls, CODEC_SUPPLIED)
    if programs is not None and "programs" in inspect.signature(cls).parameters:
        options["programs"] = programs
    codec: Codec = cls(quality, device=device, **options)
    return codec


def create_detector(spec: Spec, weights: Path | None, device: str) -> Detector:
    """Return the detector of a spec that :func:`resolve_detector` returned.

    With no weights, it has the published ones. Its network runs on the device: "cpu", "cuda", ...

    Raises:
        UsageError: The detector, an option or an option's value does not exist.
        DetectorError: The weights are missing, broken or of another detector.
    """
    cls = registry.load("detector", spec.name)
    detector: Detector = cls(weights=weights, device=device, **arguments(spec, cls, DETECTOR_SUPPLIED))
    return detector


def resolve_detector(text: str, *, weights: Path | None) -> tuple[Spec, type[Detector]]:
    """Return the canonical spec and the class of a detector, its options checked; None for the published weights.

    Raises:
        UsageError: The detector, an option or an option's value does not exist.
        DetectorError: An option follows from the weights, which cannot be read.
    """
    spec = Spec.parse(text)
    cls = registry.load("detector", spec.name)
    options = dict(spec.options)
    if isinstance(cls, NamedByWeights):
        options = cls.name_by_weights(options, weights=weights)
    spec = Spec(spec.name, tuple(sorted(options.items())))
    arguments(spec, cls, DETECTOR_SUPPLIED)
    return spec, cls


def arguments(spec: Spec, cls: type, supplied: frozenset[str]) -> dict[str, Any]:
    """Return a spec's options as keyword arguments of the types that the constructor's annotations name.

    ``supplied`` are the constructor's arguments that are not options.

    Raises:
        UsageError: An option or its value does not exist.
    """
    parameters = _parameters(cls, supplied)
    converted: dict[str, Any] = {}
    for key, value in spec.options:
        if key not in parameters:
            raise unknown(f"option of {spec.name}", key, sorted(parameters))
        hint = parameters[key].annotation
        hint = str if hint is inspect.Parameter.empty else hint
        converted[key] = _convert(value, hint, f"{spec.name}:{key}={value}")
    return converted


def parse_qualities(texts: Iterable[str]) -> dict[str, tuple[Quality, ...]]:
    """Read ladder overrides, each ``spec=quality,quality...``.

    Raises:
        UsageError: An override is not of that form, or names a quality twice.
    """
    ladders: dict[str, tuple[Quality, ...]] = {}
    for text in texts:
        name, separator, listing = text.rpartition("=")
        try:
            ladder = tuple(_number(item) for item in listing.split(","))
        except ValueError:
            ladder = ()
        if not separator or not ladder:
            raise UsageError(f"'{text}' is not codec=quality,quality...", where="--qualities")
        if len(set(ladder)) < len(ladder):
            raise UsageError("a quality is given twice", where=f"--qualities {text}")
        ladders[str(Spec.parse(name))] = ladder
    return ladders


def _parameters(cls: type, supplied: frozenset[str]) -> dict[str, inspect.Parameter]:
    """Return what a constructor takes by name; one that takes ``**options`` takes its base's too."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if constructor := vars(base).get("__init__"):
            _, *parameters = inspect.signature(constructor, eval_str=True).parameters.values()
            found = {each.name: each for each in parameters if each.kind not in _ANY} | found
            if inspect.Parameter.VAR_KEYWORD not in {each.kind for each in parameters}:
                break
    return {name: parameter for name, parameter in found.items() if name not in supplied}


def _convert(value: str, hint: Any, where: str) -> Any:
    if get_origin(hint) in (types.UnionType, Union):  # a Literal with None is of the second kind
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        for choice in get_args(hint):
            if str(choice) == value:
                return choice
        raise UsageError("no such value", where=where, hint=f"known: {', '.join(map(str, get_args(hint)))}")
    try:
        return _SWITCH[value.lower()] if hint is bool else hint(value)
    except (KeyError, ValueError) as error:
        wanted = "on or off" if hint is bool else f"a value of type {hint.__name__}"
        raise UsageError("not a value of this option", where=where, hint=f"give {wanted}") from error


def _number(text: str) -> Quality:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if number != number or number in (float("inf"), float("-inf")):
            raise
        return number
