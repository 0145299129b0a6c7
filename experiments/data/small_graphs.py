"""Small graphs that each are of a class: MUTAG and PROTEINS (TUDataset, arXiv 2007.08663).

They are too few to hold a part out once and for all. They are in ten folds, in each of which the
classes have the same shares, and a run is tested on one fold, validated on the next and trained on
the other eight. Which one is drawn with its initial parameters.
"""

from collections.abc import Mapping

import numpy as np

from experiments.data.folders import find_data
from experiments.task import Data, Examples

FOLDS = 10
TRAIN, VALIDATION, TEST = range(3)
_SEED_OF_FOLDS = 0


def load_small_graphs(name: str, data_dir: str | None, largest: int | None = None) -> Data:
    """Reads graphs of tagged nodes.

    All parts hold all graphs: which of them count in a part depends on the run's fold.

    Args:
        name: ``"mutag"`` or ``"proteins"``.
        data_dir: as for :func:`~experiments.data.folders.find_data`.
        largest: graphs of more nodes are left out; None for none.

    Returns:
        As :func:`padded_graphs` says; ``fold``, int32 ``[graphs]``; and ``part``, of that shape,
        ``TRAIN``, ``VALIDATION`` or ``TEST`` throughout.

    Raises:
        UsageError: the file is not there.
    """
    with np.load(find_data("graphs", (f"{name}.npz",), data_dir)) as arrays:
        read = dict(arrays)
    graphs = padded_graphs(read)
    if largest is not None:
        graphs = _small(graphs, largest)
    return _in_parts({**graphs, "fold": stratified_folds(graphs["label"])})


def padded_graphs(read: Mapping[str, np.ndarray]) -> Examples:
    """Returns graphs as rows of one size.

    Args:
        read: ``graph_start``, ``[graphs + 1]``: each graph's first node; ``node_tag``, ``[nodes]``;
            ``edges``, ``[edges, 2]``, each once; ``label``, ``[graphs]``.

    Returns:
        ``tag``, int32 ``[graphs, nodes]``, -1 where there is no node; ``source`` and ``target``,
        int32 ``[graphs, links]``, each edge in both directions, and ``link_weight``, float32 of
        that shape, 0 where there is no link; ``label``, int32 ``[graphs]``, from 0.
    """
    starts = read["graph_start"]
    graphs, sizes = len(starts) - 1, np.diff(starts)
    owner, place = _rows_and_places(sizes)
    tag = np.full((graphs, sizes.max()), -1, np.int32)
    tag[owner, place] = read["node_tag"]
    links = np.concatenate([read["edges"], read["edges"][:, ::-1]])
    links = links[np.argsort(owner[links[:, 0]], kind="stable")]
    graph = owner[links[:, 0]]
    _, column = _rows_and_places(np.bincount(graph, minlength=graphs))
    ends = np.zeros((2, graphs, column.max() + 1), np.int32)
    ends[:, graph, column] = place[links].T
    weight = np.zeros(ends.shape[1:], np.float32)
    weight[graph, column] = 1
    label = np.unique(read["label"], return_inverse=True)[1].astype(np.int32)
    return {
        "tag": tag,
        "source": ends[0],
        "target": ends[1],
        "link_weight": weight,
        "label": label,
    }


def _rows_and_places(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each entry's row and its place there, of rows of some sizes behind each other."""
    rows = np.repeat(np.arange(len(sizes)), sizes)
    return rows, np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _small(graphs: Examples, largest: int) -> Examples:
    """Leaves graphs of more nodes out, and the padding that only they needed."""
    kept = {name: array[(graphs["tag"] >= 0).sum(1) <= largest] for name, array in graphs.items()}
    links = int(kept["link_weight"].sum(1).max())
    widths = {"tag": largest, "source": links, "target": links, "link_weight": links}
    return {
        name: array[:, : widths[name]] if name in widths else array for name, array in kept.items()
    }


def stratified_folds(label: np.ndarray) -> np.ndarray:
    """Returns the fold of each example, int32, always the same."""
    from sklearn.model_selection import StratifiedKFold

    folds = np.zeros(len(label), np.int32)
    split = StratifiedKFold(FOLDS, shuffle=True, random_state=_SEED_OF_FOLDS).split(label, label)
    for number, (_, test) in enumerate(split):
        folds[test] = number
    return folds


def fake_small_graphs(tags: int) -> Data:
    """Draws 20 graphs of up to 6 nodes, two of each fold, always the same."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(2, 7, 20)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    read = {
        "graph_start": starts,
        "node_tag": generator.integers(0, tags, starts[-1]),
        "edges": np.stack([starts[:-1], starts[:-1] + 1], axis=1),
        "label": np.arange(20) % 2,
    }
    # The first four are trained on in fold 0, so that a small batch is never empty.
    fold = (np.arange(20, dtype=np.int32) + 4) % FOLDS
    return _in_parts({**padded_graphs(read), "fold": fold})


def _in_parts(graphs: Examples) -> Data:
    count = len(graphs["label"])
    train, validation, test = (
        {**graphs, "part": np.full(count, part, np.int32)} for part in (TRAIN, VALIDATION, TEST)
    )
    return Data(train, validation, test)
