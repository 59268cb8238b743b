import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeLearner, FakeSource, Fixed
from tutelage.errors import UserError
from tutelage.runs import Run, read_rows
from tutelage.session import Judge, Never, Parts, conduct
from tutelage.types import Row, State


class DoneAt:
    """A judge that measures every row and has seen enough at ``env_steps``."""

    def __init__(self, env_steps: int) -> None:
        self.done = False
        self._env_steps = env_steps

    def look(self, row: Row) -> Mapping[str, float]:
        self.done = row.env_steps >= self._env_steps
        return {"eval/looked_at": float(row.env_steps)}

    def state(self) -> State:
        return {"done": self.done}

    def restore(self, state: State) -> None:
        self.done = state["done"]


def make_parts(
    judge: Judge | None = None, *, in_round: Callable[[int], None] = lambda env_steps: None
) -> Parts:
    tape: list[str] = []
    source = FakeSource(tape, in_round=in_round)
    return Parts(source, FakeLearner(tape), Fixed([0, 0], tape), judge or Never())


def make_run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", {"seed": 1})


def conduct_all(
    run: Run, parts: Parts, *, env_steps: int, checkpoint_every: int = 1000
) -> list[int]:
    rows = conduct(run, parts, env_steps=env_steps, checkpoint_every=checkpoint_every)
    return [row.env_steps for row in rows]


def checkpoints(run: Run) -> list[int]:
    return sorted(int(p.name.split("-")[0]) for p in (run.folder / "checkpoints").iterdir())


def written(run: Run) -> list[float]:
    return [row["env_steps"] for row in read_rows(run.folder)]


def kill_at(env_steps: int, number: int = signal.SIGTERM) -> Callable[[int], None]:
    def kill(now: int) -> None:
        if now == env_steps:
            os.kill(os.getpid(), number)

    return kill


def test_stops_at_the_budget_with_every_row_written(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert conduct_all(run, make_parts(), env_steps=35) == [10, 20, 30, 40]
    assert written(run) == [10, 20, 30, 40]
    assert read_rows(run.folder)[0]["train/loss"] == 0.5
    assert len(read_rows(run.folder, "timing.jsonl")) == 4


def test_a_network_that_diverged_ends_the_run_and_none_of_that_round_is_kept(
    tmp_path: Path,
) -> None:
    run, parts = make_run(tmp_path), make_parts()
    learner = FakeLearner([], losses=(0.5, 0.5, 0.5, 0.5, 0.5, float("nan")))
    with pytest.raises(UserError, match=r"diverged.* 30 env steps.*smaller learning_rate"):
        conduct_all(run, replace(parts, learner=learner), env_steps=100, checkpoint_every=10)
    assert written(run) == checkpoints(run) == [10, 20]


def test_checkpoints_when_due_and_at_the_end(tmp_path: Path) -> None:
    run, seen = make_run(tmp_path), []
    for _ in conduct(run, make_parts(), env_steps=70, checkpoint_every=20):
        folder = run.folder / "checkpoints"
        seen.append(checkpoints(run) if folder.exists() else [])
    # Each row is yielded before its own checkpoint; two checkpoints are kept.
    assert seen == [[], [], [20], [20], [20, 40], [20, 40], [40, 60]]
    assert checkpoints(run) == [60, 70]


def test_stops_when_the_judge_is_done_and_writes_what_it_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert conduct_all(run, make_parts(DoneAt(30)), env_steps=1000) == [10, 20, 30]
    assert [row["eval/looked_at"] for row in read_rows(run.folder)] == [10.0, 20.0, 30.0]
    assert checkpoints(run) == [30]


def test_a_run_that_is_over_does_nothing_more(tmp_path: Path) -> None:
    run, parts = make_run(tmp_path), make_parts()
    conduct_all(run, parts, env_steps=20)
    assert conduct_all(run, parts, env_steps=20) == []
    assert written(run) == [10, 20]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_round_saves_it_and_says_how_to_go_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    handler = signal.getsignal(number)
    parts = make_parts(in_round=kill_at(10, number))
    with pytest.raises(UserError, match=rf"stopped at 20 env.*'tutelage resume {run.folder}'"):
        conduct_all(run, parts, env_steps=1000)
    assert written(run) == [10, 20]
    assert checkpoints(run) == [20]
    assert parts.learner.updates == 4
    assert signal.getsignal(number) is handler


def test_a_signal_in_the_last_round_changes_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert conduct_all(run, make_parts(in_round=kill_at(10)), env_steps=20) == [10, 20]
    assert checkpoints(run) == [20]


def test_a_run_can_be_conducted_in_a_thread_that_no_signal_reaches(tmp_path: Path) -> None:
    run, handler = make_run(tmp_path), signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as thread:
        conducted = thread.submit(conduct_all, run, make_parts(), env_steps=20).result()
    assert conducted == [10, 20]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_signal_that_comes_after_the_saving_waits_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, True, True, True])

    @contextmanager
    def late() -> Iterator[Callable[[], bool]]:
        yield lambda: next(answers)

    monkeypatch.setattr("tutelage.session.interruptible", late)
    run = make_run(tmp_path)
    with pytest.raises(UserError, match="stopped at 20 env steps"):
        conduct_all(run, make_parts(), env_steps=1000)
    assert checkpoints(run) == [20]


def test_a_stopped_and_resumed_run_writes_what_an_unstopped_one_does(tmp_path: Path) -> None:
    whole = Run.create(tmp_path / "whole", {"seed": 1})
    conduct_all(whole, make_parts(DoneAt(50)), env_steps=1000)
    run = make_run(tmp_path)
    with pytest.raises(UserError):
        conduct_all(run, make_parts(DoneAt(50), in_round=kill_at(20)), env_steps=1000)
    resumed, parts = Run(run.folder), make_parts(DoneAt(50))
    state = resumed.resume()
    assert state is not None
    parts.restore(state)
    assert conduct_all(resumed, parts, env_steps=1000) == [40, 50]
    metrics = [(r.folder / "metrics.jsonl").read_bytes() for r in (run, whole)]
    assert metrics[0] == metrics[1]
