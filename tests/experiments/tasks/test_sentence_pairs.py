"""MRPC and SICK from plain files: what is read, cut and counted, and a pretrained beginning."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.parallel_text import BEGIN, END
from experiments.data.sentence_pairs import (
    CORPORA,
    LabelledPair,
    numbered_words,
    read_sentence_pairs,
    shortened,
    vocabulary_of,
)
from experiments.errors import UsageError
from experiments.models.bert import Encoder
from experiments.tasks import load_task, masked_words
from experiments.tasks.images import classification_sums
from experiments.tasks.pairs import f1_counts, with_f1

QUOTE = 'He said "no'  # a quotation mark that is not closed


def write(folder, part, header, rows):
    folder.mkdir(exist_ok=True)
    lines = ["\t".join(row) for row in (header, *rows)]
    (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    monkeypatch.setenv("XGRAD_TEXT_DIR", str(tmp_path))
    mrpc = ("label", "id1", "id2", "sentence1", "sentence2")
    rows = [(str(number % 2), "1", "2", QUOTE, f"No, he said {number}.") for number in range(412)]
    write(tmp_path / "mrpc", "train", mrpc, rows)
    write(tmp_path / "mrpc", "test", mrpc, rows[:3])
    sick = ("pair", "sentence1", "sentence2", "relatedness", "entailment")
    labels = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
    rows = [("1", "A man sings", "A man is singing", "4.5", label) for label in labels]
    for part, count in (("train", 3), ("trial", 1), ("test", 2)):
        write(tmp_path / "sick", part, sick, rows[:count])
    return tmp_path


class TestReading:
    def test_mrpc_is_validated_on_the_end_of_its_training_part(self, corpora):
        parts = read_sentence_pairs("mrpc", None)
        assert [len(part) for part in parts] == [4, 408, 3]
        assert parts.train[3] == LabelledPair(QUOTE, "No, he said 3.", 1)
        assert parts.validation[0].second == "No, he said 4."

    def test_sick_has_three_labels_and_parts_of_its_own(self, corpora):
        parts = read_sentence_pairs("sick", None)
        assert [[pair.label for pair in part] for part in parts] == [[2, 0, 1], [2], [2, 0]]

    @pytest.mark.parametrize("name", CORPORA)
    def test_a_missing_file_is_named(self, corpora, name):
        (corpora / name / "test.tsv").unlink()
        with pytest.raises(UsageError, match=rf"{name} has no file test\.tsv.*XGRAD_TEXT_DIR"):
            read_sentence_pairs(name, None)

    def test_long_sentences_are_cut_off(self):
        (pair,) = shortened([LabelledPair("He's, it SEEMS, gone.", "Yes!", 1)], 4)
        assert pair == LabelledPair("he's , it seems", "yes !", 1)
        words = vocabulary_of([pair], 20)
        examples = numbered_words([pair], words, 4)
        assert (examples["tokens"].shape, examples["label"].tolist()) == ((1, 11), [1])
        named = [words.words[token] for token in examples["tokens"][0]]
        expected = ["<begin>", "he's", ",", "it", "seems", "<end>", "yes", "!", "<end>"]
        assert named == [*expected, "<pad>", "<pad>"]
        np.testing.assert_array_equal(examples["segments"], [[0] * 6 + [1] * 3 + [0] * 2])

    @pytest.mark.parametrize(
        ("name", "sizes", "shares"),
        [
            ("mrpc", (3_668, 408, 1_725), (578, 1_147)),
            ("sick", (4_500, 500, 4_927), (2_793, 1_414, 720)),
        ],
    )
    def test_real_data(self, name, sizes, shares):
        try:
            parts = read_sentence_pairs(name, None)
        except UsageError as error:
            pytest.skip(str(error))
        assert tuple(map(len, parts)) == sizes
        assert tuple(np.bincount([pair.label for pair in parts.test])) == shares


class TestPretraining:
    def test_training_starts_from_what_was_learned_of_the_sentences(self, corpora, monkeypatch):
        asked = {}

        def learned(encoder, pairs, vocabulary, length):
            asked.update(pairs=pairs, length=length)
            tokens = jnp.zeros((1, 2 * length + 3), jnp.int32)
            params = encoder.init(jax.random.key(9), tokens, tokens, train=False)["params"]
            return jax.tree.map(lambda leaf: np.full_like(leaf, 0.25), params)

        monkeypatch.setattr("experiments.tasks.bert.pretrained", learned)
        task = load_task("bert-sick")
        data = task.load(None)
        assert asked["length"] == 20
        assert asked["pairs"][0] == ("a man sings", "a man is singing")
        assert data.train["tokens"].shape == (3, 43)
        params = task.init(jax.random.key(0)).params
        assert all((leaf == 0.25).all() for leaf in jax.tree.leaves(params["encoder"]))
        assert not (params["head"]["kernel"] == 0.25).any()

    def test_an_encoder_learns_once_from_the_sentences(self, monkeypatch):
        monkeypatch.setattr(masked_words, "_STEPS", 3)
        texts = [LabelledPair("a b", "c d", 0), LabelledPair("d c", "b a", 0)]
        vocabulary = vocabulary_of(texts, 9)
        encoder = Encoder(9, width=4, layers=1, heads=1, positions=7)
        one, again, other = (
            masked_words.pretrained(encoder, [pair[:2] for pair in pairs], vocabulary, 2)
            for pairs in (texts, texts, texts[:1])
        )
        assert one is again
        words, others = (params["words"]["embedding"] for params in (one, other))
        assert np.isfinite(words).all()
        assert not np.allclose(words, others)

    def test_only_words_are_hidden(self):
        tokens = jnp.array([[BEGIN, 7, 1, END, 8, 9, 6, END, 0, 0]])
        for count in (2, 5):
            places = masked_words.places_to_hide(tokens, jax.random.key(0), count)
            assert len(set(places[0].tolist())) == count
            assert set(places[0].tolist()) <= {1, 2, 4, 5, 6}


class TestF1:
    def test_it_is_the_harmonic_mean_of_precision_and_recall(self):
        label = np.array([1, 1, 1, 0, 0, 1])
        named = np.array([1, 0, 1, 1, 0, 1])
        batch = {"label": label, "weight": np.array([1.0, 1, 1, 1, 1, 0])}
        logits = jnp.asarray(np.eye(2)[named])
        sums = {**classification_sums(logits, batch), **f1_counts(logits, batch)}
        means = {name: float(value) / 5 for name, value in sums.items() if name != "weight"}
        found = with_f1(means)
        precision, recall = 2 / 3, 2 / 3
        assert found["f1"] == pytest.approx(200 * precision * recall / (precision + recall))
        assert found["accuracy"] == pytest.approx(60)
        assert set(found) == {"loss", "accuracy", "f1"}

    def test_without_any_it_is_0(self):
        assert with_f1({"loss": 1.0, "hits": 0.0, "named": 0.0, "meant": 0.0})["f1"] == 0

    def test_a_loss_that_is_not_finite_stays_so(self):
        found = with_f1({"loss": math.nan, "hits": 0.2, "named": 0.5, "meant": 0.5})
        assert math.isnan(found["loss"])
        assert found["f1"] == pytest.approx(40)

    @pytest.mark.parametrize(("name", "measured"), [("bert-mrpc", True), ("bert-sick", False)])
    def test_mrpc_has_it(self, name, measured):
        task = load_task(name)
        means = dict.fromkeys(("loss", "accuracy", "hits", "named", "meant"), 1.0)
        assert ("f1" in task.derive(means)) == measured
        assert task.metric.name == "accuracy"
