"""Papers and what they cite: Cora and Citeseer with the split of Planetoid (arXiv 1603.08861)."""

from collections.abc import Mapping

import numpy as np

from experiments.data.folders import find_data
from experiments.task import Data, Examples

UPDATES_PER_PASS = 10
_PARTS: tuple[str, ...] = ("train", "validation", "test")


def load_citations(name: str, data_dir: str | None) -> Data:
    """Reads a graph whose nodes are papers, of which a few are labelled to learn from.

    All parts hold the whole graph, as one example: whatever is trained or measured sees all papers
    and all citations, and ``counted`` says whose labels count. The training part repeats it, so
    that a pass over it is ten updates and not one, after which everything is measured.

    Args:
        name: ``"cora"`` or ``"citeseer"``.
        data_dir: as for :func:`~experiments.data.folders.find_data`.

    Returns:
        As :func:`graph_examples` says.

    Raises:
        UsageError: the file is not there.
    """
    with np.load(find_data("graphs", (f"{name}.npz",), data_dir)) as arrays:
        read = dict(arrays)
    return _in_parts(graph_examples(read), {part: read[part] for part in _PARTS})


def graph_examples(read: Mapping[str, np.ndarray]) -> Examples:
    """Returns a graph as one example, in lists: nearly all of its matrices is 0.

    The symmetric normalization is that of arXiv 1609.02907, equation 2, each node being its own
    neighbour too.

    Args:
        read: ``feature_row_start`` and ``feature_column``, the words of each paper one after the
            other; ``edges``, ``[edges, 2]``, each once; ``label``, -1 where there is none.

    Returns:
        With a leading axis of 1: ``word`` and ``word_node``, int32 ``[words]``, each occurrence of
        a word in a paper; ``word_weight``, float32 ``[words]``, which for each paper add up to 1;
        ``source`` and ``target``, int32 ``[links]``, and ``link_weight``, float32 ``[links]``;
        ``label``, int32 ``[nodes]``.
    """
    nodes = np.arange(len(read["label"]))
    words = np.diff(read["feature_row_start"])
    one, other = read["edges"].T
    source, target = np.concatenate([one, other, nodes]), np.concatenate([other, one, nodes])
    neighbours = np.bincount(target)
    graph = {
        "word": read["feature_column"].astype(np.int32),
        "word_node": np.repeat(nodes, words).astype(np.int32),
        "word_weight": (1 / np.repeat(words, words)).astype(np.float32),
        "source": source.astype(np.int32),
        "target": target.astype(np.int32),
        "link_weight": ((neighbours[source] * neighbours[target]) ** -0.5).astype(np.float32),
        "label": np.maximum(read["label"], 0).astype(np.int32),  # no part has those without one
    }
    return {name: array[None] for name, array in graph.items()}


def fake_citations(words: int, classes: int) -> Data:
    """Draws a graph of 12 papers, always the same."""
    generator, nodes, each = np.random.default_rng(0), 12, 5
    pairs = np.argwhere(np.triu(generator.random((nodes, nodes)) < 0.3, 1))
    columns = [generator.choice(words, each, replace=False) for _ in range(nodes)]
    read = {
        "feature_row_start": each * np.arange(nodes + 1),
        "feature_column": np.concatenate(columns),
        "edges": pairs,
        "label": generator.integers(0, classes, nodes),
    }
    parts = dict(zip(_PARTS, np.split(np.arange(nodes), 3), strict=True))
    return _in_parts(graph_examples(read), parts)


def _in_parts(graph: Examples, parts: Mapping[str, np.ndarray]) -> Data:
    (nodes,) = graph["label"].shape[1:]

    def counting(part: np.ndarray) -> Examples:
        return {**graph, "counted": np.isin(np.arange(nodes), part)[None].astype(np.float32)}

    train, validation, test = (counting(parts[part]) for part in _PARTS)
    return Data({name: _repeated(array) for name, array in train.items()}, validation, test)


def _repeated(array: np.ndarray) -> np.ndarray:
    """Views that take no memory of their own."""
    return np.broadcast_to(array, (UPDATES_PER_PASS, *array.shape[1:]))
