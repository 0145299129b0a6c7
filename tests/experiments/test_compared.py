import dataclasses

from experiments.compared import Cell, Measure, Verdicts, summarize, tally
from experiments.statistics import Interval
from experiments.studies.compare.ask import Record
from experiments.studies.compare.page import format_value


def reached(present, seeds):
    return f"{present}/{seeds} reached"


LOSS = Measure("loss", lambda run: run.final_loss, reached)
ACCURACY = Measure("accuracy", lambda run: run.final_test_metric, reached, higher_is_better=True)


def runs(optimizer, arm, losses, accuracies=(50.0, 60.0, 71.0)):
    return [
        Record(
            task="made up",
            optimizer=optimizer,
            arm=arm,
            horizon=None if arm == "nesterov" else float(arm[2:]),
            learning_rate=0.1,
            seed=seed,
            diverged=loss is None,
            early_loss=loss,
            final_loss=loss,
            epochs_to_target=None,
            final_test_metric=accuracy,
            train_loss=[loss],
            validation_loss=[loss],
            validation_metric=[accuracy],
            test_metric=[accuracy],
        )
        for seed, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]


def test_seeds_without_a_value_are_counted():
    assert format_value(Cell(Interval(6.0, 1.0), 7, 8, None), LOSS) == "6.0 ± 1.0 (7/8 reached)"
    assert format_value(Cell(None, 0, 8, None), LOSS) == "(0/8 reached)"


def test_no_difference_where_a_seed_of_either_arm_has_no_value():
    records = [
        *runs("sgdm", "s=0", [1.0, 2.0, None]),
        *runs("sgdm", "s=1", [0.5, 1.5, 2.5]),
        *runs("adam", "s=0", [1.0, 2.0, 3.0]),
        *runs("adam", "s=1", [0.5, None, 2.5]),
        *runs("lion", "s=0", [1.0, 2.0, None]),
        *runs("lion", "s=1", [None, 1.5, 2.5]),  # as many, but not the same seeds
    ]
    cells = [row.cells[0] for row in summarize(records, [LOSS])]
    assert [cell.present for cell in cells] == [2, 3, 3, 2, 2, 2]
    assert [cell.difference for cell in cells] == [None] * 6
    assert cells[0].interval is not None
    assert cells[0].interval.mean == 1.5


def test_tally_knows_which_way_is_better():
    records = [
        *runs("sgdm", "s=0", [1.0, 2.0, 3.0]),
        *runs("sgdm", "s=1", [0.5, 1.49, 2.51], [40.0, 49.0, 60.0]),
        *runs("sgdm", "nesterov", [0.5, 2.5, 3.0], [60.0, 71.0, 81.0]),
        *runs("adam", "s=0", [1.0, 2.0, 3.0]),
        *runs("adam", "s=1", [1.5, 2.51, 3.49], [60.0, 71.0, 80.0]),
    ]
    measures = [LOSS, ACCURACY]
    assert tally(summarize(records, measures), measures) == {
        "s=1": (Verdicts(1, 1, 2), Verdicts(1, 1, 2)),
        "baselines": (Verdicts(0, 0, 1), Verdicts(1, 0, 1)),
    }


def test_one_seed_is_never_a_verdict():
    records = [
        dataclasses.replace(run, seed=0)
        for arm, loss in (("s=0", 1.0), ("s=1", 0.5))
        for run in runs("sgdm", arm, [loss], [50.0])
    ]
    assert tally(summarize(records, [LOSS]), [LOSS]) == {}
