#!/usr/bin/env bash
# grain 0.2.18: a shuffled MapDataset, read in batches.
# Guess: shuffling is a permutation that is drawn once an epoch; reading a batch of 32 numbers costs as much as without it.
# What happens: the place of every single element is computed anew in Python when it is read. A shuffled batch costs 14 to 18 times an
# unshuffled one, and a thousand times or more a permutation of NumPy: more than a millisecond, which is more than a small network's step.
# (Shuffling the numbers of batches and drawing the permutation of an epoch oneself is what avoids it.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check grain==0.2.18
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys
import time

import grain
import numpy as np

EXAMPLES, SIZE, EPOCHS = 1077, 32, 10
BATCHES = EXAMPLES // SIZE * EPOCHS


def in_batches(dataset):
    return dataset.batch(SIZE, drop_remainder=True).repeat(EPOCHS)


def read(dataset):
    for number in range(BATCHES):
        dataset[number]


def permute():
    generator = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = generator.permutation(EXAMPLES)
        [order[at : at + SIZE] for at in range(0, EXAMPLES - SIZE, SIZE)]


def seconds(function, *arguments):
    """Of the processor, the least of five."""

    def once():
        began = time.process_time()
        function(*arguments)
        return time.process_time() - began

    return min(once() for _ in range(5))


numbers = grain.MapDataset.range(EXAMPLES)
plain = seconds(read, in_batches(numbers))
shuffled = seconds(read, in_batches(numbers.seed(3).shuffle()))
numpy = seconds(permute)
print("grain", importlib.metadata.version("grain"))
print(f"{BATCHES} batches of {SIZE}: {1000 * plain:.1f} ms, shuffled {1000 * shuffled:.1f} ms,")
print(f"as permutations of NumPy {1000 * numpy:.2f} ms; ratios {shuffled / plain:.0f} and {shuffled / numpy:.0f}")
sys.exit(not (shuffled > 5 * plain and shuffled > 100 * numpy))
PYTHON
