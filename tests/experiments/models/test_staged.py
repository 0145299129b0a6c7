"""Networks that are cut into stages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.models import staged_convolutions, staged_mlp, staged_transformer
from experiments.models.patch_lenet import PatchConv

NETWORKS = {
    "mlp": (staged_mlp, {"image": jnp.ones((3, 64)), "label": jnp.arange(3)}),
    "transformer": (staged_transformer, {"tokens": jnp.arange(66).reshape(2, 33) % 65}),
    "convolutions": (
        staged_convolutions,
        {"image": jnp.ones((3, 32, 32, 3)), "label": jnp.arange(3)},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_are_alike_and_a_network_begins_without_a_preference(name):
    module, batch = NETWORKS[name]
    network = module.NETWORK
    params = network.init(jax.random.key(0), 3)
    assert {len(leaf) for leaf in jax.tree.leaves(params)} == {3}
    first = jax.tree.map(lambda leaf: leaf[0], params)
    x = network.enter(first, batch)
    assert network.block(first, x).shape == x.shape
    loss, accuracy = network.whole(params, batch)
    classes = network.scores(first, x).shape[-1]
    assert abs(float(loss) - np.log(classes)) < 1.5
    assert 0 <= float(accuracy) <= 1


def test_a_character_is_foretold_by_those_before_it_alone():
    network = staged_transformer.NETWORK
    params = jax.tree.map(lambda leaf: leaf[0], network.init(jax.random.key(0), 1))

    def scores(tokens):
        return network.scores(params, network.block(params, network.enter(params, tokens)))

    tokens = jnp.arange(33)[None] % 65
    changed = tokens.at[0, 20].set(3)
    before, after = (scores({"tokens": each}) for each in (tokens, changed))
    np.testing.assert_array_equal(before[:, :20], after[:, :20])
    assert np.abs(before[:, 20:] - after[:, 20:]).max() > 1e-3


@pytest.mark.parametrize(("side", "padding"), [(3, 1), (5, 0), (5, 2)])
def test_a_product_of_patches_is_a_convolution(side, padding):
    images = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    around = [(padding, padding)] * 2
    conv = nn.Conv(4, (side, side), padding=around)
    variables = conv.init(jax.random.key(1), images)
    found = PatchConv(4, side=side, padding=padding).apply(variables, images)
    np.testing.assert_allclose(found, conv.apply(variables, images), atol=1e-5)
