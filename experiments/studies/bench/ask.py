"""What ``bench`` is asked: which train steps are timed, or with a target only compiled for it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.errors import UsageError
from experiments.kinds import count, one_of, positive, seed
from experiments.options import listed, many, names, one, output, positional
from experiments.studies.bench.choices import (
    DTYPES,
    LAYOUTS,
    devices,
    dtype_field,
    target_field,
    with_plain,
)
from experiments.studies.bench.compiled import ask as compiled
from experiments.studies.bench.exact import Exact
from experiments.studies.bench.floors import Least
from experiments.studies.bench.optimizers import BENCHED
from experiments.studies.bench.presets import PRESETS
from experiments.studies.bench.scale import ask as scale
from experiments.studies.bench.variants import VARIANTS
from experiments.studies.bench.workloads import WORKLOADS
from experiments.study import Command, Study


@dataclasses.dataclass(frozen=True)
class Group:
    """Train steps that are measured side by side; they differ in nothing but the variant.

    Attributes:
        model: key into ``WORKLOADS``.
        optimizer: key into ``BENCHED``.
        batch_size: examples per step.
    """

    model: str
    optimizer: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.model} {self.optimizer} batch {self.batch_size}"


_PRESETS = "; ".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments bench``."""

    preset: str | None = one(
        one_of("preset", PRESETS),
        help=f"defaults of what follows; {_PRESETS}",
        shown="quick",
        recorded=False,
    )
    models: tuple[str, ...] = names("model", WORKLOADS, None, f"of {' '.join(WORKLOADS)}")
    optimizers: tuple[str, ...] = names("optimizer", BENCHED, None, f"of {' '.join(BENCHED)}")
    variants: tuple[str, ...] = names(
        "variant", VARIANTS, None, f"beside the plain step, of {' '.join(VARIANTS)}", shown="all"
    )
    batch_sizes: tuple[int, ...] | None = many(
        count, None, "N", "examples per step, for every model", shown="each model's own"
    )
    dtype: str = dtype_field(None)
    seconds: float = one(positive, help="how long the steps of each group are timed")
    compilations: int = one(count, None, "N", "how often each step is compiled")
    seed: int = one(seed, 0, "N", "of weights, data and order")
    target: str | None = target_field("and count; nothing is timed", recorded=False)
    computes: tuple[str, ...] | None = names(
        "dtype",
        DTYPES,
        None,
        f"with --target: dtypes of activations, weights stay float32; {' '.join(DTYPES)}",
        recorded=False,
    )
    layouts: tuple[str, ...] | None = names(
        "layout",
        LAYOUTS,
        None,
        "with --target: how several devices share the work, as in scale",
        shown=" ".join(compiled.LAYOUTS),
        recorded=False,
    )
    devices: tuple[int, ...] | None = many(
        devices,
        None,
        "N",
        "with --target: powers of two, up to 8",
        shown=" ".join(map(str, compiled.DEVICES)),
        ordered=True,
        recorded=False,
    )
    output: Path | None = output()

    def completed(self) -> "Config | compiled.Config":
        """Returns the configuration with the preset's defaults, or that of the target."""
        if self.target is not None:
            self._refuse(_ONLY_TIMED, "is not for --target, where nothing is timed")
            return compiled.of_target(self)
        self._refuse(_ONLY_COMPILED, "is for --target, which is not given")
        preset = PRESETS[self.preset or "quick"]
        return dataclasses.replace(
            self,
            models=self.models or preset.models,
            optimizers=self.optimizers or preset.optimizers,
            variants=with_plain(*(self.variants or VARIANTS)),
            dtype=self.dtype or DTYPES[0],
            seconds=self.seconds or preset.seconds,
            compilations=self.compilations or preset.compilations,
        )

    def _refuse(self, options: tuple[str, ...], reason: str) -> None:
        for name in options:
            if getattr(self, name) is not None:
                raise UsageError(f"argument --{name.replace('_', '-')}: {reason}")

    def items(self) -> list[Group]:
        """Returns what is measured, in order."""
        return [
            Group(model, optimizer, batch_size)
            for model in self.models
            for batch_size in self.batch_sizes or (WORKLOADS[model].batch_size,)
            for optimizer in self.optimizers
        ]

    def variants_for(self, optimizer: str) -> list[str]:
        """Returns the variants that exist for an optimizer."""
        return [name for name in self.variants if VARIANTS[name].suits(optimizer, self.dtype)]


_ONLY_TIMED = ("preset", "batch_sizes", "dtype", "seconds", "compilations")
_ONLY_COMPILED = ("computes", "layouts", "devices")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed:
    """Measured times; unlike the exact figures they depend on the machine and on chance.

    Attributes:
        compile_seconds: tracing, lowering and compiling, once per repetition.
        step_seconds: one step, once per round; the same round of all variants of a group ran
            side by side.
        loss_is_finite: whether the loss still was a number in the last round.
    """

    compile_seconds: list[float]
    step_seconds: list[float]
    loss_is_finite: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One variant in one group.

    Attributes:
        model: name of the workload.
        optimizer: name of the optimizer.
        batch_size: examples per step.
        variant: name of the variant.
        parameters: number of parameters of the model.
        params_bytes: their bytes.
        carried: bytes of what the training loop keeps: parameters and optimizer state.
        compilations: how often XLA compiled for the first steps of one run; 1 is right.
        exact: figures of the compiled step.
        floor: its lower bound, None where there is none.
        timed: measured times.
    """

    model: str
    optimizer: str
    batch_size: int
    variant: str
    parameters: int
    params_bytes: int
    carried: int
    compilations: int
    exact: Exact
    floor: Least | None
    timed: Timed

    @property
    def place(self) -> Group:
        """What it was measured side by side in."""
        return Group(self.model, self.optimizer, self.batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageConfig:
    """The configuration of ``python -m experiments page``."""

    results: list[Path] = positional(
        Path,
        "folder of a run, or of several that differ only in models, optimizers, sizes or devices; "
        "or the .jsonl file of a page, to write that page anew",
        nargs="+",
    )
    output: Path | None = one(Path, None, "PAGE", "the .md file", shown="beside the .jsonl file")

    def completed(self) -> "PageConfig":
        """Returns the configuration with the path of the page."""
        first, page = self.results[0], self.output
        if page is None and (len(self.results) > 1 or first.is_dir()):
            raise UsageError(
                "argument --output: say where the page of a run's folder goes, as in x.md"
            )
        page = page or first.with_suffix(".md")
        if page.suffix != ".md":
            raise UsageError(f"argument --output: {str(page)!r} does not end in .md")
        return dataclasses.replace(self, output=page)


def _listing() -> Iterator[str]:
    for heading, valid in {
        "models of bench": WORKLOADS,
        "variants of bench and scale": VARIANTS,
    }.items():
        yield from listed(heading, {name: row.summary for name, row in valid.items()}, 16)


class _Bench(Study):
    """With a target another study: its items, work, records and page are others."""

    def call(self, config: Any) -> int:
        return super().call(config) if isinstance(config, Config) else compiled.STUDY.call(config)


SCALE = scale.STUDY
STUDY = _Bench(
    name="bench",
    summary="measure what prediction costs beside plain Optax and its alternatives",
    about=(
        "Compiles and times train steps with random weights and data: plain Optax, weight "
        "prediction in every form, and the alternatives, side by side in one process. Writes "
        "report.md, bars.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the "
        "groups (model, optimizer, batch size) that have finished."
    ),
    config=Config,
    folder="bench",
    noun="groups",
    place=20,
    listing=_listing,
)
PAGE = Command(
    name="page",
    summary="write the results of bench or scale as a page to keep",
    about=(
        "Writes what a run of bench or scale found as a page (.md), the data that it is made "
        "from (.jsonl) and, for bench, its bar chart (.png), over files of the same name."
    ),
    config=PageConfig,
    run="experiments.studies.bench.pages:page",
    place=22,
)
