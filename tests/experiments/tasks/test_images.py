"""The networks for images: known sizes, the shapes inside them, and that small ones learn."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.models.alexnet import AlexNet
from experiments.models.convolutions import ConvNorm, max_pool_2, max_pool_3
from experiments.models.densenet import DenseNet, Transition
from experiments.models.googlenet import Inception, Widths
from experiments.models.inception import (
    InceptionV3,
    ModuleA,
    ModuleB,
    ModuleC,
    ReductionA,
    ReductionB,
)
from experiments.models.resnet import BasicBlock, BottleneckBlock, ResNet
from experiments.models.vgg import VGG
from experiments.models.vit import ViT
from experiments.rates import usual_rates
from experiments.task import Protocol, Task, Variables
from experiments.tasks import load_task
from experiments.tasks.images import Source, classification_sums, image_task
from tests.experiments.quick import jit_quickly, random_variables

NAMES = (
    "alexnet",
    "vgg11",
    "vgg16",
    "vgg16-cifar100",
    "resnet34",
    "resnet34-cifar100",
    "resnet101",
    "googlenet",
    "densenet121",
    "inception-v3",
    "vit",
    "vit-cifar100",
    "mnist",
    "mnist-connected",
    "mnist-centred",
    "fashion-mnist",
)


@functools.cache
def shapes_in(model, size, channels=3):
    """Returns the parameters, the logits and each module's output, as shapes, for one image."""

    def run(key):
        images = jnp.zeros((1, size, size, channels))
        return model.init_with_output(
            key, images, train=False, mutable=True, capture_intermediates=True
        )

    output, variables = jax.eval_shape(run, jax.random.key(0))
    return variables["params"], output, outputs_in(variables["intermediates"])


def outputs_in(intermediates):
    """Returns the shape of each module's output without the leading axis, by the module's name."""
    return {
        name: module["__call__"][0].shape[1:]
        for name, module in intermediates.items()
        if name != "__call__"
    }


class TestPublishedSizes:
    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("alexnet", 2_472_266),
            ("vgg11", 9_231_114),
            ("vgg16", 14_728_266),
            ("resnet34", 21_282_122),
            ("resnet101", 42_512_970),
            ("googlenet", 6_166_250),
            ("densenet121", 6_956_298),
        ],
    )
    def test_the_versions_for_cifar(self, name, parameters):
        # That the networks have what their tasks state is tested for all tasks alike.
        assert load_task(name, "paper").parameters == parameters

    @pytest.mark.parametrize(
        ("model", "size", "parameters"),
        [
            (InceptionV3(1000, strides=(2, 2, 2), padding=0), 299, 23_834_568),
            (ViT(1000, patch=16, width=768, hidden=3072, layers=12, heads=12), 224, 86_567_656),
        ],
        ids=["Inception-V3", "ViT-B/16"],
    )
    def test_the_originals_for_imagenet(self, model, size, parameters):
        params, logits, _ = shapes_in(model, size)
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
        assert logits.shape == (1, 1000)

    def test_inception_v3_has_the_resolutions_of_table_1(self):
        model = InceptionV3(1000, strides=(2, 2, 2), padding=0)
        _, _, found = shapes_in(model, 299)
        assert found["ConvNorm_4"] == (71, 71, 192)
        assert found["ModuleA_0"] == (35, 35, 256)
        assert found["ModuleA_2"] == (35, 35, 288)
        assert found["ReductionA_0"] == (17, 17, 768)
        assert found["ModuleB_3"] == (17, 17, 768)
        assert found["ReductionB_0"] == (8, 8, 1280)
        assert found["ModuleC_1"] == (8, 8, 2048)


@pytest.mark.parametrize("name", NAMES)
def test_presets_share_their_classes_and_image_shape(name):
    small, large = (load_task(name, preset).fake().train for preset in ("cpu", "paper"))
    assert small["image"].shape == large["image"].shape
    assert small["image"].shape[1:] == ((28, 28, 1) if "mnist" in name else (32, 32, 3))
    # A hundred classes show in labels of ten or more.
    assert (small["label"].max() >= 10) == ("cifar100" in name)


class TestShapes:
    def test_small_images_keep_their_size_up_to_the_first_module_of_inception_v3(self):
        _, _, found = shapes_in(InceptionV3(10), 32)
        assert found["ModuleA_0"] == (32, 32, 256)
        assert found["ReductionA_0"] == (15, 15, 768)
        assert found["ReductionB_0"] == (7, 7, 1280)

    def test_resnet_halves_three_times(self):
        _, _, seen = shapes_in(ResNet(10, (1, 1, 1, 1), BottleneckBlock, divisor=8), 32)
        found = [seen[f"BottleneckBlock_{stage}"] for stage in range(4)]
        assert found == [(32, 32, 32), (16, 16, 64), (8, 8, 128), (4, 4, 256)]

    def test_densenet_grows_by_the_same_number_of_channels(self):
        _, _, seen = shapes_in(DenseNet(10, (2, 3), growth=4), 32)
        assert [seen[f"DenseLayer_{layer}"][-1] for layer in range(5)] == 5 * [4]
        assert seen["Transition_0"] == (16, 16, 8)  # half of 8 + 2 * 4 channels
        assert seen["BatchNorm_0"] == (16, 16, 20)  # 8 + 3 * 4

    @pytest.mark.parametrize("size", [1, 3, 5, (1, 7), (7, 1)])
    def test_convolutions_keep_the_size(self, size):
        _, activations, _ = shapes_in(ConvNorm(6, size), 9)
        assert activations.shape == (1, 9, 9, 6)

    def test_a_convolution_may_go_without_padding(self):
        _, activations, _ = shapes_in(ConvNorm(6, 3, 2, padding=0), 9)
        assert activations.shape == (1, 4, 4, 6)


def image_task_of(model):
    protocol = Protocol(
        learning_rates=usual_rates(sgdm=0.01, adam=1e-3),
        batch_size=8,
        epochs=1,
        schedule="constant",
    )
    source = Source()
    return image_task(
        name="test",
        preset="cpu",
        model=model,
        protocol=protocol,
        parameters=0,
        load=source.load,
        fake=source.fake,
    )


class Stack(nn.Module):
    """Modules one after the other, and a linear layer."""

    modules: tuple

    @nn.compact
    def __call__(self, images, train):
        activations = images
        for module in self.modules:
            activations = module(activations, train)
        return nn.Dense(10)(activations.mean(axis=(1, 2)))


def stack(*modules):
    return Stack(tuple(module.clone(parent=None) for module in modules))


SMALL = {
    "alexnet": lambda: AlexNet(10, divisor=16),
    "vgg": lambda: VGG(10, ((4,), (8, 8))),
    "basic blocks": lambda: ResNet(10, (1, 1), BasicBlock, divisor=16, stride=4),
    "bottleneck blocks": lambda: ResNet(10, (1, 1), BottleneckBlock, divisor=16, stride=4),
    "densenet": lambda: DenseNet(10, (1, 1), growth=2, stride=2),
    "googlenet": lambda: stack(ConvNorm(4, 3, 4), Inception(Widths(2, 2, 3, 2, 3, 2))),
    "inception-v3 a": lambda: stack(ConvNorm(4, 3, 4), ModuleA(16, 32), ReductionA(16)),
    "inception-v3 b": lambda: stack(ConvNorm(4, 3, 4), ModuleB(32, 128), ReductionB(32)),
    "inception-v3 c": lambda: stack(ConvNorm(4, 3, 4), ModuleC(64)),
    "vit": lambda: ViT(10, patch=16, width=16, hidden=16, layers=1, heads=2),
}


class Lesson(NamedTuple):
    """Twelve steps of SGD on one batch.

    Attributes:
        task: of the small network.
        batch: the batch.
        step: ``(params, state, batch, key) -> (params, gradient)``.
        before: the variables at first.
        after: the variables at last.
        losses: at each step.
        slopes: the first gradient.
    """

    task: Task
    batch: dict
    step: Callable
    before: Variables
    after: Variables
    losses: list
    slopes: dict


@functools.cache
def lesson(name):
    task = image_task_of(SMALL[name]())
    batch = dict(task.fake().train)
    before = after = random_variables(task)

    def step(params, state, batch, key):
        found = task.gradient(params, state, batch, key)
        return jax.tree.map(lambda param, slope: param - 0.1 * slope, params, found.params), found

    step = jit_quickly(step)
    gradients = []
    for number in range(12):
        params, found = step(*after, batch, jax.random.key(number))
        after = Variables(params, found.state)
        gradients.append(found)
    losses = [float(found.loss) for found in gradients]
    return Lesson(task, batch, step, before, after, losses, gradients[0].params)


@pytest.mark.parametrize("name", SMALL)
class TestLearning:
    def test_the_gradient_is_finite_and_reaches_all_weights(self, name):
        for path, leaf in jax.tree_util.tree_leaves_with_path(lesson(name).slopes):
            assert jnp.isfinite(leaf).all()
            # A bias before a normalization has no effect.
            assert (leaf != 0).any() or path[-1].key == "bias"

    def test_the_loss_of_a_batch_falls(self, name):
        losses = lesson(name).losses
        assert min(losses[-3:]) < 0.9 * losses[0]

    def test_statistics_of_batches_are_kept(self, name):
        found = lesson(name)
        if name in ("alexnet", "vit"):
            assert found.after.state == {}
        else:
            changed = jax.tree.map(
                lambda old, new: (old != new).any(), found.before.state, found.after.state
            )
            assert jax.tree.all(changed)


@pytest.mark.parametrize("name", ["vgg", "vit"])
class TestMeasures:
    @pytest.fixture
    def measured(self, name):
        task, batch, _, _, after, *_ = lesson(name)
        measure = jit_quickly(task.measure)

        def run(weight, **changed):
            filled = {**batch, **changed, "weight": np.asarray(weight, np.float32)}
            sums, _ = measure(after, filled)
            return {key: float(value) for key, value in sums.items()}

        return run

    def test_sums_are_those_of_the_rows(self, measured):
        rows = np.eye(8)
        apart = [measured(row) for row in rows]
        together = measured(np.ones(8))
        assert together["weight"] == 8
        for key, value in together.items():
            assert sum(row[key] for row in apart) == pytest.approx(value, rel=1e-4)

    def test_rows_of_weight_0_do_not_count(self, measured):
        weight = np.array([1, 1, 1, 0, 0, 0, 0, 0])
        others = lesson("vgg").batch["image"] * weight[:, None, None, None]
        found = measured(weight, image=others.astype(np.uint8))
        assert found == pytest.approx(measured(weight), rel=1e-4)


def test_loss_and_accuracy_are_summed():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]]))
    batch = {"label": jnp.array([0, 2, 1]), "weight": jnp.array([1.0, 1.0, 0.0])}
    sums = classification_sums(logits, batch)
    assert float(sums["loss"]) == pytest.approx(-np.log(0.5) - np.log(0.1), rel=1e-5)
    assert (float(sums["accuracy"]), float(sums["weight"])) == (100, 2)


class TestLayers:
    def test_maxima_of_squares(self):
        activations = jax.random.normal(jax.random.key(0), (2, 6, 4, 3))
        expected = nn.max_pool(activations, (2, 2), strides=(2, 2))
        np.testing.assert_array_equal(max_pool_2(activations), expected)

    @pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (2, 0)])
    def test_maxima_of_overlapping_squares(self, stride, padding):
        activations = jax.random.normal(jax.random.key(0), (2, 7, 8, 3))
        borders = 2 * ((padding, padding),)
        expected = nn.max_pool(activations, (3, 3), strides=(stride, stride), padding=borders)
        np.testing.assert_array_equal(max_pool_3(activations, stride, padding), expected)

    def test_a_transition_halves(self):
        _, activations, _ = shapes_in(Transition(), 8, channels=6)
        assert activations.shape == (1, 4, 4, 3)

    def test_dropout_draws_from_the_key(self):
        _, batch, step, before, *_ = lesson("vit")
        steps = [step(*before, batch, jax.random.key(number)) for number in (1, 1, 2)]
        losses = [float(found.loss) for _, found in steps]
        assert losses[0] == losses[1] != losses[2]
