"""Result pages: what a run found, in files that can be kept in a repository and written anew.

A page is three files of one name: the report (``.md``), what it was written from (``.jsonl``: a
line for the run, then a line for each record) and, for ``bench``, its bar chart (``.png``).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.bench.config import BenchConfig, ScaleConfig
from experiments.bench.records import bench_record, scale_record
from experiments.errors import UsageError
from experiments.results import META_FILE, RUNS_FILE

_DATA, _PAGE, _CHART = ".jsonl", ".md", ".png"


class Results(NamedTuple):
    """What a run left behind.

    Attributes:
        meta: the contents of ``meta.json``.
        records: the lines of ``runs.jsonl``.
    """

    meta: dict[str, Any]
    records: list[dict[str, Any]]


def read_results(source: Path) -> Results:
    """Reads a run folder, or the data of a page.

    Raises:
        UsageError: there are no results of ``bench`` or ``scale``.
    """
    try:
        if source.is_dir():
            lines = [(source / META_FILE).read_text("utf-8")]
            lines += (source / RUNS_FILE).read_text("utf-8").splitlines()
        else:
            lines = source.read_text("utf-8").splitlines()
        meta, *records = map(json.loads, lines)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{str(source)!r} holds no results ({error}); give the folder that bench or scale "
            f"wrote, or the {_DATA} file of a page"
        ) from error
    if not isinstance(meta, dict) or _command(meta) is None:
        raise UsageError(f"{str(source)!r} was not written by bench or scale")
    if not records:
        raise UsageError(f"the run in {str(source)!r} finished nothing; there is nothing to show")
    return Results(meta, records)


def write_page(results: Results, page: Path) -> list[Path]:
    """Writes the files of a page, over those that are there.

    Args:
        results: what a run left behind.
        page: path of the ``.md`` file.

    Returns:
        The files that were written.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    data = page.with_suffix(_DATA)
    lines = [json.dumps(entry, allow_nan=False) for entry in (results.meta, *results.records)]
    data.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    command = _command(results.meta)
    assert command is not None  # read_results has checked
    chart = command.write(results, page, _files_note(command.name, data.name, page))
    return [page, data, *chart]


class _Command(NamedTuple):
    """What is particular to the pages of one command.

    Attributes:
        name: the command.
        noun: what its ``meta.json`` counts.
        write: ``(results, page, note on files) -> further files``; writes the page.
    """

    name: str
    noun: str
    write: Callable[[Results, Path, str], list[Path]]


def _command(meta: dict[str, Any]) -> _Command | None:
    return next((each for each in _COMMANDS if f"{each.noun}_planned" in meta), None)


def _files_note(command: str, data: str, page: Path) -> str:
    return (
        f"Versions, device, date, commit and every figure: `{data}`, from which `python -m "
        f"experiments page {page.with_suffix(_DATA).name}` in this folder writes this page anew. "
        f"To measure on another machine: `python -m experiments {command}`, then "
        f"`python -m experiments page` with its folder."
    )


def _write_bench(results: Results, page: Path, note: str) -> list[Path]:
    from experiments.bench.plots import plot_bars
    from experiments.bench.report import markdown_report

    records = [bench_record(record) for record in results.records]
    config = BenchConfig(**_with_tuples(results.meta["configuration"]))
    chart = page.with_suffix(_CHART)
    text = markdown_report(records, config, results.meta, bars=chart.name, files=note)
    page.write_text(text, "utf-8")
    plot_bars(chart, records)
    return [chart]


def _write_scale(results: Results, page: Path, note: str) -> list[Path]:
    from experiments.bench.scale_report import markdown_report

    records = [scale_record(record) for record in results.records]
    config = ScaleConfig(**_with_tuples(results.meta["configuration"]))
    page.write_text(markdown_report(records, config, results.meta, files=note), "utf-8")
    return []


def _with_tuples(configuration: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in configuration.items()
    }


_COMMANDS = (
    _Command("bench", "groups", _write_bench),
    _Command("scale", "meshes", _write_scale),
)
