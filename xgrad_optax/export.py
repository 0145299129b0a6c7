"""Teaches ``jax.export`` the states of this library and of Optax; import it once.

``jax.export`` writes a compiled step to disk, with the tree structure of its arguments, and knows
only the types that were registered with it. Importing this module registers the states of all
three forms, what they consist of, and Optax's own states, of which Optax (0.2.8) registers none::

    import xgrad_optax.export

    exported = jax.export.export(jax.jit(train_step))(params, opt_state, batch)
    blob = exported.serialize()

The program that reads it imports the module, too. (JAX writes with the package ``flatbuffers``,
which the extra ``export`` brings.) A state that holds
:func:`~xgrad_optax.predictors.zero_gradient` in the explicit form cannot be written, because it
holds the inner transform itself; the drop-in form's state can.
"""

import contextlib
import importlib
import json
from typing import Any

import jax.export
import jax.numpy as jnp
import numpy as np
import optax

from xgrad_optax import _states, transforms
from xgrad_optax._hyperparameters import Rule
from xgrad_optax.predictors._zero_gradient import Coverage

__all__: list[str] = []


def _register_states(module: Any) -> None:
    for name in dir(module):
        state = getattr(module, name)
        if isinstance(state, type) and issubclass(state, tuple) and hasattr(state, "_fields"):
            with contextlib.suppress(ValueError):  # by somebody else, or under another name
                jax.export.register_namedtuple_serialization(
                    state, serialized_name=f"{state.__module__}.{state.__qualname__}"
                )


def _written(static: Any) -> bytes:
    predictor, values = static
    entries = [(name, _plain(name, value)) for name, value in values]
    return json.dumps([predictor.__module__, predictor.__qualname__, entries]).encode()


def _plain(name: str, value: Any) -> Any:
    """A static value as JSON knows it: ``[kind, text or number]``."""
    if value is Rule.ARRAY:
        return ["array", None]
    if value is None or isinstance(value, bool | int | float | str):
        return ["value", value]
    if isinstance(value, np.number):
        return ["value", value.item()]
    if isinstance(value, np.dtype):
        return ["dtype", jnp.dtype(value).name]
    raise ValueError(
        f"jax.export cannot write the hyperparameter {name} = {value!r} of a predictor: only"
        " numbers, strings, dtypes and arrays can be written."
    )


def _refuse(coverage: Any) -> bytes:
    del coverage
    raise ValueError(
        "jax.export cannot write a state that holds zero_gradient(), which rolls out the transform"
        " itself: use last_update(), a closed form, or the drop-in form xgrad(...), whose state"
        " holds no functions."
    )


def _read(data: bytes) -> Any:
    module, name, entries = json.loads(data)
    predictor = getattr(importlib.import_module(module), name)
    kinds = {"array": lambda _: Rule.ARRAY, "value": lambda x: x, "dtype": jnp.dtype}
    return predictor, tuple((name, kinds[kind](value)) for name, (kind, value) in entries)


jax.export.register_pytree_node_serialization(
    Rule,
    serialized_name="xgrad_optax.Rule",
    serialize_auxdata=_written,
    deserialize_auxdata=_read,
)
jax.export.register_pytree_node_serialization(
    Coverage,
    serialized_name="xgrad_optax.Coverage",
    serialize_auxdata=_refuse,
    deserialize_auxdata=_refuse,
)
for _module in (_states, transforms, optax, optax.contrib, optax.transforms):
    _register_states(_module)
