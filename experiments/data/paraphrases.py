"""MRPC (Dolan & Brockett, 2005): do two sentences say the same? As in GLUE (arXiv 1804.07461)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.data.text import read_records
from experiments.task import Data, Examples

_VALIDATION = 408  # as many as GLUE's validation part has


def load_paraphrases(data_dir: str | None, encoder: Any) -> Data:
    """Reads TFDS's ``glue/mrpc``.

    GLUE keeps the labels of its test part to itself. So test is its validation part, and
    validation the last 408 of the 3,668 training pairs.

    Args:
        data_dir: the folder that holds TFDS's data sets, None for the usual ones.
        encoder: as of :func:`~experiments.models.pretrained.pair_encoder`.

    Returns:
        ``tokens`` and ``segments``, int32 ``[pairs, tokens]``, and ``label``, int32 ``[pairs]``:
        1 where both sentences say the same.

    Raises:
        UsageError: the data set is not there.
    """
    train, test = (read_records("glue/mrpc", part, data_dir) for part in ("train", "validation"))
    return Data(
        _examples(train[:-_VALIDATION], encoder),
        _examples(train[-_VALIDATION:], encoder),
        _examples(test, encoder),
    )


def _examples(records: Sequence[Any], encoder: Any) -> Examples:
    encoded = encoder.encode_batch(
        [(record["sentence1"].decode(), record["sentence2"].decode()) for record in records]
    )
    return {
        "tokens": np.array([pair.ids for pair in encoded], np.int32),
        "segments": np.array([pair.type_ids for pair in encoded], np.int32),
        "label": np.array([record["label"] for record in records], np.int32),
    }
