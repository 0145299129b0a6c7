"""Reads what a run left behind, without the code that wrote it."""

import json


def read_records(folder):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    lines = (folder / "runs.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def read_meta(folder):
    return json.loads((folder / "meta.json").read_text())


def read_table(folder, heading):
    """The cells of the table below a heading of ``report.md``, without its header."""
    section = (folder / "report.md").read_text().partition(f"\n## {heading}\n")[2]
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in rows[2:]]
