"""A horizon for each leaf: linear predictions, scaled leaf by leaf."""

from typing import Any

import jax

from xgrad_optax._hyperparameters import Hyperparameters
from xgrad_optax._typing import OptState, Params, PyTree, Updates
from xgrad_optax.predictors._base import Predictor, scaled


class Horizons:
    """A tree of numbers that can be compared and hashed, as what states keep must be."""

    def __init__(self, tree: PyTree):
        leaves, self._structure = jax.tree.flatten(tree)
        self._leaves = tuple(map(float, leaves))

    @property
    def tree(self) -> PyTree:
        """The tree of floats."""
        return jax.tree.unflatten(self._structure, self._leaves)

    def _key(self) -> Any:
        return self._structure, self._leaves

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Horizons) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Horizons({self.tree!r})"


class ByLeaf(Predictor):
    """Another predictor's prediction, which is linear in s, times a horizon for each leaf.

    Its hyperparameters are those of the other one, its type (``of``) and the ``horizons``.
    """

    linear = True

    @classmethod
    def around(cls, predictor: Predictor, horizons: PyTree) -> "ByLeaf":
        """The prediction by ``predictor``, whose hyperparameters become its own."""
        values = predictor.hyperparameters.as_dict()
        return cls(Hyperparameters(of=type(predictor), horizons=Horizons(horizons), **values))

    @property
    def _other(self) -> Predictor:
        values = self.hyperparameters.as_dict()
        del values["of"], values["horizons"]
        return self.hyperparameters["of"](Hyperparameters(**values))

    def _again(self, other: Predictor) -> "ByLeaf":
        return self.around(other, self.hyperparameters["horizons"].tree)

    @property
    def transient(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the other one."""
        return self.hyperparameters["of"].transient

    @property
    def leafless(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the other one."""
        return self.hyperparameters["of"].leafless

    @property
    def starts_at_zero(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the other one."""
        return self.hyperparameters["of"].starts_at_zero

    @property
    def in_place(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the other one."""
        return self.hyperparameters["of"].in_place

    def bind(self, inner: Any) -> "ByLeaf":
        """Binds the other one."""
        return self._again(self._other.bind(inner))

    def check(self, inner_state: OptState) -> None:
        """Checks for the other one."""
        self._other.check(inner_state)

    def current(self, inner_state: OptState) -> "ByLeaf":
        """With the other one's current hyperparameters."""
        return self._again(self._other.current(inner_state))

    def init(self, params: Params) -> PyTree:
        """The other one's memory."""
        return self._other.init(params)

    def observe(self, memory: PyTree, updates: Updates) -> PyTree:
        """The other one's memory."""
        return self._other.observe(memory, updates)

    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """For each leaf s times its horizon times its d_t."""
        predicted = self._other.predict(memory, inner_state, params, s)
        horizons = self.hyperparameters["horizons"].tree
        try:
            return jax.tree.map(scaled, horizons, predicted)
        except ValueError as error:
            raise ValueError(
                "The tree of horizons `s` must have the structure of the parameters, or a prefix of"
                f" it: {error}"
            ) from error


def by_leaf(predictor: Predictor, horizons: PyTree) -> Predictor:
    """The predictor with a horizon for each leaf.

    Raises:
      ValueError: the prediction for s steps is not s times that for one.
    """
    if not predictor.linear:
        raise ValueError(
            f"{type(predictor).__name__} has one horizon for all leaves: its prediction is not s"
            " times that for one step, so a tree of horizons cannot scale it. Use a linear closed"
            " form or last_update(), or optax.partition with a prediction for each group."
        )
    return ByLeaf.around(predictor, horizons)
