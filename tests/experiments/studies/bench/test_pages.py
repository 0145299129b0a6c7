"""Pages that are kept: the same report, from data that lies beside it."""

import json
import shutil

import pytest
from run_files import read_meta, read_records

from experiments.cli import main
from experiments.recipe import Recipe
from experiments.studies.bench.workloads import WORKLOADS, Workload

TINY = Workload(
    summary="a network that compiles in no time",
    model=Recipe("experiments.models.mlp:MLP", {"hidden": (8,), "outputs": 3}),
    example=(4,),
    labels=(),
    classes=3,
    batch_size=5,
)

ARGUMENTS = "--models tiny --optimizers sgdm --variants closed-form sam --seconds 0.01"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "run"
    arguments = ["bench", *ARGUMENTS.split(), "--compilations", "1", "--output", str(folder)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(WORKLOADS, "tiny", TINY)
        assert main(arguments) == 0
    return folder


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(WORKLOADS, "tiny", TINY)


def write_page(source, page):
    assert main(["page", str(source), "--output", str(page)]) == 0
    return page.read_text()


def test_a_page_is_the_report_with_its_own_files(run, tmp_path, capsys):
    page = tmp_path / "results" / "page.md"
    text = write_page(run, page)
    files = ["page.md", "page.jsonl", "page.png"]
    assert capsys.readouterr().out.split() == [str(page.parent / name) for name in files]
    assert {path.name for path in page.parent.iterdir()} == set(files)
    report = (run / "report.md").read_text()
    changed = set(text.splitlines()) ^ set(report.splitlines())
    assert all(".jsonl" in line or ".png" in line for line in changed)
    for name, present in {"runs.jsonl": 0, "bars.png": 0, "](page.png)": 1}.items():
        assert text.count(name) == present
    assert "`page.jsonl`" in text
    assert "All of it was measured on a CPU; no GPU was measured." in text


def test_the_data_of_a_page_is_all_of_the_run(run, tmp_path):
    write_page(run, tmp_path / "page.md")
    meta, *records = map(json.loads, (tmp_path / "page.jsonl").read_text().splitlines())
    assert meta == read_meta(run)
    assert records == read_records(run)


def test_a_page_is_written_anew_from_its_data(run, tmp_path):
    text = write_page(run, tmp_path / "page.md")
    (tmp_path / "page.md").unlink()
    assert main(["page", str(tmp_path / "page.jsonl")]) == 0
    assert (tmp_path / "page.md").read_text() == text


def with_changes(run, folder, **changes):
    """A copy of a run whose ``meta.json`` differs; ``part__name`` is a name within a part."""
    shutil.copytree(run, folder)
    meta = read_meta(run)
    for path, value in changes.items():
        part, _, name = path.partition("__")
        if name:
            meta[part][name] = value
        else:
            meta[part] = value
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def test_runs_of_several_models_share_a_page(run, tmp_path):
    changes = {"configuration__models": ["lenet"], "device__load_average": 99.0}
    other = with_changes(run, tmp_path / "other", **changes)
    records = [record | {"model": "lenet"} for record in read_records(run)]
    (other / "runs.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    page = tmp_path / "page.md"
    assert main(["page", str(run), str(other), "--output", str(page)]) == 0
    meta, *merged = map(json.loads, page.with_suffix(".jsonl").read_text().splitlines())
    assert merged == read_records(run) + records
    assert meta["configuration"]["models"] == ["tiny", "lenet"]
    assert (meta["groups_finished"], meta["groups_planned"]) == (2, 2)
    assert (meta["status"], meta["device"]["load_average"]) == ("complete", 99.0)
    text = page.read_text()
    assert "### tiny sgdm batch 5: exact" in text
    assert "### lenet sgdm batch 5: exact" in text
    assert "load 99.0" in text


def test_a_page_says_that_one_of_its_runs_was_interrupted(run, tmp_path):
    part = with_changes(run, tmp_path / "part", status="interrupted", groups_planned=3)
    page = tmp_path / "page.md"
    assert main(["page", str(run), str(part), "--output", str(page)]) == 0
    assert "**Note:** interrupted, 2/4 groups" in page.read_text()


def test_what_a_killed_run_finished_makes_a_page(run, tmp_path):
    killed = with_changes(run, tmp_path / "killed", groups_finished=0, groups_planned=2)
    meta = read_meta(killed) | {"status": "running"}  # as it is while a run is under way
    del meta["wall_seconds"]
    (killed / "meta.json").write_text(json.dumps(meta))
    text = write_page(killed, tmp_path / "page.md")
    assert "**Note:** interrupted, 1/2 groups" in text
    assert write_page(tmp_path / "page.jsonl", tmp_path / "page.md") == text


@pytest.mark.parametrize(
    "change",
    [
        {"configuration__seed": 7},
        {"device__kind": "TPU v9"},
        {"versions__jax": "0.0.1"},
    ],
)
def test_runs_that_cannot_be_compared_do_not_share_a_page(change, run, tmp_path, capsys):
    other = with_changes(run, tmp_path / "other", **change)
    page = tmp_path / "page.md"
    assert main(["page", str(run), str(other), "--output", str(page)]) == 2
    (name,) = change
    message = f"cannot share a page: they differ in {name.replace('__', '.')};"
    assert message in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{}"], "was not written by bench or scale"),
        (["3"], "was not written by bench or scale"),
        (["[]"], "was not written by bench or scale"),
        (['{"arms_planned": 3}', "{}"], "was not written by bench or scale"),
        (['{"groups_planned": 3}'], "finished nothing; there is nothing to show"),
        (['{"groups_planned": 3'], "holds no results ("),
        ([], "holds no results ("),
    ],
)
def test_what_is_no_result_is_refused(lines, message, tmp_path, capsys):
    source = tmp_path / "data.jsonl"
    source.write_text("\n".join(lines))
    assert main(["page", str(source)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert str(source) in captured.err
    assert message in captured.err
    assert {path.name for path in tmp_path.iterdir()} == {"data.jsonl"}
