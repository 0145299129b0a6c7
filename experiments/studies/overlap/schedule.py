"""Reads off a compiled step in which order it computes and communicates."""

from collections.abc import Iterator
from typing import NamedTuple

from experiments.compilers.hlo import Computation, Instruction, Program, read_program

_ALL_REDUCE = "all-reduce"
_PRODUCTS = ("dot", "convolution")  # TPUs do the one by the other
_LIBRARY_PRODUCTS = ("gemm", "matmul")  # of cuBLAS, by the name of the call


class AllReduce(NamedTuple):
    """One all-reduce of a program.

    Attributes:
        start: the place of its start in the order of the program.
        done: the place of its end; that of its start if it is synchronous.
        needs_batch: whether what it reduces depends on the last argument of the program.
    """

    start: int
    done: int
    needs_batch: bool


class Schedule(NamedTuple):
    """What a step does, in order.

    Attributes:
        all_reduces: in the order of their starts.
        products: the places of the matrix products.
    """

    all_reduces: list[AllReduce]
    products: list[int]

    @property
    def under_products(self) -> int:
        """How many all-reduces have a matrix product between their start and their end."""
        return sum(
            any(each.start < place < each.done for place in self.products)
            for each in self.all_reduces
        )

    @property
    def overlapping_products(self) -> int:
        """How many matrix products run while an all-reduce is on its way."""
        return sum(
            any(each.start < place < each.done for each in self.all_reduces)
            for place in self.products
        )

    @property
    def events(self) -> list[str]:
        """``"product"``, ``"start k"`` and ``"done k"`` for the all-reduce k, in order."""
        events = [(place, "product") for place in self.products]
        for number, each in enumerate(self.all_reduces):
            events += [(each.start, f"start {number}"), (each.done, f"done {number}")]
        return [event for _, event in sorted(events, key=lambda event: event[0])]


def read_schedule(hlo: str) -> Schedule:
    """Reads the text of a scheduled module, ``jax.stages.Compiled.as_text()``.

    Raises:
        ValueError: it has no ``ENTRY`` computation.
    """
    program = read_program(hlo)
    order = list(program.entry.values())
    places = {instruction.name: place for place, instruction in enumerate(order)}
    needing = _needing_batch(program.entry)
    all_reduces = [
        AllReduce(
            start=places[each.name],
            done=places[_end(each, order).name],
            needs_batch=each.name in needing,
        )
        for each in order
        if _starts_all_reduce(each, program)
    ]
    products = [places[each.name] for each in order if _is_product(each, program)]
    return Schedule(all_reduces, products)


def _starts_all_reduce(instruction: Instruction, program: Program) -> bool:
    if instruction.opcode in (_ALL_REDUCE, f"{_ALL_REDUCE}-start"):
        return True
    return instruction.opcode == "async-start" and any(
        inner.opcode == _ALL_REDUCE for inner in _inside(instruction, program)
    )


def _end(start: Instruction, order: list[Instruction]) -> Instruction:
    """The instruction that waits for an asynchronous one, else the instruction itself."""
    if not start.opcode.endswith("-start"):
        return start
    return next(
        each for each in order if each.opcode.endswith("-done") and start.name in each.operands
    )


def _is_product(instruction: Instruction, program: Program) -> bool:
    if instruction.opcode in _PRODUCTS:
        return True
    if instruction.opcode == "custom-call":
        return any(name in instruction.text for name in _LIBRARY_PRODUCTS)
    return instruction.opcode == "fusion" and any(
        inner.opcode in _PRODUCTS for inner in _inside(instruction, program)
    )


def _inside(instruction: Instruction, program: Program) -> Iterator[Instruction]:
    for name in instruction.called:
        for inner in program.computations[name].values():
            yield inner
            yield from _inside(inner, program)


def _needing_batch(entry: Computation) -> set[str]:
    """Names of the instructions that depend on the last argument, the batch."""
    parameters = [each for each in entry.values() if each.opcode == "parameter"]
    needing = {max(parameters, key=lambda each: each.number or 0).name}
    for instruction in entry.values():  # operands come before what reads them
        if needing.intersection(instruction.operands):
            needing.add(instruction.name)
    return needing
