from itertools import islice

import pytest

from tests.fakes import FakeLearner, FakeSource, Fixed
from tutelage.loop import run


def test_the_order_of_events_is_the_tape() -> None:
    tape: list[str] = []
    for row in islice(run(FakeSource(tape), FakeLearner(tape), Fixed([1, 0], tape)), 2):
        tape.append(f"row {row.env_steps} {row.updates}")
    assert tape == [
        "begin",
        "collect",
        "arms",
        "batch 0",
        "update 0",
        "batch 1",
        "update 1",
        "collected",
        "settle",
        "metrics",
        "row 10 2",
        "begin",
        "collect",
        "arms",
        "batch 0",
        "update 2",
        "batch 1",
        "update 3",
        "collected",
        "settle",
        "metrics",
        "row 20 4",
    ]


def test_a_rows_metrics_are_the_means_over_its_round() -> None:
    tape: list[str] = []
    learner = FakeLearner(tape, losses=[1.0, 2.0, 6.0, 4.0, 4.0, 7.0])
    rows = list(islice(run(FakeSource(tape, batches=3), learner, Fixed([1, 0], tape)), 2))
    assert [(row.env_steps, row.updates) for row in rows] == [(10, 3), (20, 6)]
    assert [row.metrics for row in rows] == [
        {"rollout/env_steps": 10.0, "train/loss": 3.0, "train/double": 6.0},
        {"rollout/env_steps": 20.0, "train/loss": 5.0, "train/double": 10.0},
    ]


def test_a_round_without_a_batch_reports_the_source_alone() -> None:
    tape: list[str] = []
    row = next(run(FakeSource(tape, batches=0), FakeLearner(tape), Fixed([1, 0], tape)))
    assert (row.env_steps, row.updates, row.metrics) == (10, 0, {"rollout/env_steps": 10.0})


def test_a_row_carries_the_choices_that_were_paid() -> None:
    tape: list[str] = []
    row = next(run(FakeSource(tape), FakeLearner(tape), Fixed([0, 1], tape)))
    assert [(number, feedback.reward[0]) for number, feedback in row.settled.items()] == [(7, 1.0)]


def test_everything_is_at_rest_between_rows_and_the_loop_can_end_there() -> None:
    tape: list[str] = []
    rows = run(FakeSource(tape), FakeLearner(tape), Fixed([1, 0], tape))
    assert tape == []
    next(rows)
    at_rest = list(tape)
    assert at_rest[-1] == "metrics"
    rows.close()  # type: ignore[attr-defined]
    assert tape == at_rest
    with pytest.raises(StopIteration):
        next(rows)
