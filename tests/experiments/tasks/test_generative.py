"""The tasks that generate images: sizes, layers, losses, distances, and a few steps."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from experiments.models.dcgan import Discriminator, Doubling, Generator
from experiments.models.vae import VAE
from experiments.tasks import load_task
from experiments.tasks.adversarial import signed, sliced_wasserstein
from experiments.tasks.generative import PAPER, SMALL
from tests.experiments.quick import jit_quickly, random_variables

NAMES = ("vae", "dcgan", "wgan")
ADVERSARIAL = ("dcgan", "wgan")
# Of the discriminator and of the generator: equation 1 and section 3 of arXiv 1406.2661, equation
# 2 of arXiv 1701.07875.
LOSSES_BY_HAND = {
    "dcgan": (
        lambda real, fake: -jnp.mean(jnp.log(nn.sigmoid(real)) + jnp.log(1 - nn.sigmoid(fake))),
        lambda fake: -jnp.mean(jnp.log(nn.sigmoid(fake))),
    ),
    "wgan": (lambda real, fake: jnp.mean(fake) - jnp.mean(real), lambda fake: -jnp.mean(fake)),
}


@functools.cache
def task_of(name, preset):
    return load_task(name, preset)


@functools.cache
def variables_of(name):
    if name == "wgan":  # begins within its limits
        return jit_quickly(task_of(name, "cpu").init)(jax.random.key(0))
    return random_variables(task_of(name, "cpu"))


@functools.cache
def gradient_of(name):
    return jit_quickly(task_of(name, "cpu").gradient)


def batch_of(name, preset="cpu"):
    return task_of(name, preset).fake().train


def parameters(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("name", NAMES)
class TestSteps:
    def test_gradient_is_finite_and_not_zero(self, name):
        gradient = gradient_of(name)(*variables_of(name), batch_of(name), jax.random.key(1))
        for leaf in jax.tree.leaves(gradient.params):
            assert np.isfinite(leaf).all()
            # A shift of all judgements cancels in the critic's loss.
            assert np.any(leaf) or (name == "wgan" and leaf.shape == (1,))

    def test_measure_does_not_see_rows_of_weight_0(self, name):
        task, measure = task_of(name, "cpu"), jit_quickly(task_of(name, "cpu").measure)
        weight = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
        images = batch_of(name)["image"]
        changed = np.where(weight[:, None, None, None] == 0, 255 - images, images)
        sums, state = measure(variables_of(name), {"image": images, "weight": weight})
        others, _ = measure(variables_of(name), {"image": changed, "weight": weight})
        assert sums == others
        assert sums["weight"] == 5
        assert jax.tree.structure(state) == jax.tree.structure(variables_of(name).state)
        assert task.score is not None or task.metric.name in sums


class TestVAE:
    def test_loss_falls(self):
        params, state = variables_of("vae")
        losses = []
        for _ in range(5):
            gradient = gradient_of("vae")(params, state, batch_of("vae"), jax.random.key(1))
            losses.append(float(gradient.loss))
            params = optax.tree.add_scale(params, -1e-4, gradient.params)
        assert losses == sorted(losses, reverse=True)

    def test_sums_are_those_of_the_formula(self):
        batch = {**batch_of("vae"), "weight": np.ones(8, np.float32)}
        sums, _ = task_of("vae", "cpu").measure(variables_of("vae"), batch)
        x = batch["image"].reshape(8, -1) / 255
        noise = jax.random.normal(jax.random.key(0), (8, 20))
        found = VAE().apply({"params": variables_of("vae").params}, jnp.float32(x), noise)
        logits, mean, log_variance = (np.asarray(part, np.float64) for part in found)
        white = 1 / (1 + np.exp(-logits))
        reconstruction = -np.sum(x * np.log(white) + (1 - x) * np.log(1 - white))
        variance = np.exp(log_variance)
        kl = np.sum(0.5 * (variance + mean**2 - 1 - log_variance))
        np.testing.assert_allclose(sums["reconstruction"], reconstruction, rtol=1e-5)
        np.testing.assert_allclose(sums["kl"], kl, rtol=1e-5)
        np.testing.assert_allclose(sums["elbo_loss"], reconstruction + kl, rtol=1e-5)

    def test_noise_of_training_depends_on_the_key(self):
        one, other = (
            gradient_of("vae")(*variables_of("vae"), batch_of("vae"), jax.random.key(seed)).loss
            for seed in (1, 2)
        )
        assert one != other


@pytest.mark.parametrize("name", ADVERSARIAL)
class TestField:
    def test_each_part_is_the_gradient_of_its_own_loss(self, name):
        params, state = variables_of(name)
        key = jax.random.key(1)
        field = gradient_of(name)(params, state, batch_of(name), key).params
        noise = jax.random.normal(key, (8, SMALL.latent))
        of_discriminator, of_generator = LOSSES_BY_HAND[name]

        def generated(generator):
            variables = {"params": generator, **state["generator"]}
            images, _ = SMALL.generator.apply(variables, noise, train=True, mutable=["batch_stats"])
            return images

        def scores(discriminator, images):
            return SMALL.discriminator.apply({"params": discriminator}, images, train=True)

        @jit_quickly
        def by_hand():
            fake = generated(params["generator"])
            real = jnp.float32(batch_of(name)["image"]) / 127.5 - 1
            return {
                "discriminator": jax.grad(
                    lambda own: of_discriminator(scores(own, real), scores(own, fake))
                )(params["discriminator"]),
                "generator": jax.grad(
                    lambda own: of_generator(scores(params["discriminator"], generated(own)))
                )(params["generator"]),
            }

        chex.assert_trees_all_close(field, by_hand(), rtol=1e-3, atol=1e-6)

    def test_loss_of_the_discriminator_falls_while_the_generator_stands(self, name):
        params, state = variables_of(name)
        losses = []
        for _ in range(5):
            gradient = gradient_of(name)(params, state, batch_of(name), jax.random.key(1))
            losses.append(float(gradient.loss))
            moved = optax.tree.add_scale(params, -1e-2, gradient.params)
            params = {**params, "discriminator": moved["discriminator"]}
        assert losses == sorted(losses, reverse=True)

    def test_only_the_generator_keeps_statistics(self, name):
        _, state = variables_of(name)
        after = gradient_of(name)(*variables_of(name), batch_of(name), jax.random.key(1)).state
        assert state["discriminator"] == {}
        moved = jax.tree.map(lambda old, new: bool(np.any(old != new)), state, after)
        assert all(jax.tree.leaves(moved))

    def test_score_is_the_same_each_time_and_the_distance_of_as_many_images(self, name):
        task, examples = task_of(name, "cpu"), task_of(name, "cpu").fake().test
        found = [task.score(variables_of(name), examples) for _ in range(2)]
        assert found[0] == found[1]
        assert 0 < found[0][task.metric.name] < 2


class TestClipping:
    def test_critic_starts_within_the_limit_and_is_kept_there(self):
        task, params = task_of("wgan", "cpu"), variables_of("wgan").params
        far = jax.tree.map(lambda leaf: leaf + 1, params)
        kept = task.project(far)
        largest = max(
            float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(params["discriminator"])
        )
        assert {float(leaf.max()) for leaf in jax.tree.leaves(kept["discriminator"])} == {largest}
        assert kept["generator"] is far["generator"]

    def test_dcgan_has_no_limit(self):
        assert task_of("dcgan", "cpu").project is None


class TestNetworks:
    def test_doubling_is_the_transposed_convolution(self):
        images = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
        variables = Doubling(6).init(jax.random.key(1), images)
        # Rows of a patch and of a square, each from the top, alternate in the kernel from below.
        squares = variables["params"]["Dense_0"]["kernel"].reshape(2, 2, 3, 2, 2, 6)
        kernel = squares[::-1, ::-1].transpose(0, 3, 1, 4, 2, 5).reshape(4, 4, 3, 6)[::-1, ::-1]
        convolution = nn.ConvTranspose(6, (4, 4), (2, 2), use_bias=False)
        np.testing.assert_allclose(
            Doubling(6).apply(variables, images),
            convolution.apply({"params": {"kernel": kernel}}, images),
            atol=1e-6,
        )

    def test_64_pixels_have_the_published_numbers_of_parameters(self):
        generator = Generator(start=4, doublings=4, width=64, colours=3)
        discriminator = Discriminator(start=4, doublings=4, width=64, normalized=True)
        noise, images = jnp.zeros((1, 100)), jnp.zeros((1, 64, 64, 3))
        counts = [
            parameters(
                jax.eval_shape(
                    functools.partial(model.init, train=False), jax.random.key(0), inputs
                )
            )
            for model, inputs in ((generator, noise), (discriminator, images))
        ]
        assert counts == [3_576_704, 2_765_568]

    def test_generated_images_have_the_shape_of_real_ones(self):
        images, _ = jax.eval_shape(
            lambda noise: PAPER.generator.init_with_output(jax.random.key(0), noise, train=False),
            jnp.zeros((2, PAPER.latent)),
        )
        assert images.shape == (2, *PAPER.shape)


class TestSlicedWasserstein:
    def test_distance_of_shifted_points_is_the_mean_length_along_the_directions(self):
        points = np.random.default_rng(1).standard_normal((50, 3)).astype(np.float32)
        shift = np.array([3, 0, 0], np.float32)
        # E[(shift . u)^2] = |shift|^2 / 3 for u uniform on the sphere.
        found = sliced_wasserstein(points, points + shift, directions=20_000)
        assert found == pytest.approx(3**0.5, rel=0.02)

    def test_order_of_the_points_does_not_matter(self):
        points = np.random.default_rng(1).standard_normal((50, 2, 2)).astype(np.float32)
        assert sliced_wasserstein(points, points[::-1]) == pytest.approx(0, abs=1e-6)

    def test_one_dimension_is_the_transport_of_sorted_points(self):
        first = np.array([[0.0], [1.0], [5.0]], np.float32)
        second = np.array([[7.0], [0.0], [1.0]], np.float32)
        assert sliced_wasserstein(first, second) == pytest.approx((4 / 3) ** 0.5)

    def test_points_that_are_not_numbers_have_no_distance(self):
        points = np.full((4, 2), np.nan, np.float32)
        assert np.isnan(sliced_wasserstein(points, points))


def test_pixels_are_mapped_to_the_range_of_tanh():
    np.testing.assert_array_equal(signed(np.array([0, 255], np.uint8)), [-1, 1])
