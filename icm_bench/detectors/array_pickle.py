"""Arrays in a pickle, read without unpickling.

A pickle is a program, and running one that somebody else wrote runs whatever they put into it. Here its opcodes are
read as data: they may build dictionaries, lists, tuples, numbers, texts and arrays of numbers. What it would call is
compared with the few names that storing NumPy arrays leads to, and never looked up, imported or called; any other name
and any other opcode is refused.

``pickle.Unpickler.find_class`` with a list of allowed names would be shorter, but it is not asked about the tuples and
dictionaries that a pickle builds on its own, of which a few hundred bytes can make more than any machine holds.
"""

from __future__ import annotations

import pickletools
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icm_bench.network.pickle_guard import RefusedPickleError, check_pickle

_NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8"})
_MAX_COPIES = 4
_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
        *("SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES"),
        *("BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)


def read_pickled_state(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a model that was pickled as ``{name: array}`` or as ``{"model": {name: array}, ...}``.

    Pickles of every protocol are read, of Python 2 and 3, of NumPy 1 and 2. The arrays are views of the pickle.

    Raises:
        RefusedPickleError: The pickle is damaged, is empty, or holds or does anything else.
    """
    check_pickle(data)
    machine = _Machine(spare_bytes=_MAX_COPIES * len(data) + 2**16)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "invalid .*escape")  # which no pickler writes
            for opcode, argument, _ in pickletools.genops(data):
                machine.run(opcode.name, argument)
    except RefusedPickleError:
        raise
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError, Warning) as error:
        raise RefusedPickleError(f"a damaged pickle: {error}") from error
    root = machine.stack[0] if len(machine.stack) == 1 else None
    model = root.get("model", root) if isinstance(root, dict) else None
    if not isinstance(model, dict) or not model:
        raise RefusedPickleError("the pickle holds no model")
    return {_text(name): _values(name, array) for name, array in model.items()}


@dataclass(frozen=True)
class _Name:
    """The name of something in a module, which is nothing but its name here."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class _NumberType:
    """A type of number: its kind and size in bytes, and the order of its bytes, which a pickle says later."""

    code: str
    order: str = "="

    def build(self, state: Any) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        if self.code not in _NUMBERS or self.order not in {"<", ">", "=", "|"}:
            raise RefusedPickleError(f"an array of something other than numbers ({self.order}{self.code})")
        return np.dtype(self.order + self.code)


@dataclass
class _Array:
    """An array, which a pickle mentions first and fills later."""

    values: NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        _, shape, number, is_fortran, data = state
        self.fill(data, number, shape, "F" if is_fortran else "C")

    def fill(self, data: Any, number: Any, shape: Any, order: Any) -> None:
        if not isinstance(number, _NumberType) or not isinstance(data, str | bytes | bytearray):
            raise RefusedPickleError("an array of something other than numbers")
        if not all(type(side) is int and side >= 0 for side in shape):
            raise RefusedPickleError(f"an array of shape {shape}")
        raw = data.encode("latin-1") if isinstance(data, str) else bytes(data)
        flat = np.frombuffer(raw, number.dtype()) if raw else np.empty(0, number.dtype())
        self.values = flat.reshape(shape, order="F" if order == "F" else "C")


@dataclass
class _Machine:
    """The stack and the memory of a pickle, without the power to call anything."""

    stack: list[Any] = field(default_factory=list)
    outer: list[list[Any]] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)
    spare_bytes: int = 0

    def run(self, opcode: str, argument: Any) -> None:
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self._push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "MARK":
                self.outer.append(self.stack)
                self.stack = []
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                self._push({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[opcode])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._push(tuple(reversed([self.stack.pop() for _ in range(int(opcode[-1]))])))
            case "TUPLE":
                self._push(tuple(self._since_mark()))
            case "LIST":
                self._push(self._since_mark())
            case "DICT":
                self._push(_dictionary(self._since_mark()))
            case "APPEND" | "APPENDS":
                items = [self.stack.pop()] if opcode == "APPEND" else self._since_mark()
                self.stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = [self.stack.pop(-2), self.stack.pop()] if opcode == "SETITEM" else self._since_mark()
                self.stack[-1].update(_dictionary(items))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memory[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memory[len(self.memory)] = self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self._push(self.memory[argument])
            case "GLOBAL":
                self._push(_Name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                self._push(_Name(self.stack.pop(-2), self.stack.pop()))
            case "REDUCE":
                self._spend(self.stack[-1])
                self._push(_made(self.stack.pop(-2), self.stack.pop()))
            case "BUILD":
                self._spend(self.stack[-1])
                _build(self.stack[-2], self.stack.pop())
            case _ if opcode in _LITERALS:
                self._push(argument)
            case _:
                raise RefusedPickleError(f"the pickle does more than store arrays (opcode {opcode})")

    def _spend(self, arguments: Any) -> None:
        # One text may stand for the bytes of any number of arrays, of which each would be a copy.
        parts = arguments if isinstance(arguments, tuple) else ()
        self.spare_bytes -= sum(len(part) for part in parts if isinstance(part, str | bytes | bytearray))
        if self.spare_bytes < 0:
            raise RefusedPickleError("arrays repeat the same bytes without end")

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.outer.pop()
        return items


def _made(maker: Any, arguments: Any) -> Any:
    """Return what calling a maker of arrays, or of their parts, would return."""
    match str(maker) if isinstance(maker, _Name) else None, arguments:
        case "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct", (subtype, *_):
            if subtype == _Name("numpy", "ndarray"):
                return _Array()
        case "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer", (
            data,
            number,
            shape,
            order,
        ):
            array = _Array()
            array.fill(data, number, shape, order)
            return array
        case "numpy.dtype", (str(code), *_):
            return _NumberType(code)
        case "collections.OrderedDict", ():
            return {}
        case "collections.OrderedDict", (list(pairs),):
            return _dictionary([item for pair in pairs for item in pair])
        case "_codecs.encode", (str(text), "latin1"):
            return text.encode("latin-1")
        case "builtins.bytes" | "__builtin__.bytes", ():
            return b""
    raise RefusedPickleError(f"the pickle does more than store arrays (it calls {maker})")


def _build(target: Any, state: Any) -> None:
    if isinstance(target, _Array | _NumberType):
        target.build(state)
    elif not isinstance(target, dict):  # torch's state dictionaries have an attribute, which is no weight
        raise RefusedPickleError(f"the pickle does more than store arrays (it changes {target})")


def _dictionary(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[0::2], items[1::2], strict=True))


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise RefusedPickleError(f"an array has {name} for a name")
    return name


def _values(name: str, array: Any) -> NDArray[Any]:
    if not isinstance(array, _Array) or array.values is None:
        raise RefusedPickleError(f"{name} is no array")
    return array.values
