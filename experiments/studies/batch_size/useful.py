"""How large a batch each arm can take: where its test loss leaves the plain optimizer's."""

import math
from collections.abc import Mapping, Sequence

from experiments import tuning
from experiments.arms import PLAIN
from experiments.studies.batch_size.ask import (
    COMPARISONS,
    WORSE,
    Config,
    Record,
    score_of,
)
from experiments.tested import Pair, Verdict, tested
from experiments.tuning import REPORTED, TUNING


def reported(records: Sequence[Record]) -> Mapping[tuple[int, str], Record]:
    """Returns the reported records by batch size and arm."""
    return {(r.batch_size, r.arm): r for r in records if r.purpose == REPORTED}


def best_is_inside(record: Record, records: Sequence[Record]) -> bool:
    """Whether the rate of a reported record lies strictly inside of the grid it was chosen from."""
    tried = (
        (other.learning_rate, score_of(other))
        for other in records
        if (other.batch_size, other.arm) == (record.batch_size, record.arm)
        and other.purpose == TUNING
    )
    return tuning.best_is_inside(tuning.by_place(tried))


def losses(record: Record) -> list[float]:
    """Returns the test losses by seed; one that is not finite is infinite."""
    return [math.inf if loss is None else loss for loss in record.test_loss]


def target(records: Sequence[Record], config: Config) -> float | None:
    """Returns the test loss up to which a batch is useful; None before plain has one."""
    smallest = reported(records).get((config.batch_sizes[0], PLAIN))
    if smallest is None:
        return None
    loss = WORSE * sum(losses(smallest)) / len(smallest.test_loss)
    return loss if math.isfinite(loss) else None


def useful_batches(records: Sequence[Record], config: Config) -> Mapping[str, Sequence[float]]:
    """Returns by arm the largest useful batch of each seed; of arms that have all batch sizes."""
    loss, runs = target(records, config), reported(records)
    if loss is None:
        return {}
    found = {}
    for arm in config.arms:
        if all((size, arm) in runs for size in config.batch_sizes):
            by_seed = zip(*(losses(runs[size, arm]) for size in config.batch_sizes), strict=True)
            found[arm] = [largest_useful(config.batch_sizes, each, loss) for each in by_seed]
    return found


def largest_useful(sizes: Sequence[int], losses: Sequence[float], target: float) -> float:
    """Returns the largest batch whose loss is at most a target.

    It lies between two sizes, on the straight line from one loss to the next where both axes are
    logarithmic. Where all losses are above the target it is the smallest size, where that of the
    largest is not, the largest: what would be beyond was not measured.

    Args:
        sizes: in their order, at least one.
        losses: of each size.
        target: the loss.
    """
    within = [place for place, loss in enumerate(losses) if loss <= target]
    if not within:
        return float(sizes[0])
    last = within[-1]
    if last == len(sizes) - 1 or not math.isfinite(losses[last + 1]) or losses[last] <= 0:
        return float(sizes[last])
    share = math.log(target / losses[last]) / math.log(losses[last + 1] / losses[last])
    return sizes[last] * (sizes[last + 1] / sizes[last]) ** share


def verdicts(records: Sequence[Record], config: Config) -> list[Verdict]:
    """Returns the registered comparisons of which both arms are there.

    A difference is in doublings: how often the batch of the one has to be doubled to be that of
    the other.
    """
    doubled = {
        arm: [math.log2(size) for size in sizes]
        for arm, sizes in useful_batches(records, config).items()
    }
    pairs = (
        Pair(arm, other, doubled[arm], doubled[other])
        for arm, other in COMPARISONS
        if arm in doubled and other in doubled
    )
    return tested(pairs, higher_is_better=True)
