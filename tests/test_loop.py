from itertools import islice

import pytest

from tests.fakes import FakeLearner, FakeSource, Fixed
from tutelage.loop import run
from tutelage.types import Row


def rounds(tape: list[str], source: FakeSource, learner: FakeLearner, number: int) -> list[Row]:
    return list(islice(run(source, learner, Fixed([0] * 5, tape)), number))


def test_the_order_of_events_is_the_tape() -> None:
    tape: list[str] = []
    source, learner = FakeSource(tape, batches=(2, 0)), FakeLearner(tape)
    rounds(tape, source, learner, 2)
    first = ["act", "arms", "batch", "learn", "batch", "learn", "receive", "paid", "store"]
    second = ["act", "arms", "receive", "paid", "store"]
    one = ["begin", "begin source", *first, *second, "settle", "metrics"]
    assert tape == one * 2


def test_where_nothing_is_played_nobody_is_paid() -> None:
    tape: list[str] = []
    (row,) = rounds(tape, FakeSource(tape, plays=False), FakeLearner(tape), 1)
    assert not {"paid", "store"} & set(tape)
    assert (row.env_steps, row.updates) == (10, 2)


def test_a_rows_metrics_are_the_means_over_its_round() -> None:
    tape: list[str] = []
    learner = FakeLearner(tape, losses=[1.0, 2.0, 6.0, 4.0, 4.0, 7.0])
    rows = rounds(tape, FakeSource(tape, batches=(2, 1)), learner, 2)
    assert [(row.env_steps, row.updates) for row in rows] == [(10, 3), (20, 6)]
    assert [row.metrics for row in rows] == [
        {"rollout/env_steps": 10.0, "train/loss": 3.0, "train/double": 6.0},
        {"rollout/env_steps": 20.0, "train/loss": 5.0, "train/double": 10.0},
    ]
    assert [(number, paid.reward[0]) for number, paid in rows[0].settled.items()] == [(7, 1.0)]


def test_a_round_without_a_batch_reports_the_source_alone() -> None:
    tape: list[str] = []
    (row,) = rounds(tape, FakeSource(tape, batches=(0, 0)), FakeLearner(tape), 1)
    assert (row.env_steps, row.updates, row.metrics) == (10, 0, {"rollout/env_steps": 10.0})


def test_everything_is_at_rest_between_rows_and_the_loop_can_end_there() -> None:
    tape: list[str] = []
    rows = run(FakeSource(tape), FakeLearner(tape), Fixed([0] * 5, tape))
    assert tape == []
    next(rows)
    at_rest = list(tape)
    assert at_rest[-1] == "metrics"
    rows.close()  # type: ignore[attr-defined]
    assert tape == at_rest
    with pytest.raises(StopIteration):
        next(rows)
