"""The tasks by name; one is imported only when it is asked for.

A new task that classifies CIFAR's images is a row here, and so is one more of another kind with
the builder it has; a new kind is a builder ``(name, preset, ...) -> Task`` in a module beside.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.errors import UsageError, unknown_name
from experiments.recipe import Recipe

if TYPE_CHECKING:
    from experiments.task import Task

# "cpu": a small version that trains in minutes on two cores, on real data.
# "paper": the architecture and schedule of the papers, for one GPU.
PRESETS = ("cpu", "paper")


class Row(NamedTuple):
    """What is known of a task before JAX is imported.

    Attributes:
        summary: one line for ``python -m experiments list``.
        builder: takes the task's name and a preset.
    """

    summary: str
    builder: Recipe


def _task(summary: str, builder: str, **arguments: Any) -> Row:
    return Row(summary, Recipe(f"experiments.tasks.{builder}", arguments))


def _cifar(
    summary: str,
    network: str,
    *,
    cpu: Mapping[str, Any] | None = None,
    paper: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Row:
    """A row of XGrad (arXiv 2305.18240), section 4.1; arguments as of ``images.cifar``."""
    networks = {"network": network, "cpu": cpu or {}, "paper": paper or {}}
    return _task(summary, "images:cifar", **networks, **arguments)


def _lstm(summary: str, layers: int, **arguments: Any) -> Row:
    return _task(summary, "language:lstm", layers=layers, **arguments)


_ALL_OF_PTB: Mapping[str, Any] = {"folder": "ptb_full", "epochs": 2}

_VITS: Mapping[str, Any] = {
    "cpu": {"patch": 8, "width": 64, "hidden": 128, "layers": 2, "heads": 4},
    "paper": {"patch": 4, "width": 512, "hidden": 512, "layers": 6, "heads": 8},
    "images": 6_000,
    "epochs": 6,
    "schedule": "warmup-cosine",
    "sgdm": 0.01,
    "adam": (1e-3, 1e-4),
}

# Where two numbers of parameters are given, the second is that of the PyTorch version for CIFAR
# that is in wide use.
TASKS: Mapping[str, Row] = {
    "digits": _task(
        "scikit-learn's 1,797 handwritten 8x8 digits, a small fully connected network; needs no "
        "data set",
        "images:digits",
    ),
    "cifar10-lenet": _task(
        "CIFAR-10's 60,000 colour photographs (TFDS, from disk), LeNet", "images:cifar10_lenet"
    ),
    "lenet": _cifar(
        "LeNet on CIFAR-10",
        "lenet:InnerLeNet",
        parameters=(62_006, 62_006),
        images=4_000,
        epochs=6,
        sgdm=0.01,
    ),
    "lenet-patches": _cifar(
        "LeNet on CIFAR-10, its convolutions as products of matrices: faster on a CPU",
        "patch_lenet:PatchLeNet",
        parameters=(62_006, 62_006),
        images=10_000,
        epochs=6,
        sgdm=0.01,
    ),
    "alexnet": _cifar(
        "AlexNet on CIFAR-10",
        "alexnet:AlexNet",
        cpu={"divisor": 8},
        parameters=(41_586, 2_472_266),
        images=6_000,
        epochs=6,
        sgdm=0.01,
    ),
    "vgg11": _cifar(
        "VGG-11 with batch normalization on CIFAR-10",
        "vgg:vgg11",
        cpu={"divisor": 16},
        parameters=(36_954, 9_231_114),
        images=5_000,
        epochs=5,
    ),
    "vgg16": _cifar(
        "VGG-16 with batch normalization on CIFAR-10",
        "vgg:vgg16",
        cpu={"divisor": 16},
        parameters=(58_686, 14_728_266),
        images=3_000,
        epochs=4,
    ),
    "resnet34": _cifar(
        "ResNet-34 on CIFAR-10",
        "resnet:resnet34",
        cpu={"divisor": 8, "stride": 4},
        parameters=(336_114, 21_282_122),
        images=5_000,
        epochs=5,
    ),
    "resnet101": _cifar(
        "ResNet-101 on CIFAR-10",
        "resnet:resnet101",
        cpu={"divisor": 8, "stride": 4},
        parameters=(679_186, 42_512_970),
        images=4_000,
        epochs=5,
    ),
    "googlenet": _cifar(
        "GoogLeNet on CIFAR-10",
        "googlenet:GoogLeNet",
        cpu={"divisor": 8, "stride": 4},
        parameters=(103_518, 6_166_250),
        images=3_000,
        epochs=4,
    ),
    "densenet121": _cifar(
        "DenseNet-121 on CIFAR-10",
        "densenet:densenet121",
        cpu={"growth": 4, "stride": 4},
        parameters=(120_106, 6_956_298),
        images=5_000,
        epochs=6,
    ),
    "inception-v3": _cifar(
        "Inception-V3 on CIFAR-10",
        "inception:InceptionV3",
        cpu={"divisor": 16, "strides": (2, 1, 2)},
        # The original's 23,834,568 for 1000 classes, less 990 logits of 2048 features and a bias.
        parameters=(88_458, 21_806_058),
        images=4_000,
        epochs=5,
    ),
    "vit": _cifar(
        "vision transformer on CIFAR-10", "vit:ViT", parameters=(81_226, 9_532_938), **_VITS
    ),
    "vgg16-cifar100": _cifar(
        "VGG-16 with batch normalization on CIFAR-100",
        "vgg:vgg16",
        cpu={"divisor": 16},
        classes=100,
        parameters=(61_656, 14_774_436),
        images=3_000,
        epochs=4,
    ),
    "resnet34-cifar100": _cifar(
        "ResNet-34 on CIFAR-100",
        "resnet:resnet34",
        cpu={"divisor": 8, "stride": 4},
        classes=100,
        parameters=(341_964, 21_328_292),
        images=5_000,
        epochs=5,
    ),
    "vit-cifar100": _cifar(
        "vision transformer on CIFAR-100",
        "vit:ViT",
        classes=100,
        parameters=(87_076, 9_579_108),
        **_VITS,
    ),
    "mnist": _task(
        "a small convolutional network on MNIST", "mnist:convolutional", dataset="mnist"
    ),
    "fashion-mnist": _task(
        "the same network on Fashion-MNIST", "mnist:convolutional", dataset="fashion_mnist"
    ),
    "mnist-connected": _task(
        "a fully connected network on MNIST", "mnist:connected", centred=False
    ),
    "mnist-centred": _task(
        "the same, its pixels with mean 0 and deviation 1", "mnist:connected", centred=True
    ),
    "lstm1": _lstm("word-level language model on a tenth of Penn Treebank, one LSTM layer", 1),
    "lstm2": _lstm("the same with two layers", 2),
    "lstm3": _lstm("the same with three layers", 3),
    "lstm1-ptb": _lstm("lstm1 on all of Penn Treebank", 1, **_ALL_OF_PTB),
    "lstm2-ptb": _lstm("lstm2 on all of Penn Treebank", 2, **_ALL_OF_PTB),
    "lstm3-ptb": _lstm("lstm3 on all of Penn Treebank", 3, **_ALL_OF_PTB),
    "decoder": _task("character-level decoder transformer on tiny_shakespeare", "language:decoder"),
    "decoder-tiny": _task("the same, 32 wide, windows of 32", "language:tiny_decoder"),
    "translation": _task(
        "GNMT's encoder and decoder with attention, English to German", "translation:translation"
    ),
    "vae": _task("variational autoencoder on MNIST", "vae:vae"),
    "dcgan": _task("DCGAN on MNIST, in the paper preset on CIFAR-10", "generative:dcgan"),
    "wgan": _task("Wasserstein GAN with clipped weights, as dcgan", "generative:wgan"),
    "bert": _task("encoder for sentence pairs, pretrained, then fine-tuned", "bert:bert"),
    "bert-mrpc": _task(
        "the same on MRPC from plain files: do two sentences say the same?",
        "bert:sentence_pairs",
        corpus="mrpc",
        vocabulary=4_000,
        length=30,
        f1=True,
    ),
    "bert-sick": _task(
        "the same on SICK from plain files: does one sentence follow from another?",
        "bert:sentence_pairs",
        corpus="sick",
        vocabulary=2_000,
        length=20,
    ),
    "gcn-cora": _task(
        "graph convolution network on the 2,708 papers of Cora, 140 labelled",
        "graphs:citations",
        graph="cora",
        vocabulary=1_433,
        classes=7,
    ),
    "gcn-citeseer": _task(
        "the same on the 3,327 papers of Citeseer, 120 labelled",
        "graphs:citations",
        graph="citeseer",
        vocabulary=3_703,
        classes=6,
    ),
    "gin-mutag": _task(
        "graph isomorphism network on the 188 molecules of MUTAG, in ten folds",
        "graphs:small_graphs",
        graphs="mutag",
        tags=7,
        epochs=40,
    ),
    "gin-proteins": _task(
        "the same on the 1,113 graphs of PROTEINS; on a CPU the 1,046 of at most 100 nodes",
        "graphs:small_graphs",
        graphs="proteins",
        tags=3,
        epochs=15,
        largest=100,
    ),
}


def load_task(name: str, preset: str = "cpu") -> "Task":
    """Imports a task at a preset; a ``UsageError`` lists the names that exist."""
    if name not in TASKS:
        raise UsageError(unknown_name("task", name, TASKS))
    if preset not in PRESETS:
        raise UsageError(unknown_name("preset", preset, PRESETS))
    return TASKS[name].builder.build(name, preset)
