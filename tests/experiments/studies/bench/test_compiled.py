"""Programs for devices that are not there: what is asked for, what is said, and how it is shown.

The compilers are large and absent on most machines: only the last tests need them.
"""

import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from run_files import read_meta, read_records

from experiments.arms import OF_PAPERS
from experiments.cli import main
from experiments.compilers import targets
from experiments.compilers.targets import TARGETS, Target
from experiments.page import page_text
from experiments.recipe import Recipe
from experiments.studies.bench.beside import beside_plain, moved, temporary
from experiments.studies.bench.compiled import page
from experiments.studies.bench.compiled.ask import COMPILED, STUDY, Config, Group, Record, Shape
from experiments.studies.bench.exact import Exact
from experiments.studies.bench.optimizers import BENCHED, PREDICTORS
from experiments.studies.bench.pages import read_record
from experiments.studies.bench.steps import make_problem, start_shapes
from experiments.studies.bench.variants import PLAIN, VARIANTS
from experiments.studies.bench.workloads import WORKLOADS, Workload

REPOSITORY = Path(__file__).parents[4]
TINY = Workload(
    summary="a network that compiles in no time",
    model=Recipe("experiments.models.mlp:MLP", {"hidden": (64,), "outputs": 64}),
    example=(64,),
    labels=(),
    classes=64,
    batch_size=8,
)


@pytest.fixture(autouse=True)
def environment():
    """Targets set variables for their compilers; they are not meant for the tests that follow."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(WORKLOADS, "tiny", TINY)
    monkeypatch.setitem(COMPILED, "tiny", Shape(8))


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A target that is there: the CPU, under the name of one that is not."""
    monkeypatch.chdir(tmp_path)
    cpu = Target(summary="a CPU", platform="cpu", plugin="jax")
    monkeypatch.setattr(Target, "_describe", lambda self: jax.devices())
    monkeypatch.setitem(TARGETS, "h100", cpu)
    return cpu


# --------------------------------------------------------------------------------------------------
# What is asked for
# --------------------------------------------------------------------------------------------------


def config(**changes):
    settings = {
        "target": "h100",
        "compiler": "some-compiler 1.0",
        "models": ("mlp", "resnet50"),
        "optimizers": ("adamw", "sgdm"),
        "variants": (PLAIN, "drop-in", "in-place"),
        "computes": ("float32", "bfloat16"),
        "layouts": ("data", "fsdp"),
        "devices": (1, 8),
    }
    return Config(**(settings | changes))


def test_one_thing_is_varied_at_a_time():
    assert config().items() == [
        Group("mlp", "adamw", "float32", "data", 1),
        Group("mlp", "sgdm", "float32", "data", 1),
        Group("mlp", "adamw", "bfloat16", "data", 1),
        Group("resnet50", "adamw", "float32", "data", 1),
        Group("resnet50", "adamw", "bfloat16", "data", 1),
        Group("mlp", "adamw", "float32", "data", 8),
        Group("mlp", "adamw", "float32", "fsdp", 8),
        Group("resnet50", "adamw", "float32", "data", 8),
        Group("resnet50", "adamw", "float32", "fsdp", 8),
    ]


def test_numbers_of_devices_can_be_compiled_apart():
    alone, together = config(devices=(1,)).items(), config(devices=(8,)).items()
    assert alone + together == config().items()


def test_names_say_what_is_compiled():
    assert str(Group("mlp", "adamw", "float32", "fsdp", 8)) == "mlp adamw float32, fsdp x 8"
    assert str(Group("mlp", "adamw", "float32", "fsdp", 1)) == "mlp adamw float32, 1 device"


def test_variants_that_do_not_exist_for_an_optimizer_are_left_out():
    assert config().variants_for("rmsprop") == [PLAIN, "drop-in"]
    assert config().variants_for("lion-clipped") == [PLAIN, "drop-in", "in-place"]


@pytest.mark.parametrize("name", [name for name in BENCHED if name not in OF_PAPERS])
def test_further_optimizers_exist_in_every_form(name):
    problem = make_problem(TINY, 2, "float32")
    for variant in (PLAIN, "closed-form", "drop-in-closed-form", "in-place"):
        assert VARIANTS[variant].suits(name, "float32")
        params, opt_state = start_shapes(problem, VARIANTS[variant].build(name))
        assert jax.tree.leaves((params, opt_state))


@pytest.mark.parametrize("name", list(PREDICTORS))
def test_clipping_clips(name):
    params = {"w": jnp.ones(4)}
    large, small = ({"w": jnp.full(4, factor)} for factor in (100.0, 0.5))  # norms 200 and 1
    tx = VARIANTS[PLAIN].build(f"{name}-clipped").method.transform
    updates = [tx.update(gradient, tx.init(params), params)[0]["w"] for gradient in (large, small)]
    assert jnp.allclose(*updates, rtol=1e-6), "both have norm 1 once clipped"
    free = VARIANTS[PLAIN].build(name).method.transform
    assert jnp.allclose(free.update(small, free.init(params), params)[0]["w"], updates[1])


# --------------------------------------------------------------------------------------------------
# The command line
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("bench --target h200", "unknown target 'h200'; valid: h100, v5e"),
        ("scale --target tpu", "unknown target 'tpu'; valid: h100, v5e"),
        (
            "bench --target h100 --seconds 3",
            "--seconds: is not for --target, where nothing is timed",
        ),
        ("bench --target h100 --preset gpu", "--preset: is not for --target"),
        ("bench --target h100 --batch-sizes 4", "--batch-sizes: is not for --target"),
        ("bench --target h100 --compilations 1", "--compilations: is not for --target"),
        ("bench --target h100 --dtype bfloat16", "--dtype: is not for --target"),
        ("bench --computes bfloat16", "--computes: is for --target, which is not given"),
        ("bench --layouts fsdp", "--layouts: is for --target"),
        ("bench --devices 8", "--devices: is for --target"),
        ("bench --target h100 --devices 16", "--devices: 16 is more than the 8 of a target"),
        ("scale --target h100 --devices 1 64", "--devices: 64 is more than the 8 of a target"),
        ("bench --target h100 --models lstm", "with --target, unknown model 'lstm'; valid: mlp, "),
        ("bench --target h100 --computes int8", "unknown dtype 'int8'; valid: float32, bfloat16"),
        ("bench --target h100 --layouts 3d", "unknown layout '3d'; valid: data, fsdp, 2d"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(arguments, message, here, capsys):
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not list(Path().iterdir()), "nothing is created for a request that fails"


@pytest.mark.parametrize("command", ["bench", "scale"])
@pytest.mark.parametrize("name", list(TARGETS))
def test_a_missing_compiler_is_one_line_that_says_how_to_get_it(
    command, name, monkeypatch, tmp_path, capsys
):
    def version(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert main([command, "--target", name]) == 2
    error = capsys.readouterr().err
    target = TARGETS[name]
    assert f"to compile for {target.summary}, {target.plugin} is needed and not installed" in error
    assert "python -m pip install '.[aot]' brings it" in error
    assert error.count("\n") == 1
    assert not list(Path().iterdir())


def test_a_version_that_cannot_compile_says_so(here, monkeypatch, capsys):
    def compile_(self, function, *shapes, quickly=False):
        raise RuntimeError("no such topology\nand a long explanation")

    monkeypatch.setattr(Target, "compile", compile_)
    assert main(["bench", "--target", "h100"]) == 2
    error = capsys.readouterr().err
    jax_version = importlib.metadata.version("jax")
    assert f"jax {jax_version} with jax {jax_version} cannot compile for a CPU" in error
    assert "(no such topology); python -m pip install '.[aot]' brings versions that fit" in error
    assert not list(Path().iterdir())


def test_options_reach_the_compiler(here, monkeypatch):
    configurations = []
    monkeypatch.setattr(
        "experiments.study.run", lambda study, config: configurations.append(config)
    )
    arguments = "--models resnet50 mlp --optimizers lion --variants in-place --computes bfloat16"
    main(
        [
            "bench",
            "--target",
            "h100",
            *arguments.split(),
            *["--layouts", "2d", "--devices", "8", "2"],
        ]
    )
    (found,) = configurations
    assert found == Config(
        target="h100",
        compiler=f"jax {importlib.metadata.version('jax')}",
        models=("resnet50", "mlp"),
        optimizers=("lion",),
        variants=(PLAIN, "in-place"),
        computes=("bfloat16",),
        layouts=("2d",),
        devices=(2, 8),
    )


def test_by_default_every_form_is_compiled_for_every_model(here, monkeypatch):
    configurations = []
    monkeypatch.setattr(
        "experiments.study.run", lambda study, config: configurations.append(config)
    )
    main(["bench", "--target", "h100"])
    (found,) = configurations
    assert found.models == tuple(COMPILED)
    assert set(found.models) <= set(WORKLOADS)
    assert {"closed-form", "zero-gradient", "last-update", "drop-in", "in-place"} < set(
        found.variants
    )
    assert {"sgdm", "adam", "adamw", "adabelief", "lion", "adamw-clipped"} <= set(found.optimizers)


# --------------------------------------------------------------------------------------------------
# A run, compiled for what is there
# --------------------------------------------------------------------------------------------------


def test_a_run_counts_what_it_compiles(here, tiny, capsys):
    arguments = "--models tiny --optimizers adam --variants drop-in in-place --devices 1"
    assert main(["bench", "--target", "h100", *arguments.split(), "--output", "run"]) == 0
    folder = Path("run")
    assert {path.name for path in folder.iterdir()} == {"report.md", "runs.jsonl", "meta.json"}
    meta = read_meta(folder)
    assert (meta["status"], meta["comparisons_finished"]) == ("complete", 2)
    records = {(r["compute"], r["variant"]): r for r in read_records(folder)}
    assert len(records) == 2 * 3
    parameters = 2 * (64 * 64 + 64)
    stored = {PLAIN: 0, "drop-in": 4 * parameters, "in-place": 0}
    for (compute, variant), record in records.items():
        # Weights stay float32 whatever the activations are.
        assert (record["parameters"], record["params_bytes"]) == (parameters, 4 * parameters)
        extra = record["exact"]["arguments"] - records[compute, PLAIN]["exact"]["arguments"]
        assert stored[variant] <= extra < stored[variant] + 32, "but for step counts"
        assert record["exact"]["moved"] > 3 * record["params_bytes"]
    assert "# What weight prediction costs on a CPU: compiled" in (folder / "report.md").read_text()
    check_page(folder)


def check_page(folder):
    assert main(["page", str(folder), "--output", "page.md"]) == 0
    report, page = (folder / "report.md").read_text(), Path("page.md").read_text()
    changed = set(page.splitlines()) ^ set(report.splitlines())
    assert len(changed) == 2, "it says where its figures are, and nothing else is different"
    assert "`python -m experiments bench --target h100`" in page
    Path("page.md").unlink()
    assert main(["page", "page.jsonl"]) == 0
    assert Path("page.md").read_text() == page


# --------------------------------------------------------------------------------------------------
# What the report makes of figures
# --------------------------------------------------------------------------------------------------


def record(variant, *, arguments=1000, moved=2000, temporary=100, collectives=None, **changes):
    exact = Exact(
        arguments=arguments,
        outputs=0,
        aliased=0,
        temporary=temporary,
        bytes_accessed=moved,
        flops=0,
        instructions=0,
        collectives=collectives or {},
        moved=moved,
    )
    settings = {
        "model": "mlp",
        "optimizer": "adam",
        "compute": "float32",
        "mesh": "1 device",
        "batch_size": 16,
        "variant": variant,
        "parameters": 100,
        "params_bytes": 400,
        "exact": exact,
    }
    return Record(**(settings | changes))


RECORDS = [
    record(PLAIN),
    record("drop-in", arguments=1400, moved=2800),
    record("in-place"),
    record(PLAIN, mesh="fsdp x 8", moved=1000, temporary=0, collectives={"all-gather": 3}),
    record("drop-in", mesh="fsdp x 8", moved=1100, temporary=0, collectives={"all-gather": 4}),
]
META = {
    "date": "2024-01-01",
    "git": {"commit": "0123456789abcdef", "dirty": False},
    "device": {"count": 1, "kind": "cpu", "platform": "cpu", "cpu_cores": 2, "load_average": 9.0},
    "versions": {"jax": "1", "optax": "2", "xgrad_optax": "3"},
    "comparisons_finished": 2,
    "comparisons_planned": 2,
}


def table(text, heading):
    lines = text.partition(f"{heading}\n")[2].partition("\n#")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return rows[0], rows[2:]


def test_figures_are_set_against_the_plain_step_of_the_same_devices():
    one, eight = beside_plain(RECORDS).values()
    assert [beside.ratio(moved) for beside in one] == [1.0, 1.4, 1.0]
    assert [beside.ratio(moved) for beside in eight] == [1.0, 1.1]
    assert [beside.same_collectives for beside in eight] == [True, False]


def test_nothing_over_nothing_is_as_much():
    _, eight = beside_plain(RECORDS).values()
    assert eight[1].ratio(temporary) == 1.0
    spilled = [RECORDS[3], dataclasses.replace(RECORDS[1], mesh="fsdp x 8")]
    (members,) = beside_plain(spilled).values()
    assert members[1].ratio(temporary) == float("inf")


def test_the_report_shows_ranges_ratios_and_figures():
    text = page_text(page, RECORDS, config(), META)
    assert text.startswith(
        "# What weight prediction costs on NVIDIA H100 80GB: compiled, not timed"
    )
    assert (
        "2024-01-01, some-compiler 1.0, jax 1, optax 2, xgrad_optax 3, commit 0123456789ab." in text
    )
    assert table(text, "## At a glance")[1] == [
        ["drop-in", "1.000 to 1.400", "1.100 to 1.400", "1.000", "1 of 2"],
        ["in-place", "1.000", "1.000", "1.000", "1 of 1"],
    ]
    header, rows = table(text, "## Bytes moved, as a multiple of the plain step's")
    assert header == ["step", "drop-in", "in-place"]
    assert rows[0] == ["mlp, adam, float32, 1 device", "1.400", "1.000"]
    assert rows[1][:2] == ["mlp, adam, float32, fsdp x 8", "1.100"]
    _, rows = table(text, "### mlp, adam, float32, 1 device")
    assert rows[1] == [
        "drop-in",
        "1.4 kB",
        "1.400",
        "2.8 kB",
        "1.400",
        "100 B",
        "1.000",
        "2.00",
        "none",
    ]
    assert "100 parameters, 400 B of them on each device (P); batch 16." in text


def test_the_terminal_shows_the_ranges():
    columns = page.tables(RECORDS, config(), META).columns
    assert [list(column.cells) for column in columns[:2]] == [
        ["drop-in", "in-place"],
        ["1.000 to 1.400", "1.000"],
    ]


def test_notes_say_what_was_not_finished_or_not_committed():
    assert not list(page.notes([], None, META))
    unfinished = META | {"comparisons_planned": 5, "git": {"commit": "0", "dirty": True}}
    assert list(page.notes([], None, unfinished)) == [
        "interrupted, 2/5 comparisons",
        "the working tree has changes that are in no commit.",
    ]
    assert "## At a glance" not in page_text(page, [], config(), META)


def test_records_are_json():
    written = json.dumps(dataclasses.asdict(RECORDS[3]))
    assert read_record(STUDY, json.loads(written)) == RECORDS[3]


# --------------------------------------------------------------------------------------------------
# The targets themselves
# --------------------------------------------------------------------------------------------------


def test_the_description_of_a_device_is_beside_the_table():
    for target in TARGETS.values():
        if target.description is not None:
            assert Path(targets.__file__).with_name(target.description).is_file()


RUN = """
import sys
from experiments.studies.bench.compiled.ask import COMPILED, Shape
from experiments.studies.bench.workloads import WORKLOADS, Workload
from experiments.cli import main
from experiments.recipe import Recipe
COMPILED["tiny"] = Shape(8)
WORKLOADS["tiny"] = Workload(
    summary="", model=Recipe("experiments.models.mlp:MLP", {"hidden": (256,), "outputs": 256}),
    example=(256,), labels=(), classes=256, batch_size=8)
sys.exit(main(sys.argv[1:]))
"""


def has_compiler(target):
    try:
        importlib.metadata.version(target.plugin)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                not has_compiler(target), reason=f"{target.plugin} is not installed"
            ),
        )
        for name, target in TARGETS.items()
    ],
)
def test_the_in_place_form_moves_what_the_plain_step_moves(name, tmp_path):
    folder = tmp_path / "run"
    arguments = "--models tiny --optimizers adam --variants in-place --computes float32"
    # A process of its own: JAX looks at its plugins, and at what they are told, once.
    command = [sys.executable, "-c", RUN, "bench", "--target", name, *arguments.split()]
    process = subprocess.run(
        [*command, "--output", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    records = [read_record(STUDY, record) for record in read_records(folder)]
    assert [record.mesh for record in records[::2]] == ["1 device", "data x 8", "fsdp x 8"]
    for plain, in_place in beside_plain(records).values():
        assert moved(in_place.record) == pytest.approx(moved(plain.record), abs=200), "but scalars"
        assert in_place.record.exact.arguments == plain.record.exact.arguments
        assert in_place.same_collectives
