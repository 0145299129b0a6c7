"""The bytes that a compiled program moves through main memory, added up from its text.

XLA's own cost model has no figures for CUDA programs that were compiled ahead of time, counts the
body of a loop once, and on a TPU also counts what never leaves the chip.
"""

from experiments.compilers.hlo import Computation, Instruction, Program, read_program

# They say what is where, and move nothing.
_NAMES = (
    "add-dependency",
    "after-all",
    "bitcast",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
)
_SLICES = ("slice", "dynamic-slice", "gather")
_UPDATES = ("dynamic-update-slice", "scatter")


def bytes_moved(hlo: str) -> int:
    """Adds up the bytes that a compiled program reads from main memory and writes to it.

    Every instruction of the program itself reads its operands and writes its results; the insides
    of a fusion stay on the chip. Of an array that is only sliced or gathered from, the slice
    counts; of one that is updated in place, the update. An asynchronous operation reads where it
    starts and writes where it is done. The body of a loop counts as often as it runs where XLA or
    the loop's condition says that, else once; of branches, the costliest. Scratch space of
    libraries does not count, nor does padding.

    Args:
        hlo: text of the scheduled module, ``jax.stages.Compiled.as_text()``.

    Returns:
        Bytes, on one device.

    Raises:
        ValueError: ``hlo`` has no ``ENTRY`` computation.
    """
    program = read_program(hlo)
    return _moved(program.entry, program)


def _moved(computation: Computation, program: Program) -> int:
    return sum(_by_one(instruction, computation, program) for instruction in computation.values())


def _by_one(instruction: Instruction, computation: Computation, program: Program) -> int:
    opcode = instruction.opcode
    if opcode in _NAMES or opcode.endswith("-update"):
        return 0
    if opcode.endswith("-done"):
        return instruction.moved
    inner = [program.computations[name] for name in instruction.called]
    if opcode in ("while", "call"):
        times = _trip_count(instruction, program) if opcode == "while" else 1
        return times * sum(_moved(body, program) for body in inner)
    if opcode == "conditional":
        return max(_moved(branch, program) for branch in inner)
    operands = [computation[name] for name in instruction.operands]
    if opcode.endswith("-start"):
        return _by_start(instruction, operands, computation)
    if opcode == "fusion":
        (inside,) = inner
        return _by_fusion(instruction, operands, inside)
    return _by_itself(instruction, operands)


def _trip_count(loop: Instruction, program: Program) -> int:
    """How often the body of a loop runs; 1 where that cannot be known."""
    if loop.known_trip_count is not None:
        return loop.known_trip_count
    condition = program.computations[loop.condition]
    (test,) = (value for value in condition.values() if value.is_root)
    if test.opcode == "compare" and "direction=LT" in test.text:
        # JAX's scans count from 0 up to a constant.
        return condition[test.operands[1]].number or 1
    return 1


def _by_itself(instruction: Instruction, operands: list[Instruction]) -> int:
    if instruction.opcode in _SLICES:
        source, *indices = operands
        return _part_of(source, instruction.size) + instruction.moved + _all_of(indices)
    if instruction.opcode in _UPDATES:
        target, *rest = operands
        size = _update_size(instruction, operands)
        reads_target = instruction.opcode == "scatter"  # it adds to what is there
        return _part_of(target, size) * (1 + reads_target) + _all_of(rest)
    return _all_of(operands) + instruction.moved - _scratch(instruction)


def _by_start(
    instruction: Instruction, operands: list[Instruction], computation: Computation
) -> int:
    if instruction.opcode.removesuffix("-start") in _SLICES:
        (done,) = (user for user in computation.values() if instruction.name in user.operands)
        return _part_of(operands[0], done.size)
    return _all_of(operands)


def _by_fusion(instruction: Instruction, operands: list[Instruction], inside: Computation) -> int:
    values = {value.number: value for value in inside.values() if value.opcode == "parameter"}
    read = sum(
        _part_of(operand, _read_inside(values[number], inside))
        for number, operand in enumerate(operands)
    )
    (root,) = (value for value in inside.values() if value.is_root)
    if root.opcode != "tuple":
        return read + _part_of(instruction, _written_inside(root, inside))
    outputs = (inside[name] for name in root.operands)
    written = sum(
        _written_inside(output, inside)
        for array, output in zip(instruction.arrays, outputs, strict=True)
        if array.in_main_memory
    )
    return read + written


def _read_inside(value: Instruction, inside: Computation) -> int:
    """Bytes of a value that the rest of a fusion reads."""
    total = 0
    for user in inside.values():
        if value.name not in user.operands:
            continue
        as_source = value.name not in user.operands[1:]
        if user.opcode == "bitcast":
            total += _read_inside(user, inside)
        elif user.opcode in _SLICES and as_source:
            total += user.size
        elif user.opcode == "scatter" and as_source:
            total += _written_inside(user, inside)
        elif user.opcode != "dynamic-update-slice" or not as_source:
            return value.size
    return min(value.size, total)


def _written_inside(output: Instruction, inside: Computation) -> int:
    """Bytes that a fusion writes for one of its outputs."""
    while output.opcode == "bitcast":
        output = inside[output.operands[0]]
    if output.opcode in _UPDATES:
        return _update_size(output, [inside[name] for name in output.operands])
    return output.size


def _update_size(instruction: Instruction, operands: list[Instruction]) -> int:
    """Bytes that an update in place replaces."""
    if instruction.opcode == "dynamic-update-slice":
        return operands[1].size
    return sum(operand.size for operand in operands[-len(instruction.arrays) :])


def _all_of(values: list[Instruction]) -> int:
    return sum(value.moved for value in values)


def _part_of(source: Instruction, size: int) -> int:
    return size if source.moved else 0


def _scratch(instruction: Instruction) -> int:
    """Bytes of a library call's further outputs that are mere space to work in."""
    if instruction.opcode != "custom-call":
        return 0
    return sum(array.moved for array in instruction.arrays[1:] if array.is_bytes)
