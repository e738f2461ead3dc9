"""Pickles from elsewhere, looked through before anything is built from them.

A few hundred bytes can describe a tuple that doubles at each of hundreds of steps, or a million tuples within one
another. Building them is quick, but hashing, comparing or printing them never ends, or overflows the stack; and a
restricted ``pickle.Unpickler.find_class`` is not asked before a key is hashed. Here a pickle's opcodes are read as the
graph that they would build, and its size is worked out without building it.
"""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import IO

MAX_OPCODES = 150_000
"""More than the states of the largest detector and its optimizer need."""

MAX_STACK = 10_000
"""Picklers leave two thousand values waiting at most."""

MAX_DEPTH = 64
"""How deep containers may lie within one another."""

MAX_REPETITION = 64
"""How many times more values than opcodes a pickle may lead to, in all that it builds."""

_MAX_PICKLE_BYTES = 2**25
_N_LEGACY_PICKLES = 5
_ZIP = b"PK\x03\x04"


class RefusedPickleError(ValueError):
    """A pickle is damaged, or holds or does more than arrays need."""


def check_pickle(data: bytes | IO[bytes]) -> None:
    """Refuse a pickle whose values would be too many, too deep or within themselves.

    Args:
        data: The pickle; a file is read to the pickle's end.

    Raises:
        RefusedPickleError: It is damaged, or one of these.
    """
    graph = _Graph()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "invalid .*escape")  # which no pickler writes
            for opcode, argument, _ in pickletools.genops(data):
                graph.run(opcode, argument)
    except RefusedPickleError:
        raise
    except (LookupError, OverflowError, TypeError, ValueError, Warning) as error:
        raise RefusedPickleError(f"a damaged pickle: {error}") from error
    graph.check()


def check_pth(data: bytes) -> None:
    """Refuse a file of torch's, of its zip format or of the older one, in which a pickle is refused.

    Raises:
        RefusedPickleError: ``check_pickle`` refuses one, or there is none.
    """
    if not data.startswith(_ZIP):
        stream = io.BytesIO(data)
        for _ in range(_N_LEGACY_PICKLES):
            check_pickle(stream)
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(".pkl")]
        if not infos:
            raise RefusedPickleError("the archive holds no pickle")
        for info in infos:
            if info.file_size > _MAX_PICKLE_BYTES:
                raise RefusedPickleError(f"a pickle of {info.file_size} bytes, tensors aside")
            check_pickle(archive.read(info))


@dataclass
class _Node:
    """A value, and the values that it holds or was made of, each as often as it holds it."""

    parts: list[_Node]
    depth: int


@dataclass
class _Graph:
    """The stack and the memory of a pickle, in which every value is nothing but what it holds."""

    stack: list[_Node | None] = field(default_factory=list)
    memory: dict[int, _Node] = field(default_factory=dict)
    containers: list[_Node] = field(default_factory=list)
    n_values: int = 0

    def run(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        name = opcode.name
        self.n_values += 1
        if self.n_values > MAX_OPCODES or len(self.stack) > MAX_STACK:
            raise RefusedPickleError("the pickle does more than a store of arrays needs")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(self.memory) if name == "MEMOIZE" else argument
            self.memory[index] = self._top()  # type: ignore[index]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memory[argument])  # type: ignore[index]
        elif name == "MARK":
            self.stack.append(None)
        elif name == "DUP":
            self.stack.append(self._top())
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"):
            taken = self._since_mark() if name.endswith("S") else self._pop(len(opcode.stack_before) - 1)
            self._top().parts.extend(taken)
        elif name == "POP_MARK":
            self._since_mark()
        elif opcode.stack_after:
            is_marked = pickletools.markobject in opcode.stack_before
            self._push(self._since_mark() if is_marked else self._pop(len(opcode.stack_before)))
        else:
            self._pop(len(opcode.stack_before))

    def check(self) -> None:
        # Nodes are known by their identity: equal ones are not the same one.
        by_id = {id(node): node for node in self.containers}
        order = TopologicalSorter({key: map(id, node.parts) for key, node in by_id.items()})
        sizes: dict[int, int] = {}
        total = 0
        try:
            for key in order.static_order():
                parts = by_id[key].parts
                sizes[key] = 1 + sum(sizes[id(part)] for part in parts)
                by_id[key].depth = _depth(parts)  # what a list holds is appended after it is made
                total += sizes[key]
                if total > MAX_REPETITION * (self.n_values + 1):
                    raise RefusedPickleError("values repeat one another without end")
        except CycleError:
            raise RefusedPickleError("a value lies within itself") from None

    def _push(self, parts: list[_Node]) -> None:
        node = _Node(parts, _depth(parts))
        self.containers.append(node)
        self.stack.append(node)

    def _pop(self, count: int) -> list[_Node]:
        return [self._value(self.stack.pop()) for _ in range(count)]

    def _top(self) -> _Node:
        return self._value(self.stack[-1])

    def _since_mark(self) -> list[_Node]:
        parts: list[_Node] = []
        while (node := self.stack.pop()) is not None:
            parts.append(node)
        return parts

    def _value(self, node: _Node | None) -> _Node:
        if node is None:
            raise ValueError("a mark where a value is expected")
        return node


def _depth(parts: list[_Node]) -> int:
    depth = 1 + max((part.depth for part in parts), default=0)
    if depth > MAX_DEPTH:
        raise RefusedPickleError(f"values lie more than {MAX_DEPTH} deep within one another")
    return depth
