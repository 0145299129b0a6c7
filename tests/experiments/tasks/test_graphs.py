"""The tasks on graphs: what a network computes, what counts, and the real data if they exist."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.citations import UPDATES_PER_PASS, graph_examples, load_citations
from experiments.data.small_graphs import load_small_graphs, padded_graphs, stratified_folds
from experiments.errors import UsageError
from experiments.models.graphs import (
    GraphConvolutionNetwork,
    GraphIsomorphismNetwork,
    Links,
    Words,
    from_neighbours,
)
from experiments.task import Variables
from experiments.tasks import load_task
from experiments.tasks.graphs import counted
from experiments.training.batches import take
from tests.experiments.quick import jit_quickly, random_variables

# Four papers in a row, and a fifth that says nothing and is beside nobody.
WORDS = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]], np.float64)
EDGES = np.array([[0, 1], [1, 2], [2, 3]])
READ = {
    "feature_row_start": np.array([0, 2, 3, 6, 7, 7]),
    "feature_column": np.array([0, 2, 1, 0, 1, 2, 2]),
    "edges": EDGES,
    "label": np.array([0, 1, 1, 0, -1]),
}


def normalized_adjacency(nodes, edges):
    """Equation 2 of arXiv 1609.02907, with matrices."""
    with_self = np.eye(nodes)
    with_self[edges[:, 0], edges[:, 1]] = with_self[edges[:, 1], edges[:, 0]] = 1
    scale = np.diag(with_self.sum(axis=1) ** -0.5)
    return scale @ with_self @ scale


def links_of(examples):
    return Links(*(jnp.asarray(examples[name]) for name in ("source", "target", "link_weight")))


class TestGraphConvolutions:
    def test_two_layers_are_the_paper_s_formula(self):
        examples = graph_examples(READ)
        words = Words(*(jnp.asarray(examples[f"word{end}"]) for end in ("", "_node", "_weight")))
        model = GraphConvolutionNetwork(vocabulary=3, hidden=4, outputs=2)
        links, key = links_of(examples), jax.random.key(0)
        params = model.init(key, words, links, 5, train=False)["params"]
        found = model.apply({"params": params}, words, links, 5, train=False)
        adjacency = normalized_adjacency(5, EDGES)
        features = WORDS / np.maximum(WORDS.sum(axis=1, keepdims=True), 1)
        hidden = np.maximum(adjacency @ features @ np.asarray(params["first"]), 0)
        expected = adjacency @ hidden @ np.asarray(params["second"])
        np.testing.assert_allclose(found, expected[None], rtol=1e-5, atol=1e-6)

    def test_graphs_of_a_batch_do_not_mix(self):
        examples = graph_examples(READ)
        links = jax.tree.map(lambda array: jnp.tile(array, (2, 1)), links_of(examples))
        nodes = jax.random.normal(jax.random.key(0), (2, 5, 3))
        expected = normalized_adjacency(5, EDGES) @ nodes
        np.testing.assert_allclose(from_neighbours(nodes, links), expected, rtol=1e-5, atol=1e-6)

    def test_what_is_dropped_are_entries_that_are_not_0(self):
        examples = graph_examples(READ)
        words = Words(*(jnp.asarray(examples[f"word{end}"]) for end in ("", "_node", "_weight")))
        model = GraphConvolutionNetwork(vocabulary=3, hidden=4, outputs=2, dropout=0.5)
        links, key = links_of(examples), jax.random.key(0)
        variables = model.init(key, words, links, 5, train=False)
        one, other = (
            model.apply(variables, words, links, 5, train=True, rngs={"dropout": jax.random.key(n)})
            for n in (1, 2)
        )
        assert not np.allclose(one, other)
        np.testing.assert_array_equal(one[0, 4], 0)  # a paper without words and neighbours


@pytest.fixture
def citing():
    task = load_task("gcn-cora")
    return task, random_variables(task), task.fake()


class TestCitations:
    def test_a_pass_is_ten_updates_and_there_are_200(self, citing):
        task, _, data = citing
        assert len(data.train["label"]) == UPDATES_PER_PASS == 10
        assert task.protocol.epochs * UPDATES_PER_PASS == 200
        assert not any(array.strides[0] for array in data.train.values())  # no copies

    def test_only_labels_of_the_part_count(self, citing):
        task, variables, data = citing
        measure, gradient = jit_quickly(task.measure), jit_quickly(task.gradient)
        batch = take(data.train, np.arange(1))
        counted = batch["counted"] == 1
        others = {**batch, "label": np.where(counted, batch["label"], (batch["label"] + 1) % 7)}
        one, other = (gradient(*variables, each, jax.random.key(0)) for each in (batch, others))
        jax.tree.map(np.testing.assert_array_equal, one, other)
        flipped = {**batch, "label": np.where(counted, (batch["label"] + 1) % 7, batch["label"])}
        assert gradient(*variables, flipped, jax.random.key(0)).loss != one.loss
        sums, _ = measure(variables, {**data.test, "weight": np.ones(1)})
        assert sums["weight"] == data.test["counted"].sum() == 4

    def test_the_first_layer_alone_is_penalized(self, citing):
        task, variables, data = citing
        # Without words nothing is computed: the loss is log 7, and the penalty.
        batch = {**take(data.train, np.arange(1))}
        batch["word_weight"] = np.zeros_like(batch["word_weight"])
        found = jit_quickly(task.gradient)(*variables, batch, jax.random.key(0))
        first = variables.params["first"]
        np.testing.assert_allclose(found.loss, np.log(7) + 2.5e-4 * np.sum(first**2), rtol=1e-5)
        np.testing.assert_allclose(found.params["first"], 5e-4 * first, rtol=1e-5)
        np.testing.assert_array_equal(found.params["second"], 0)

    def test_a_missing_file_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XGRAD_GRAPHS_DIR", str(tmp_path))
        with pytest.raises(UsageError, match=r"no graphs 'cora\.npz'.*set XGRAD_GRAPHS_DIR"):
            load_task("gcn-cora").load(None)

    @pytest.mark.parametrize(
        ("name", "nodes", "parts"), [("cora", 2_708, 140), ("citeseer", 3_327, 120)]
    )
    def test_real_data(self, name, nodes, parts):
        try:
            data = load_citations(name, None)
        except UsageError as error:
            pytest.skip(str(error))
        assert data.train["label"].shape == (UPDATES_PER_PASS, nodes)
        counted = [part["counted"][0] for part in data[:3]]
        assert [part.sum() for part in counted] == [parts, 500, 1_000]
        assert np.max(sum(counted)) == 1
        task = load_task(f"gcn-{name}")
        classes = parts // 20
        labels = data.train["label"][0][counted[0] == 1]
        np.testing.assert_array_equal(np.bincount(labels), [20] * classes)
        words = data.test["word"].max() + 1
        assert task.parameters == 16 * (words + classes)
        sums, _ = jax.jit(task.measure)(
            Variables(task.init(jax.random.key(0)).params, {}), {**data.test, "weight": np.ones(1)}
        )
        assert sums["weight"] == 1_000
        assert np.isfinite(sums["loss"])


# A triangle, and a node beside another.
SMALL = {
    "graph_start": np.array([0, 3, 5]),
    "node_tag": np.array([0, 1, 1, 0, 1]),
    "edges": np.array([[3, 4], [0, 1], [1, 2], [0, 2]]),
    "label": np.array([1, -1]),
}


class TestPaddedGraphs:
    def test_rows_are_filled_up(self):
        graphs = padded_graphs(SMALL)
        np.testing.assert_array_equal(graphs["tag"], [[0, 1, 1], [0, 1, -1]])
        np.testing.assert_array_equal(graphs["label"], [1, 0])
        np.testing.assert_array_equal(graphs["link_weight"].sum(axis=1), [6, 2])
        links = links_of(graphs)
        nodes = jnp.array([[[1.0], [2.0], [4.0]], [[8.0], [16.0], [99.0]]])
        expected = [[[6.0], [5.0], [3.0]], [[16.0], [8.0], [0.0]]]
        np.testing.assert_array_equal(from_neighbours(nodes, links), expected)

    def test_folds_have_the_classes_shares(self):
        label = np.array([0] * 40 + [1] * 20)
        folds = stratified_folds(label)
        for fold in range(10):
            np.testing.assert_array_equal(np.bincount(label[folds == fold]), [4, 2])


class TestGraphIsomorphismNetwork:
    def test_padding_and_uncounted_graphs_change_nothing(self):
        graphs = padded_graphs(SMALL)
        model = GraphIsomorphismNetwork(tags=2, width=4, layers=2, outputs=2, dropout=0.0)
        both, tag = links_of(graphs), jnp.asarray(graphs["tag"])
        counts = jnp.array([False, True])
        variables = model.init(jax.random.key(0), tag, both, counts, train=False)
        # The second graph alone, without its third node and its empty links.
        alone = jax.tree.map(lambda array: array[1:, :2], both)

        def logits(*arguments):
            return model.apply(variables, *arguments, train=True, mutable=["batch_stats"])

        padded, stats = logits(tag, both, counts)
        exact, exact_stats = logits(tag[1:, :2], alone, counts[1:])
        np.testing.assert_allclose(padded[1:], exact, rtol=1e-4, atol=1e-5)
        for one, other in zip(*map(jax.tree.leaves, (stats, exact_stats)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)

    def test_a_layer_is_the_paper_s_formula(self):
        graphs = padded_graphs(SMALL)
        model = GraphIsomorphismNetwork(tags=2, width=4, layers=1, outputs=2)
        tag, links = jnp.asarray(graphs["tag"][:1]), jax.tree.map(lambda x: x[:1], links_of(graphs))
        variables = model.init(jax.random.key(0), tag, links, jnp.ones(1, bool), train=False)
        params = jax.tree.map(np.asarray, variables["params"])

        def dense(name, inputs):
            return inputs @ params[name]["kernel"] + params[name].get("bias", 0)

        def relu(inputs):  # statistics begin with mean 0 and variance 1
            return np.maximum(inputs / np.sqrt(1 + 1e-5), 0)

        nodes = np.eye(2)[[0, 1, 1]]
        hidden = relu(dense("Dense_1", nodes + (1 - np.eye(3)) @ nodes))
        after = relu(dense("Dense_2", hidden))
        expected = dense("Dense_0", nodes.sum(axis=0)) + dense("Dense_3", after.sum(axis=0))
        found = model.apply(variables, tag, links, jnp.ones(1, bool), train=False)
        np.testing.assert_allclose(found[0], expected, rtol=1e-5)


@pytest.fixture
def folded():
    task = load_task("gin-mutag")
    return task, random_variables(task), task.fake()


class TestFolds:
    def test_each_graph_is_in_one_part_of_each_fold(self, folded):
        _, _, data = folded
        for fold in range(10):
            parts = np.stack([counted(part, jnp.int32(fold)) for part in data[:3]])
            assert (parts.sum(axis=0) == 1).all()
            np.testing.assert_array_equal(parts.sum(axis=1), [16, 2, 2])
            np.testing.assert_array_equal(data.test["fold"][parts[2]], [fold] * 2)

    def test_a_seed_decides_the_fold(self, folded):
        task, _, _ = folded
        keys = jax.vmap(jax.random.key)(jnp.arange(40))
        folds = jax.jit(jax.vmap(lambda key: task.init(key).state["fold"]))(keys)
        assert set(folds.tolist()) == set(range(10))

    def test_nothing_of_the_held_out_graphs_is_learned(self, folded):
        task, variables, data = folded
        gradient = jit_quickly(task.gradient)
        held_out = ~np.asarray(counted(data.train, variables.state["fold"]))
        other = {
            **data.train,
            "label": np.where(held_out, 1 - data.train["label"], data.train["label"]),
            "tag": np.where(held_out[:, None], data.train["tag"][::-1], data.train["tag"]),
        }
        assert (other["tag"] != data.train["tag"]).any()
        one, changed = (
            gradient(*variables, batch, jax.random.key(0)) for batch in (data.train, other)
        )
        for a, b in zip(*map(jax.tree.leaves, (one, changed)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert one.state["fold"] == variables.state["fold"]

    def test_no_gradient_is_mere_rounding_which_adam_would_make_steps_of(self, folded):
        task, variables, data = folded
        found = jit_quickly(task.gradient)(*variables, data.train, jax.random.key(0))
        for path, leaf in jax.tree.leaves_with_path(found.params):
            assert np.abs(leaf).max() > 1e-3, jax.tree_util.keystr(path)

    def test_measures_are_of_the_fold(self, folded):
        task, variables, data = folded
        measure = jit_quickly(task.measure)
        for fold in (0, 7):
            state = {**variables.state, "fold": jnp.int32(fold)}
            found, _ = measure(
                Variables(variables.params, state), {**data.test, "weight": np.ones(20)}
            )
            chosen = take(data.test, np.flatnonzero(data.test["fold"] == fold))
            alone, _ = measure(Variables(variables.params, state), {**chosen, "weight": np.ones(2)})
            assert found["weight"] == 2
            np.testing.assert_allclose(found["loss"], alone["loss"], rtol=1e-5)

    @pytest.mark.parametrize(
        ("name", "largest", "graphs", "nodes", "tags"),
        [
            ("mutag", None, 188, 28, 7),
            ("proteins", None, 1_113, 620, 3),
            ("proteins", 100, 1_046, 100, 3),
        ],
    )
    def test_real_data(self, name, largest, graphs, nodes, tags):
        try:
            data = load_small_graphs(name, None, largest)
        except UsageError as error:
            pytest.skip(str(error))
        assert data.train["tag"].shape == (graphs, nodes)
        assert data.train["tag"].max() == tags - 1
        shares = [data.train["label"][data.train["fold"] == fold].mean() for fold in range(10)]
        assert max(shares) - min(shares) < 0.06
        present = (data.train["tag"] >= 0).sum(axis=1, keepdims=True)
        real = data.train["link_weight"] > 0
        for end in ("source", "target"):
            assert (data.train[end] < present)[real].all()
