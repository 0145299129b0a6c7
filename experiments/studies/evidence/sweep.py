"""Running rows: what is missing of them is trained, run by run, and kept."""

import contextlib
import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from experiments.errors import UsageError
from experiments.folder import append_records, check_writable
from experiments.page import print_plain
from experiments.progress import bar_columns
from experiments.studies.evidence.ask import SweepConfig
from experiments.studies.evidence.planned import count_runs, results_on, wanted_specs
from experiments.studies.evidence.rows import Row, choose_rows, read_rows
from experiments.study import INTERRUPTED
from experiments.task import Protocol
from experiments.tasks import load_task
from experiments.training.loop import Trainer
from experiments.training.result import FAILED, Result, RunSpec, read_results

Runner = Callable[[Sequence[RunSpec]], Sequence[Result]]
"""Trains runs that differ in nothing but seeds and learning rates."""


@dataclasses.dataclass
class Tally:
    """How a sweep went.

    Attributes:
        ran: runs that were done.
        known: runs that were there already.
        failed: runs that ended in an error.
        unwritten: results that the disk did not take.
        skipped: rows that cannot be run here.
    """

    ran: int = 0
    known: int = 0
    failed: int = 0
    unwritten: int = 0
    skipped: int = 0


class Sweep:
    """Does what is missing of rows, run by run; rows that have a run in common share it.

    A run that raises an error is recorded as failed, and its arm has no chosen rate until it is run
    again; one whose result cannot be written is reported, and a row that cannot be run at all, its
    data is missing, say, is skipped: the sweep goes on.

    Attributes:
        tally: what happened so far.
    """

    def __init__(
        self,
        run: Runner,
        data_of: Callable[[Row], str],
        folder: Path,
        say: Callable[[str], None],
        at_once: int = 1,
        finished: Callable[[Result], None] = lambda result: None,
    ) -> None:
        """Reads what is known.

        Args:
            run: trains some runs.
            data_of: loads a row's data and returns their fingerprint.
            folder: of the results so far; new ones go into the file ``ROW.jsonl`` in it.
            say: tells about trouble.
            at_once: largest number of runs that are trained at once.
            finished: told of each run that was done, but for those that failed.
        """
        self.tally = Tally()
        self._finished = finished
        self._run, self._data_of, self._folder = run, data_of, folder
        self._say, self._at_once = say, at_once
        found, complaints = read_results(sorted(folder.glob("*.jsonl")))
        for complaint in complaints:
            say(complaint)
        self._found = [result for result in found if result.status != FAILED]

    def rows(self, rows: Iterable[tuple[Row, Protocol]]) -> Iterator[RunSpec]:
        """Goes through rows, each with the protocol of its task.

        Yields:
            Each run's description before it is done.
        """
        for row, protocol in rows:
            try:
                yield from self._row(row, protocol)
            except UsageError as error:
                self.tally.skipped += 1
                self._say(f"row {row.name} skipped: {error}")

    def _row(self, row: Row, protocol: Protocol) -> Iterator[RunSpec]:
        data = self._data_of(row)
        known = self._of_data(row, data)
        file = self._folder / f"{row.name}.jsonl"
        for arm in row.arms:
            begun: set[str] = set()
            while specs := [
                spec for spec in wanted_specs(row, protocol, arm, known) if spec.key not in begun
            ]:
                begun.update(spec.key for spec in specs)
                yield from self._runs(specs, known, file)

    def _of_data(self, row: Row, data: str) -> dict[str, Result]:
        """Returns what is known on some data by key, and says if there is more on other data."""
        if row.data not in (None, data):
            raise UsageError(
                f"it is on data {row.data}, and what is here is {data}; --data-dir says where else"
            )
        known, others = results_on(data, row, self._found)
        if others:
            self._say(others)
        return known

    def _runs(
        self, specs: Sequence[RunSpec], known: dict[str, Result], file: Path
    ) -> Iterator[RunSpec]:
        present = [spec for spec in specs if spec.key in known]
        self.tally.known += len(present)
        yield from present
        missing = [spec for spec in specs if spec.key not in known]
        for group in _groups(missing, self._at_once):
            yield from group
            for result in self._attempt(group):
                if result.status != FAILED:  # no rate is chosen by what is not known
                    known[result.spec.key] = result
                self._keep(result, file)

    def _attempt(self, specs: Sequence[RunSpec]) -> Sequence[Result]:
        try:
            return self._run(specs)
        except UsageError:
            raise  # what is missing is missing for the whole row
        except Exception as error:  # whatever it is, the other runs do not depend on it
            what = f"{type(error).__name__}: {error}"
            for spec in specs:
                self._say(f"{spec}: failed, {what}")
            return [_failed(spec, what) for spec in specs]

    def _keep(self, result: Result, file: Path) -> None:
        self.tally.ran += 1
        if result.status == FAILED:
            self.tally.failed += 1
        else:
            self._found.append(result)
            self._finished(result)
        try:
            append_records(file, [result])
        except OSError as error:
            self.tally.unwritten += 1
            self._say(f"{result.spec}: result not written to {file.name} ({error.strerror})")


def _groups(specs: Sequence[RunSpec], at_once: int) -> Iterator[Sequence[RunSpec]]:
    """Cuts runs into groups of about one size, at most ``at_once``, that one program can train."""
    shared = functools.partial(dataclasses.replace, seed=0, learning_rate=1.0)
    for _, group in itertools.groupby(specs, shared):
        listed = list(group)
        size = math.ceil(len(listed) / math.ceil(len(listed) / at_once))
        for first in range(0, len(listed), size):
            yield listed[first : first + size]


def _failed(spec: RunSpec, error: str) -> Result:
    return Result(
        spec=spec,
        status=FAILED,
        metric="loss",
        higher_is_better=False,
        parameters=0,
        steps=0,
        gradients_per_step=1,
        points=(),
        compile_seconds=0.0,
        wall_seconds=0.0,
        step_bytes=None,
        error=error,
        environment={},
        data=None,
    )


@contextlib.contextmanager
def progress_bar(total: int) -> Iterator[tuple[Callable[[RunSpec], None], Callable[[str], None]]]:
    """Shows how far a sweep is: a bar with the time left on a terminal, elsewhere a line a run.

    Args:
        total: number of runs, at least.

    Yields:
        What to call before each run, and what to say other things with.
    """
    console = Console(stderr=True)
    columns = bar_columns("runs", description_width=44, bar_width=20)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def begin(spec: RunSpec) -> None:
            nonlocal begun
            bar.update(task, description=str(spec), completed=begun, total=max(total, begun + 1))
            begun += 1
            if not console.is_terminal:
                print_plain(console, f"[{begun}, at least {total}] {spec}")

        yield begin, lambda text: print_plain(console, text)


def run_sweep(config: SweepConfig) -> int:
    """Sweeps as asked for; returns the exit status."""
    rows = choose_rows(read_rows(config.table), config.rows, config.tasks)
    planned = [(row, load_task(row.task, row.preset).protocol) for row in rows]
    total = sum(map(count_runs, rows))
    if config.dry_run:
        for row in rows:
            runs = f"at least {count_runs(row):>4} runs"
            print(f"{row.name:<28} {row.study:<11} {runs}: {', '.join(row.arms)}")
        print(f"{len(rows)} rows, at least {total} runs")
        return 0
    check_writable(config.output)

    # Rows of one task follow each other: its data and what is compiled of it serve all of them.
    @functools.lru_cache(maxsize=1)
    def trainer(name: str, preset: str) -> Trainer:
        task = load_task(name, preset)
        return Trainer(task, task.load(config.data_dir))

    def run(specs: Sequence[RunSpec]) -> Sequence[Result]:
        return trainer(specs[0].task, specs[0].preset).run_at_once(specs)

    def data_of(row: Row) -> str:
        return trainer(row.task, row.preset).fingerprint

    with progress_bar(total) as (begin, say):

        def finished(result: Result) -> None:
            say(f"{result.spec}: {result.outcome()}; {result.wall_seconds:.1f} s")

        sweep = Sweep(run, data_of, config.output, say, config.seeds_at_once, finished)
        try:
            for spec in sweep.rows(planned):
                begin(spec)
        except KeyboardInterrupt:
            say("interrupted; the same command goes on, the run under way begins anew")
            return INTERRUPTED
    tally = sweep.tally
    print(
        f"{tally.ran} runs done, {tally.known} known before, {tally.failed} failed, "
        f"{tally.unwritten} not written, {tally.skipped} rows skipped; results are in "
        f"{config.output}",
        file=sys.stderr,
    )
    return 1 if tally.failed or tally.unwritten or tally.skipped else 0
