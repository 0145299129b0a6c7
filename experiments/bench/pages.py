"""Result pages: what a run found, in files that can be kept in a repository and written anew.

A page is three files of one name: the report (``.md``), what it was written from (``.jsonl``: a
line for the run, then a line for each record) and, for ``bench``, its bar chart (``.png``).
"""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.bench.compiled_config import CompiledConfig
from experiments.bench.config import BenchConfig, ScaleConfig
from experiments.bench.records import bench_record, compiled_record, scale_record
from experiments.errors import UsageError
from experiments.folder import META_FILE, RUNS_FILE

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
    return Results(meta if "wall_seconds" in meta else _as_interrupted(meta, records), records)


def _as_interrupted(meta: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    """What ``meta.json`` would say if the run had not been killed but interrupted."""
    command = _command(meta)
    assert command is not None  # the caller has checked
    finished = {tuple(record[name] for name in command.item) for record in records}
    return meta | {
        "status": "interrupted",
        f"{command.noun}_finished": len(finished),
        "wall_seconds": None,
    }


def merge_results(parts: Sequence[Results]) -> Results:
    """Puts together runs that differ in nothing but what they measured.

    Raises:
        UsageError: they differ in other options, or in the machine or the software.
    """
    first = parts[0].meta
    for part in parts[1:]:
        if different := _differences(first, part.meta):
            raise UsageError(
                f"the runs cannot share a page: they differ in {', '.join(different)}; "
                "give runs of one command on one machine with the same options and code"
            )
    command = _command(first)
    assert command is not None  # read_results has checked
    split = {name: _joined(parts, name) for name in command.split}
    meta = first | {
        "configuration": first["configuration"] | split,
        "device": first["device"] | {"load_average": _busiest(parts)},
        "status": "complete" if _all_complete(parts) else "interrupted",
    }
    for count in (f"{command.noun}_planned", f"{command.noun}_finished"):
        meta[count] = sum(part.meta[count] for part in parts)
    seconds = [part.meta["wall_seconds"] for part in parts]
    meta["wall_seconds"] = None if None in seconds else sum(seconds)
    return Results(meta, command.sort([record for part in parts for record in part.records]))


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What keeps two runs from being one."""
    command = _command(one)
    if command != _command(other) or command is None:
        return ["command"]
    may_differ = {*command.split, "load_average"}
    return [
        f"{part}.{name}"
        for part in ("configuration", "device", "versions", "git")
        for name, value in (one[part] or {}).items()
        if name not in may_differ and value != (other[part] or {}).get(name)
    ]


def _joined(parts: Sequence[Results], name: str) -> list[Any]:
    values = (part.meta["configuration"][name] for part in parts)
    return list(dict.fromkeys(itertools.chain.from_iterable(values)))


def _busiest(parts: Sequence[Results]) -> float | None:
    loads = [part.meta["device"]["load_average"] for part in parts]
    return max((load for load in loads if load is not None), default=None)


def _all_complete(parts: Sequence[Results]) -> bool:
    return all(part.meta["status"] == "complete" for part in parts)


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
    chart = command.write(results, page, _files_note(_invocation(results.meta), data.name, page))
    return [page, data, *chart]


class _Command(NamedTuple):
    """What is particular to the pages of one command.

    Attributes:
        name: the command.
        noun: what its ``meta.json`` counts.
        item: what tells its items apart in the records.
        split: the options whose values may be split over several runs.
        sort: puts the records of several runs in order.
        write: ``(results, page, note on files) -> further files``; writes the page.
    """

    name: str
    noun: str
    item: tuple[str, ...]
    split: tuple[str, ...]
    sort: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
    write: Callable[[Results, Path, str], list[Path]]


def _command(meta: dict[str, Any]) -> _Command | None:
    return next((each for each in _COMMANDS if f"{each.noun}_planned" in meta), None)


def _invocation(meta: dict[str, Any]) -> str:
    command, target = _command(meta), meta["configuration"].get("target")
    assert command is not None  # read_results has checked
    return f"{command.name} --target {target}" if target else command.name


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


def _write_compiled(results: Results, page: Path, note: str) -> list[Path]:
    from experiments.bench.compiled_report import markdown_report

    records = [compiled_record(record) for record in results.records]
    config = CompiledConfig(**_with_tuples(results.meta["configuration"]))
    page.write_text(markdown_report(records, config, results.meta, files=note), "utf-8")
    return []


def _by_size_and_devices(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: (record["parameters"], record["devices"]))


def _with_tuples(configuration: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in configuration.items()
    }


_COMMANDS = (
    _Command(
        "bench",
        noun="groups",
        item=("model", "optimizer", "batch_size"),
        split=("models", "optimizers"),
        sort=list,
        write=_write_bench,
    ),
    _Command(
        "scale",
        noun="meshes",
        item=("size", "mesh"),
        split=("sizes", "devices"),
        sort=_by_size_and_devices,
        write=_write_scale,
    ),
    _Command(
        "bench",
        noun="comparisons",
        item=("model", "optimizer", "compute", "mesh"),
        split=("models", "optimizers", "computes", "layouts", "devices"),
        sort=list,
        write=_write_compiled,
    ),
)
