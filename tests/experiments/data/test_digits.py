import numpy as np

from experiments.data.digits import load_digits, stratified_split
from experiments.training.batches import number_of_examples


def test_digits_are_all_used_once():
    sizes = [number_of_examples(part) for part in load_digits()[:3]]
    assert sizes == [1077, 360, 360]


def test_split_is_fixed_disjoint_and_stratified():
    labels = np.repeat(np.arange(4), [100, 50, 40, 10])
    parts = stratified_split(labels, validation=0.2, test=0.1, seed=0)
    again = stratified_split(labels, validation=0.2, test=0.1, seed=0)
    for part, same in zip(parts, again, strict=True):
        np.testing.assert_array_equal(part, same)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(200))
    counts = [np.bincount(labels[part]).tolist() for part in parts]
    assert counts == [[70, 35, 28, 7], [20, 10, 8, 2], [10, 5, 4, 1]]


def test_digits_split_does_not_change_between_versions():
    # A different split would make old run folders incomparable without anyone noticing.
    assert load_digits().test["label"][:8].tolist() == [7, 6, 3, 7, 7, 3, 2, 8]
