"""The command ``page``: what a run found, in files that can be kept and written anew.

A page is three files of one name: the report (``.md``), what it was written from (``.jsonl``: a
line for the run, then a line for each record) and, for ``bench``, its bar chart (``.png``).
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.errors import UsageError
from experiments.folder import META_FILE, RUNS_FILE
from experiments.page import page_text
from experiments.studies.bench import ask
from experiments.studies.bench.compiled import ask as compiled
from experiments.studies.bench.exact import Exact
from experiments.studies.bench.floors import Least
from experiments.study import Study

_DATA, _CHART = ".jsonl", ".png"

# Of records.
_PARTS = {"exact": Exact, "floor": Least, "timed": ask.Timed}


def page(config: ask.PageConfig) -> int:
    """Writes the page that was asked for; returns the exit status."""
    assert config.output is not None  # it is completed
    results = merge_results([read_results(source) for source in config.results])
    for file in write_page(results, config.output):
        print(file)
    return 0


class _Kind(NamedTuple):
    """What is particular to the pages of one study.

    Attributes:
        study: the study.
        split: the options whose values may be split over several runs.
        sort: puts the records of several runs in order.
    """

    study: Study
    split: tuple[str, ...]
    sort: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list


def _by_size_and_devices(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: (record["parameters"], record["devices"]))


_KINDS = (
    _Kind(ask.STUDY, split=("models", "optimizers")),
    _Kind(ask.SCALE, split=("sizes", "devices"), sort=_by_size_and_devices),
    _Kind(compiled.STUDY, split=("models", "optimizers", "computes", "layouts", "devices")),
)


class Results(NamedTuple):
    """What a run left behind.

    Attributes:
        kind: of which study.
        meta: the contents of ``meta.json``.
        records: the lines of ``runs.jsonl``.
    """

    kind: _Kind
    meta: dict[str, Any]
    records: list[dict[str, Any]]


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------


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
    said = meta if isinstance(meta, dict) else {}
    kind = next((kind for kind in _KINDS if f"{kind.study.noun}_planned" in said), None)
    if kind is None:
        raise UsageError(f"{str(source)!r} was not written by bench or scale")
    if not records:
        raise UsageError(f"the run in {str(source)!r} finished nothing; there is nothing to show")
    if "wall_seconds" not in meta:  # it was killed
        finished = {read_record(kind.study, record).place for record in records}
        meta |= {"status": "interrupted", f"{kind.study.noun}_finished": len(finished)}
        meta["wall_seconds"] = None
    return Results(kind, meta, records)


def read_record(study: Study, data: Mapping[str, Any]) -> Any:
    """Returns the record that a line of ``runs.jsonl`` was written from."""
    parts = {name: part(**data[name]) for name, part in _PARTS.items() if data.get(name)}
    return study.part("ask").Record(**{**data, **parts})


def merge_results(parts: Sequence[Results]) -> Results:
    """Puts together runs that differ in nothing but what they measured.

    Raises:
        UsageError: they differ in other options, or in the machine or the software.
    """
    kind, first, _ = parts[0]
    for part in parts[1:]:
        if different := _differences(parts[0], part):
            raise UsageError(
                f"the runs cannot share a page: they differ in {', '.join(different)}; "
                "give runs of one command on one machine with the same options and code"
            )
    metas = [part.meta for part in parts]
    complete = all(meta["status"] == "complete" for meta in metas)
    seconds = [meta["wall_seconds"] for meta in metas]
    merged = first | {
        "configuration": first["configuration"]
        | {name: _joined(metas, name) for name in kind.split},
        "device": first["device"] | {"load_average": _busiest(metas)},
        "status": "complete" if complete else "interrupted",
        "wall_seconds": None if None in seconds else sum(seconds),
    }
    for count in ("planned", "finished"):
        name = f"{kind.study.noun}_{count}"
        merged[name] = sum(meta[name] for meta in metas)
    return Results(kind, merged, kind.sort([record for part in parts for record in part.records]))


def _differences(one: Results, other: Results) -> list[str]:
    """What keeps two runs from being one."""
    if one.kind != other.kind:
        return ["command"]
    may_differ = {*one.kind.split, "load_average"}
    return [
        f"{part}.{name}"
        for part in ("configuration", "device", "versions", "git")
        for name, value in (one.meta[part] or {}).items()
        if name not in may_differ and value != (other.meta[part] or {}).get(name)
    ]


def _joined(metas: Sequence[dict[str, Any]], name: str) -> list[Any]:
    values = (meta["configuration"][name] for meta in metas)
    return list(dict.fromkeys(itertools.chain.from_iterable(values)))


def _busiest(metas: Sequence[dict[str, Any]]) -> float | None:
    loads = [meta["device"]["load_average"] for meta in metas]
    return max((load for load in loads if load is not None), default=None)


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------


def write_page(results: Results, page: Path) -> list[Path]:
    """Writes the files of a page, over those that are there.

    Args:
        results: what a run left behind.
        page: path of the ``.md`` file.

    Returns:
        The files that were written.
    """
    kind, meta, lines = results
    page.parent.mkdir(parents=True, exist_ok=True)
    data, chart = page.with_suffix(_DATA), page.with_suffix(_CHART)
    text = "".join(f"{json.dumps(entry, allow_nan=False)}\n" for entry in (meta, *lines))
    data.write_text(text, "utf-8")
    study, module = kind.study, kind.study.part("page")
    records = [read_record(study, line) for line in lines]
    config = study.config(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in meta["configuration"].items()
        }
    )
    figures = dict.fromkeys(module.FIGURES, chart.name)
    files = _files_note(study.name, meta["configuration"].get("target"), page)
    text = page_text(module, records, config, meta, files=files, figures=figures)
    page.write_text(text, "utf-8")
    for draw in module.FIGURES.values():
        draw(chart, records, config)
    return [page, data, *([chart] if figures else [])]


def _files_note(command: str, target: str | None, page: Path) -> str:
    invocation = f"{command} --target {target}" if target else command
    data = page.with_suffix(_DATA).name
    return (
        f"Versions, device, date, commit and every figure: `{data}`, from which `python -m "
        f"experiments page {data}` in this folder writes this page anew. To measure on another "
        f"machine: `python -m experiments {invocation}`, then `python -m experiments page` with "
        "its folder."
    )
