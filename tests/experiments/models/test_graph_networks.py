"""The networks on graphs, against their papers' formulas with matrices, and what pads them."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.citations import graph_examples
from experiments.data.small_graphs import padded_graphs
from experiments.models.graphs import (
    GraphConvolutionNetwork,
    GraphIsomorphismNetwork,
    Links,
    Words,
    from_neighbours,
)

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
