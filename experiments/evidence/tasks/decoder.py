"""A small transformer decoder on the characters of ``tiny_shakespeare``."""

import math
from collections.abc import Mapping

from experiments.evidence.data.text import fake_characters, load_characters
from experiments.evidence.language import language_task
from experiments.evidence.models.decoder import DecoderLanguageModel
from experiments.evidence.protocols import protocol_of
from experiments.evidence.task import Metric, Task

_BITS = Metric("bits", "bits per character", higher_is_better=False)
_CHARACTERS = 65


def make(preset: str) -> Task:
    """Returns the task.

    On a CPU two layers and part of the text, in the paper preset the six layers, 384 wide, that
    nanoGPT has for this text (there is no paper).
    """
    small = preset == "cpu"
    window = 64 if small else 256
    return language_task(
        name="decoder",
        preset=preset,
        model=_model(small),
        load=lambda data_dir: load_characters(
            data_dir,
            window=window,
            train=200 * 16 * window + 1 if small else None,
            measured=20_000 if small else None,
        ),
        fake=lambda: fake_characters(_CHARACTERS, window),
        metric=_BITS,
        derive=_with_bits,
        protocol=protocol_of(
            sgdm=0.1,
            adam=3e-3 if small else 1e-3,
            batch_size=16 if small else 64,
            epochs=6 if small else 80,
            schedule="warmup-cosine",
            weight_decay=0.1,
            clip_norm=1.0,
            measure_batch_size=64,
        ),
        # nanoGPT's 10.65 million leave out the positions, 98,304 here.
        parameters=106_880 if small else 10_745_088,
    )


def _model(small: bool) -> DecoderLanguageModel:
    if small:
        return DecoderLanguageModel(_CHARACTERS, width=64, layers=2, heads=4)
    return DecoderLanguageModel(_CHARACTERS, width=384, layers=6, heads=6)


def _with_bits(means: Mapping[str, float]) -> Mapping[str, float]:
    return {**means, "bits": means["loss"] / math.log(2)}
