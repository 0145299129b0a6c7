"""What training needs to know about a problem: its data, model, gradient, measure and protocol."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.errors import UsageError

if TYPE_CHECKING:
    import jax
    import numpy as np

Examples = Mapping[str, "np.ndarray"]
"""Named arrays that share their leading axis, one entry an example."""

Batch = Mapping[str, Any]
"""Some examples as the model sees them; when measuring also ``weight``, ``[rows]`` of 1 and 0:
0 marks rows that only fill up the last batch."""


class Data(NamedTuple):
    """A data set in three parts.

    Attributes:
        train: what the optimizer sees.
        validation: what learning rates and epochs are chosen on.
        test: what is reported and nothing is chosen on.
        augment: changes a training batch at random, ``(batch, generator) -> batch``; None for not.
        ordered: whether batches follow each other as the examples do, as in a text that is read
            on; otherwise each epoch has an order of its own.
    """

    train: Examples
    validation: Examples
    test: Examples
    augment: "Callable[[Examples, np.random.Generator], Examples] | None" = None
    ordered: bool = False


def fingerprint(data: Data) -> str:
    """Returns 12 letters that differ where names, dtypes, shapes or values of the arrays differ."""
    import numpy as np

    digest = hashlib.sha256()
    for part in data[:3]:
        for name, values in sorted(part.items()):
            array = np.ascontiguousarray(values)
            digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
            digest.update(array.data)
        digest.update(b"end of part ")
    return digest.hexdigest()[:12]


class Variables(NamedTuple):
    """A model's arrays.

    Attributes:
        params: what is trained.
        state: what the forward pass hands on: batch statistics, a recurrent carry; ``{}`` if
            there is none.
    """

    params: Any
    state: Any


class Gradient(NamedTuple):
    """What one backward pass gives.

    Attributes:
        loss: the training loss of the batch, a scalar.
        params: the gradient, of the parameters' structure.
        state: the model's state after the pass.
    """

    loss: "jax.Array"
    params: Any
    state: Any


GradientOf = Callable[[Any], Gradient]
"""Maps parameters to a batch's gradient there."""


class Metric(NamedTuple):
    """The number that a task is judged by.

    Attributes:
        name: its key among the measures.
        label: with its unit, for reports.
        higher_is_better: which way it improves.
    """

    name: str
    label: str
    higher_is_better: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a task is trained, whatever the optimizer.

    Attributes:
        batch_size: examples per step.
        epochs: passes over the training set.
        schedule: key into ``schedules.SCHEDULES``: the shape of the learning rate over time.
        learning_rates: the usual one of each optimizer.
        weight_decay: of the optimizers that decouple it, None for Optax's own.
        clip_norm: largest norm of a gradient, None for no limit.
        measure_batch_size: examples per batch when measuring, None for ``batch_size``.
    """

    batch_size: int
    epochs: int
    schedule: str
    learning_rates: Mapping[str, float]
    weight_decay: float | None = 5e-4
    clip_norm: float | None = None
    measure_batch_size: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A problem at one preset.

    Attributes:
        name: key into ``TASKS``.
        preset: ``"cpu"`` or ``"paper"``.
        load: reads the data from a folder, None for the usual places.
        fake: a few random examples of the data's shapes and dtypes, for tests.
        init: draws parameters from a key.
        gradient: ``(params, state, batch, key) -> Gradient``.
        measure: ``(variables, batch) -> (sums, state)``: sums over the batch's examples by name,
            ``"weight"`` the number they are to be divided by.
        metric: what the task is judged by.
        loss: name of the measure that training lowers.
        protocol: how it is trained.
        parameters: number of trained numbers that the network should have; what trains it
            checks, see :func:`check_parameters`.
        derive: turns the means into what is recorded; adds a perplexity, for one.
        score: measures what is not a mean over examples, such as BLEU:
            ``(variables, examples) -> measures``; None for nothing.
        project: applied to the parameters after each update, None for nothing.
    """

    name: str
    preset: str
    load: Callable[[str | None], Data]
    fake: Callable[[], Data]
    init: Callable[["jax.Array"], Variables]
    gradient: Callable[[Any, Any, Batch, "jax.Array"], Gradient]
    measure: Callable[[Variables, Batch], tuple[Mapping[str, "jax.Array"], Any]]
    metric: Metric
    protocol: Protocol
    parameters: int
    derive: Callable[[Mapping[str, float]], Mapping[str, float]] = dict
    loss: str = "loss"
    score: Callable[[Variables, Examples], Mapping[str, float]] | None = None
    project: Callable[[Any], Any] | None = None


def gradient_of(
    loss: Callable[[Any, Any, Batch, "jax.Array"], tuple["jax.Array", Any]],
) -> Callable[[Any, Any, Batch, "jax.Array"], Gradient]:
    """Returns the gradient of ``(params, state, batch, key) -> (loss, state)``."""

    def gradient(params: Any, state: Any, batch: Batch, key: "jax.Array") -> Gradient:
        import jax

        (value, state), derivative = jax.value_and_grad(loss, has_aux=True)(
            params, state, batch, key
        )
        return Gradient(value, derivative, state)

    return gradient


def check_parameters(task: Task) -> None:
    """Refuses a network that is not the one that its task says; computes nothing.

    Raises:
        UsageError: it has another number of trained numbers.
    """
    import jax

    leaves = jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0)).params)
    found = sum(math.prod(leaf.shape) for leaf in leaves)
    if found != task.parameters:
        raise UsageError(
            f"task {task.name!r} at preset {task.preset!r} says {task.parameters:,} parameters, "
            f"its network has {found:,}; correct the network, or the number beside it"
        )
