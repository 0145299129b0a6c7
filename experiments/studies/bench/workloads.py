"""The models whose train steps are measured, by name; nothing here imports JAX."""

import dataclasses
from collections.abc import Mapping

from experiments.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """A classifier, of images or of each next token, and the shape of what it is fed.

    Attributes:
        summary: one line for ``python -m experiments list``.
        model: the Flax network, built without arguments.
        example: shape of one input.
        labels: shape of the labels of one input: ``()``, or one label per token.
        classes: how many labels there are; for token models also how many tokens.
        batch_size: default number of examples per step.
    """

    summary: str
    model: Recipe
    example: tuple[int, ...]
    labels: tuple[int, ...]
    classes: int
    batch_size: int

    @property
    def reads_tokens(self) -> bool:
        """Whether the inputs are whole numbers, one label to each."""
        return self.labels == self.example


WORKLOADS: Mapping[str, Workload] = {
    "mlp": Workload(
        summary="three 2048 x 2048 layers at a small batch: as memory-bound as training gets",
        model=Recipe("experiments.models.mlp:MLP", {"hidden": (2048, 2048), "outputs": 2048}),
        example=(2048,),
        labels=(),
        classes=2048,
        batch_size=16,
    ),
    "lenet": Workload(
        summary="LeNet-5 on the shapes of CIFAR-10",
        model=Recipe("experiments.models.lenet:LeNet", {"outputs": 10}),
        example=(32, 32, 3),
        labels=(),
        classes=10,
        batch_size=128,
    ),
    "lstm": Workload(
        summary="a 2-layer LSTM that predicts the next of 256 tokens",
        model=Recipe(
            "experiments.models.lstm:LSTM", {"vocabulary": 256, "width": 128, "layers": 2}
        ),
        example=(16,),
        labels=(16,),
        classes=256,
        batch_size=128,
    ),
    "vit": Workload(
        summary="a 2-layer vision transformer on the shapes of CIFAR-10",
        model=Recipe(
            "experiments.models.transformer:VisionTransformer",
            {"outputs": 10, "patch": 8, "width": 64, "layers": 2, "heads": 4},
        ),
        example=(32, 32, 3),
        labels=(),
        classes=10,
        batch_size=128,
    ),
    "decoder": Workload(
        summary="a 2-layer decoder-only transformer that predicts the next of 256 tokens",
        model=Recipe(
            "experiments.models.transformer:Decoder",
            {"vocabulary": 256, "width": 64, "layers": 2, "heads": 4},
        ),
        example=(16,),
        labels=(16,),
        classes=256,
        batch_size=128,
    ),
    "resnet50": Workload(
        summary="ResNet-50 with group normalization on the shapes of ImageNet; for a GPU",
        model=Recipe(
            "experiments.models.group_resnet:ResNet", {"outputs": 1000, "stages": (3, 4, 6, 3)}
        ),
        example=(224, 224, 3),
        labels=(),
        classes=1000,
        batch_size=128,
    ),
    "vit-s16": Workload(
        summary="a vision transformer of the size S/16 (22 M) on 256 x 256 images; for a GPU",
        model=Recipe(
            "experiments.models.transformer:VisionTransformer",
            {"outputs": 1000, "patch": 16, "width": 384, "layers": 12, "heads": 6},
        ),
        # 256 patches: for the usual 196 XLA's GPU compiler (jaxlib 0.10) finds no tiles.
        example=(256, 256, 3),
        labels=(),
        classes=1000,
        batch_size=128,
    ),
    "decoder-125m": Workload(
        summary="a decoder-only transformer of GPT-2's smallest size (124 M); for a GPU",
        model=Recipe(
            "experiments.models.transformer:Decoder",
            {"vocabulary": 50304, "width": 768, "layers": 12, "heads": 12},
        ),
        example=(1024,),
        labels=(1024,),
        classes=50304,
        batch_size=8,
    ),
}


# Of the transformer of any size; an even number, so that the loop can take two at once.
BLOCKS = 6


def transformer(width: int, *, unroll: int = 1) -> Workload:
    """Returns a decoder of any size, as one program whatever the size.

    Only the width grows, and with it the vocabulary (8 x width), the number of heads (one for each
    64) and the tokens of a step (2 x width). So a step does the same work for each parameter at
    every size: if the share of prediction grew with size, it would be prediction's own doing.

    Args:
        width: size of the embedding, a multiple of 128.
        unroll: how many blocks one pass of the loop over them holds.

    Returns:
        The workload; its batch size is that of one device.
    """
    context = 256
    settings = {"vocabulary": 8 * width, "width": width, "layers": BLOCKS, "heads": width // 64}
    return Workload(
        summary=f"a decoder-only transformer of {BLOCKS} blocks of width {width}",
        model=Recipe("experiments.models.transformer:Decoder", settings | {"unroll": unroll}),
        example=(context,),
        labels=(context,),
        classes=8 * width,
        batch_size=2 * width // context,
    )
