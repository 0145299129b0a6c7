import contextlib
import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from run_files import read_meta, read_records, read_table
from scipy import stats

from experiments.cli import main
from experiments.studies.compare import work

REPOSITORY = Path(__file__).parents[3]
FILES = {"report.md", "curves.png", "runs.jsonl", "meta.json"}
TARGET = 1.5


@pytest.fixture(scope="module")
def compare_regression(known_regression, tmp_path_factory):
    """Runs ``compare`` on the regression task; returns the exit status and the run folder."""

    def run(arguments=""):
        folder = tmp_path_factory.mktemp("compare") / "run"
        options = ["--task", "regression", "--output", str(folder)]
        return main(["compare", *arguments.split(), *options]), folder

    return run


@pytest.fixture(scope="module")
def run(compare_regression):
    options = f"--horizons 0 1 --seeds 2 --epochs 6 --target-loss {TARGET}"
    diverging = "--learning-rates rmsprop=1e30"
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        status, folder = compare_regression(f"--optimizers sgdm adam rmsprop {options} {diverging}")
    assert status == 0
    (folder.parent / "shown.txt").write_text(shown.getvalue())
    return folder


def converged(run):
    return [record for record in read_records(run) if record["optimizer"] != "rmsprop"]


@pytest.fixture(scope="module")
def values(run):
    """Each arm's numbers over seeds, recomputed from the curves: ``[measures, seeds]``."""
    found = {}
    for record in converged(run):
        losses = np.array(record["train_loss"])
        numbers = (losses[2], losses[6], np.argmax(losses <= TARGET), record["test_metric"][6])
        found.setdefault((record["optimizer"], record["arm"]), []).append(numbers)
    return {arm: np.transpose(runs) for arm, runs in found.items()}


def names(folder):
    return {path.name for path in folder.iterdir()}


def assert_shows(cell, mean, half_width):
    """The cell shows these numbers to its own precision, and a star where zero is outside."""
    shown = re.fullmatch(r"([+-]?\d+(?:\.\d+)?) ± (\d+(?:\.\d+)?)(\\\*)?", cell)
    assert shown, cell
    precision = 0.51 * 10.0 ** -len(shown[1].partition(".")[2])
    np.testing.assert_allclose(
        [float(shown[1]), float(shown[2])], [mean, half_width], atol=precision
    )
    return bool(shown[3])


def interval(values):
    half_width = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return np.mean(values), half_width


def test_a_run_leaves_four_files(run):
    assert names(run) == FILES
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_records_are_complete(run):
    records = converged(run)
    arms = [("sgdm", "s=0"), ("sgdm", "s=1"), ("sgdm", "nesterov")]
    arms += [("adam", "s=0"), ("adam", "s=1"), ("adam", "nadam")]
    assert [(run["optimizer"], run["arm"], run["seed"]) for run in records] == [
        (*arm, seed) for arm in arms for seed in (0, 1)
    ]
    for run in records:
        assert run["early_loss"] == run["train_loss"][2]
        assert run["final_loss"] == run["train_loss"][6]
        assert run["final_test_metric"] == run["test_metric"][6]
        assert len(run["validation_loss"]) == len(run["train_loss"]) == 7
        assert not run["diverged"]
    starts = {run["seed"]: set() for run in records}
    for run in records:
        starts[run["seed"]].add(run["train_loss"][0])
    assert all(len(losses) == 1 for losses in starts.values()), "all arms start at the same point"


def test_report_shows_what_the_records_say(run, values):
    rows = read_table(run, "Every arm")[:6]
    assert [tuple(row[:2]) for row in rows] == list(values)
    for optimizer, arm, *cells in rows:
        for measure, numbers in enumerate(values[optimizer, arm]):
            shown, difference = cells[2 * measure : 2 * measure + 2]
            assert_shows(shown, *interval(numbers))
            if arm == "s=0":
                assert difference == ""
            else:
                mean, half_width = interval(numbers - values[optimizer, "s=0"][measure])
                assert assert_shows(difference, mean, half_width) == (abs(mean) > half_width)


def test_report_counts_comparisons_and_wins(run, values):
    text = (run / "report.md").read_text()
    stars = text.partition("## Every arm")[2].count("\\*")
    assert f"16 comparisons without correction for their number, {stars} of them marked" in text
    assert "about 0.8 would be by chance" in text
    tally = {row[0]: row[1:] for row in read_table(run, "At a glance")}
    assert list(tally) == ["s=1", "baselines"]
    for measure in range(4):
        better = worse = 0
        for optimizer in ("sgdm", "adam"):
            difference = values[optimizer, "s=1"][measure] - values[optimizer, "s=0"][measure]
            mean, half_width = interval(difference)
            good = mean > 0 if measure == 3 else mean < 0
            better += abs(mean) > half_width and good
            worse += abs(mean) > half_width and not good
        assert tally["s=1"][measure] == f"{better} / {worse} of 2"


def test_meta_says_what_was_run_and_with_what(run):
    meta = read_meta(run)
    assert meta["status"] == "complete"
    assert meta["arms_finished"] == meta["arms_planned"] == 8
    configuration = meta["configuration"]
    assert configuration["seeds"] == [0, 1]
    assert configuration["horizons"] == [0, 1]
    assert configuration["learning_rates"] == {"sgdm": 0.05, "adam": 0.05, "rmsprop": 1e30}
    assert configuration["target_loss"] == TARGET
    assert all(meta["versions"][name] for name in ("python", "jax", "optax", "flax"))
    assert meta["device"]["platform"]
    assert re.match(r"\d{4}-\d\d-\d\dT", meta["date"])
    text = (run / "meta.json").read_text()
    for path in (REPOSITORY, Path.home(), run):
        assert f"{path}/" not in text


def test_meta_names_the_commit(run):
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--verify", "HEAD"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        commit = process.stdout.strip() if process.returncode == 0 else None
    except OSError:
        commit = None
    git = read_meta(run)["git"]
    assert (git and git["commit"]) == commit


def test_ctrl_c_keeps_the_finished_arms(compare_regression, monkeypatch, capsys):
    interrupt_after(2, monkeypatch)
    status, folder = compare_regression("--seeds 3 --no-baselines")
    assert status == 130
    assert names(folder) == FILES
    arms = [run["arm"] for run in read_records(folder)]
    assert arms == ["s=0"] * 3 + ["s=1"] * 3
    assert "**Interrupted:** 2 of 24 arms finished." in (folder / "report.md").read_text()
    assert len(read_table(folder, "Every arm")) == 2
    meta = read_meta(folder)
    assert (meta["status"], meta["arms_finished"]) == ("interrupted", 2)
    assert "interrupted, 2/24 arms" in capsys.readouterr().out


def test_ctrl_c_before_the_first_arm_is_through(compare_regression, monkeypatch):
    interrupt_after(0, monkeypatch)
    status, folder = compare_regression()
    assert status == 130
    assert names(folder) == FILES - {"curves.png"}
    assert read_meta(folder)["arms_finished"] == 0
    assert "0 of 27 arms finished" in (folder / "report.md").read_text()


def interrupt_after(arms, monkeypatch):
    train, finished = work.train, []

    def interrupted(*arguments):
        if len(finished) == arms:
            raise KeyboardInterrupt
        finished.append(train(*arguments))
        return finished[-1]

    monkeypatch.setattr(work, "train", interrupted)


def test_the_signal_itself_ends_a_real_run_in_order(tmp_path):
    # A test run in the background ignores SIGINT and so would its children.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from experiments.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    folder = tmp_path / "run"
    options = ["--seeds", "2", "--epochs", "2", "--output", str(folder)]
    with subprocess.Popen(
        [sys.executable, "-c", code, "compare", *options],
        cwd=REPOSITORY,
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as run:
        assert run.stderr
        assert run.stderr.readline().startswith("[1/27] sgdm s=0: ")
        run.send_signal(signal.SIGINT)
        _, error = run.communicate(timeout=120)
    assert run.returncode == 130
    assert "Traceback" not in error
    assert names(folder) == FILES
    assert read_meta(folder)["status"] == "interrupted"
    assert len(read_records(folder)) >= 2


def test_diverged_runs_are_recorded_and_marked(run):
    for record in read_records(run):
        assert record["diverged"] == (record["optimizer"] == "rmsprop")
        if record["diverged"]:
            assert record["final_loss"] is record["final_test_metric"] is None
            assert record["train_loss"][-1] is None
            assert record["train_loss"][0] is not None
    *_, plain, predicted = read_table(run, "Every arm")
    for row in (plain, predicted):
        assert row[2:6] == ["(2/2 diverged)", "", "(2/2 diverged)", ""]
        assert row[6] == "(0/2 reached)"
    assert "(2/2 diverged)" in (run.parent / "shown.txt").read_text()


def test_one_seed_without_a_plain_arm_is_reported_without_intervals(compare_regression):
    status, folder = compare_regression("--optimizers adam --horizons 1 --seeds 1")
    assert status == 0
    assert names(folder) == FILES
    text = (folder / "report.md").read_text()
    assert "## At a glance" not in text
    assert not any(row[3::2] != [""] * 4 for row in read_table(folder, "Every arm"))
