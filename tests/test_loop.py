from itertools import islice

import pytest

from tests.fakes import FakeLearner, FakeSelector, FakeSource
from tutelage.loop import run
from tutelage.types import Row


def test_the_order_of_events_is_the_tape() -> None:
    tape: list[str] = []
    for row in islice(run(FakeSource(tape), FakeLearner(tape), FakeSelector(tape)), 2):
        tape.append(f"row {row.env_steps} {row.updates}")
    assert tape == [
        "choose for 2",
        "collect [1, 0]",
        "batch 0",
        "update 0",
        "batch 1",
        "update 1",
        "collected",
        "metrics",
        "row 10 2",
        "choose for 2",
        "collect [1, 0]",
        "batch 0",
        "update 2",
        "batch 1",
        "update 3",
        "collected",
        "metrics",
        "row 20 4",
    ]


def test_a_rows_metrics_are_the_means_over_its_round() -> None:
    tape: list[str] = []
    learner = FakeLearner(tape, losses=[1.0, 2.0, 6.0, 4.0, 4.0, 7.0])
    rows = list(islice(run(FakeSource(tape, batches=3), learner, FakeSelector(tape)), 2))
    assert rows == [
        Row(10, 3, {"rollout/env_steps": 10.0, "train/loss": 3.0, "train/double": 6.0}),
        Row(20, 6, {"rollout/env_steps": 20.0, "train/loss": 5.0, "train/double": 10.0}),
    ]


def test_a_round_without_a_batch_reports_the_source_alone() -> None:
    tape: list[str] = []
    row = next(run(FakeSource(tape, batches=0), FakeLearner(tape), FakeSelector(tape)))
    assert row == Row(10, 0, {"rollout/env_steps": 10.0})


def test_everything_is_at_rest_between_rows_and_the_loop_can_end_there() -> None:
    tape: list[str] = []
    rows = run(FakeSource(tape), FakeLearner(tape), FakeSelector(tape))
    assert tape == []
    next(rows)
    at_rest = list(tape)
    assert at_rest[-1] == "metrics"
    rows.close()  # type: ignore[attr-defined]
    assert tape == at_rest
    with pytest.raises(StopIteration):
        next(rows)
