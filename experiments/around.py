"""What an arm does with a gradient's function before it is called."""

import functools
from collections.abc import Callable
from typing import Any

from experiments.task import Gradient, GradientOf

_SAM_RADIUS = 0.05  # the paper's, arXiv 2010.01412


def as_it_is(gradient: GradientOf) -> GradientOf:
    """What an ordinary optimizer does around a gradient: nothing."""
    return gradient


def at_sharpest(gradient: GradientOf) -> GradientOf:
    """Takes the gradient where the loss is about highest nearby: SAM, arXiv 2010.01412, eq. 2."""

    @functools.wraps(gradient)
    def sharpest(params: Any) -> Gradient:
        import jax.numpy as jnp
        import optax

        here = gradient(params)
        scale = _SAM_RADIUS / jnp.maximum(optax.tree.norm(here.params), 1e-12)
        there = gradient(optax.tree.add_scale(params, scale, here.params))
        return there._replace(loss=here.loss)

    return sharpest


def clipped(
    around: Callable[[GradientOf], GradientOf], norm: float
) -> Callable[[GradientOf], GradientOf]:
    """Bounds the norm of what ``around`` gives; the optimizer's state stays its own."""
    import optax

    clip = optax.clip_by_global_norm(norm)

    def bounded(gradient: GradientOf) -> GradientOf:
        def within(params: Any) -> Gradient:
            found = around(gradient)(params)
            return found._replace(params=clip.update(found.params, clip.init(params))[0])

        return within

    return bounded
