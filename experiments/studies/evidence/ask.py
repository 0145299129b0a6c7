"""The papers' tasks by one protocol: what ``run``, ``sweep`` and ``report`` are asked."""

import dataclasses
from pathlib import Path

from experiments.arms import OPTIMIZERS, read_arm
from experiments.errors import require
from experiments.kinds import count, one_of, positive, seed
from experiments.options import choice, data_dir, many, names, one, positional, switch
from experiments.study import Command
from experiments.tasks import PRESETS, TASKS

REGISTERED = Path(__file__).with_name("registered.toml")
RESULTS = Path("runs", "evidence")  # never what is committed, unless one names it
_PACKAGES = ("grain", "orbax", "tensorboardX")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The configuration of ``python -m experiments run``."""

    task: str = choice("task", TASKS, "digits")
    preset: str = one(
        one_of("preset", dict.fromkeys(PRESETS)), "cpu", None, "cpu (default) or paper", shown=""
    )
    optimizer: str = choice("optimizer", OPTIMIZERS, "adam")
    arm: str = one(
        str, "s=1", None, "plain, nesterov, schedule-free, sam, sam-equal, s=N or s=N/PREDICTOR"
    )
    learning_rate: float | None = one(positive, None, "RATE", shown="the usual one of the task")
    weight_decay: float | None = one(positive, None, "DECAY", shown="the task's")
    seed: int = one(seed, 0, "N")
    epochs: int | None = one(count, None, "N", shown="the task's")
    data_dir: str | None = data_dir()
    output: Path | None = one(Path, None, "DIR", shown="a folder below runs/, named by the run")
    resume: bool = switch("continue from the newest checkpoint in the folder")
    checkpoint_seconds: float = one(positive, 60.0, "N", "time between checkpoints")
    checkpoint_steps: int | None = one(count, None, "N", "steps between them, instead")

    def completed(self) -> "RunConfig":
        """Checks what the options alone do not say."""
        read_arm(self.arm, self.optimizer)
        require(*_PACKAGES)
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """The configuration of ``python -m experiments sweep``."""

    table: Path = one(Path, REGISTERED, "FILE", shown="registered.toml")
    rows: tuple[str, ...] | None = many(str, None, "NAME", shown="all rows of the table")
    tasks: tuple[str, ...] | None = names("task", TASKS, None, shown="all")
    data_dir: str | None = data_dir()
    output: Path = one(Path, RESULTS, "DIR")
    seeds_at_once: int = one(
        count, 1, "N", "train up to N runs of an arm in one step: small tasks, or a large GPU"
    )
    dry_run: bool = switch("only list the rows and the runs that they have at least")

    def completed(self) -> "SweepConfig":
        """Checks what the options alone do not say."""
        if not self.dry_run:
            require(*_PACKAGES)
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """The configuration of ``python -m experiments report``."""

    results: Path = positional(Path, f"default: {RESULTS.as_posix()}", nargs="?", default=RESULTS)
    table: Path = one(Path, REGISTERED, "FILE", shown="registered.toml")
    output: Path | None = one(Path, None, "DIR", shown="the folder of the results")


RUN = Command(
    name="run",
    summary="train one task once",
    about=(
        "Trains one task with one optimizer in one form at one seed. Writes a line to "
        "results.jsonl, logs for TensorBoard and checkpoints; Ctrl-C saves one more. --resume "
        "continues a run that was cut off, bit for bit as if it had not been."
    ),
    config=RunConfig,
    run="experiments.studies.evidence.single:run_single",
    place=90,
)
SWEEP = Command(
    name="sweep",
    summary="run the registered rows: tune on validation, then report seeds",
    about=(
        "Runs rows of a table: for each arm the learning rate is chosen on validation, with seeds "
        "of its own, from rates a factor of 2 apart, which go on until the best lies inside; then "
        "the reported seeds are run. "
        "Results are appended to a file per row; what the folder has is not run again, so a "
        "sweep that was stopped goes on where it was. Runs that diverge or fail are recorded "
        "and the sweep goes on."
    ),
    config=SweepConfig,
    run="experiments.studies.evidence.sweep:run_sweep",
    place=91,
)
REPORT = Command(
    name="report",
    summary="turn a folder of results into tables and plots",
    about=(
        "Reads all results files of a folder and writes README.md, tables.tex and the plots "
        "there, or to --output."
    ),
    config=ReportConfig,
    run="experiments.studies.evidence.page:report",
    place=92,
)
