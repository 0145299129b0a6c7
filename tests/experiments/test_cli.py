import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from experiments import studies
from experiments.arms import OPTIMIZERS, horizon_label
from experiments.cli import find_commands, main
from experiments.errors import EXTRAS
from experiments.folder import new_folder
from experiments.tasks import TASKS

REPOSITORY = Path(__file__).parents[2]


def test_a_folder_of_studies_is_all_that_a_new_command_takes(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "of_one_s_own"
    folder.mkdir()
    (folder / "ask.py").write_text(
        "import dataclasses\n"
        "from experiments.study import Study\n"
        "@dataclasses.dataclass\n"
        "class Config: pass\n"
        "STUDY = Study(name='mine', summary='', about='', config=Config, folder='mine')\n"
    )
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
    with pytest.raises(SystemExit):
        main(["mine", "--help"])
    assert "experiments mine" in capsys.readouterr().out


@pytest.fixture
def comparisons(monkeypatch, tmp_path):
    """The configurations that reach the comparison, which itself does not run."""
    monkeypatch.chdir(tmp_path)
    configurations = []

    def run(study, config):
        new_folder(config.output, study.folder.format_map(vars(config)))
        configurations.append(config)
        return 0

    monkeypatch.setattr("experiments.study.run", run)
    return configurations


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["compare", "--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    options = "task optimizers horizons no-baselines seeds first-seed epochs learning-rates"
    for option in [*options.split(), "target-loss", "output"]:
        assert f"--{option} " in text


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    baselines = [row.baseline for row in OPTIMIZERS.values() if row.baseline]
    for name in [*TASKS, *OPTIMIZERS, *baselines]:
        assert re.search(rf"\b{name}\b", text)


def test_help_lists_and_errors_do_not_wait_for_slow_imports():
    code = (
        "import sys, experiments.cli; experiments.cli.main(['list']);"
        "experiments.cli.main(['compare', '--task', 'x']);"
        "assert not {'jax', 'sklearn', 'matplotlib', 'rich', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "",
            f"required: {{{','.join(command.name for command in find_commands())},list}}",
        ),
        ("train", "invalid choice: 'train' (choose from"),
        ("compare --task cifar", f"unknown task 'cifar'; valid: {', '.join(TASKS)}"),
        (
            "compare --optimizers adam sgd",
            f"unknown optimizer 'sgd'; valid: {', '.join(OPTIMIZERS)}",
        ),
        ("compare --horizons one", "--horizons: 'one' is not a number of steps, 0 or more"),
        ("compare --horizons 1 -1", "--horizons: '-1' is not a number of steps, 0 or more"),
        ("compare --horizons nan", "'nan' is not a number of steps, 0 or more"),
        ("compare --horizons 1e999", "'1e999' is not a number of steps, 0 or more"),
        ("compare --horizons", "--horizons: expected at least one argument"),
        ("compare --seeds 0", "--seeds: '0' is not a whole number from 1 to 1000000"),
        ("compare --seeds 2.5", "--seeds: '2.5' is not a whole number"),
        ("compare --seeds 9999999999", "'9999999999' is not a whole number from 1"),
        ("compare --first-seed -3", "--first-seed: '-3' is not a whole number from 0"),
        ("compare --epochs many", "--epochs: 'many' is not a whole number"),
        ("compare --target-loss 0", "--target-loss: '0' is not a number above 0"),
        ("compare --learning-rates fast", "--learning-rates: 'fast' is not a number above 0"),
        ("compare --learning-rates adam=", "--learning-rates: '' is not a number above 0"),
        ("compare --learning-rates adam=-1", "'-1' is not a number above 0"),
        ("compare --learning-rates 0.1 0.2", "'0.1' is not a name=number pair"),
        ("compare --learning-rates adam=1 adam=2", "'adam' is given twice"),
        (
            "compare --optimizers adam sgdm --learning-rates rmsprop=1",
            "unknown optimizer 'rmsprop'; valid: adam, sgdm",
        ),
        ("compare --optimiser adam", "unrecognized arguments: --optimiser"),
        ("compare --epoch 3", "unrecognized arguments: --epoch"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(arguments, message, comparisons, capsys):
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert not comparisons
    assert not list(Path().iterdir()), "nothing is created for a request that fails"


def test_bad_input_of_the_real_process_has_no_traceback(tmp_path):
    command = [sys.executable, "-m", "experiments", "compare", "--optimizers", "adamx"]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert process.stderr.startswith("error: ")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [command.name for command in find_commands()])
def test_a_command_says_which_extra_it_needs(command, tmp_path):
    """As with the library alone: nothing that an extra brings can be imported."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[1].split()));"
        "from experiments.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    results = REPOSITORY / "experiments" / "results" / "scale.jsonl"
    wanted = {"page": [str(results), "--output", "page.md"]}.get(command, [])
    blocked = " ".join(name for modules in EXTRAS.values() for name in modules)
    process = subprocess.run(
        [sys.executable, "-c", code, blocked, command, *wanted],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    extras = {"run": "evidence", "sweep": "evidence", "agents": "agents"}
    extra = extras.get(command, "experiments")
    assert process.returncode == 2
    assert re.fullmatch(
        r"error: .+ missing; install what this command needs with: "
        rf"python -m pip install '\.\[{extra}\]'\n",
        process.stderr,
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", ["run --task lenet", "horizon --problem cifar10"])
def test_missing_data_are_said_before_a_folder_is_made(arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert main(arguments.split()) == 2
    assert "error: data set cifar10" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_modules_of_each_extra_are_those_of_its_distributions():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    distributions = importlib.metadata.packages_distributions()
    known = {"numpy"} | distributions_of(project["dependencies"])  # jax brings NumPy
    for extra, modules in EXTRAS.items():
        brought = distributions_of(project["optional-dependencies"][extra])
        if extra == "experiments":
            brought |= known | distributions_of(project["optional-dependencies"]["flax"])
        of_modules = {normal(distributions[module][0]) for module in modules}
        assert of_modules == brought


def distributions_of(requirements):
    names = (re.match(r"[\w.-]+", requirement)[0] for requirement in requirements)
    return {normal(name) for name in names} - {"xgrad-optax"}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_folder_with_results_is_refused_and_untouched(comparisons, capsys):
    folder = Path("old")
    folder.mkdir()
    (folder / "runs.jsonl").write_text("precious\n")
    assert main(["compare", "--output", "old"]) == 2
    assert "folder 'old' is not empty" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["runs.jsonl"]
    assert (folder / "runs.jsonl").read_text() == "precious\n"
    assert not comparisons


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_refused(output, comparisons, capsys):
    Path("file").write_text("precious\n")
    assert main(["compare", "--output", output]) == 2
    error = capsys.readouterr().err
    assert f"cannot write to folder '{output}'" in error
    assert error.count("\n") == 1
    assert Path("file").read_text() == "precious\n"
    assert not comparisons


def test_default_folders_never_coincide(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folders = {new_folder(None, "compare-digits") for _ in range(3)}
    assert len(folders) == 3
    for folder in folders:
        assert re.fullmatch(r"compare-digits-\d{8}-\d{6}(-\d)?", folder.name)
        assert folder.parent == Path("runs")


def test_defaults_are_the_comparison_of_the_papers(comparisons):
    assert main(["compare"]) == 0
    (config,) = comparisons
    assert config.task == "digits"
    assert " ".join(config.learning_rates) == "sgdm rmsprop adam adamw adabelief adam3"
    assert config.horizons == (0, 1, 2, 3)
    assert config.seeds == tuple(range(8))
    assert config.baselines
    assert config.early_epoch < config.epochs


def test_options_reach_the_comparison(comparisons):
    arguments = (
        "compare --optimizers adam sgdm adam --horizons -0 0.5 0 --seeds 2 --first-seed 7 "
        "--epochs 3 --learning-rates sgdm=0.5 --target-loss 0.25 --no-baselines --output new"
    )
    assert main(arguments.split()) == 0
    (config,) = comparisons
    assert list(config.learning_rates) == ["adam", "sgdm"]
    assert config.learning_rates["sgdm"] == 0.5
    assert [horizon_label(horizon) for horizon in config.horizons] == ["s=0", "s=0.5"]
    assert config.seeds == (7, 8)
    assert config.epochs == config.early_epoch == 3
    assert config.target_loss == 0.25
    assert not config.baselines


def test_one_learning_rate_goes_to_all(comparisons):
    arguments = "compare --optimizers adam sgdm --learning-rates 1e-2"
    assert main(arguments.split()) == 0
    assert comparisons[0].learning_rates == {"adam": 0.01, "sgdm": 0.01}
    assert "command line for adam, sgdm" in comparisons[0].learning_rate_origin


@pytest.mark.parametrize(
    ("command", "batch", "examples"),
    [
        ("horizon --examples 31", 32, 31),
        ("stability --examples 31", 32, 31),
        ("moments --examples 31", 32, 31),
        ("error-bound --examples 31", 32, 31),
        ("pipeline --batch-size 1078", 1078, 1077),
        ("batch-size --batch-sizes 64 1078", 1078, 1077),
    ],
)
def test_fewer_examples_than_a_batch_are_refused_before_there_is_a_folder(
    command, batch, examples, tmp_path, capsys
):
    assert main([*command.split(), "--output", str(tmp_path / "run")]) == 2
    expected = f"a batch of {batch} cannot be made of {examples} training examples"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
