"""The one error that the command line turns into a line of text instead of a traceback."""

import importlib.util
from collections.abc import Iterable, Mapping


class UsageError(Exception):
    """Something the caller asked for cannot be done; the message says what can."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """Returns the message for a name that does not exist, listing the ones that do."""
    return f"unknown {kind} {name!r}; valid: {', '.join(valid)}"


# The modules of the distributions that each extra of pyproject.toml adds to those before it.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "experiments": ("flax", "jax", "matplotlib", "numpy", "optax", "rich", "scipy", "sklearn"),
    "data": ("PIL", "array_record", "tensorflow_datasets"),
    "evidence": (
        "grain",
        "huggingface_hub",
        "orbax",
        "sacrebleu",
        "safetensors",
        "tensorboardX",
        "tokenizers",
    ),
    "agents": ("gymnax", "six"),
}


def missing(*modules: str) -> str | None:
    """Returns the message for modules that are not installed; None if no extra brings them."""
    extras = [extra for extra, brought in EXTRAS.items() if set(modules) & set(brought)]
    if not extras:
        return None
    return (
        f"{' and '.join(modules)} missing; install what this command needs with: "
        f"python -m pip install '.[{extras[-1]}]'"
    )


def require(*modules: str) -> None:
    """Raises a ``UsageError`` that names the extra if a module is not installed."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if message := missing(*absent):
        raise UsageError(message)
