"""Registered rows that have been run: what is committed is what was written down before."""

import importlib
import json
from pathlib import Path

import pytest
from run_files import read_meta, read_records

from experiments.options import recorded
from experiments.page import page_text

RESULTS = Path(__file__).parents[3] / "experiments" / "results"
STUDIES = ("agents", "batch-size", "delay", "pipeline")
"""Those with rows of their own; ``evidence`` has one page for all of its rows."""

RUN = [
    (study, path.parent.name) for study in STUDIES for path in RESULTS.glob(f"{study}/*/*.jsonl")
]


def module_of(study, name):
    return importlib.import_module(f"experiments.studies.{study.replace('-', '_')}.{name}")


def test_every_study_with_rows_is_looked_at():
    tables = Path(importlib.import_module("experiments.studies").__path__[0]).glob(
        "*/registered.toml"
    )
    found = {table.parent.name.replace("_", "-") for table in tables} - {"evidence"}
    assert found == set(STUDIES)


@pytest.mark.parametrize(("study", "name"), RUN)
def test_a_committed_result_is_its_registered_row_and_makes_its_page(study, name):
    ask, page, folder = module_of(study, "ask"), module_of(study, "page"), RESULTS / study / name
    config, meta = ask.Config(row=name).completed(), read_meta(folder)
    # An option that came later had its default.
    ran = json.loads(json.dumps(recorded(ask.Config()))) | meta["configuration"]
    assert ran == json.loads(json.dumps(recorded(config)))
    records = [ask.Record(**record) for record in read_records(folder)]
    text = page_text(page, records, config, meta)
    assert text == (folder / "report.md").read_text("utf-8")


@pytest.mark.parametrize(("study", "name"), RUN)
def test_a_committed_result_is_complete(study, name):
    folder = RESULTS / study / name
    assert read_meta(folder)["status"] == "complete"
    for figure in module_of(study, "page").FIGURES:
        assert (folder / figure).read_bytes().startswith(b"\x89PNG")
