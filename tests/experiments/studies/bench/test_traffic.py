"""Bytes added up from the text of compiled programs: small ones by hand, real ones against XLA."""

import jax
import jax.numpy as jnp
import optax
import pytest

from experiments.compilers.hlo import collectives, count_instructions, read_program
from experiments.recipe import Recipe
from experiments.studies.bench.steps import make_problem, make_step, start_shapes
from experiments.studies.bench.traffic import bytes_moved
from experiments.studies.bench.variants import VARIANTS
from experiments.studies.bench.workloads import Workload

# An f32[8] is 32 bytes and an f32[4,8] is 128.


def entry(*lines, result="f32[8]"):
    body = "\n".join(f"  {line}" for line in lines)
    return f"ENTRY %main (p: f32[8]) -> {result} {{\n{body}\n}}\n"


def moved(*lines):
    return bytes_moved(entry(*lines))


P = "%p = f32[8]{0} parameter(0)"
TABLE = "%table = f32[4,8]{1,0} parameter(1)"
INDEX = "%i = s32[] parameter(2)"  # 4 bytes


def test_an_instruction_reads_its_operands_and_writes_its_result():
    assert moved(P, "ROOT %sum = f32[8]{0} add(%p, %p)") == 3 * 32


def test_names_for_what_is_there_move_nothing():
    lines = [
        P,
        "%one = f32[] constant(1)",
        "%b = f32[2,4]{1,0} bitcast(%p)",
        "%t = (f32[8]{0}, f32[2,4]{1,0}) tuple(%p, %b)",
        "ROOT %x = f32[8]{0} get-tuple-element(%t), index=0",
    ]
    assert moved(*lines) == 0


@pytest.mark.parametrize(
    ("type_", "size"),
    [
        ("f32[]", 4),
        ("f32[8]{0}", 32),
        ("bf16[3,5]{1,0:T(8,128)(2,1)}", 30),
        ("pred[7]{0}", 7),
        ("s4[3]{0}", 2),
        ("f8e4m3fn[9]{0}", 9),
        ("c64[2]{0}", 16),
        ("f32[0,8]{1,0}", 0),
        ("f32[<=8]{0}", 32),
        ("token[]", 0),
        ("(f32[8]{0}, /*index=1*/(bf16[2]{0}, s32[]))", 40),
    ],
)
def test_sizes_of_types(type_, size):
    program = read_program(entry(P, f"ROOT %x = {type_} some-op(%p)"))
    assert program.entry["x"].size == size


@pytest.mark.parametrize(("space", "size"), [("", 64), ("S(0)", 64), ("S(1)", 32), ("S(5)", 32)])
def test_only_main_memory_counts(space, size):
    assert moved(P, f"ROOT %x = f32[8]{{0:T(256){space}}} negate(%p)") == size


def test_operands_with_their_types_and_attributes_that_look_like_operands():
    lines = [P, "ROOT %x = f32[8]{0} add(f32[8]{0} %p, (f32[8]{0}) %p), metadata={op_name=%q}"]
    assert moved(*lines) == 96


def test_a_slice_reads_what_it_returns():
    assert moved(TABLE, "ROOT %x = f32[1,8]{1,0} slice(%table), slice={[0:1], [0:8]}") == 64
    line = "ROOT %x = f32[1,8]{1,0} dynamic-slice(%table, %i, %i), dynamic_slice_sizes={1,8}"
    assert moved(TABLE, INDEX, line) == 64 + 2 * 4


def test_a_gather_reads_the_rows_it_returns_and_the_indices():
    line = "ROOT %x = f32[2,8]{1,0} gather(%table, %rows), offset_dims={1}"
    assert moved(TABLE, "%rows = s32[2]{0} parameter(2)", line) == 64 + 64 + 8


def test_an_update_in_place_moves_the_update():
    line = "ROOT %x = f32[4,8]{1,0} dynamic-update-slice(%table, %row, %i, %i)"
    assert moved(TABLE, "%row = f32[1,8]{1,0} parameter(0)", INDEX, line) == 32 + 32 + 8


def test_a_scatter_also_reads_what_it_adds_to():
    row, index = "%row = f32[1,8]{1,0} parameter(0)", "%j = s32[1]{0} parameter(3)"
    line = "ROOT %x = f32[4,8]{1,0} scatter(%table, %j, %row), to_apply=%add"
    add = "%add (a: f32[], b: f32[]) -> f32[] {\n  ROOT %a = f32[] parameter(0)\n}\n"
    assert bytes_moved(add + entry(TABLE, row, index, line)) == 4 + 32 + 32 + 32


FUSED = """
%fused (a: f32[8], b: f32[8]) -> (f32[8], f32[8]) {
  %a = f32[8]{0} parameter(0)
  %b = f32[8]{0} parameter(1)
  %inside = f32[8]{0} multiply(%a, %b)
  %sum = f32[8]{0} add(%inside, %b)
  ROOT %both = (f32[8]{0}, f32[8]{0}) tuple(%sum, %inside)
}
"""


def test_the_insides_of_a_fusion_stay_on_the_chip():
    line = "ROOT %x = (f32[8]{0}, f32[8]{0}) fusion(%p, %p), kind=kLoop, calls=%fused"
    assert bytes_moved(FUSED + entry(P, line)) == 4 * 32


def test_an_output_of_a_fusion_that_stays_on_the_chip_does_not_count():
    line = "ROOT %x = (f32[8]{0}, f32[8]{0:S(1)}) fusion(%p, %p), kind=kLoop, calls=%fused"
    assert bytes_moved(FUSED + entry(P, line)) == 3 * 32


def test_a_fusion_reads_the_slice_that_it_takes():
    fused = """
%fused (a: f32[4,8], i: s32[]) -> f32[8] {
  %a = f32[4,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %flat = f32[4,8]{1,0} bitcast(%a)
  %row = f32[1,8]{1,0} dynamic-slice(%flat, %i, %i), dynamic_slice_sizes={1,8}
  ROOT %out = f32[8]{0} bitcast(%row)
}
"""
    line = "ROOT %x = f32[8]{0} fusion(%table, %i), kind=kLoop, calls=%fused"
    assert bytes_moved(fused + entry(TABLE, INDEX, line)) == 32 + 4 + 32


def test_a_fusion_that_also_uses_the_whole_reads_the_whole():
    fused = """
%fused (a: f32[4,8], i: s32[]) -> f32[4,8] {
  %i = s32[] parameter(1)
  %a = f32[4,8]{1,0} parameter(0)
  %row = f32[1,8]{1,0} dynamic-slice(%a, %i, %i), dynamic_slice_sizes={1,8}
  %rows = f32[4,8]{1,0} broadcast(%row), dimensions={0,1}
  ROOT %out = f32[4,8]{1,0} add(%a, %rows)
}
"""
    line = "ROOT %x = f32[4,8]{1,0} fusion(%table, %i), kind=kLoop, calls=%fused"
    assert bytes_moved(fused + entry(TABLE, INDEX, line)) == 128 + 4 + 128


def test_a_fusion_that_updates_in_place_writes_the_update():
    fused = """
%fused (a: f32[4,8], row: f32[1,8], i: s32[]) -> f32[4,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %row = f32[1,8]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %twice = f32[1,8]{1,0} add(%row, %row)
  ROOT %out = f32[4,8]{1,0} dynamic-update-slice(%a, %twice, %i, %i)
}
"""
    row = "%row = f32[1,8]{1,0} parameter(0)"
    line = "ROOT %x = f32[4,8]{1,0} fusion(%table, %row, %i), kind=kLoop, calls=%fused"
    assert bytes_moved(fused + entry(TABLE, row, INDEX, line)) == 32 + 4 + 32


def test_a_fusion_whose_result_is_several_arrays_at_once():
    fused = """
%fused (a: f32[4,8]) -> (f32[8], f32[8]) {
  %a = f32[4,8]{1,0} parameter(0)
  %z = f32[] constant(0)
  ROOT %out = (f32[8]{0}, f32[8]{0}) reduce(%a, %a, %z, %z), dimensions={0}, to_apply=%f
}
"""
    line = "ROOT %x = (f32[8]{0}, f32[8]{0}) fusion(%table), kind=kInput, calls=%fused"
    assert bytes_moved(fused + entry(TABLE, line)) == 128 + 64


def test_asynchronous_copies_read_where_they_start_and_write_where_they_are_done():
    lines = [
        P,
        "%c = (f32[8]{0:S(1)}, f32[8]{0}, u32[]{:S(2)}) copy-start(%p)",
        "ROOT %x = f32[8]{0:S(1)} copy-done(%c)",
    ]
    assert moved(*lines) == 32, "what it writes is on the chip"
    assert moved(*(line.replace("S(1)", "") for line in lines)) == 64


def test_an_asynchronous_slice_reads_the_slice():
    lines = [
        TABLE,
        "%c = ((f32[4,8]{1,0}), f32[1,8]{1,0:S(1)}, s32[]) slice-start(%table), slice={[0:1]}",
        "ROOT %x = f32[1,8]{1,0:S(1)} slice-done(%c)",
    ]
    assert moved(*lines) == 32


def test_collectives_move_what_they_are_given_and_what_they_return():
    gather = [
        P,
        "%g = ((f32[8]{0}), (f32[64]{0})) all-gather-start(%p), dimensions={0}",
        "ROOT %x = f32[64]{0} all-gather-done(%g)",
    ]
    reduce = [P, "ROOT %x = f32[8]{0} all-reduce(%p), replica_groups={}"]
    assert moved(*gather) == 32 + 256
    assert moved(*reduce) == 64
    for lines, kind in ((gather, "all-gather"), (reduce, "all-reduce")):
        assert collectives(count_instructions(entry(*lines))) == {kind: 1}


LOOP = """
%body (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], f32[8]{0}) parameter(0)
  %n = s32[] get-tuple-element(%t), index=0
  %v = f32[8]{0} get-tuple-element(%t), index=1
  %w = f32[8]{0} negate(%v)
  ROOT %next = (s32[], f32[8]{0}) tuple(%n, %w)
}
"""
COUNTS = """
%more (t: (s32[], f32[8])) -> pred[] {
  %t = (s32[], f32[8]{0}) parameter(0)
  %n = s32[] get-tuple-element(%t), index=0
  %end = s32[]{:T(128)} constant(5)
  ROOT %on = pred[] compare(%n, %end), direction=LT
}
"""
WHILE = "ROOT %x = (s32[], f32[8]{0}) while(%t), condition=%more, body=%body"


def test_a_loop_counts_as_often_as_it_runs():
    start = [P, "%z = s32[] constant(0)", "%t = (s32[], f32[8]{0}) tuple(%z, %p)"]
    known = WHILE + ', backend_config={"known_trip_count":{"n":"12"}}'
    assert bytes_moved(COUNTS + LOOP + entry(*start, known)) == 12 * 64
    assert bytes_moved(COUNTS + LOOP + entry(*start, WHILE)) == 5 * 64, "as its condition says"
    for other in ("%end = s32[] parameter(1)", "%end = s32[] negate(%n)"):
        unknown = COUNTS.replace("%end = s32[]{:T(128)} constant(5)", other)
        assert bytes_moved(unknown + LOOP + entry(*start, WHILE)) == 64, "once if nobody knows"
    assert bytes_moved(COUNTS.replace("LT", "NE") + LOOP + entry(*start, WHILE)) == 64


@pytest.mark.parametrize(
    "names",
    ["branch_computations={%cheap, %dear}", "true_computation=%dear, false_computation=%cheap"],
)
def test_the_costliest_branch_counts(names):
    branches = """
%cheap (a: f32[8]) -> f32[8] {
  ROOT %a = f32[8]{0} parameter(0)
}
%dear (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  ROOT %b = f32[8]{0} negate(%a)
}
"""
    line = f"ROOT %x = f32[8]{{0}} conditional(%i, %p, %p), {names}"
    assert bytes_moved(branches + entry(P, INDEX, line)) == 64


def test_scratch_space_of_a_library_call_does_not_count():
    line = 'ROOT %x = (f32[8]{0}, u8[1000]{0}) custom-call(%p), custom_call_target="gemm"'
    assert moved(P, line) == 64


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no compiled module: it has no ENTRY computation"):
        bytes_moved("HloModule empty")


# --------------------------------------------------------------------------------------------------
# Against XLA's own count
# --------------------------------------------------------------------------------------------------

WIDE = Workload(
    summary="a network whose weights are most of what moves",
    model=Recipe("experiments.models.mlp:MLP", {"hidden": (256, 256), "outputs": 256}),
    example=(256,),
    labels=(),
    classes=256,
    batch_size=2,
)


@pytest.mark.parametrize("variant", ["plain", "closed-form", "drop-in"])
def test_a_train_step_moves_what_the_cost_model_says(variant):
    problem, method = (
        make_problem(WIDE, WIDE.batch_size, "float32"),
        VARIANTS[variant].build("adam"),
    )
    shapes = start_shapes(problem, method)
    compiled = make_step(problem, method).lower(*shapes, problem.batch).compile()
    accessed = compiled.cost_analysis()["bytes accessed"]
    assert bytes_moved(compiled.as_text()) == pytest.approx(accessed, rel=0.005)


def test_a_scan_moves_what_its_steps_do():
    weights = jnp.zeros((6, 64, 64))

    def run(unroll):
        def model(x, weights):
            return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights, unroll=unroll)[0]

        return bytes_moved(jax.jit(model).lower(jnp.zeros((4, 64)), weights).compile().as_text())

    assert run(1) == pytest.approx(run(6), rel=0.2), "all six steps count, each with its weights"
    assert run(1) > optax.tree.size(weights) * 4
