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
    import jax.numpy as jnp

    from experiments.data.digits import load_digits
    from experiments.models.mlp import MLP

    train, held_out, *_ = load_digits()
    network = MLP(hidden=(64, 64), outputs=10)
    parts = ((jnp.asarray(part["image"]), jnp.asarray(part["label"])) for part in (train, held_out))
    return _problem("digits", network, *parts, batch_size=32)


def _cifar10(data_dir: str | None, examples: int | None) -> Problem:
    import jax.numpy as jnp

    from experiments.data.tfds import load_images
    from experiments.models.patch_lenet import PatchLeNet

    def read(split: str) -> Any:
        images, labels = load_images("cifar10", split, data_dir)
        return jnp.asarray(images, jnp.float32) / 127.5 - 1, jnp.asarray(labels)

    parts = (read(f"train[:{examples or CIFAR10_EXAMPLES}]"), read("test[:1000]"))
    return _problem("cifar10", PatchLeNet(outputs=10), *parts, batch_size=128)


def _problem(name: str, network: Any, train: Any, held_out: Any, batch_size: int) -> Problem:
    import jax.numpy as jnp
    import optax

    images, _ = train

    def loss(params: Any, batch: Any) -> Any:
        images, labels = batch
        logits = network.apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return Problem(
        name,
        train,
        held_out,
        lambda key: network.init(key, jnp.zeros((1, *images.shape[1:]))),
        loss,
        batch_size,
    )
