"""Problems to study an optimizer on: a loss, its examples, and nothing of the optimizer."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from experiments.errors import UsageError
from experiments.kinds import below_one, count
from experiments.options import choice, one

# Name -> one line for `--help`, which must not import JAX.
PROBLEMS: Mapping[str, str] = {
    "digits": "scikit-learn's 8x8 digits, a small fully connected network",
    "cifar10": "LeNet on images of CIFAR-10 as TFDS prepares it",
}
CIFAR10_EXAMPLES = 1024  # what two cores can take full-batch gradients of; see --examples


def problem_field() -> Any:
    """The field of a problem's name."""
    problems = "; ".join(f"{name}: {summary}" for name, summary in PROBLEMS.items())
    return choice("problem", PROBLEMS, "digits", problems, "NAME")


def examples_field(*, recorded: bool = True) -> Any:
    """The field of the number of training examples."""
    help = "training examples to use"
    return one(count, None, "N", help, shown="by problem", recorded=recorded)


def momentum_field() -> Any:
    """The field of μ."""
    return one(below_one("a number"), 0.9, "MU", "below 1")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A training problem.

    Attributes:
        name: key into ``PROBLEMS``.
        train: the training examples, a pytree of arrays with one leading axis.
        held_out: other examples, likewise.
        init: draws initial parameters from a key.
        loss: ``(params, examples) -> mean loss``.
        batch_size: examples per step where mini-batches are used.
    """

    name: str
    train: Any
    held_out: Any
    init: Callable[[Any], Any]
    loss: Callable[[Any, Any], Any]
    batch_size: int


def load_problem(name: str, data_dir: str | None, examples: int | None) -> Problem:
    """Loads the data and builds the network.

    Args:
        name: key into ``PROBLEMS``.
        data_dir: where TFDS's data sets are, see ``load_images``.
        examples: use only so many training examples, None for the problem's default.

    Returns:
        The problem.

    Raises:
        UsageError: the data are missing, or fewer than asked for.
    """
    problem = _digits() if name == "digits" else _cifar10(data_dir, examples)
    if examples is None:
        return problem

    import jax

    present = len(jax.tree.leaves(problem.train)[0])
    if present < examples:
        raise UsageError(f"--examples {examples}: {name} has only {present} training examples")
    return dataclasses.replace(problem, train=jax.tree.map(lambda x: x[:examples], problem.train))


def _digits() -> Problem:
    from experiments.tasks import load_task

    task = load_task("digits")
    key: Any = None  # the network draws no random numbers
    splits = task.load()
    return Problem(
        "digits",
        splits.train,
        splits.validation,
        task.init,
        lambda params, examples: task.loss(params, examples, key),
        task.batch_size,
    )


def _cifar10(data_dir: str | None, examples: int | None) -> Problem:
    import jax.numpy as jnp
    import optax

    from experiments.data_sources import load_images
    from experiments.patch_lenet import PatchLeNet

    network = PatchLeNet(outputs=10)

    def read(split: str) -> Any:
        images, labels = load_images("cifar10", split, data_dir)
        return jnp.asarray(images, jnp.float32) / 127.5 - 1, jnp.asarray(labels)

    def loss(params: Any, batch: Any) -> Any:
        images, labels = batch
        logits: Any = network.apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return Problem(
        "cifar10",
        read(f"train[:{examples or CIFAR10_EXAMPLES}]"),
        read("test[:1000]"),
        lambda key: network.init(key, jnp.zeros((1, 32, 32, 3))),
        loss,
        batch_size=128,
    )
