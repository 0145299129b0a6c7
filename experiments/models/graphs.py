"""Networks on graphs that are lists of links, so that nothing is spent on links that are not there.

Each link takes a number of its source to its target. Where graphs are padded to one size, the links
and nodes that only fill up weigh 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn


class Links(NamedTuple):
    """Who is beside whom.

    Attributes:
        source: a node of each link, int32 ``[graphs, links]``.
        target: the other one, of the same shape; a link in both directions is listed twice.
        weight: what the source is multiplied by, float32 of the same shape.
    """

    source: jax.Array
    target: jax.Array
    weight: jax.Array


def gathered(values: jax.Array, place: jax.Array, places: int) -> jax.Array:
    """Adds up what has the same place.

    Args:
        values: ``[graphs, values, width]``.
        place: int32 ``[graphs, values]``.
        places: number of places.

    Returns:
        ``[graphs, places, width]``.
    """
    # One long list for all graphs: a batched scatter is slower on a CPU.
    graphs = len(values)
    shift = places * jnp.arange(graphs, dtype=place.dtype)[:, None]
    flat = jax.ops.segment_sum(
        values.reshape(-1, values.shape[-1]), (place + shift).reshape(-1), graphs * places
    )
    return flat.reshape(graphs, places, -1)


def from_neighbours(nodes: jax.Array, links: Links) -> jax.Array:
    """Adds up at each node what its links bring, ``[graphs, nodes, width]`` to the same shape."""
    brought = jnp.take_along_axis(nodes, links.source[..., None], axis=1)
    return gathered(brought * links.weight[..., None], links.target, nodes.shape[1])


class Words(NamedTuple):
    """What papers say: the entries of their matrix of features that are not 0.

    Attributes:
        word: int32 ``[graphs, words]``.
        node: the paper it is in, int32 of the same shape.
        weight: the entry, float32 of the same shape.
    """

    word: jax.Array
    node: jax.Array
    weight: jax.Array


class GraphConvolutionNetwork(nn.Module):
    """Two graph convolutions, arXiv 1609.02907, equation 9: softmax of A relu(A X W) V.

    Attributes:
        vocabulary: number of different words.
        hidden: width between the two.
        outputs: number of logits.
        dropout: share of the inputs of each convolution that is dropped.
    """

    vocabulary: int
    hidden: int
    outputs: int
    dropout: float = 0.5

    @nn.compact
    def __call__(self, words: Words, links: Links, nodes: int, train: bool) -> jax.Array:
        """Classifies papers.

        Args:
            words: X.
            links: A, normalized.
            nodes: number of papers.
            train: whether to drop.

        Returns:
            Logits, ``[graphs, nodes, outputs]``.
        """
        drop = nn.Dropout(self.dropout, deterministic=not train)
        glorot = nn.initializers.glorot_uniform()
        first = self.param("first", glorot, (self.vocabulary, self.hidden))
        second = self.param("second", glorot, (self.hidden, self.outputs))
        said = drop(words.weight)[..., None] * first[words.word]
        hidden = nn.relu(from_neighbours(gathered(said, words.node, nodes), links))
        return from_neighbours(drop(hidden) @ second, links)


class GraphIsomorphismNetwork(nn.Module):
    """GIN-0, arXiv 1810.00826: sums over neighbours, and over the nodes behind each layer.

    Attributes:
        tags: number of different tags of a node.
        width: size of a node's vector.
        layers: number of sums over neighbours.
        outputs: number of logits.
        dropout: share of the logits of each layer that is dropped, as the paper has it.
    """

    tags: int
    width: int
    layers: int
    outputs: int
    dropout: float = 0.5

    @nn.compact
    def __call__(self, tag: jax.Array, links: Links, counted: jax.Array, train: bool) -> jax.Array:
        """Classifies graphs.

        Args:
            tag: of each node, int32 ``[graphs, nodes]``, -1 where there is none.
            links: between nodes.
            counted: bool ``[graphs]``: whose nodes the batch's statistics are of.
            train: whether to drop, and to normalize by the batch's statistics.

        Returns:
            Logits, ``[graphs, outputs]``.
        """
        present = (tag >= 0)[..., None]
        drop = nn.Dropout(self.dropout, deterministic=not train)

        def layer(nodes: jax.Array) -> jax.Array:
            # Without a bias: the mean takes it away, and Adam would make steps of its rounding.
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
            nodes = nn.Dense(self.width, use_bias=False)(nodes)
            return nn.relu(norm(nodes, mask=present & counted[:, None, None]))

        def read_out(nodes: jax.Array) -> jax.Array:
            of_graph = jnp.sum(nodes, axis=1, where=present)
            return drop(nn.Dense(self.outputs)(of_graph))

        nodes = jax.nn.one_hot(tag, self.tags)
        logits = read_out(nodes)
        for _ in range(self.layers):
            nodes = layer(layer(nodes + from_neighbours(nodes, links)))
            logits += read_out(nodes)
        return logits
