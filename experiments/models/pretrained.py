"""BERT-base as published: weights and tokens, from a folder or the Hugging Face Hub."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.errors import UsageError
from experiments.models.bert import Encoder, PairClassifier

NAME = "bert-base-uncased"
REPOSITORY = f"google-bert/{NAME}"
WEIGHTS, TOKENS = "model.safetensors", "tokenizer.json"

# Names in checkpoints that were converted from TensorFlow's.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def published_folder(parents: Sequence[Path]) -> Path:
    """Returns the folder of the published files; they are downloaded unless they are there.

    Args:
        parents: folders that may hold ``bert-base-uncased``; if none does, the files are fetched
            into the Hub's usual cache, once.

    Raises:
        UsageError: they are nowhere, and cannot be fetched.
    """
    for parent in parents:
        if (parent / NAME).is_dir():
            return parent / NAME
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(REPOSITORY, allow_patterns=[WEIGHTS, TOKENS]))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot download {REPOSITORY} ({str(error).splitlines()[0]}); with a connection try "
            f"again, or put {WEIGHTS} and {TOKENS} into {parents[0] / NAME}"
        ) from error


def pair_encoder(folder: Path, length: int) -> Any:
    """Returns what turns pairs of sentences into ``length`` tokens, cut off or padded with 0.

    Raises:
        UsageError: there is no tokenizer in the folder.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENS))
    except Exception as error:  # the package raises nothing more special
        raise UsageError(f"cannot read {folder / TOKENS} ({error})") from error
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    return tokenizer


def read_weights(folder: Path, encoder: Encoder) -> Mapping[str, Any]:
    """Reads the parameters of an encoder, and of the layer behind its first token.

    Checkpoints hold matrices as ``[outputs, inputs]``; Flax has ``[inputs, outputs]``, and in
    attention ``[inputs, heads, size]`` and ``[heads, size, outputs]``.

    Args:
        folder: with ``model.safetensors``.
        encoder: what they are for.

    Returns:
        ``encoder`` and ``pooler``, parts of the parameters of
        :class:`~experiments.models.bert.PairClassifier`, as NumPy arrays.

    Raises:
        UsageError: the file cannot be read, or has not the arrays of this encoder.
    """
    weights = _Weights(_read_arrays(folder / WEIGHTS), folder / WEIGHTS)
    embeddings = weights.part("embeddings")
    blocks = {
        f"blocks_{number}": _block(weights.part(f"encoder.layer.{number}"), encoder.heads)
        for number in range(encoder.layers)
    }
    found = {
        "encoder": {
            "words": {"embedding": embeddings["word_embeddings.weight"]},
            "places": {"embedding": embeddings["position_embeddings.weight"]},
            "parts": {"embedding": embeddings["token_type_embeddings.weight"]},
            "norm": _norm(embeddings.part("LayerNorm")),
            **blocks,
        },
        "pooler": _dense(weights.part("pooler.dense")),
    }
    _check_shapes(found, encoder, folder / WEIGHTS)
    return found


def _check_shapes(found: Mapping[str, Any], encoder: Encoder, file: Path) -> None:
    tokens = jax.ShapeDtypeStruct((1, 1), np.int32)
    init = functools.partial(PairClassifier(encoder, outputs=1).init, train=False)
    params: Any = jax.eval_shape(init, jax.random.key(0), tokens, tokens)["params"]
    expected = {name: params[name] for name in found}
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(expected), jax.tree.leaves(found), strict=True
    ):
        if ours.shape != theirs.shape:
            raise UsageError(
                f"{file} is of another network: {jax.tree_util.keystr(path)} has shape "
                f"{theirs.shape}, not {ours.shape}"
            )


@dataclasses.dataclass(frozen=True)
class _Weights:
    """Arrays by what their names begin with."""

    arrays: Mapping[str, np.ndarray]
    file: Path
    prefix: str = ""

    def part(self, name: str) -> "_Weights":
        return dataclasses.replace(self, prefix=f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self.arrays[self.prefix + name]
        except KeyError as error:
            raise UsageError(f"{self.file} has no array {self.prefix + name}") from error


def _read_arrays(file: Path) -> Mapping[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot read {file} ({error})") from error
    return {_present_name(name): array for name, array in arrays.items()}


def _present_name(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        name = name.replace(old, new)
    return name.removeprefix("bert.")


def _block(weights: _Weights, heads: int) -> Mapping[str, Any]:
    attention = weights.part("attention")
    return {
        "MultiHeadDotProductAttention_0": {
            **{
                name: _split(_dense(attention.part(f"self.{name}")), heads)
                for name in ("query", "key", "value")
            },
            "out": _joined(_dense(attention.part("output.dense")), heads),
        },
        "LayerNorm_0": _norm(attention.part("output.LayerNorm")),
        "Dense_0": _dense(weights.part("intermediate.dense")),
        "Dense_1": _dense(weights.part("output.dense")),
        "LayerNorm_1": _norm(weights.part("output.LayerNorm")),
    }


def _norm(weights: _Weights) -> Mapping[str, np.ndarray]:
    return {"scale": weights["weight"], "bias": weights["bias"]}


def _dense(weights: _Weights) -> Mapping[str, np.ndarray]:
    return {"kernel": weights["weight"].T, "bias": weights["bias"]}


def _split(dense: Mapping[str, np.ndarray], heads: int) -> Mapping[str, np.ndarray]:
    """Cuts a layer's outputs into heads."""
    kernel, bias = dense["kernel"], dense["bias"]
    return {
        "kernel": kernel.reshape(len(kernel), heads, -1),
        "bias": bias.reshape(heads, -1),
    }


def _joined(dense: Mapping[str, np.ndarray], heads: int) -> Mapping[str, np.ndarray]:
    """Cuts a layer's inputs into heads."""
    kernel = dense["kernel"]
    return {"kernel": kernel.reshape(heads, -1, kernel.shape[1]), "bias": dense["bias"]}
