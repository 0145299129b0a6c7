"""Pages that are kept: the same report, from data that lies beside it."""

import json

import pytest
from run_files import read_meta, read_records

from experiments.bench.workloads import WORKLOADS, Workload
from experiments.cli import main
from experiments.optimizers import Recipe

TINY = Workload(
    summary="a network that compiles in no time",
    model=Recipe("experiments.models:MLP", {"hidden": (8,), "outputs": 3}),
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


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{}"], "was not written by bench or scale"),
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
