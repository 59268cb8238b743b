import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import tutelage
from tests.fakes import FakeLearner, FakeSource, Fixed, controller
from tutelage import Distilled
from tutelage.configs import Teach
from tutelage.domains.gym import GymDomain
from tutelage.environments import Environments
from tutelage.errors import FaultyEnvironmentError, UserError
from tutelage.logs import read_metrics, read_timing
from tutelage.runs import FAULTS, Run
from tutelage.session import Judge, Never, Parts, conduct, open_run
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
    return Parts(source, FakeLearner(tape), Fixed([0] * 5, tape), judge or Never())


def make_run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", Teach(), {"teacher": "0123"})


def conduct_all(
    run: Run,
    parts: Parts,
    *,
    env_steps: int,
    checkpoint_every: int = 1000,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[int]:
    rows = conduct(
        run,
        parts,
        env_steps=env_steps,
        checkpoint_every=checkpoint_every,
        interrupted=interrupted,
    )
    return [row.env_steps for row in rows]


def resumed(run: Run, parts: Parts, *, files: Mapping[str, str] | None = None) -> Run:
    with open_run(run.folder, Teach(), parts, files=files or {}, resume=True) as again:
        return again


def checkpoints(run: Run) -> list[int]:
    return sorted(int(p.name.split("-")[0]) for p in (run.folder / "checkpoints").iterdir())


def written(run: Run) -> list[float]:
    return [row["env_steps"] for row in read_metrics(run.folder)]


def test_stops_at_the_budget_with_every_row_written(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert conduct_all(run, make_parts(), env_steps=35) == [10, 20, 30, 40]
    assert written(run) == [10, 20, 30, 40]
    assert read_metrics(run.folder)[0]["train/loss"] == 0.5
    assert len(read_timing(run.folder)) == 4


def test_a_network_that_diverged_ends_the_run_and_none_of_that_round_is_kept(
    tmp_path: Path,
) -> None:
    run, parts = make_run(tmp_path), make_parts()
    learner = FakeLearner([], losses=(0.5, 0.5, 0.5, 0.5, 0.5, float("nan")))
    with pytest.raises(UserError, match=r"30 env steps.*learning_rate"):
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


def test_a_model_is_kept_with_each_checkpoint_and_before_it(tmp_path: Path) -> None:
    run, kept = make_run(tmp_path), []

    def keep(env_steps: int) -> None:
        there = checkpoints(run) if (run.folder / "checkpoints").exists() else []
        kept.append((env_steps, env_steps in there))

    parts, answers = make_parts(), iter([False, False, True])
    with pytest.raises(UserError, match="go on"):
        for _ in conduct(
            run,
            parts,
            env_steps=70,
            checkpoint_every=20,
            interrupted=lambda: next(answers),
            keep=keep,
        ):
            pass
    assert kept == [(20, False), (30, False)]
    assert checkpoints(run) == [20, 30]


def test_stops_when_the_judge_is_done_and_writes_what_it_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert conduct_all(run, make_parts(DoneAt(30)), env_steps=1000) == [10, 20, 30]
    assert [row["eval/looked_at"] for row in read_metrics(run.folder)] == [10.0, 20.0, 30.0]
    assert checkpoints(run) == [30]


def test_a_run_that_is_over_does_nothing_more(tmp_path: Path) -> None:
    run, parts = make_run(tmp_path), make_parts()
    conduct_all(run, parts, env_steps=20)
    assert conduct_all(run, parts, env_steps=20) == []
    assert written(run) == [10, 20]


def test_one_that_is_interrupted_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    run, answers = make_run(tmp_path), iter([False, True])
    with pytest.raises(UserError, match=rf"20 env steps.*'tutelage resume {run.folder}'"):
        conduct_all(run, make_parts(), env_steps=1000, interrupted=lambda: next(answers))
    assert written(run) == [10, 20]
    assert checkpoints(run) == [20]


def test_an_interruption_in_the_last_round_changes_nothing(tmp_path: Path) -> None:
    run, parts = make_run(tmp_path), make_parts()
    after_20 = lambda: parts.source.env_steps >= 20  # noqa: E731
    assert conduct_all(run, parts, env_steps=20, interrupted=after_20) == [10, 20]
    assert checkpoints(run) == [20]


def fault_at(env_steps: int) -> Callable[[int], None]:
    def fault(now: int) -> None:
        if now == env_steps:
            try:
                raise RuntimeError("the pole snapped")
            except RuntimeError as error:
                raise FaultyEnvironmentError("environment 3 raised") from error

    return fault


class FaultyAt(DoneAt):
    """A judge whose evaluation fails at ``env_steps``."""

    def look(self, row: Row) -> Mapping[str, float]:
        fault_at(self._env_steps)(row.env_steps)
        return {}


@pytest.mark.parametrize("where", ["in training", "in an evaluation"])
def test_a_fault_of_the_environment_is_noted_and_the_run_goes_on_from_before_it(
    where: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    training = where == "in training"
    parts = make_parts(in_round=fault_at(30)) if training else make_parts(FaultyAt(40))
    with pytest.raises(UserError, match=rf"environment 3 raised.*{FAULTS}.*resume") as refused:
        conduct_all(run, parts, env_steps=60, checkpoint_every=20)
    assert not isinstance(refused.value, FaultyEnvironmentError)
    noted = (run.folder / FAULTS).read_text()
    assert "the pole snapped" in noted
    assert "Traceback" in noted
    assert written(run) == [10, 20, 30]
    whole = make_parts()
    again = resumed(run, whole)
    assert conduct_all(again, whole, env_steps=60, checkpoint_every=20) == [30, 40, 50, 60]
    assert written(run) == [10, 20, 30, 40, 50, 60]


def test_a_stopped_and_resumed_run_writes_what_an_unstopped_one_does(tmp_path: Path) -> None:
    whole = Run.create(tmp_path / "whole", Teach(), {})
    conduct_all(whole, make_parts(DoneAt(50)), env_steps=1000)
    run = make_run(tmp_path)
    with pytest.raises(UserError):
        conduct_all(run, make_parts(DoneAt(50)), env_steps=1000, interrupted=lambda: True)
    parts = make_parts(DoneAt(50))
    assert conduct_all(resumed(run, parts), parts, env_steps=1000) == [20, 30, 40, 50]
    metrics = [(r.folder / "metrics.jsonl").read_bytes() for r in (run, whole)]
    assert metrics[0] == metrics[1]


def test_a_run_is_open_once_at_a_time(tmp_path: Path) -> None:
    config, parts = Teach(), make_parts()
    with open_run(tmp_path / "run", config, parts, files={}, resume=False) as run:
        with pytest.raises(UserError, match=f"{run.folder} is in use"):
            resumed(run, make_parts())
        conduct_all(run, parts, env_steps=20)
    assert written(run) == [10, 20]
    resumed(run, make_parts())


def test_a_run_goes_on_with_the_files_it_was_begun_with_only(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    conduct_all(run, make_parts(), env_steps=20)
    resumed(run, make_parts(), files={"teacher": "0123"})
    with pytest.raises(UserError, match="teacher"):
        resumed(run, make_parts(), files={"teacher": "4567"})


class OtherNetwork(FakeLearner):
    def restore(self, state: State) -> None:
        torch.nn.Linear(2, 2).load_state_dict({"head.weight": torch.zeros(2, 2)})


class Lacking(FakeLearner):
    def restore(self, state: State) -> None:
        self.updates = state["steps"]


@pytest.mark.parametrize("learner", [OtherNetwork, Lacking])
def test_a_checkpoint_that_does_not_fit_is_refused_in_a_line(
    learner: type[FakeLearner], tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    conduct_all(run, make_parts(), env_steps=20)
    with pytest.raises(UserError, match="checkpoint does not fit"):
        resumed(run, replace(make_parts(), learner=learner([])))


class Snapping(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Raises at its 40th step, until it is mended."""

    mended: ClassVar[bool] = False
    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 40 and not self.mended:
            raise RuntimeError("the pole snapped")
        return super().step(action)


class Fragile(GymDomain):
    """Environments that snap."""

    def make(self, env: str, *, num_envs: int, seed: int, stream: str, **_: Any) -> Environments:
        made = SyncVectorEnv(
            [lambda: Snapping(gymnasium.make(env))] * num_envs,
            autoreset_mode=AutoresetMode.NEXT_STEP,
        )
        return Environments(made, seed=seed, stream=stream, view=lambda obs: obs[:, np.newaxis])


def short_distillation(folder: Path, **settings: Any) -> Distilled:
    """Distil for a moment: five rounds of 16 steps of four environments."""
    return tutelage.distill(
        str(controller(folder.with_suffix(".safetensors"))),
        student="mlp:4",
        out=folder,
        **{
            "env_steps": 320,
            "num_envs": 4,
            "round_steps": 64,
            "learning_starts": 16,
            "batch_size": 16,
            "samples_per_step": 1.0,
            "precision": "fp32",
            "eval_from": 10**6,
            "confirm_episodes": 1,
            "eval_max_steps": 2,
            **settings,
        },
    )


def test_a_run_whose_environment_snapped_comes_to_the_same_once_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = f"{__name__}:Fragile"
    folder, whole = tmp_path / "run", tmp_path / "whole"
    with pytest.raises(UserError, match=rf"the pole snapped.*tutelage resume {folder}"):
        short_distillation(folder, domain=domain, checkpoint_every=64)
    assert "Traceback" in (folder / FAULTS).read_text()
    assert [row["env_steps"] for row in read_metrics(folder)] == [64, 128]
    monkeypatch.setattr(Snapping, "mended", True)
    short_distillation(folder, domain=domain, checkpoint_every=64, resume=True)
    short_distillation(whole, domain=domain)
    rows = [(run / "metrics.jsonl").read_bytes() for run in (folder, whole)]
    assert rows[0] == rows[1]


def test_a_library_call_leaves_signals_and_threads_alone_in_any_thread(tmp_path: Path) -> None:
    def process() -> list[object]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return [*handlers, torch.get_num_threads()]

    def during(folder: Path) -> list[list[object]]:
        states: list[list[object]] = [process()]
        short_distillation(folder, watch=lambda row: states.append(process()), threads=2)
        return [*states, process()]

    with ThreadPoolExecutor(1) as thread:
        seen = [during(tmp_path / "here"), thread.submit(during, tmp_path / "there").result()]
    for states in seen:
        assert len(states) == 7
        assert all(state == states[0] for state in states)
