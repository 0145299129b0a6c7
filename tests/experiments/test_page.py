"""Tables in three dialects, and prose with holes."""

import io
import types
from pathlib import Path

from rich.console import Console

from experiments.page import Column, Table, fill

PEAKS = [("Eiger", 3967), ("Mönch_", 4110)]
TABLE = Table(
    [
        Column("peak", lambda row: row[0], left=True),
        Column("height", lambda row: f"{row[1]} ± 1" + ("*" if row[1] > 4000 else "")),
    ],
    PEAKS,
)


def test_markdown_escapes_stars():
    assert TABLE.markdown().splitlines() == [
        "| peak | height |",
        "| --- | --- |",
        "| Eiger | 3967 ± 1 |",
        "| Mönch_ | 4110 ± 1\\* |",
    ]


def test_latex_escapes_what_latex_reads():
    lines = TABLE.latex("Peaks").splitlines()
    assert lines[:2] == ["% Peaks", r"\begin{tabular}{lr}"]
    assert lines[-3] == r"Mönch\_ & 4110 $\pm$ 1* \\"


def test_terminal_parts_sections():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(TABLE.terminal("Peaks", section=lambda row: row[1] > 4000))
    lines = console.export_text().splitlines()
    assert lines[0].strip() == "Peaks"
    assert "4110 ± 1*" in "".join(lines)


PROSE = """
# On {peak}

**Note:** {missing}.

A paragraph that is
wrapped, on {config.height:g} metres.

## Nothing below

{missing}

## A list

- one
  and its end
- two: {missing}
- three

## Nothing at the end

![A figure]({figures[a.png]})
"""


def test_holes_are_filled_and_what_is_not_known_is_left_out():
    config = types.SimpleNamespace(height=4110.0)
    holes = {"peak": "Mönch", "missing": None, "config": config, "figures": {"a.png": None}}
    assert fill(PROSE, holes) == (
        "# On Mönch\n\nA paragraph that is wrapped, on 4110 metres.\n\n"
        "## A list\n\n- one and its end\n- three\n"
    )
    shown = fill(PROSE, holes | {"missing": "all", "figures": {"a.png": "b.png"}})
    assert "**Note:** all.\n\n" in shown
    assert "## Nothing below\n\nall\n\n## A list" in shown
    assert shown.endswith("- two: all\n- three\n\n## Nothing at the end\n\n![A figure](b.png)\n")


def test_what_fills_a_hole_stays_as_it_is():
    assert fill("{table}\n\nEnd.", {"table": "| a |\n\n{b}"}) == "| a |\n\n{b}\n\nEnd.\n"


def test_every_page_has_its_prose():
    studies = Path(__file__).parents[2] / "experiments" / "studies"
    assert all((page.parent / "page.md").exists() for page in studies.glob("*/page.py"))
