"""The one way an experiment runs, on a study that does nothing."""

import dataclasses
import subprocess
import sys
import types
from pathlib import Path

import pytest
from run_files import read_meta, read_records

from experiments.errors import UsageError
from experiments.folder import write_meta
from experiments.kinds import count
from experiments.options import many, output
from experiments.study import INTERRUPTED, Study, run

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    numbers: tuple[int, ...] = many(count, (1, 2, 3), "N")
    output: Path | None = output()

    def items(self):
        return self.numbers


@dataclasses.dataclass(frozen=True)
class Record:
    number: int
    square: int


def make_study(work, tmp_path):
    """A study whose parts are made up."""
    (tmp_path / "page.md").write_text(
        "# Squares\n\n**Interrupted:** {interrupted}.\n\n{squares}\n\n"
        "![A figure]({figures[f.txt]})\n"
    )
    page = types.SimpleNamespace(
        __file__=str(tmp_path / "page.py"),
        FIGURES={"f.txt": lambda path, records, config: path.write_text("a figure")},
        tables=lambda records, config, meta: f"{len(records)} squares",
        holes=lambda records, config, meta: {
            "squares": " ".join(str(record.square) for record in records) or None
        },
    )
    parts = {"work": types.SimpleNamespace(prepare=work), "page": page}

    class Made(Study):
        def part(self, name):
            return parts[name]

    return Made(
        name="squares", summary="", about="", config=Config, folder="squares", noun="numbers"
    )


def squares(config, progress):
    def square(number):
        if number == 3:
            raise KeyboardInterrupt
        progress.within(0.5, "half of it")
        return [Record(number, number**2)]

    return square


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def test_a_run_leaves_records_page_figures_and_meta(tmp_path, folder, capsys):
    study = make_study(squares, tmp_path)
    assert run(study, Config(numbers=(1, 2), output=folder)) == 0
    assert read_records(folder) == [{"number": 1, "square": 1}, {"number": 2, "square": 4}]
    text = (folder / "report.md").read_text()
    assert text == "# Squares\n\n1 4\n\n![A figure](f.txt)\n"
    assert (folder / "f.txt").exists()
    meta = read_meta(folder)
    assert (meta["status"], meta["numbers_finished"], meta["numbers_planned"]) == ("complete", 2, 2)
    assert meta["configuration"] == {"numbers": [1, 2]}
    captured = capsys.readouterr()
    assert captured.out == f"2 squares\nresults are in {folder}\n"
    assert captured.err.startswith("[1/2] 1: 50%, half of it\n[1/2] 1: ")


def test_ctrl_c_keeps_what_has_finished(tmp_path, folder, capsys):
    assert run(make_study(squares, tmp_path), Config(output=folder)) == INTERRUPTED
    assert len(read_records(folder)) == 2
    assert "**Interrupted:** 2 of 3 numbers finished." in (folder / "report.md").read_text()
    assert read_meta(folder)["status"] == "interrupted"
    assert "interrupted, 2/3 numbers" in capsys.readouterr().out


def test_ctrl_c_before_anything_has_finished(tmp_path, folder):
    assert run(make_study(squares, tmp_path), Config(numbers=(3,), output=folder)) == INTERRUPTED
    assert (folder / "report.md").read_text() == (
        "# Squares\n\n**Interrupted:** 0 of 1 numbers finished.\n"
    )
    assert not (folder / "f.txt").exists()


def test_a_killed_run_has_said_how_much_was_planned(tmp_path, folder):
    def prepare(config, progress):
        def look(number):
            meta = read_meta(folder)
            assert (meta["status"], meta["numbers_planned"]) == ("running", 3)
            return squares(config, progress)(number)

        return look

    assert run(make_study(prepare, tmp_path), Config(output=folder)) == INTERRUPTED


def test_an_error_leaves_what_has_finished_and_says_that_the_run_failed(tmp_path, folder):
    def prepare(config, progress):
        return lambda number: [Record(number, 1 // (2 - number))]

    with pytest.raises(ZeroDivisionError):
        run(make_study(prepare, tmp_path), Config(output=folder))
    meta = read_meta(folder)
    assert (meta["status"], meta["numbers_finished"]) == ("failed", 1)
    assert len(read_records(folder)) == 1


@pytest.mark.parametrize("error", [UsageError("no data"), KeyboardInterrupt()])
def test_no_folder_is_made_for_what_cannot_be_prepared(error, tmp_path):
    def refuse(config, progress):
        assert not (tmp_path / "runs").exists()
        raise error

    with pytest.raises(type(error)):
        run(make_study(refuse, tmp_path), Config(output=tmp_path / "runs" / "run"))
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_while_the_machine_is_looked_at_leaves_no_folder(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.study.describe_environment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(make_study(squares, tmp_path), Config(output=tmp_path / "runs" / "run"))
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_while_the_first_meta_is_written_is_on_record(tmp_path, folder, monkeypatch):
    written = []

    def write(folder, meta):
        written.append(meta["status"])
        if len(written) == 1:
            raise KeyboardInterrupt
        write_meta(folder, meta)

    monkeypatch.setattr("experiments.study.write_meta", write)
    assert run(make_study(squares, tmp_path), Config(output=folder)) == INTERRUPTED
    assert written == ["running", "interrupted"]
    assert read_meta(folder)["status"] == "interrupted"


@pytest.mark.parametrize(("status", "last"), [(0, "late"), (INTERRUPTED, "written")])
def test_after_ctrl_c_the_interpreter_does_not_shut_down_around_what_runs(status, last):
    code = (
        "import atexit, sys; from experiments.study import leave;"
        "atexit.register(print, 'late'); print('written'); leave(int(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(status)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == status
    assert process.stdout.split()[-1] == last
