"""Exact figures: what XLA says about a compiled step. They do not depend on the machine's mood."""

import collections
import dataclasses
import re
from typing import Any

# An instruction of the HLO text: "%name = shape opcode(operands)"; a tuple's shape has spaces.
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = .*?\s([a-z][a-z0-9-]*)\(", re.MULTILINE)

_COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exact:
    """The exact figures of one compiled step, in bytes unless said otherwise; per device.

    Attributes:
        arguments: what the step is given: parameters, state and batch.
        outputs: what it returns.
        aliased: outputs that overwrite arguments.
        temporary: peak of everything in between.
        bytes_accessed: all that the program's instructions read and write, by XLA's cost model.
        flops: floating-point operations, by the same model.
        instructions: number of HLO instructions, those inside fusions included.
        collectives: number of collective operations by kind.
    """

    arguments: int
    outputs: int
    aliased: int
    temporary: int
    bytes_accessed: int
    flops: int
    instructions: int
    collectives: dict[str, int]


def exact_figures(compiled: Any) -> Exact:
    """Reads the figures off a ``jax.stages.Compiled``."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    opcodes = count_instructions(compiled.as_text())
    return Exact(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        bytes_accessed=int(cost["bytes accessed"]),
        flops=int(cost["flops"]),
        instructions=opcodes.total(),
        collectives=collectives(opcodes),
    )


def count_instructions(hlo: str) -> collections.Counter[str]:
    """Counts the instructions in the text of a compiled module by opcode."""
    return collections.Counter(_INSTRUCTION.findall(hlo))


def collectives(opcodes: collections.Counter[str]) -> dict[str, int]:
    """Picks the collective operations; an asynchronous one counts once, where it starts."""
    counts = {kind: opcodes[kind] + opcodes[f"{kind}-start"] for kind in _COLLECTIVES}
    return {kind: count for kind, count in counts.items() if count}
