import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.folder import check_unused
from experiments.options import recorded
from experiments.studies.bench.ask import PRESETS, Group
from experiments.studies.bench.choices import LAYOUTS
from experiments.studies.bench.optimizers import BENCHED
from experiments.studies.bench.scale.ask import SIZES, Placement
from experiments.studies.bench.variants import PLAIN, PREDICTED, VARIANTS
from experiments.studies.bench.workloads import WORKLOADS

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """The configurations that reach the benchmarks, which themselves do not run."""
    monkeypatch.chdir(tmp_path)
    configurations = []

    def run(study, config):
        check_unused(config.output)
        configurations.append(config)
        return 0

    monkeypatch.setattr("experiments.study.run", run)
    return configurations


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "bench",
            "preset models optimizers variants batch-sizes dtype seconds compilations seed target "
            "computes layouts devices output",
        ),
        ("scale", "sizes layouts devices optimizer variants dtype target output"),
        ("page", "output"),
    ],
)
def test_help_explains_every_option(command, options, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([command, "--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    for option in options.split():
        assert f"--{option} " in text


def test_list_names_models_and_variants(capsys):
    assert main(["list"]) == 0
    words = capsys.readouterr().out.split()
    for name in [*WORKLOADS, *VARIANTS]:
        assert name in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("bench --preset slow", f"unknown preset 'slow'; valid: {', '.join(PRESETS)}"),
        ("bench --models mlp vgg", f"unknown model 'vgg'; valid: {', '.join(WORKLOADS)}"),
        ("bench --models", "--models: expected at least one argument"),
        ("bench --optimizers sgd", f"unknown optimizer 'sgd'; valid: {', '.join(BENCHED)}"),
        ("bench --variants best", f"unknown variant 'best'; valid: {', '.join(VARIANTS)}"),
        ("bench --batch-sizes 0", "--batch-sizes: '0' is not a whole number from 1"),
        ("bench --batch-sizes 16 many", "--batch-sizes: 'many' is not a whole number from 1"),
        ("bench --dtype float8", "unknown dtype 'float8'; valid: float32, bfloat16"),
        ("bench --seconds 0", "--seconds: '0' is not a number above 0"),
        ("bench --seconds nan", "--seconds: 'nan' is not a number above 0"),
        ("bench --compilations 0", "--compilations: '0' is not a whole number from 1"),
        ("bench --seed -1", "--seed: '-1' is not a whole number from 0"),
        ("bench --model mlp", "unrecognized arguments: --model"),
        ("scale --sizes 7B", f"unknown size '7B'; valid: {', '.join(SIZES)}"),
        ("scale --layouts 3d", f"unknown layout '3d'; valid: {', '.join(LAYOUTS)}"),
        ("scale --devices 0", "--devices: '0' is not a whole number from 1"),
        ("scale --devices 2 6", "--devices: '6' is not a power of two from 1 to 64"),
        ("scale --devices 128", "--devices: '128' is not a power of two from 1 to 64"),
        ("scale --optimizer sgd", "unknown optimizer 'sgd'; valid: "),
        ("scale --variants sam", f"unknown variant 'sam'; valid: {', '.join(PREDICTED)}, nesterov"),
        ("scale --dtype int8", "unknown dtype 'int8'; valid: float32, bfloat16"),
        ("page nowhere.jsonl", "'nowhere.jsonl' holds no results ("),
        ("page .", "--output: say where the page of a run's folder goes, as in x.md"),
        ("page . --output x.html", "--output: 'x.html' does not end in .md"),
        ("page . --output x.md", "give the folder that bench or scale wrote, or the .jsonl file"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(arguments, message, runs, capsys):
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert not runs
    assert not list(Path().iterdir()), "nothing is created for a request that fails"


@pytest.mark.parametrize("command", ["bench", "scale"])
def test_a_folder_with_results_is_refused_and_untouched(command, runs, capsys):
    Path("old").mkdir()
    Path("old", "runs.jsonl").write_text("precious\n")
    assert main([command, "--output", "old"]) == 2
    assert "folder 'old' is not empty" in capsys.readouterr().err
    assert Path("old", "runs.jsonl").read_text() == "precious\n"
    assert not runs


def test_errors_do_not_wait_for_slow_imports():
    code = (
        "import sys, experiments.cli; experiments.cli.main(['bench', '--models', 'x']);"
        "experiments.cli.main(['scale', '--sizes', 'x']);"
        "assert not {'jax', 'matplotlib', 'rich', 'numpy', 'optax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_valid_and_measure_every_variant(name, runs):
    assert main(["bench", "--preset", name]) == 0
    (config,) = runs
    preset = PRESETS[name]
    assert config.models == preset.models
    assert set(config.models) <= set(WORKLOADS)
    assert config.optimizers == preset.optimizers
    assert set(config.optimizers) <= set(BENCHED)
    assert config.variants == tuple(VARIANTS)
    assert (config.seconds, config.compilations) == (preset.seconds, preset.compilations)
    assert config.dtype == "float32"
    assert len(config.items()) == len(config.models) * len(config.optimizers)


def test_the_quick_preset_is_the_default(runs):
    assert main(["bench"]) == main(["bench", "--preset", "quick"]) == 0
    assert recorded(runs[0]) == recorded(runs[1])


def test_options_reach_the_benchmark(runs):
    arguments = (
        "bench --preset full --models lenet mlp lenet --optimizers adam --variants drop-in control "
        "--batch-sizes 16 128 --dtype bfloat16 --seconds 0.5 --compilations 7 --seed 3"
    )
    assert main(arguments.split()) == 0
    (config,) = runs
    assert config.items() == [
        Group(model, "adam", batch_size) for model in ("lenet", "mlp") for batch_size in (16, 128)
    ]
    assert config.variants == (PLAIN, "drop-in", "control")
    assert (config.dtype, config.seconds) == ("bfloat16", 0.5)
    assert (config.compilations, config.seed) == (7, 3)


def test_scale_counts_every_size_on_every_mesh(runs):
    assert main(["scale"]) == 0
    (config,) = runs
    assert config.variants == (PLAIN, "closed-form", "last-update", "zero-gradient", "drop-in")
    assert config.optimizer == "adamw"
    placements = config.items()
    assert len(placements) == len(SIZES) * (1 + 3 * len(LAYOUTS))
    assert {placement.size for placement in placements} == set(SIZES)
    one, *more = [placement.mesh for placement in placements if placement.size == "10B"]
    assert one == "1 device"
    assert more == [f"{layout} x {number}" for number in (2, 4, 8) for layout in LAYOUTS]


def test_options_reach_the_scale_count(runs):
    arguments = (
        "scale --sizes 1B 1M --layouts fsdp --devices 4 1 4 --optimizer rmsprop "
        "--variants closed-form drop-in nesterov --dtype bfloat16"
    )
    assert main(arguments.split()) == 0
    (config,) = runs
    assert config.items() == [
        Placement(size, "fsdp", number) for size in ("1B", "1M") for number in (1, 4)
    ]
    assert config.variants == (PLAIN, "drop-in"), "rmsprop has neither of the other two"
    assert config.dtype == "bfloat16"
