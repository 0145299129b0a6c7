"""The commands ``bench`` and ``scale``; like all of the command line, without importing JAX."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from experiments.arguments import (
    INTERRUPTED,
    Commands,
    Parser,
    add_output,
    count,
    one_of,
    positive,
    seed,
)
from experiments.bench.config import (
    DTYPES,
    LAYOUTS,
    PRESETS,
    SIZES,
    BenchConfig,
    ScaleConfig,
    with_plain,
)
from experiments.bench.optimizers import BENCHED
from experiments.bench.target_cli import (
    add_compiled_options,
    add_target,
    check_no_compiled_options,
    compiled_config,
    devices_of_target,
)
from experiments.bench.targets import TARGETS
from experiments.bench.variants import PREDICTED, VARIANTS
from experiments.bench.workloads import WORKLOADS
from experiments.errors import UsageError
from experiments.folder import new_folder

_MOST_DEVICES = 64

Item = TypeVar("Item")


def add_bench(commands: "Commands[Parser]") -> None:
    """Adds the command ``bench``."""
    parser = commands.add_parser(
        "bench",
        help="measure what prediction costs beside plain Optax and its alternatives",
        description=(
            "Compiles and times train steps with random weights and data: plain Optax, weight "
            "prediction in every form, and the alternatives, side by side in one process. Writes "
            "report.md, bars.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the "
            "groups (model, optimizer, batch size) that have finished."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_bench)
    add = parser.add_argument
    presets = "; ".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items())
    add(
        "--preset",
        type=one_of("preset", PRESETS),
        help=f"defaults of what follows; {presets}; default: quick",
    )
    add(
        "--models",
        type=one_of("model", WORKLOADS),
        nargs="+",
        metavar="NAME",
        help=f"of {' '.join(WORKLOADS)}",
    )
    add(
        "--optimizers",
        type=one_of("optimizer", BENCHED),
        nargs="+",
        metavar="NAME",
        help=f"of {' '.join(BENCHED)}",
    )
    _add_variants(parser, VARIANTS, tuple(VARIANTS))
    add(
        "--batch-sizes",
        type=count,
        nargs="+",
        metavar="N",
        help="examples per step, for every model; default: each model's own",
    )
    _add_dtype(parser)
    add("--seconds", type=positive, help="how long the steps of each group are timed")
    add("--compilations", type=count, metavar="N", help="how often each step is compiled")
    add("--seed", type=seed, default=0, metavar="N", help="of weights, data and order; default: 0")
    add_target(parser, "and count; nothing is timed")
    add_compiled_options(parser, _devices)
    add_output(parser)


def add_scale(commands: "Commands[Parser]") -> None:
    """Adds the command ``scale``."""
    parser = commands.add_parser(
        "scale",
        help="count what prediction adds to transformers of 1 M to 10 B parameters on many devices",
        description=(
            "Compiles, without running it or allocating anything, the train step of a decoder "
            "transformer of each size on each mesh, and counts bytes and collective operations "
            "with and without prediction; about ten minutes on two cores. Devices that the machine "
            "lacks are virtual CPU devices. Writes report.md, runs.jsonl and meta.json to a new "
            "folder. Ctrl-C keeps what has finished."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_scale)
    add = parser.add_argument
    add(
        "--sizes",
        type=one_of("size", SIZES),
        nargs="+",
        default=list(SIZES),
        metavar="SIZE",
        help=f"numbers of parameters; default: {' '.join(SIZES)}",
    )
    layouts = "; ".join(f"{name}: {summary}" for name, summary in LAYOUTS.items())
    add(
        "--layouts",
        type=one_of("layout", LAYOUTS),
        nargs="+",
        default=list(LAYOUTS),
        metavar="NAME",
        help=f"{layouts}; default: {' '.join(LAYOUTS)}",
    )
    add(
        "--devices",
        type=_devices,
        nargs="+",
        default=[1, 2, 4, 8],
        metavar="N",
        help="powers of two; default: 1 2 4 8",
    )
    add(
        "--optimizer",
        type=one_of("optimizer", BENCHED),
        default="adamw",
        metavar="NAME",
        help="default: adamw",
    )
    valid = {name: VARIANTS[name] for name in (*PREDICTED, "nesterov")}
    _add_variants(parser, valid, ("closed-form", "last-update", "zero-gradient", "drop-in"))
    _add_dtype(parser)
    add_target(parser, "instead of virtual CPU devices")
    add_output(parser)


def add_page(commands: "Commands[Parser]") -> None:
    """Adds the command ``page``."""
    parser = commands.add_parser(
        "page",
        help="write the results of bench or scale as a page to keep",
        description=(
            "Writes what a run of bench or scale found as a page (.md), the data that it is made "
            "from (.jsonl) and, for bench, its bar chart (.png), over files of the same name."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_page)
    parser.add_argument(
        "results",
        type=Path,
        nargs="+",
        help="folder of a run, or of several that differ only in models, optimizers, sizes or "
        "devices; or the .jsonl file of a page, to write that page anew",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PAGE",
        help="the .md file; default: beside the .jsonl file",
    )


def list_bench() -> None:
    """Prints the models and variants that can be measured."""
    print("models of bench:")
    for name, workload in WORKLOADS.items():
        print(f"  {name:<16} {workload.summary}")
    print("variants of bench and scale:")
    for name, variant in VARIANTS.items():
        print(f"  {name:<16} {variant.summary}")


def _add_variants(
    parser: argparse.ArgumentParser, valid: Mapping[str, object], default: tuple[str, ...]
) -> None:
    parser.add_argument(
        "--variants",
        type=one_of("variant", valid),
        nargs="+",
        default=list(default),
        metavar="NAME",
        help=f"beside the plain step, of {' '.join(valid)}; default: "
        f"{'all' if default == tuple(valid) else ' '.join(default)}",
    )


def _add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype",
        type=one_of("dtype", dict.fromkeys(DTYPES)),
        metavar="NAME",
        help=f"of parameters and activations, {' or '.join(DTYPES)}; default: float32",
    )


def _devices(text: str) -> int:
    number = count(text)
    if number > _MOST_DEVICES or number & (number - 1):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a power of two from 1 to {_MOST_DEVICES}"
        )
    return number


def _bench(arguments: argparse.Namespace) -> int:
    if arguments.target is not None:
        return _bench_compiled(arguments)
    check_no_compiled_options(arguments)
    preset = PRESETS[arguments.preset or "quick"]
    sizes = arguments.batch_sizes
    config = BenchConfig(
        models=_once(arguments.models or preset.models),
        optimizers=_once(arguments.optimizers or preset.optimizers),
        variants=with_plain(*arguments.variants),
        batch_sizes=sizes and _once(sizes),
        dtype=arguments.dtype or DTYPES[0],
        seconds=arguments.seconds or preset.seconds,
        compilations=arguments.compilations or preset.compilations,
        seed=arguments.seed,
    )
    folder = new_folder(arguments.output, "bench")

    from experiments.bench.run import bench

    return 0 if bench(config, folder) else INTERRUPTED


def _bench_compiled(arguments: argparse.Namespace) -> int:
    config = compiled_config(arguments, _once, tuple(VARIANTS))
    TARGETS[config.target].devices()  # says what is wrong before anything is written
    folder = new_folder(arguments.output, f"bench-{config.target}")

    from experiments.bench.compiled import bench_compiled

    return 0 if bench_compiled(config, folder) else INTERRUPTED


def _scale(arguments: argparse.Namespace) -> int:
    variants, dtype = with_plain(*arguments.variants), arguments.dtype or DTYPES[0]
    target = TARGETS[arguments.target] if arguments.target else None
    devices = sorted(arguments.devices)
    config = ScaleConfig(
        sizes=_once(arguments.sizes),
        layouts=_once(arguments.layouts),
        devices=_once(devices_of_target(devices) if target else devices),
        optimizer=arguments.optimizer,
        variants=tuple(
            name for name in variants if VARIANTS[name].suits(arguments.optimizer, dtype)
        ),
        dtype=dtype,
        target=arguments.target,
        compiler=target and target.compiler,
    )
    if target:
        target.devices()  # says what is wrong before anything is written
    folder = new_folder(arguments.output, "scale")

    from experiments.bench.scale import scale

    return 0 if scale(config, folder) else INTERRUPTED


def _page(arguments: argparse.Namespace) -> int:
    sources, page = arguments.results, arguments.output
    if page is None and (len(sources) > 1 or sources[0].is_dir()):
        raise UsageError("argument --output: say where the page of a run's folder goes, as in x.md")
    page = page or sources[0].with_suffix(".md")
    if page.suffix != ".md":
        raise UsageError(f"argument --output: {str(page)!r} does not end in .md")

    from experiments.bench.pages import merge_results, read_results, write_page

    results = merge_results([read_results(source) for source in sources])
    for file in write_page(results, page):
        print(file)
    return 0


def _once(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys(items))
