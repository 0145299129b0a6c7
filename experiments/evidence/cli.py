"""The commands ``run``, ``sweep`` and ``report``."""

import argparse
import functools
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.arguments import (
    INTERRUPTED,
    Commands,
    Parser,
    add_data_dir,
    count,
    one_of,
    positive,
    seed,
)
from experiments.arms import OPTIMIZERS, read_arm
from experiments.errors import UsageError
from experiments.evidence.rows import REGISTERED, choose_rows, read_rows
from experiments.folder import check_writable
from experiments.tasks import PRESETS, TASKS

if TYPE_CHECKING:
    from experiments.training.result import Result, RunSpec

_PACKAGES = ("grain", "orbax", "tensorboardX")
RESULTS = Path(__file__).parent.parent / "results" / "evidence"


def add_evidence(commands: "Commands[Parser]") -> None:
    """Adds the three commands."""
    _add_run(commands)
    _add_sweep(commands)
    _add_report(commands)


def _add_run(commands: "Commands[Parser]") -> None:
    parser = commands.add_parser(
        "run",
        help="train one task once",
        description=(
            "Trains one task with one optimizer in one form at one seed. Writes a line to "
            "results.jsonl, logs for TensorBoard and checkpoints; --resume continues a run that "
            "was cut off, bit for bit as if it had not been."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    add = parser.add_argument
    add("--task", type=one_of("task", TASKS), default="digits", help="default: digits")
    add(
        "--preset",
        type=one_of("preset", dict.fromkeys(PRESETS)),
        default="cpu",
        help="cpu (default) or paper",
    )
    add("--optimizer", type=one_of("optimizer", OPTIMIZERS), default="adam", help="default: adam")
    add(
        "--arm",
        default="s=1",
        help="plain, nesterov, schedule-free, sam, sam-equal, s=N or s=N/PREDICTOR; default: s=1",
    )
    add(
        "--learning-rate",
        type=positive,
        metavar="RATE",
        help="default: the middle of the task's grid",
    )
    add("--weight-decay", type=positive, metavar="DECAY", help="default: the task's")
    add("--seed", type=seed, default=0, metavar="N", help="default: 0")
    add("--epochs", type=count, metavar="N", help="default: the task's")
    add_data_dir(parser)
    add("--output", type=Path, metavar="DIR", help="default: a folder below runs/ named by the run")
    add("--resume", action="store_true", help="continue from the newest checkpoint in the folder")
    add(
        "--checkpoint-seconds",
        type=positive,
        default=60.0,
        metavar="N",
        help="time between checkpoints; default: 60",
    )
    add("--checkpoint-steps", type=count, metavar="N", help="steps between them, instead")


def _add_sweep(commands: "Commands[Parser]") -> None:
    parser = commands.add_parser(
        "sweep",
        help="run the registered rows: tune on validation, then report seeds",
        description=(
            "Runs rows of a table: for each arm the learning rate is chosen on validation from "
            "the same number of rates, with seeds of its own, then the reported seeds are run. "
            "Results are appended to a file per row; what the folder has is not run again, so a "
            "sweep that was stopped goes on where it was. Runs that diverge or fail are recorded "
            "and the sweep goes on."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_sweep)
    add = parser.add_argument
    add("--table", type=Path, default=REGISTERED, metavar="FILE", help="default: registered.toml")
    add("--rows", nargs="+", metavar="NAME", help="default: all rows of the table")
    add("--tasks", type=one_of("task", TASKS), nargs="+", metavar="NAME", help="default: all")
    add_data_dir(parser)
    add("--output", type=Path, default=RESULTS, metavar="DIR", help=f"default: {_shown(RESULTS)}")
    add(
        "--seeds-at-once",
        type=count,
        default=1,
        metavar="N",
        help="train up to N seeds in one step: for a GPU with memory for it; default: 1",
    )
    add("--dry-run", action="store_true", help="only list the rows and their runs")


def _add_report(commands: "Commands[Parser]") -> None:
    parser = commands.add_parser(
        "report",
        help="turn a folder of results into tables and plots",
        description=(
            "Reads all results files of a folder and writes README.md, tables.tex and the plots "
            "there, or to --output."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_report)
    add = parser.add_argument
    add("results", type=Path, nargs="?", default=RESULTS, help=f"default: {_shown(RESULTS)}")
    add("--table", type=Path, default=REGISTERED, metavar="FILE", help="default: registered.toml")
    add("--output", type=Path, metavar="DIR", help="default: the folder of the results")


def _shown(path: Path) -> str:
    """A path as seen from the checkout."""
    return path.relative_to(Path(__file__).parents[2]).as_posix()


def _check_installed() -> None:
    """Says what to install before anything slow begins."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} missing; install what this command needs with: "
            "python -m pip install 'xgrad_optax[evidence]'"
        )


def _run(arguments: argparse.Namespace) -> int:
    read_arm(arguments.arm, arguments.optimizer)
    _check_installed()
    from experiments.evidence.single import run_single

    return run_single(arguments)


def _sweep(arguments: argparse.Namespace) -> int:
    rows = choose_rows(read_rows(arguments.table), arguments.rows, arguments.tasks)
    from experiments.evidence.sweep import Sweep, count_runs, progress_bar
    from experiments.tasks import load_task

    protocols = [load_task(row.task, row.preset).protocol for row in rows]
    counts = [count_runs(row, protocol) for row, protocol in zip(rows, protocols, strict=True)]
    if arguments.dry_run:
        for row, runs in zip(rows, counts, strict=True):
            print(f"{row.name:<28} {row.study:<11} {runs:>4} runs: {', '.join(row.arms)}")
        print(f"{len(rows)} rows, {sum(counts)} runs")
        return 0
    _check_installed()
    from experiments.training.loop import Trainer

    check_writable(arguments.output)

    # Rows of one task follow each other: its data and what is compiled of it serve all of them.
    @functools.lru_cache(maxsize=1)
    def trainer(name: str, preset: str) -> Trainer:
        task = load_task(name, preset)
        return Trainer(task, task.load(arguments.data_dir))

    def run(specs: "Sequence[RunSpec]") -> "Sequence[Result]":
        # Data are loaded when the first run is really needed.
        return trainer(specs[0].task, specs[0].preset).run_at_once(specs)

    with progress_bar(sum(counts)) as (begin, say):
        sweep = Sweep(run, arguments.output, say, arguments.seeds_at_once)
        try:
            for spec in sweep.rows(zip(rows, protocols, strict=True)):
                begin(spec)
        except KeyboardInterrupt:
            say("interrupted; the same command goes on where this stopped")
            return INTERRUPTED
    tally = sweep.tally
    print(
        f"{tally.ran} runs done, {tally.known} known before, {tally.failed} failed, "
        f"{tally.unwritten} not written, {tally.skipped} rows skipped; results are in "
        f"{arguments.output}",
        file=sys.stderr,
    )
    return 1 if tally.failed or tally.unwritten or tally.skipped else 0


def _report(arguments: argparse.Namespace) -> int:
    from experiments.evidence.report import write_report

    rows = read_rows(arguments.table)
    return write_report(arguments.results, arguments.output or arguments.results, rows)
