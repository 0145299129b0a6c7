"""Reads the text of a compiled program: its computations, instructions and collectives."""

import collections
import re
from collections.abc import Mapping
from typing import NamedTuple

# "%name = type opcode(": a tuple's type has spaces and parentheses.
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*?)\s([a-z][a-z0-9-]*)\(", re.MULTILINE)
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,<=]*)\](\{[^}]*\})?")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
_OPERAND = re.compile(r"%([\w.-]+)")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|branch_computations|true_computation|false_computation)="
    r"\{?(%[\w.-]+(?:, %[\w.-]+)*)"
)
_CONDITION = re.compile(r"condition=%([\w.-]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')

_COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)


class Array(NamedTuple):
    """One array of an instruction's result.

    Attributes:
        size: its bytes, without padding.
        in_main_memory: whether it is in the device's main memory, not on the chip or the host.
        is_bytes: whether its elements are bytes, as a library's scratch space is.
    """

    size: int
    in_main_memory: bool
    is_bytes: bool

    @property
    def moved(self) -> int:
        """Bytes that reading or writing all of it moves through main memory."""
        return self.size if self.in_main_memory else 0


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        name: its name, without ``%``.
        opcode: what it does.
        arrays: what it results in, nested tuples flattened.
        operands: names of the instructions that it reads.
        text: what follows the opcode.
        is_root: whether its result is that of its computation.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    text: str
    is_root: bool

    @property
    def size(self) -> int:
        """Bytes of the result, wherever it is."""
        return sum(array.size for array in self.arrays)

    @property
    def moved(self) -> int:
        """Bytes of the result that are in main memory."""
        return sum(array.moved for array in self.arrays)

    @property
    def called(self) -> list[str]:
        """Names of the computations that it runs."""
        return [name for group in _CALLED.findall(self.text) for name in _OPERAND.findall(group)]

    @property
    def known_trip_count(self) -> int | None:
        """How often the body of a loop runs, where XLA says so."""
        known = _TRIP_COUNT.search(self.text)
        return int(known[1]) if known else None

    @property
    def condition(self) -> str:
        """Name of the computation that says whether a loop goes on."""
        return _CONDITION.findall(self.text)[0]

    @property
    def number(self) -> int | None:
        """What a whole constant is, or which operand of its caller a parameter is."""
        argument = self.text.partition(")")[0]
        return int(argument) if argument.isdecimal() else None


Computation = Mapping[str, Instruction]


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        computations: instructions by computation and name, in the order in which they run.
        entry: the computation that is the program.
    """

    computations: Mapping[str, Computation]
    entry: Computation


def count_instructions(hlo: str) -> collections.Counter[str]:
    """Counts the instructions in the text of a compiled module by opcode."""
    return collections.Counter(opcode for *_, opcode in _INSTRUCTION.findall(hlo))


def collectives(opcodes: collections.Counter[str]) -> dict[str, int]:
    """Picks the collective operations; an asynchronous one counts once, where it starts."""
    counts = {kind: opcodes[kind] + opcodes[f"{kind}-start"] for kind in _COLLECTIVES}
    return {kind: count for kind, count in counts.items() if count}


def read_program(hlo: str) -> Program:
    """Reads the text of a compiled module.

    Raises:
        ValueError: it has no ``ENTRY`` computation.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] = {}
    entry = None
    for line in hlo.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations[header[2]] = {}
            entry = current if header[1] else entry
        elif match := _INSTRUCTION.match(line):
            instruction = _instruction(match, line[match.end() :])
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError("this is no compiled module: it has no ENTRY computation")
    return Program(computations, entry)


def _instruction(match: re.Match[str], rest: str) -> Instruction:
    is_root, name, type_, opcode = match.groups()
    operands = _OPERAND.findall(rest[: _closing(rest)])
    return Instruction(name, opcode, _arrays(type_), tuple(operands), rest, bool(is_root))


def _closing(text: str) -> int:
    """Where the parenthesis that is open at the start closes; operands may name their types."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return len(text)


def _arrays(type_: str) -> tuple[Array, ...]:
    return tuple(
        Array(_bytes(kind, bits, shape), _in_main_memory(layout), f"{kind}{bits}" in ("s8", "u8"))
        for kind, bits, shape, layout in _ARRAY.findall(type_)
    )


def _bytes(kind: str, bits: str, shape: str) -> int:
    if kind in ("token", "opaque"):
        return 0
    number = 1
    for length in filter(None, shape.replace("<=", "").split(",")):
        number *= int(length)
    return (number * (8 if kind == "pred" else int(bits)) + 7) // 8


def _in_main_memory(layout: str) -> bool:
    space = _MEMORY_SPACE.search(layout)
    return space is None or space[1] == "0"
