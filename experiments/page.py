"""Pages about records: tables for terminals, Markdown and LaTeX, and prose with holes.

The page of a study is prose in ``page.md`` (see :func:`fill`) and a module with

- ``holes(records, config, meta)``: what fills the holes, by name;
- ``tables(records, config, meta)``: what the terminal shows;
- ``FIGURES``: name of a file -> ``(path, records, config)`` that draws it; may be empty;
- ``notes(records, config, meta)``, if it has more to say below the tables than what is missing.
"""

import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as TerminalTable
from rich.text import Text

from experiments.folder import FILES_NOTE, REPORT_FILE
from experiments.provenance import describe_origin

TABLE_STYLE: dict[str, Any] = {"box": box.SIMPLE_HEAD, "title_justify": "left", "pad_edge": False}

# Wide enough for the tables where there is no terminal to ask.
_WIDTH_WITHOUT_TERMINAL = 120

# --------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: what heads it.
        cell: the text of a row's cell.
        left: whether a terminal aligns it on the left, as words, and not on the right, as numbers.
        no_wrap: whether a terminal keeps it on one line.
    """

    title: str
    cell: Callable[[Any], str]
    left: bool = False
    no_wrap: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of anything under columns that know what to say of them.

    Attributes:
        columns: from left to right.
        rows: from top to bottom.
    """

    columns: Sequence[Column]
    rows: Sequence[Any]

    def cells(self) -> list[list[str]]:
        """The texts of all cells, row by row."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]

    def terminal(
        self,
        title: str,
        *,
        style: Callable[[Any], str] = lambda row: "",
        section: Callable[[Any], object] = lambda row: None,
        headed: bool = False,
    ) -> TerminalTable:
        """Returns the table for a terminal.

        Args:
            title: what stands above it.
            style: the look of a row.
            section: what rows between two lines have in common.
            headed: whether that stands above them.
        """
        table = TerminalTable(title=title, **TABLE_STYLE)
        for column in self.columns:
            justify = "left" if column.left else "right"
            table.add_column(column.title, justify=justify, no_wrap=column.no_wrap)
        previous = None
        for row, cells in zip(self.rows, self.cells(), strict=True):
            if section(row) != previous:
                table.add_section()
                if headed:
                    table.add_row(Text(str(section(row)), "bold"))
            table.add_row(*cells, style=style(row))
            previous = section(row)
        return table

    def markdown(self) -> str:
        """Returns the table for a page."""
        # A bare star would start emphasis.
        cells = ([cell.replace("*", "\\*") for cell in row] for row in self.cells())
        return "\n".join(markdown_table([column.title for column in self.columns], cells))

    def latex(self, title: str) -> str:
        """Returns the table for ``booktabs``, below a comment with a title."""
        lines = [
            rf"% {title}",
            rf"\begin{{tabular}}{{{'l' + 'r' * (len(self.columns) - 1)}}}",
            r"\toprule",
            _latex_line([column.title for column in self.columns]),
            r"\midrule",
            *map(_latex_line, self.cells()),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yields the lines of a table."""
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


_LATEX_ESCAPES = {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "µ": r"$\mu$"}


def _latex_line(cells: Iterable[str]) -> str:
    escaped = ("".join(_LATEX_ESCAPES.get(letter, letter) for letter in cell) for cell in cells)
    return " & ".join(escaped) + r" \\"


# --------------------------------------------------------------------------------------------------
# Prose with holes
# --------------------------------------------------------------------------------------------------

# A line goes on the one before, unless it is a heading, a row, a figure or an entry of a list.
_WRAPPED = re.compile(r"\n(?!- |#|\||!\[)\s*")
_FORMATTER = string.Formatter()


def fill(prose: str, holes: Mapping[str, Any]) -> str:
    """Fills the holes of a page.

    A hole is written as in ``str.format``: ``{table}``, ``{config.momentum:g}``. A paragraph or an
    entry of a list with a hole for None is left out, and so is a heading with nothing below it.
    The lines of a paragraph become one.

    Args:
        prose: the text with holes.
        holes: what to put in, by name.

    Returns:
        Markdown.
    """
    kept = [
        "\n".join(_FORMATTER.vformat(entry, (), holes) for entry in entries)
        for entries in (_entries(part, holes) for part in prose.strip().split("\n\n"))
        if entries
    ]
    following = [*kept[1:], ""]
    pairs = zip(kept, following, strict=True)
    return "\n\n".join(part for part, after in pairs if not _is_empty(part, after)) + "\n"


def _entries(paragraph: str, holes: Mapping[str, Any]) -> list[str]:
    """The lines of a paragraph as a reader sees them, but for those with a hole for None."""

    def is_known(entry: str) -> bool:
        names = [name for _, name, _, _ in _FORMATTER.parse(entry) if name]
        return all(_FORMATTER.get_field(name, (), holes)[0] is not None for name in names)

    return list(filter(is_known, _WRAPPED.sub(" ", paragraph).split("\n")))


def _is_empty(part: str, after: str) -> bool:
    """Whether a part is a heading of nothing: the end or a heading no deeper comes next."""

    def depth(text: str) -> int:
        return len(text) - len(text.lstrip("#"))

    # A hole may hold a heading with its text.
    return "\n" not in part and depth(part) > 0 and (not after or 0 < depth(after) <= depth(part))


# --------------------------------------------------------------------------------------------------
# The page of a study
# --------------------------------------------------------------------------------------------------


def page_text(
    page: ModuleType, records: Sequence[Any], config: Any, meta: Mapping[str, Any], **more: Any
) -> str:
    """Returns the text of a study's page.

    Besides the holes of the study there are ``config``, ``meta``, ``origin``, ``interrupted``
    (None for a complete run), ``figures``, by name of the file (None without records), and
    ``files``, which says where everything is.

    Args:
        page: the study's module.
        records: what the finished items left.
        config: what was asked for.
        meta: the contents of ``meta.json``.
        **more: holes that are filled in another way than a report's.
    """
    assert page.__file__
    prose = Path(page.__file__).with_suffix(".md").read_text(encoding="utf-8")
    holes = {
        "config": config,
        "meta": meta,
        "origin": describe_origin(meta),
        "interrupted": _interrupted(meta),
        "figures": {name: name if records else None for name in page.FIGURES},
        "files": FILES_NOTE,
    }
    return fill(prose, holes | page.holes(records, config, meta) | more)


def publish(
    folder: Path, page: ModuleType, records: Sequence[Any], config: Any, meta: Mapping[str, Any]
) -> None:
    """Writes ``report.md`` and the figures, and shows on the terminal what they say."""
    text = page_text(page, records, config, meta)
    (folder / REPORT_FILE).write_text(text, encoding="utf-8")
    console = report_console()
    if records:
        console.print(page.tables(records, config, meta))
    notes = page.notes if hasattr(page, "notes") else lambda *_: filter(None, [shortfall(meta)])
    for note in [*notes(records, config, meta), f"results are in {folder}"]:
        print_plain(console, note)
    for name, draw in page.FIGURES.items() if records else ():
        draw(folder / name, records, config)


def shortfall(meta: Mapping[str, Any]) -> str:
    """Returns how many items an interrupted run finished, or nothing."""
    finished, planned, noun = _progress(meta)
    return "" if finished == planned else f"interrupted, {finished}/{planned} {noun}"


def _interrupted(meta: Mapping[str, Any]) -> str | None:
    finished, planned, noun = _progress(meta)
    return None if finished == planned else f"{finished} of {planned} {noun} finished"


def _progress(meta: Mapping[str, Any]) -> tuple[int, int, str]:
    (noun,) = (name.removesuffix("_planned") for name in meta if name.endswith("_planned"))
    return meta[f"{noun}_finished"], meta[f"{noun}_planned"], noun


def report_console() -> Console:
    """Returns the console that reports are printed to."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)


def print_plain(console: Console, text: str) -> None:
    """Prints text as it is: nothing marked up, coloured or wrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
