"""The options of ``bench --target`` and ``scale --target``; nothing here imports JAX."""

import argparse
from collections.abc import Callable

from experiments.arguments import one_of
from experiments.bench.compiled_config import COMPILED, CompiledConfig
from experiments.bench.config import DTYPES, LAYOUTS, with_plain
from experiments.bench.targets import TARGETS
from experiments.errors import UsageError, unknown_name

# What prediction costs in every form; the alternatives are no matter of compilers.
_VARIANTS = (
    "closed-form",
    "zero-gradient",
    "last-update",
    "drop-in",
    "drop-in-closed-form",
    "in-place",
)
_OPTIMIZERS = ("adamw", "sgdm", "adam", "adabelief", "lion", "sgdm-clipped", "adamw-clipped")
_DEVICES = (1, 8)

_ONLY_TIMED = ("preset", "batch_sizes", "dtype", "seconds", "compilations")
_ONLY_COMPILED = ("computes", "layouts", "devices")


def add_target(parser: argparse.ArgumentParser, instead: str) -> None:
    """Adds the option that names the target."""
    targets = "; ".join(f"{name}: {target.summary}" for name, target in TARGETS.items())
    parser.add_argument(
        "--target",
        type=one_of("target", TARGETS),
        metavar="NAME",
        help=f"compile for a device that need not be there, {instead}; needs '.[aot]'; {targets}",
    )


def add_compiled_options(parser: argparse.ArgumentParser, devices: Callable[[str], int]) -> None:
    """Adds the options of ``bench`` that are for a target alone."""
    parser.add_argument(
        "--computes",
        type=one_of("dtype", dict.fromkeys(DTYPES)),
        nargs="+",
        metavar="NAME",
        help=f"with --target: dtypes of activations, weights stay float32; {' '.join(DTYPES)}",
    )
    parser.add_argument(
        "--layouts",
        type=one_of("layout", LAYOUTS),
        nargs="+",
        metavar="NAME",
        help="with --target: how several devices share the work, as in scale; default: data fsdp",
    )
    parser.add_argument(
        "--devices",
        type=devices,
        nargs="+",
        metavar="N",
        help="with --target: powers of two, up to 8; default: 1 8",
    )


def check_no_compiled_options(arguments: argparse.Namespace) -> None:
    """Raises a ``UsageError`` if an option was given that only a target has."""
    _refuse(arguments, _ONLY_COMPILED, "is for --target, which is not given")


def compiled_config(
    arguments: argparse.Namespace, once: Callable[..., tuple], default_variants: tuple[str, ...]
) -> CompiledConfig:
    """Returns what ``bench --target`` was asked for.

    Args:
        arguments: of the command line.
        once: drops what is named twice.
        default_variants: the variants where none are named.

    Raises:
        UsageError: an option that has no meaning here, or the compiler is not installed.
    """
    _refuse(arguments, _ONLY_TIMED, "is not for --target, where nothing is timed")
    for model in arguments.models or ():
        if model not in COMPILED:
            message = unknown_name("model", model, COMPILED)
            raise UsageError(f"argument --models: with --target, {message}")
    named = tuple(arguments.variants) != default_variants
    return CompiledConfig(
        target=arguments.target,
        compiler=TARGETS[arguments.target].compiler,
        models=once(arguments.models or COMPILED),
        optimizers=once(arguments.optimizers or _OPTIMIZERS),
        variants=with_plain(*(arguments.variants if named else _VARIANTS)),
        computes=once(arguments.computes or DTYPES),
        layouts=once(arguments.layouts or ("data", "fsdp")),
        devices=once(devices_of_target(sorted(arguments.devices or _DEVICES))),
    )


def devices_of_target(devices: list[int] | tuple[int, ...]) -> list[int]:
    """Returns numbers of devices; a ``UsageError`` says if a target has not that many."""
    if max(devices) > max(_DEVICES):
        raise UsageError(
            f"argument --devices: {max(devices)} is more than the {max(_DEVICES)} of a target"
        )
    return list(devices)


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        if getattr(arguments, name) is not None:
            raise UsageError(f"argument --{name.replace('_', '-')}: {reason}")
