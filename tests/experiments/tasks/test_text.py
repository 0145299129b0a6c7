"""The tasks that read text: sizes, shapes, and a few steps of the small ones."""

import functools
import gzip
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.parallel_text import (
    BEGIN,
    END,
    Pair,
    matching_examples,
    read_multi30k,
    translation_data,
    words_of,
)
from experiments.data.text import Vocabulary, load_words, streams, windows_of
from experiments.errors import UsageError
from experiments.models.lstm import LSTMLanguageModel
from experiments.models.seq2seq import Translator
from experiments.tasks import load_task
from experiments.tasks.language import token_losses, with_perplexity
from experiments.tasks.translation import bleu, greedy_translation, sentence
from tests.experiments.quick import jit_quickly, random_variables

NAMES = ("lstm1", "lstm2", "lstm3", "decoder", "translation", "bert")


@functools.cache
def task_of(name, preset):
    return load_task(name, preset)


@functools.cache
def variables_of(name):
    if name == "bert":  # begins with small weights, without which it does not learn
        return jit_quickly(task_of(name, "cpu").init)(jax.random.key(0))
    return random_variables(task_of(name, "cpu"))


def training_batch(task):
    """The fake training examples; a model with a carry takes no other number of rows."""
    train = task.fake().train
    return {name: array[: task.protocol.batch_size] for name, array in train.items()}


def measuring_batch(task):
    batch = dict(training_batch(task))
    return {**batch, "weight": np.ones(len(batch["tokens" if "tokens" in batch else "source"]))}


@functools.cache
def steps_on_one_batch(name, steps=4):
    """Losses of plain SGD, and the first gradient."""
    task = task_of(name, "cpu")
    batch, key = training_batch(task), jax.random.key(1)
    gradient_of = jit_quickly(task.gradient)
    params, state = variables_of(name)
    losses, first = [], None
    for _ in range(steps):
        gradient = gradient_of(params, state, batch, key)
        first = first or gradient
        losses.append(float(gradient.loss))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient.params)
    return losses, first


@pytest.mark.parametrize("name", NAMES)
class TestSmallTasks:
    def test_gradient_is_finite_and_not_zero(self, name):
        _, gradient = steps_on_one_batch(name)
        leaves = jax.tree.leaves(gradient.params)
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert any(np.any(leaf != 0) for leaf in leaves)

    def test_loss_falls(self, name):
        losses, _ = steps_on_one_batch(name)
        assert losses[-1] < losses[0]

    def test_measures_are_sums_over_rows_of_weight_one(self, name):
        task = task_of(name, "cpu")
        variables = variables_of(name)
        batch = measuring_batch(task)
        measure = jit_quickly(task.measure)
        whole, _ = measure(variables, batch)
        ones = batch["weight"].astype(np.float32)
        first = np.where(np.arange(len(ones)) < 3, ones, 0)
        parts = [measure(variables, {**batch, "weight": w})[0] for w in (first, ones - first)]
        for key, value in whole.items():
            assert float(value) == pytest.approx(float(sum(part[key] for part in parts)), rel=1e-4)
        assert 0 < float(parts[0]["weight"]) < float(whole["weight"])
        none, _ = measure(variables, {**batch, "weight": 0 * ones})
        assert all(float(value) == 0 for value in none.values())


class TestReadingOn:
    def test_batches_continue_each_other(self):
        rows = streams(np.arange(100, dtype=np.int32), window=5, batch_size=4)
        tokens = rows["tokens"].reshape(-1, 4, 6)
        np.testing.assert_array_equal(tokens[1:, :, 0], tokens[:-1, :, -1])
        np.testing.assert_array_equal(tokens[0, :, 0], [0, 25, 50, 75])
        np.testing.assert_array_equal(rows["start"].reshape(-1, 4).any(axis=1), [1, 0, 0, 0])

    def test_two_windows_are_read_as_one_of_twice_the_length(self):
        model = LSTMLanguageModel(vocabulary=11, width=5, layers=2)
        tokens = jax.random.randint(jax.random.key(0), (3, 8), 0, 11)
        begin, go_on = jnp.ones(3, bool), jnp.zeros(3, bool)
        zeros = model.initial_state(3)
        params = model.init(jax.random.key(1), tokens, begin, zeros, train=False)
        whole, _ = model.apply(params, tokens, begin, zeros, train=False)
        first, carry = model.apply(params, tokens[:, :4], begin, zeros, train=False)
        second, carry = model.apply(params, tokens[:, 4:], go_on, carry, train=False)
        np.testing.assert_allclose(whole, jnp.concatenate([first, second], axis=1), atol=1e-6)
        anew, _ = model.apply(params, tokens, begin, carry, train=False)
        np.testing.assert_allclose(whole, anew, atol=1e-6)

    def test_state_is_handed_on_by_gradient_and_measure(self):
        task = task_of("lstm1", "cpu")
        _, gradient = steps_on_one_batch("lstm1")
        _, measured = jit_quickly(task.measure)(variables_of("lstm1"), measuring_batch(task))
        assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient.state))
        for one, other in zip(*map(jax.tree.leaves, (gradient.state, measured)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


class TestTexts:
    def test_vocabulary_has_the_most_frequent_words(self):
        known = Vocabulary(["b", "a", "a", "b", "c", "a", "<unk>"], 3, ("<unk>",))
        assert known.words == ("<unk>", "a", "b")
        np.testing.assert_array_equal(known.encode(["c", "b", "a"]), [0, 2, 1])

    def test_short_texts_fill_the_vocabulary_up(self):
        assert len(set(Vocabulary(["a"], 5, ("<unk>",)).words)) == 5

    def test_windows_overlap_in_one_token(self):
        rows = windows_of(np.arange(10, dtype=np.int32), 3)
        np.testing.assert_array_equal(rows["tokens"], [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]])
        assert rows["start"].all()

    @pytest.mark.parametrize("prefix", ["", "ptb."])
    def test_words_are_read_beside_the_images(self, tmp_path, monkeypatch, prefix):
        monkeypatch.delenv("XGRAD_TEXT_DIR", raising=False)
        folder = tmp_path / "text" / "ptb_small"
        folder.mkdir(parents=True)
        for part in ("train", "valid", "test"):
            (folder / f"{prefix}{part}.txt").write_text(" a b a\n c a\n" * 10)
        data = load_words(
            str(tmp_path / "tfds"), folder="ptb_small", vocabulary=4, window=3, batch_size=2
        )
        assert data.ordered
        # 70 tokens in 2 streams of 35; <unk>, <eos>, a, b
        np.testing.assert_array_equal(data.train["tokens"][:3:2], [[2, 3, 2, 1], [1, 0, 2, 1]])

    @pytest.mark.parametrize("folder", ["", "ptb_small", "multi30k"])
    def test_missing_files_are_named(self, tmp_path, monkeypatch, folder):
        monkeypatch.setenv("XGRAD_TEXT_DIR", str(tmp_path))
        (tmp_path / folder).mkdir(exist_ok=True)
        task = task_of("translation" if folder == "multi30k" else "lstm1", "cpu")
        missing = {"": "ptb_small", "ptb_small": r"train\.txt", "multi30k": r"train\.en\.gz"}[
            folder
        ]
        with pytest.raises(UsageError, match=rf"{missing}.*XGRAD_TEXT_DIR"):
            task.load(None)

    @pytest.mark.parametrize(
        ("name", "own", "other"),
        [("lstm1", "ptb_small", "ptb_full"), ("lstm1-ptb", "ptb_full", "ptb_small")],
    )
    def test_a_part_of_the_treebank_and_all_of_it_are_never_taken_for_each_other(
        self, tmp_path, monkeypatch, name, own, other
    ):
        monkeypatch.setenv("XGRAD_TEXT_DIR", str(tmp_path))
        for folder, words in ((own, "a a a a\n"), (other, "b b b\n")):
            (tmp_path / folder).mkdir()
            for part in ("train", "valid", "test"):
                (tmp_path / folder / f"{part}.txt").write_text(words * 200)
        data = task_of(name, "cpu").load(None)
        ends = [np.flatnonzero(part["tokens"][0] == 1) for part in data[:3]]
        assert all((np.diff(end) == 5).all() for end in ends)  # lines of four words and their end
        for part in ("train", "valid", "test"):
            (tmp_path / own / f"{part}.txt").unlink()
        (tmp_path / own).rmdir()
        with pytest.raises(UsageError, match=rf"no text '{own}'"):
            task_of(name, "cpu").load(None)

    def test_all_of_the_treebank(self):
        try:
            data = load_words(None, folder="ptb_full", vocabulary=10_000, window=35, batch_size=20)
        except UsageError as error:
            pytest.skip(str(error))
        # 929,589, 73,760 and 82,430 tokens, in 20 streams of whole windows.
        rows = [len(part["tokens"]) for part in data[:3]]
        assert rows == [20 * ((tokens // 20 - 1) // 35) for tokens in (929_589, 73_760, 82_430)]
        assert set(np.unique(data.train["tokens"])) == set(range(10_000))

    @pytest.mark.parametrize("name", ["decoder", "translation"])
    def test_missing_data_sets_are_named(self, tmp_path, name):
        with pytest.raises(UsageError, match="is not in"):
            task_of(name, "paper").load(str(tmp_path))


ENGLISH = ("A man sings.", "Two dogs!", "one two three four five six")
GERMAN = ("Ein Mann singt.", "Zwei Hunde!", "eins")


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("XGRAD_TEXT_DIR", str(tmp_path))
    folder = tmp_path / "multi30k"
    folder.mkdir()
    for part in ("train", "val", "test_2016_flickr"):
        (folder / f"{part}.en").write_text("\n".join(ENGLISH) + "\n")
        (folder / f"{part}.de.gz").write_bytes(gzip.compress(("\n".join(GERMAN) + "\n").encode()))
    return read_multi30k(None, vocabulary=20, length=5)


class TestPairs:
    def test_words_are_lower_case_and_marks_apart(self):
        assert words_of("A T-shirt, it's Grün.") == ["a", "t-shirt", ",", "it's", "grün", "."]

    def test_long_sentences_are_left_out(self, corpus):
        assert corpus.train == [*map(Pair, ENGLISH[:2], GERMAN[:2])]

    def test_sentences_begin_end_and_are_padded(self, corpus):
        data = translation_data(corpus, length=5)
        source, target = data.train["source"], data.train["target"]
        assert (source.shape, target.shape) == ((2, 6), (2, 7))
        words = [corpus.vocabulary.words[token] for token in target[1]]
        assert words == ["<begin>", "zwei", "hunde", "!", "<end>", "<pad>", "<pad>"]
        assert list(source[1, 3:]) == [END, 0, 0]
        assert (target[:, 0] == BEGIN).all()
        reference = data.test["reference"][1]
        assert bytes(reference[reference != 0]).decode() == "zwei hunde!"

    def test_every_other_pair_is_mixed_up(self):
        pairs = [Pair(f"e{number}", f"d{number}") for number in range(6)]
        words = [word for pair in pairs for word in pair]
        known = Vocabulary(words, 30, ("<pad>", "<unk>", "<begin>", "<end>", "<mask>"))
        examples = matching_examples(pairs, known, length=1)
        english, german = (
            [known.words[token] for token in examples["tokens"][:, place]] for place in (1, 3)
        )
        same = [one[1:] == other[1:] for one, other in zip(english, german, strict=True)]
        np.testing.assert_array_equal(examples["label"], same)
        assert sorted(german) == [pair.german for pair in pairs]
        np.testing.assert_array_equal(examples["segments"][0], [0, 0, 0, 1, 1])


class TestTranslation:
    def test_padding_changes_nothing(self):
        model = Translator(vocabulary=13, width=4, layers=3)
        source = jax.random.randint(jax.random.key(0), (2, 4), 5, 13)
        written = jax.random.randint(jax.random.key(1), (2, 3), 5, 13)
        params = model.init(jax.random.key(2), source, written, train=False)
        plain = model.apply(params, source, written, train=False)
        padded = model.apply(params, jnp.pad(source, ((0, 0), (0, 3))), written, train=False)
        np.testing.assert_allclose(plain, padded, atol=1e-6)

    def test_greedy_tokens_are_the_likeliest_behind_each_other(self):
        model = Translator(vocabulary=13, width=4, layers=3)
        source = jax.random.randint(jax.random.key(0), (2, 4), 5, 13)
        params = model.init(jax.random.key(2), source, source, train=False)["params"]
        tokens = greedy_translation(model, params, source, length=5)
        written = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=BEGIN)
        logits = model.apply({"params": params}, source, written, train=False)
        allowed = logits.at[..., jnp.array([0, 1, 2, 4])].set(-jnp.inf)
        np.testing.assert_array_equal(tokens, allowed.argmax(axis=-1))

    def test_sentences_stop_at_their_end(self):
        words = ("<pad>", "<unk>", "<begin>", "<end>", "<mask>", "hunde", ".")
        assert sentence(np.array([5, 6, END, 5]), words) == "hunde."
        assert sentence(np.array([5, 5]), words) == "hunde hunde"

    def test_bleu_of_the_same_is_100(self):
        texts = ["ein mann singt auf der straße."] * 2
        assert bleu(texts, texts) == pytest.approx(100)
        assert bleu(["", ""], texts) == 0

    @pytest.mark.parametrize("count", [1, 3])
    def test_bleu_wants_a_reference_for_each_text(self, count):
        with pytest.raises(ValueError, match=f"{count} hypotheses for 2 references"):
            bleu(["ein mann"] * count, ["ein mann"] * 2)

    def test_what_bleu_needs_is_said_before_data_are_read(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sacrebleu", None)
        for ask in (lambda: bleu(["a"], ["a"]), lambda: task_of("translation", "cpu").load(None)):
            with pytest.raises(UsageError, match=r"sacrebleu missing; .* '\.\[evidence\]'"):
                ask()

    def test_score_is_bleu(self):
        task = task_of("translation", "cpu")
        assert 0 <= task.score(variables_of("translation"), task.fake().test)["bleu"] < 20


class TestLosses:
    def test_token_losses_are_those_of_each_place(self):
        logits = jax.random.normal(jax.random.key(0), (2, 3, 5))
        targets = jnp.arange(6).reshape(2, 3) % 5
        expected = -jax.nn.log_softmax(logits)[jnp.arange(2)[:, None], jnp.arange(3), targets]
        np.testing.assert_allclose(token_losses(logits, targets), expected, rtol=1e-5)

    @pytest.mark.parametrize(("loss", "expected"), [(0.0, 1.0), (1e4, np.inf), (np.nan, np.inf)])
    def test_perplexity(self, loss, expected):
        assert with_perplexity({"loss": loss})["perplexity"] == expected
