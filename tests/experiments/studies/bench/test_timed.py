"""The benchmark end to end on a tiny model. Times are recorded here, never judged."""

import dataclasses
import functools
import json
import math
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure
from run_files import read_meta, read_records
from scipy import stats

import experiments.studies.bench.work
from experiments.arms import OF_PAPERS
from experiments.cli import main
from experiments.compilers.hlo import collectives, count_instructions
from experiments.models.transformer import Decoder
from experiments.recipe import Recipe
from experiments.statistics import Bounds, median_interval
from experiments.studies.bench.ask import STUDY, Config, Group, Timed
from experiments.studies.bench.beside import (
    Beside,
    beside_plain,
    compile_ratio,
    format_extra,
    format_ratio,
    step_ratio,
)
from experiments.studies.bench.choices import with_plain
from experiments.studies.bench.exact import exact_figures
from experiments.studies.bench.figure import draw_bars
from experiments.studies.bench.floors import Sizes
from experiments.studies.bench.page import notes
from experiments.studies.bench.pages import read_record
from experiments.studies.bench.steps import draw_batch, make_problem, make_step, start, start_shapes
from experiments.studies.bench.variants import CONTROL, LEARNING_RATE, PLAIN, VARIANTS
from experiments.studies.bench.work import measure
from experiments.studies.bench.workloads import WORKLOADS, Workload

TINY = Workload(
    summary="a network that compiles in no time",
    model=Recipe("experiments.models.mlp:MLP", {"hidden": (8,), "outputs": 3}),
    example=(4,),
    labels=(),
    classes=3,
    batch_size=5,
)
PARAMETERS = 4 * 8 + 8 + 8 * 3 + 3
PARAMS_BYTES = 4 * PARAMETERS
FILES = {"report.md", "bars.png", "runs.jsonl", "meta.json"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(WORKLOADS, "tiny", TINY)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "run"
    arguments = "bench --models tiny --optimizers adam --seconds 0.1 --compilations 1"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(WORKLOADS, "tiny", TINY)
        assert main([*arguments.split(), "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def records(tiny_run):
    return {record["variant"]: record for record in read_records(tiny_run)}


def config(*variants, **changes):
    settings = {
        "models": ("tiny",),
        "optimizers": ("adam",),
        "variants": with_plain(*variants),
        "batch_sizes": None,
        "dtype": "float32",
        "seconds": 0.01,
        "compilations": 1,
        "seed": 0,
    }
    return Config(**(settings | changes))


def problem(dtype="float32"):
    return make_problem(TINY, TINY.batch_size, dtype)


def names(folder):
    return {path.name for path in folder.iterdir()}


def read_table(folder, heading):
    section = (folder / "report.md").read_text().partition(f"\n### {heading}\n")[2]
    rows = [line for line in re.split(r"\n##", section)[0].splitlines() if line.startswith("|")]
    header, _, *cells = ([cell.strip() for cell in row[1:-1].split("|")] for row in rows)
    return header, {row[0]: row[1:] for row in cells}


# --------------------------------------------------------------------------------------------------
# What a run leaves behind
# --------------------------------------------------------------------------------------------------


def test_a_run_leaves_four_files_and_all_variants(tiny_run, records):
    assert names(tiny_run) == FILES
    assert (tiny_run / "bars.png").read_bytes().startswith(b"\x89PNG")
    assert list(records) == list(VARIANTS)
    for record in records.values():
        assert (record["model"], record["optimizer"], record["batch_size"]) == ("tiny", "adam", 5)
        assert record["parameters"] == PARAMETERS
        assert record["params_bytes"] == PARAMS_BYTES
        assert record["compilations"] == 1, "later steps never compile again"
        assert record["timed"]["loss_is_finite"]
        assert len(record["timed"]["compile_seconds"]) == 1
    rounds = {len(record["timed"]["step_seconds"]) for record in records.values()}
    assert len(rounds) == 1, "all variants run in all rounds"
    assert rounds.pop() >= 10


def test_meta_says_what_was_measured_and_on_what(tiny_run):
    meta = read_meta(tiny_run)
    assert meta["status"] == "complete"
    assert meta["groups_finished"] == meta["groups_planned"] == 1
    assert meta["configuration"]["variants"] == list(VARIANTS)
    assert meta["device"]["platform"]
    text = (tiny_run / "report.md").read_text()
    for part in (meta["date"], meta["device"]["kind"], meta["versions"]["jax"]):
        assert part in text
    assert "random weights and are fed random data" in text


def test_report_shows_the_exact_figures_of_the_records(tiny_run, records):
    header, rows = read_table(tiny_run, "tiny adam batch 5: exact")
    assert list(rows) == list(VARIANTS)
    plain = records[PLAIN]
    figures = {
        "bytes accessed": lambda record: record["exact"]["bytes_accessed"],
        "peak temporary": lambda record: record["exact"]["temporary"],
        "state": lambda record: record["carried"],
        "arguments": lambda record: record["exact"]["arguments"],
        "outputs": lambda record: record["exact"]["outputs"],
        "aliased": lambda record: record["exact"]["aliased"],
    }
    for name, cells in rows.items():
        shown = dict(zip(header[1:], cells, strict=True))
        for title, figure in figures.items():
            value, reference = figure(records[name]), figure(plain)
            if name != PLAIN:
                assert_shows_extra(shown[title], value - reference, reference)
            else:
                assert shown[title] == shown_bytes(value)
        assert shown["instructions"] == str(records[name]["exact"]["instructions"])
        assert (shown["collectives"], shown["compilations"]) == ("none", "1")


def assert_shows_extra(cell, difference, reference):
    percent = f" ({100 * difference / reference:+.1f} %)" if difference and reference else ""
    sign = "+" if difference > 0 else ""
    assert cell == f"{sign}{shown_bytes(difference)}{percent}"


def shown_bytes(number):
    return f"{number} B" if abs(number) < 1000 else f"{number / 1000:.1f} kB"


def test_report_shows_the_ratios_of_the_records(tiny_run, records):
    _, rows = read_table(tiny_run, "tiny adam batch 5: timed")
    assert list(rows) == [name for name in VARIANTS if name != PLAIN]
    plain = records[PLAIN]["timed"]
    for name, (step, compiling) in rows.items():
        timed = records[name]["timed"]
        ratios = np.sort(np.divide(timed["step_seconds"], plain["step_seconds"]))
        # The number of ratios below the true median is binomial: the classical interval.
        rank = int(stats.binom.ppf(0.025, len(ratios), 0.5))
        low, high = ratios[rank - 1], ratios[-rank]
        assert step == f"{np.median(ratios):.3f} [{low:.3f}, {high:.3f}]"
        medians = [np.median(each["compile_seconds"]) for each in (timed, plain)]
        assert compiling == f"{medians[0] / medians[1]:.2f}"


def test_the_plain_step_again_has_the_plain_step_s_figures(records):
    assert records[CONTROL]["exact"] == records[PLAIN]["exact"]
    assert records[CONTROL]["carried"] == records[PLAIN]["carried"]


@pytest.mark.parametrize("variants", [tuple(VARIANTS), (PLAIN, "last-update-bf16")])
def test_words_in_the_picture_of_one_model_have_room(variants, records, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **more: figures.append(figure))
    draw_bars(tmp_path / "bars.png", [read_record(STUDY, records[name]) for name in variants])
    (figure,) = figures
    figure.draw_without_rendering()
    times, traffic = (panel.title.get_window_extent() for panel in figure.axes)
    (legend,) = (each.get_window_extent() for each in figure.legends)
    assert times.x1 < traffic.x0
    assert figure.bbox.x0 <= min(times.x0, legend.x0)
    assert max(traffic.x1, legend.x1) <= figure.bbox.x1


def test_ctrl_c_keeps_the_finished_groups(monkeypatch, tmp_path, capsys):
    finished = []

    def interrupted(group, config):
        if finished:
            raise KeyboardInterrupt
        finished.extend(measure(group, config))
        return finished

    monkeypatch.setattr(experiments.studies.bench.work, "measure", interrupted)
    options = "--optimizers sgdm adam --variants control --seconds 0.01 --compilations 1"
    folder = tmp_path / "run"
    assert main(["bench", "--models", "tiny", *options.split(), "--output", str(folder)]) == 130
    assert names(folder) == FILES
    assert {record["optimizer"] for record in read_records(folder)} == {"sgdm"}
    meta = read_meta(folder)
    assert (meta["status"], meta["groups_finished"]) == ("interrupted", 1)
    assert "**Note:** interrupted, 1/2 groups" in (folder / "report.md").read_text()
    assert "interrupted, 1/2 groups" in capsys.readouterr().out


def test_ctrl_c_before_the_first_group_is_through(monkeypatch, tmp_path):
    def interrupted(group, config):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments.studies.bench.work, "measure", interrupted)
    folder = tmp_path / "run"
    assert main(["bench", "--models", "tiny", "--output", str(folder)]) == 130
    assert names(folder) == FILES - {"bars.png"}
    assert read_records(folder) == []


# --------------------------------------------------------------------------------------------------
# Exact figures
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "state"),
    [
        ("closed-form", 0),
        ("in-place", 0),
        ("last-update", PARAMS_BYTES + 8),  # s and the count of updates
        ("last-update-bf16", PARAMS_BYTES // 2 + 8),
        ("zero-gradient", 1),  # one boolean: whether there was an update
        ("drop-in", PARAMS_BYTES + 4),  # the count
        ("drop-in-closed-form", PARAMS_BYTES),
        ("nesterov", 0),
        ("lookahead", PARAMS_BYTES + 4),
    ],
)
def test_state_beyond_plain_optax(variant, state, records):
    assert records[variant]["carried"] - records[PLAIN]["carried"] == state


@pytest.mark.parametrize("variant", ["closed-form", "drop-in", "sam"])
def test_two_compilations_have_the_same_exact_figures(variant):
    method = VARIANTS[variant].build("sgdm")
    arguments = (*start_shapes(problem(), method), problem().batch)
    first, second = (
        exact_figures(make_step(problem(), method).lower(*arguments).compile()) for _ in range(2)
    )
    assert first == second
    assert first.instructions > 10
    assert first.flops > 0


@pytest.mark.parametrize("optimizer", ["sgdm", "adam"])
def test_share_of_added_bytes_does_not_grow_with_the_model(optimizer):
    def bytes_accessed(variant, width):
        model = Recipe("experiments.models.mlp:MLP", {"hidden": (width, width), "outputs": width})
        problem = make_problem(
            dataclasses.replace(TINY, model=model, example=(width,), classes=width),
            batch_size=width // 4,  # the same work for each parameter
            dtype="float32",
        )
        method = VARIANTS[variant].build(optimizer)
        arguments = (*start_shapes(problem, method), problem.batch)
        return exact_figures(make_step(problem, method).lower(*arguments).compile()).bytes_accessed

    small, large = (
        {name: bytes_accessed(name, width) for name in (PLAIN, "closed-form", "drop-in")}
        for width in (64, 1024)
    )
    for variant in ("closed-form", "drop-in"):
        shares = [figures[variant] / figures[PLAIN] - 1 for figures in (small, large)]
        assert 0 < shares[1] < 1.01 * shares[0]


def test_sam_computes_two_gradients_per_update_and_the_others_one(records):
    plain = records[PLAIN]["exact"]["flops"]
    assert records["sam"]["exact"]["flops"] > 1.4 * plain
    assert records["closed-form"]["exact"]["flops"] < 1.4 * plain


def test_donated_parameters_and_state_are_overwritten_by_all_variants(records):
    scalars = 8  # a counter that the step does not need is not even passed
    for record in records.values():
        assert record["carried"] - scalars <= record["exact"]["aliased"] <= record["carried"]


def test_instructions_and_collectives_are_read_off_the_text():
    hlo = """HloModule jit_step, entry_computation_layout={(f32[2]{0})->f32[2]{0}}

%fused (p.1: f32[2]) -> f32[2] {
  %p.1 = f32[2]{0} parameter(0)
  ROOT %add.2 = f32[2]{0} add(%p.1, %p.1), metadata={op_name="reduce-scatter(x)"}
}

ENTRY %main (x: f32[2]) -> (f32[2], f32[2]) {
  %x = f32[2]{0} parameter(0), metadata={op_name="all-reduce(x)"}
  %all-reduce.1 = (f32[2]{0}, f32[2]{0}) all-reduce(%x, %x), channel_id=1, to_apply=%add
  %all-gather-start.1 = ((f32[1]{0}), f32[2]{0}) all-gather-start(%x), dimensions={0}
  %all-gather-done.1 = f32[2]{0} all-gather-done(%all-gather-start.1)
  ROOT %t = (f32[2]{0}, /*index=1*/f32[2]{0}) tuple(%x, %all-gather-done.1)
}
"""
    opcodes = count_instructions(hlo)
    assert opcodes == {
        "parameter": 2,
        "add": 1,
        "all-reduce": 1,
        "all-gather-start": 1,
        "all-gather-done": 1,
        "tuple": 1,
    }
    assert collectives(opcodes) == {"all-gather": 1, "all-reduce": 1}


SIZES = {
    "sgdm": Sizes(parameters=10, params=40, moments=40, has_momentum=True),
    "rmsprop": Sizes(parameters=10, params=40, moments=40, has_momentum=False),
    "adam": Sizes(parameters=10, params=40, moments=80, has_momentum=True),
}


@pytest.mark.parametrize(
    ("variant", "optimizer", "traffic", "state"),
    [
        ("closed-form", "sgdm", 40 + 40 + 40, 0),  # read v, read θ, write θ̂
        ("closed-form", "adam", 80 + 40 + 40, 0),  # read m and v, read θ, write θ̂
        ("last-update", "adam", 40 + 40 + 40 + 40, 40),  # read and write u, read θ, write θ̂
        ("last-update-bf16", "adam", 20 + 20 + 40 + 40, 20),
        ("zero-gradient", "adam", 80 + 40 + 40, 0),
        ("zero-gradient", "rmsprop", 0, 0),  # without a gradient nothing moves
        ("drop-in", "adam", 40 + 40, 40),  # read and write θ
        ("drop-in-closed-form", "adam", 40 + 40, 40),
        ("in-place", "adam", 0, 0),
        ("nesterov", "sgdm", 0, 0),
        (CONTROL, "adam", 0, 0),
    ],
)
def test_floors(variant, optimizer, traffic, state):
    floor = VARIANTS[variant].floor
    assert floor is not None
    bounds = floor.of(SIZES[optimizer])
    assert (bounds.traffic, bounds.state) == (traffic, state)


def test_records_hold_the_floors_of_their_model(records):
    floors = {name: record["floor"] for name, record in records.items()}
    assert floors["closed-form"] == {"traffic": 4 * PARAMS_BYTES, "state": 0}
    assert floors["last-update"] == {"traffic": 4 * PARAMS_BYTES, "state": PARAMS_BYTES}
    assert floors["drop-in"] == {"traffic": 2 * PARAMS_BYTES, "state": PARAMS_BYTES}
    assert floors["sam"] is floors["lookahead"] is floors["schedule-free"] is None


# --------------------------------------------------------------------------------------------------
# The steps are what they claim to be
# --------------------------------------------------------------------------------------------------


STEPS = 4


@functools.cache
def params_after_each_step(variant, optimizer):
    """Runs a benchmark's step; returns what it carries as parameters, from the start on."""
    method = VARIANTS[variant].build(optimizer)
    carried = start(method, first_params())
    step, batch = make_step(problem(), method), draw_batch(problem(), 0)
    history = [jax.device_get(carried[0])]
    for _ in range(STEPS):
        *carried, _ = step(*carried, batch)
        history.append(jax.device_get(carried[0]))
    return history


@functools.cache
def first_params():
    return jax.jit(problem().init)(jax.random.key(0))


def params_by_hand(tx, gradient_for_update):
    """Trains with Optax as a user would; ``gradient_for_update(gradient function, params)``."""
    batch = draw_batch(problem(), 0)

    @jax.jit
    def step(params, state):
        gradient = gradient_for_update(lambda p: jax.grad(problem().loss)(p, batch), params)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = first_params()
    state = tx.init(params)
    for _ in range(STEPS):
        params, state = step(params, state)
    return params


def assert_close(*trees):
    jax.tree.map(lambda *leaves: np.testing.assert_allclose(*leaves, rtol=1e-5), *trees)


def test_plain_step_is_optax_alone():
    by_hand = params_by_hand(optax.adam(LEARNING_RATE), lambda gradient, params: gradient(params))
    assert_close(params_after_each_step(PLAIN, "adam")[-1], by_hand)


def test_sam_step_takes_its_gradient_uphill():
    def uphill(gradient, params):
        ascent = gradient(params)
        scale = 0.05 / optax.tree.norm(ascent)
        return gradient(jax.tree.map(lambda p, g: p + scale * g, params, ascent))

    by_hand = params_by_hand(optax.sgd(LEARNING_RATE, momentum=0.9), uphill)
    assert_close(params_after_each_step("sam", "sgdm")[-1], by_hand)


def test_lookahead_step_carries_fast_and_slow_parameters():
    carried = params_after_each_step("lookahead", "sgdm")
    assert_close(carried[-1].fast, params_after_each_step(PLAIN, "sgdm")[-1])
    assert_close(carried[-1].slow, carried[0].slow)  # they move every fifth step


@pytest.mark.parametrize("variant", ["closed-form", "last-update", "zero-gradient"])
def test_predicted_steps_start_like_the_plain_one_and_then_differ(variant):
    predicted = params_after_each_step(variant, "sgdm")
    plain = params_after_each_step(PLAIN, "sgdm")
    assert_close(predicted[1], plain[1])
    gaps = jax.tree.map(lambda a, b: np.abs(a - b).max(), predicted[-1], plain[-1])
    assert max(jax.tree.leaves(gaps)) > 0


def test_dtype_reaches_parameters_data_and_state():
    method = VARIANTS["drop-in"].build("adam")
    low = problem("bfloat16")
    params, opt_state = start_shapes(low, method)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    moments = [leaf for leaf in jax.tree.leaves(opt_state) if leaf.ndim]
    assert {leaf.dtype for leaf in moments} == {jnp.dtype(jnp.bfloat16)}
    assert draw_batch(low, 0).inputs.dtype == jnp.bfloat16
    *_, loss = jax.eval_shape(make_step(low, method), params, opt_state, low.batch)
    assert loss.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", OF_PAPERS)
def test_variants_that_do_not_exist_for_an_optimizer_are_left_out(name):
    variants = config(*VARIANTS).variants_for(name)
    assert ("closed-form" in variants) == (name != "rmsprop")
    assert ("drop-in-closed-form" in variants) == (name != "rmsprop")
    assert ("nesterov" in variants) == (name in ("sgdm", "adam", "adamw"))
    assert {PLAIN, "last-update", "zero-gradient", "drop-in", "sam", "lookahead"} <= {*variants}
    assert "last-update-bf16" not in config(*VARIANTS, dtype="bfloat16").variants_for(name)
    for variant in variants:
        params, opt_state = start_shapes(problem(), VARIANTS[variant].build(name))
        assert jax.tree.leaves((params, opt_state))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp", 3 * (2048 * 2048 + 2048)),
        ("lenet", 62_006),  # LeCun's, with three input channels
        ("lstm", 328_960),
        ("vit", 112_650),
        ("decoder", 116_032),
        ("resnet50", 25_557_032),  # torchvision's
        ("vit-s16", 22_021_864),  # 12 blocks of 12·384² and two norms, and what is before and after
        ("decoder-125m", 124_373_760),  # GPT-2's, with a vocabulary rounded up and fewer biases
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_models_have_the_size_and_dtype_they_claim(name, parameters, dtype):
    model = make_problem(WORKLOADS[name], 2, dtype)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    loss = jax.eval_shape(model.loss, params, model.batch)
    assert (loss.shape, loss.dtype) == ((), dtype)


def test_decoders_do_not_look_ahead():
    decoder, tokens = Decoder(vocabulary=9, width=8, layers=1, heads=2), jnp.arange(6)[None]
    params = jax.jit(decoder.init)(jax.random.key(0), tokens)
    logits = jax.jit(decoder.apply)
    before, after = logits(params, tokens), logits(params, tokens.at[0, 4].set(8))
    np.testing.assert_array_equal(before[0, :4], after[0, :4])
    assert not np.allclose(before[0, 4:], after[0, 4:])


def test_a_loop_over_blocks_computes_what_blocks_one_by_one_do():
    tokens = jnp.arange(6)[None]
    one_by_one = Decoder(vocabulary=9, width=8, layers=2, heads=2)
    params = jax.jit(one_by_one.init)(jax.random.key(0), tokens)
    blocks = dict(params["params"]["TransformerStack_0"])
    each = [blocks.pop(f"TransformerBlock_{number}") for number in range(2)]
    blocks["ScanCheckpointTransformerBlock_0"] = jax.tree.map(lambda *b: jnp.stack(b), *each)
    stacked = {"params": params["params"] | {"TransformerStack_0": blocks}}
    loop = one_by_one.clone(unroll=1)
    np.testing.assert_allclose(
        jax.jit(loop.apply)(stacked, tokens),
        jax.jit(one_by_one.apply)(params, tokens),
        rtol=1e-4,
    )


# --------------------------------------------------------------------------------------------------
# Notes and numbers
# --------------------------------------------------------------------------------------------------


def environment(dirty=False, load=0.1):
    return {
        "git": {"commit": "0" * 40, "dirty": dirty},
        "device": {"cpu_cores": 2, "load_average": load},
        "groups_finished": 1,
        "groups_planned": 1,
    }


@pytest.fixture(scope="module")
def plain_record():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(WORKLOADS, "tiny", TINY)
        (record,) = measure(Group("tiny", "sgdm", 5), config())
    return record


def test_nothing_to_say_about_a_clean_tree_on_a_quiet_machine(plain_record):
    assert list(notes([plain_record], None, environment())) == []


def test_ratios_are_taken_round_by_round_and_of_median_compile_times(plain_record):
    def timed(variant, steps, compiling):
        figures = Timed(compile_seconds=compiling, step_seconds=steps, loss_is_finite=True)
        return dataclasses.replace(plain_record, variant=variant, timed=figures)

    plain = timed(PLAIN, [1.0, 10.0, 100.0], [1.0, 9.0, 2.0])
    slower = timed("drop-in", [1.1, 12.0, 130.0], [3.0, 4.0, 90.0])
    ((_, row),) = beside_plain([plain, slower]).values()
    assert step_ratio(row).median == 1.2
    assert compile_ratio(row) == 2.0


@pytest.mark.parametrize(
    ("changes", "meta", "message"),
    [
        ({}, {"dirty": True}, "the working tree has changes that are in no commit."),
        ({}, {"load": 1.5}, "the machine was busy at the start: load 1.5 on 2 cores."),
        ({"compilations": 3}, {}, "plain of tiny sgdm batch 5 was compiled 3 times, not once."),
        ({"finite": False}, {}, "the loss of plain of tiny sgdm batch 5 is no longer finite"),
    ],
)
def test_what_spoils_the_figures_is_said(changes, meta, message, plain_record):
    timed = dataclasses.replace(
        plain_record.timed, loss_is_finite=changes.pop("finite", plain_record.timed.loss_is_finite)
    )
    record = dataclasses.replace(plain_record, timed=timed, **changes)
    (note,) = notes([record], None, environment(**meta))
    assert note.startswith(message)


def test_records_are_json(plain_record):
    written = json.dumps(dataclasses.asdict(plain_record), allow_nan=False)
    assert read_record(STUDY, json.loads(written)) == plain_record


def test_extras_are_signed_and_put_in_proportion():
    def shown(value, plain, variant="drop-in"):
        made_up = (
            types.SimpleNamespace(variant=name, figure=figure)
            for name, figure in ((variant, value), (PLAIN, plain))
        )
        return format_extra(Beside(*made_up), lambda record: record.figure)

    assert shown(3000, 2000) == "+1.0 kB (+50.0 %)"
    assert shown(1000, 2000) == "-1.0 kB (-50.0 %)"
    assert shown(2000, 2000) == "0 B"
    assert shown(5, 0) == "+5 B"
    assert shown(2000, 2000, PLAIN) == "2.0 kB"


def test_ratios_show_their_interval_if_they_have_one():
    assert format_ratio(Bounds(1.04, 1.021, 1.0666)) == "1.040 [1.021, 1.067]"
    assert format_ratio(Bounds(1.04, math.nan, math.nan)) == "1.040"


@pytest.mark.parametrize(("count", "low", "high"), [(6, 0, 5), (10, 1, 8), (20, 5, 14)])
def test_median_interval_by_order_statistics(count, low, high):
    # Ranks from the tables for the sign test, for instance Conover, table A3.
    values = np.random.default_rng(0).permutation(count).astype(float)
    assert median_interval(values) == ((count - 1) / 2, low, high)


def test_median_of_few_values_has_no_interval():
    bounds = median_interval([3.0, 1.0, 2.0])
    assert bounds.median == 2.0
    assert math.isnan(bounds.low)
    assert math.isnan(bounds.high)
