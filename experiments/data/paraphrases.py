"""MRPC (Dolan & Brockett, 2005): do two sentences say the same? As in GLUE (arXiv 1804.07461)."""

from collections.abc import Sequence
from typing import Any

from experiments.data.sentence_pairs import LabelledPair, numbered_pieces
from experiments.data.text import read_records
from experiments.task import Data

_VALIDATION = 408  # as many as GLUE's validation part has
_SPLITS = ("train", "validation")


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
    records, others = (read_records("glue/mrpc", split, data_dir) for split in _SPLITS)
    train, validation, test = (
        numbered_pieces(_pairs(part), encoder)
        for part in (records[:-_VALIDATION], records[-_VALIDATION:], others)
    )
    return Data(train, validation, test)


def _pairs(records: Sequence[Any]) -> Sequence[LabelledPair]:
    return [
        LabelledPair(record["sentence1"].decode(), record["sentence2"].decode(), record["label"])
        for record in records
    ]
