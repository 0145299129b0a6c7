"""What users and committed results rely on stays as it was, word for word."""

import json
from pathlib import Path

import pytest

from experiments.cli import find_commands, main

GOLDEN = Path(__file__).parent / "golden"
RESULTS = Path(__file__).parents[2] / "experiments" / "results"
COMMANDS = sorted(path.stem for path in (GOLDEN / "help").glob("*.txt"))


def words(text):
    """Without line breaks, which depend on the terminal and on Python's version."""
    return text.split()


def help_of(arguments, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as exit_info:
        main([*arguments, "--help"])
    assert exit_info.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_command(monkeypatch, capsys):
    text = help_of([], monkeypatch, capsys)
    assert words(text) == words((GOLDEN / "help.txt").read_text("utf-8"))
    assert {command.name for command in find_commands()} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command, monkeypatch, capsys):
    expected = (GOLDEN / "help" / f"{command}.txt").read_text("utf-8")
    assert words(help_of([command], monkeypatch, capsys)) == words(expected)


def test_list(capsys):
    assert main(["list"]) == 0
    assert capsys.readouterr().out == (GOLDEN / "list.txt").read_text("utf-8")


@pytest.mark.parametrize(
    "name",
    ["bench-cpu", "scale", "bench-h100-compiled", "bench-v5e-compiled", "scale-h100-compiled"],
)
def test_committed_pages_are_made_again_byte_for_byte(name, tmp_path):
    page = tmp_path / f"{name}.md"
    assert main(["page", str(RESULTS / f"{name}.jsonl"), "--output", str(page)]) == 0
    assert page.read_bytes() == (RESULTS / page.name).read_bytes()
    data = page.with_suffix(".jsonl")
    lines = zip(
        *(path.read_text().splitlines() for path in (data, RESULTS / data.name)), strict=True
    )
    assert all(json.loads(one) == json.loads(other) for one, other in lines)
