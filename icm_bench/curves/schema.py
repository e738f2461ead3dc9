"""What a result file holds: every field's type, checked in one place when a file is read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from icm_bench.detector import Task
from icm_bench.error import IcmBenchError, ResultError, UsageError
from icm_bench.spec import Spec

SCHEMA: Final = 2
"""Version of the result files. 1: first; 2: facts that were read out of names are fields, and digests."""

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
"""What datasets may be called, since they name folders."""

_HINT: Final = "remove it, or run again"


def _dataset_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("is not a name of letters, digits, '.', '_', '+' and '-'")
    return name


def _spec(text: str) -> str:
    try:
        Spec.parse(text)
    except UsageError as error:
        raise ValueError(error.what) from error
    if not text.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return text


def _given(value: object) -> object:
    # What may be left out is None here; written as null, it is of another type than whoever reads it takes.
    if value is None:
        raise ValueError("is null")
    return value


Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Rate: TypeAlias = Annotated[float, Field(allow_inf_nan=False, gt=0)]
Value: TypeAlias = Finite | None
Bounds: TypeAlias = Annotated[list[Value], Field(min_length=2, max_length=2)]
DatasetName: TypeAlias = Annotated[str, AfterValidator(_dataset_name)]
SpecText: TypeAlias = Annotated[str, AfterValidator(_spec)]
Costs: TypeAlias = Annotated[list[Finite] | None, BeforeValidator(_given)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Dataset(_Strict):
    name: DatasetName
    fingerprint: str | None = None
    images: Annotated[int, Field(gt=0)] = 1
    pixels: Annotated[int, Field(gt=0)] | None = None
    objects: Annotated[int, Field(ge=0)] = 0
    evaluation: str | None = None
    truth: str = ""
    provider: str | None = None
    limit: Annotated[int, Field(gt=0)] | None = None
    subset_of: DatasetName | None = None
    stored_as: DatasetName | None = None


class _Detector(_Strict):
    spec: SpecText
    version: str | None = None


class _Guide(_Strict):
    spec: str
    is_judge: bool


class _Uncompressed(_Strict):
    __pydantic_extra__: dict[str, Value] = Field(init=False)
    intervals: dict[str, Bounds] = {}


class _Intervals(_Strict):
    __pydantic_extra__: dict[str, list[Bounds]] = Field(init=False)
    level: Finite = 0.0
    resamples: int = 0


class _Fidelity(_Strict):
    __pydantic_extra__: dict[str, str | int] = Field(init=False)
    undefined: dict[str, str] = {}


class _Published(_Strict):
    __pydantic_extra__: dict[str, str] = Field(init=False)
    source: str


class _Meta(_Strict):
    schema_: Annotated[int, Field(alias="schema", ge=1)]
    task: Task | Literal["fidelity", "keypoints"]
    dataset: _Dataset
    detector: _Detector
    qualities: list[int | Finite | None]
    codec_version: list[str] | None = None
    bitstreams: list[str] | None = None
    basis: str | None = None
    command: str | None = None
    config: dict[str, Any] = {}
    conventions: dict[str, str] = {}
    versions: dict[str, str] = {}
    uncompressed: _Uncompressed | None = None
    intervals: _Intervals = _Intervals()
    fidelity: _Fidelity = _Fidelity()
    guide: Annotated[_Guide | None, BeforeValidator(_given)] = None
    front: dict[str, str | int] = {}
    imported: dict[str, str | list[str]] = {}
    published: Annotated[_Published | None, BeforeValidator(_given)] = None
    label: str | None = None
    objective: str | None = None
    trained_through: list[str] = []
    parameters: Annotated[int, Field(ge=0)] = 0
    encoder_kmac: Costs = None
    decoder_kmac: Costs = None
    digest: str | None = None
    files: dict[Literal["resamples"], str] = {}


class _File(_Strict):
    name: SpecText
    description: str = ""
    results: dict[str, list[Value]]
    categories: dict[str, list[Value]] = {}
    meta: _Meta

    @model_validator(mode="after")
    def _columns_are_of_one_length(self) -> _File:
        n_points = len(self.meta.qualities)
        if not self.results.get("bpp"):
            raise ValueError("has no rates")
        if any(rate is None or rate <= 0 for rate in self.results["bpp"]):
            raise ValueError("an operating point has no rate above 0")
        meta = self.meta
        columns: list[Sequence[Any] | None] = [*self.results.values(), *self.categories.values()]
        columns += [meta.codec_version, meta.bitstreams, meta.encoder_kmac, meta.decoder_kmac]
        columns += (meta.intervals.__pydantic_extra__ or {}).values()
        if any(column is not None and len(column) != n_points for column in columns):
            raise ValueError("its columns differ in length, or are empty")
        return self


class _Timings(_Strict):
    results: dict[str, list[Value]] = {}
    machine: dict[str, str | int] = {}
    curve: str | None = None
    digest: str | None = None


def check_result(content: Mapping[str, Any], path: Path) -> None:
    """Check every field of a result file.

    Raises:
        ResultError: A field is missing or of another type, a name could lead out of the results' folder, a value is
            not finite, columns differ in length, the content was changed since it was written, or the schema is a later
            one.
    """
    meta = content.get("meta")
    version = meta.get("schema") if isinstance(meta, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise ResultError(
            f"is of schema {version}; this version reads up to {SCHEMA}", where=path, hint="upgrade icm-bench"
        )
    _validate(_File, content, path)
    written = content["meta"].get("digest")
    if written is None and version != 1:
        raise ResultError("has no digest of its content", where=path, hint=_HINT)
    try:
        # Files of earlier versions have a digest of their values alone.
        is_whole = written in (None, content_digest(content), columns_digest(content))
    except RecursionError as error:
        raise ResultError(f"is not a result file ({error})", where=path, hint=_HINT) from error
    if not is_whole:
        raise ResultError(
            "was changed after it was written: its content does not match its digest", where=path, hint=_HINT
        )


def check_names(dataset: str, specs: Iterable[str]) -> None:
    """Refuse, before anything is measured, names that no result file may hold.

    Raises:
        UsageError: The dataset's name, or a codec's or a detector's spec, is none.
    """
    for check, hint, names in (
        (_dataset_name, "give --name", [dataset]),
        (_spec, "rename the file that it names", specs),
    ):
        for name in names:
            try:
                check(name)
            except ValueError as error:
                raise UsageError(str(error), where=f"'{name}'", hint=hint) from error


def check_timings(content: Mapping[str, Any], n_points: int, path: Path) -> None:
    """Check every field of a file of timings.

    Raises:
        ResultError: A field is of another type, or a column has another length.
    """
    _validate(_Timings, content, path)
    if any(len(column) != n_points for column in content.get("results", {}).values()):
        raise ResultError(f"its columns are not of {n_points} operating points", where=path, hint=_HINT)
    if content.get("digest") not in (None, timings_digest(content)):
        raise ResultError("its values were changed after they were written", where=path, hint=_HINT)


def timings_digest(content: Mapping[str, Any]) -> str:
    """Return the digest of a file of timings but for the digest that stands in it."""
    return _digest({key: value for key, value in content.items() if key != "digest"})


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the digest of a result file but for the digest that stands in it."""
    meta = {key: value for key, value in content["meta"].items() if key != "digest"}
    return _digest({**content, "meta": meta})


def columns_digest(content: Mapping[str, Any]) -> str:
    """Return the digest of a result file's values, which is that of files of earlier versions."""
    meta = content["meta"]
    columns = {
        "results": content["results"],
        "categories": content.get("categories", {}),
        **{key: meta.get(key) for key in ("qualities", "uncompressed", "intervals")},
    }
    return _digest(columns)


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file whose top is an object.

    Raises:
        ResultError: The file is missing, cannot be read, is not such a file, or holds NaN or text that is not Unicode.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        if "\\ud" in text.lower():
            json.dumps(content, ensure_ascii=False).encode()
    except FileNotFoundError as error:
        raise ResultError("no such file", where=path) from error
    except UnicodeEncodeError as error:
        raise ResultError("holds text that is not Unicode", where=path, hint=_HINT) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"cannot be read ({error})", where=path, hint=_HINT) from error
    if not isinstance(content, dict):
        raise ResultError("is not a result file", where=path, hint=_HINT)
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _validate(model: type[BaseModel], content: Mapping[str, Any], path: Path) -> None:
    try:
        model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part is not None)
        said = first["msg"].removeprefix("Value error, ")
        said = said[:1].lower() + said[1:]
        raise ResultError(
            f"is not a result file ({f'{where}: ' if where else ''}{said})", where=path, hint=_HINT
        ) from error
    except (RecursionError, IcmBenchError) as error:
        raise ResultError(f"is not a result file ({error})", where=path, hint=_HINT) from error
