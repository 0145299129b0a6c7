"""Exact figures: what XLA says about a compiled step. They do not depend on the machine's mood."""

import dataclasses
from typing import Any

from experiments.compilers.hlo import collectives, count_instructions
from experiments.studies.bench.traffic import bytes_moved


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exact:
    """The exact figures of one compiled step, in bytes unless said otherwise; per device.

    Attributes:
        arguments: what the step is given: parameters, state and batch.
        outputs: what it returns.
        aliased: outputs that overwrite arguments.
        temporary: peak of everything in between.
        bytes_accessed: all that the program's instructions read and write, by XLA's cost model;
            ``moved`` where it has none.
        flops: floating-point operations, by the same model; 0 where it has none.
        instructions: number of HLO instructions, those inside fusions included.
        collectives: number of collective operations by kind.
        moved: what goes through main memory, see ``traffic.py``; None in results that are older.
    """

    arguments: int
    outputs: int
    aliased: int
    temporary: int
    bytes_accessed: int
    flops: int
    instructions: int
    collectives: dict[str, int]
    moved: int | None = None


def exact_figures(compiled: Any) -> Exact:
    """Reads the figures off a ``jax.stages.Compiled``."""
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    opcodes, moved = count_instructions(text), bytes_moved(text)
    return Exact(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        bytes_accessed=int(cost["bytes accessed"]) if cost else moved,
        flops=int(cost["flops"]) if cost else 0,
        instructions=opcodes.total(),
        collectives=collectives(opcodes),
        moved=moved,
    )
