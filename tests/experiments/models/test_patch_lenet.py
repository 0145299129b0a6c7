import jax
import numpy as np
from quick import jit_quickly

from experiments.models.lenet import LeNet
from experiments.models.patch_lenet import PatchLeNet


def test_lenet_by_products_is_lenet():
    @jit_quickly
    def logits(key):
        images = jax.random.normal(key, (3, 32, 32, 3))
        params = PatchLeNet(outputs=10).init(key, images)
        return PatchLeNet(outputs=10).apply(params, images), LeNet(outputs=10).apply(params, images)

    np.testing.assert_allclose(*logits(jax.random.key(0)), atol=1e-5)
