"""The tasks, one file each, and the registry that imports one only when it is asked for.

A new task is a module here with ``make(preset) -> Task`` and one line in ``TASKS``.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from experiments.evidence.task import Task

# "cpu": a small version that trains in minutes on two cores, on real data.
# "paper": the architecture and schedule of the papers, for one GPU.
PRESETS = ("cpu", "paper")

# Name -> one line for `python -m experiments list`; here, so that listing does not import JAX.
TASKS: Mapping[str, str] = {
    "digits": "scikit-learn's digits, a small fully connected network; needs no data set",
    "lenet": "LeNet on CIFAR-10",
    "alexnet": "AlexNet on CIFAR-10",
    "vgg11": "VGG-11 with batch normalization on CIFAR-10",
    "vgg16": "VGG-16 with batch normalization on CIFAR-10",
    "resnet34": "ResNet-34 on CIFAR-10",
    "resnet101": "ResNet-101 on CIFAR-10",
    "googlenet": "GoogLeNet on CIFAR-10",
    "densenet121": "DenseNet-121 on CIFAR-10",
    "inception-v3": "Inception-V3 on CIFAR-10",
    "vit": "vision transformer on CIFAR-10",
    "vgg16-cifar100": "VGG-16 with batch normalization on CIFAR-100",
    "resnet34-cifar100": "ResNet-34 on CIFAR-100",
    "vit-cifar100": "vision transformer on CIFAR-100",
    "mnist": "a small convolutional network on MNIST",
    "fashion-mnist": "the same network on Fashion-MNIST",
    "lstm1": "word-level language model on Penn Treebank, one LSTM layer",
    "lstm2": "the same with two layers",
    "lstm3": "the same with three layers",
    "decoder": "character-level decoder transformer on tiny_shakespeare",
    "translation": "GNMT's encoder and decoder with attention, English to German",
    "vae": "variational autoencoder on MNIST",
    "dcgan": "DCGAN on MNIST, in the paper preset on CIFAR-10",
    "wgan": "Wasserstein GAN with clipped weights, as dcgan",
    "bert": "encoder for sentence pairs, pretrained, then fine-tuned",
}


def load_task(name: str, preset: str) -> "Task":
    """Imports a task at a preset; a ``UsageError`` lists the names that exist."""
    if name not in TASKS:
        raise UsageError(unknown_name("task", name, TASKS))
    if preset not in PRESETS:
        raise UsageError(unknown_name("preset", preset, PRESETS))
    module = name.replace("-", "_")
    return importlib.import_module(f"experiments.evidence.tasks.{module}").make(preset)
