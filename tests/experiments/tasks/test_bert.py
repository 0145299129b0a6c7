"""BERT's published weights and tokens: made up ones of the same names and layout."""

import dataclasses
import math

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file
from tokenizers.implementations import BertWordPieceTokenizer

from experiments.data import paraphrases
from experiments.errors import UsageError
from experiments.models.bert import Encoder, PairClassifier
from experiments.models.pretrained import pair_encoder, published_folder, read_weights
from experiments.tasks import load_task

SMALL = Encoder(vocabulary=9, width=6, layers=2, heads=3, positions=8, dropout=0.0)


def checkpoint(encoder, seed=0):
    """Arrays as a checkpoint of BERT has them, ``[outputs, inputs]``, with names of both kinds."""
    width, generator = encoder.width, np.random.default_rng(seed)
    shapes = {
        "bert.embeddings.word_embeddings": (encoder.vocabulary, width),
        "bert.embeddings.position_embeddings": (encoder.positions, width),
        "bert.embeddings.token_type_embeddings": (2, width),
        "bert.pooler.dense": (width, width),
    }
    norms = ["bert.embeddings.LayerNorm"]
    for layer in range(encoder.layers):
        name = f"bert.encoder.layer.{layer}"
        attention = ("self.query", "self.key", "self.value", "output.dense")
        shapes |= {f"{name}.attention.{part}": (width, width) for part in attention}
        shapes[f"{name}.intermediate.dense"] = (4 * width, width)
        shapes[f"{name}.output.dense"] = (width, 4 * width)
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"{name}.weight"] = generator.normal(size=shape)
        if "embeddings" not in name:
            arrays[f"{name}.bias"] = generator.normal(size=shape[:1])
    for name in norms:
        arrays[f"{name}.gamma"] = generator.normal(size=width)
        arrays[f"{name}.beta"] = generator.normal(size=width)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def numpy_bert(arrays, encoder, tokens, segments):
    """BERT as arXiv 1810.04805 and 1706.03762 describe it, in float64, from a checkpoint."""

    def get(name):
        return arrays[f"bert.{name}"].astype(np.float64)

    def dense(name, x):
        return x @ get(f"{name}.weight").T + get(f"{name}.bias")

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * get(f"{name}.gamma") + get(f"{name}.beta")

    def attend(name, x):
        q, k, v = (
            dense(f"{name}.self.{part}", x).reshape(*x.shape[:2], encoder.heads, -1)
            for part in ("query", "key", "value")
        )
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
        scores = np.where((tokens != 0)[:, None, None], scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
        return dense(f"{name}.output.dense", mixed)

    x = get("embeddings.word_embeddings.weight")[tokens]
    x += get("embeddings.position_embeddings.weight")[: tokens.shape[1]]
    x = norm("embeddings.LayerNorm", x + get("embeddings.token_type_embeddings.weight")[segments])
    for layer in range(encoder.layers):
        name = f"encoder.layer.{layer}"
        x = norm(f"{name}.attention.output.LayerNorm", x + attend(f"{name}.attention", x))
        hidden = dense(f"{name}.intermediate.dense", x)
        hidden *= 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        x = norm(f"{name}.output.LayerNorm", x + dense(f"{name}.output.dense", hidden))
    return np.tanh(dense("pooler.dense", x[:, 0]))


@pytest.fixture
def published(tmp_path):
    """A folder as published: weights, and a tokenizer that knows five words."""
    save_file(checkpoint(SMALL), tmp_path / "model.safetensors")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "man", "sing", "##s", "."]
    tokenizer = BertWordPieceTokenizer({word: number for number, word in enumerate(words)})
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_what_is_read_computes_what_the_papers_say(published):
    tokens = np.array([[2, 4, 5, 3, 6, 7, 3, 0], [2, 8, 3, 1, 3, 0, 0, 0]])
    segments = np.array([[0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 0, 0, 0]])
    read = read_weights(published, SMALL)
    head = {"kernel": np.eye(6), "bias": np.zeros(6)}
    model = PairClassifier(SMALL, outputs=6)
    found = model.apply({"params": {**read, "head": head}}, tokens, segments, train=False)
    expected = numpy_bert(checkpoint(SMALL), SMALL, tokens, segments)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_pairs_are_cut_off_and_padded(published, monkeypatch):
    record = {"sentence1": b"A man sings.", "sentence2": b"a man", "label": 1}
    records = {"train": [record] * 410, "validation": [{**record, "label": 0}]}
    monkeypatch.setattr(paraphrases, "read_records", lambda name, part, _: records[part])
    data = paraphrases.load_paraphrases(None, pair_encoder(published, 12))
    assert [len(part["label"]) for part in data[:3]] == [2, 408, 1]
    np.testing.assert_array_equal(data.test["tokens"], [[2, 4, 5, 6, 7, 8, 3, 4, 5, 3, 0, 0]])
    np.testing.assert_array_equal(data.test["segments"], [[0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0]])
    assert data.test["label"] == [0]
    short = paraphrases.load_paraphrases(None, pair_encoder(published, 6))
    assert short.test["tokens"].shape == (1, 6)


def test_a_folder_is_preferred_to_a_download(published):
    folder = published / "bert-base-uncased"
    folder.mkdir()
    assert published_folder([published / "nowhere", published]) == folder


def test_files_of_another_network_are_refused(published):
    with pytest.raises(UsageError, match=r"another network.*words.*\(9, 6\), not \(10, 6\)"):
        read_weights(published, dataclasses.replace(SMALL, vocabulary=10))
    with pytest.raises(UsageError, match=r"no array encoder\.layer\.2"):
        read_weights(published, dataclasses.replace(SMALL, layers=3))


def test_broken_files_are_named(published):
    for name in ("model.safetensors", "tokenizer.json"):
        (published / name).write_text("{")
    with pytest.raises(UsageError, match=r"cannot read .*model\.safetensors"):
        read_weights(published, SMALL)
    with pytest.raises(UsageError, match=r"cannot read .*tokenizer\.json"):
        pair_encoder(published, 6)


def test_what_cannot_be_downloaded_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=r"cannot download.*model\.safetensors.*bert-base"):
        load_task("bert", "paper").load(None)
