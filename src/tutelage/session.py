"""Conducting a run: rows written, evaluations when they are due, checkpoints, a safe way out."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
import numpy as np

from tutelage.assignment.protocol import Assignment
from tutelage.errors import FaultyEnvironmentError, UserError, diverged
from tutelage.evaluation import Abandoned, Evaluation
from tutelage.files import claimed
from tutelage.learner import Learner
from tutelage.loop import Source
from tutelage.loop import run as run_loop
from tutelage.runs import CONFIG, FAULTS, Run, Settings, check_files
from tutelage.types import Row, State, Stateful

Watch = Callable[[Row], None]


@dataclass(frozen=True)
class Parts:
    """What a run is made of, and what its checkpoints hold."""

    source: Source
    learner: Learner
    assignment: Assignment
    judge: "Judge"

    def state(self) -> State:
        return {name: part.state() for name, part in self._named().items()}

    def restore(self, state: State) -> None:
        for name, part in self._named().items():
            part.restore(state[name])

    def _named(self) -> Mapping[str, Stateful]:
        return {
            "source": self.source,
            "learner": self.learner,
            "assignment": self.assignment,
            "judge": self.judge,
        }


class Judge(Protocol):
    """Looks at every row, may evaluate, and says when there is nothing left to learn."""

    done: bool

    def look(self, row: Row) -> Mapping[str, float]:
        """Return what an evaluation measured, or nothing."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Never:
    """A judge that never evaluates: the budget alone ends the run."""

    done = False

    def look(self, row: Row) -> Mapping[str, float]:
        """Measure nothing."""
        return {}

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


class Examiner:
    """Evaluates when the rollout says it is time; passes a student that holds ``target``.

    An evaluation of at least ten held-out episodes at or above ``target`` counts once
    ``confirm_episodes`` further ones confirm it; ``passed_at`` is the env step it was taken at.
    Perfect games are long, so an evaluation waits until the reward per env step of the last two
    rounds has come to ``readiness`` (the teacher's own rate times a fraction), where it is known;
    and it may be abandoned where the target is out of reach. The best network is the one of the
    best whole evaluation or, without any, of the abandoned one with the best reward per step.
    """

    def __init__(
        self,
        play: Callable[[int, str], Evaluation | Abandoned],
        keep: Callable[[int, Evaluation | None], None],
        *,
        target: float,
        episodes: int,
        confirm_episodes: int,
        begin: int,
        every: int,
        readiness: float,
    ) -> None:
        """``play(episodes, stream)`` evaluates; ``keep(env_steps, evaluation)`` saves the best."""
        self.done = False
        self.passed_at: int | None = None
        self.best: Evaluation | None = None
        self._play = play
        self._keep = keep
        self._target = target
        self._episodes = episodes
        self._confirm_episodes = confirm_episodes
        self._every = every
        self._readiness = readiness
        self._due = begin
        self._rate = float("-inf")
        self._best_abandoned = float("-inf")

    def look(self, row: Row) -> Mapping[str, float]:
        """Evaluate if it is due and the rollout is good enough."""
        rate = row.metrics.get("rollout/reward_per_step", float("inf"))
        recent, self._rate = (self._rate + rate) / 2.0, rate
        if row.env_steps < self._due or recent < self._readiness:
            return {}
        self._due = row.env_steps + self._every
        evaluation = self._play(self._episodes, f"evaluation-{row.env_steps}")
        played = evaluation.env_steps
        if isinstance(evaluation, Evaluation) and evaluation.mean >= self._target:
            confirmation = self._play(self._confirm_episodes, f"confirmation-{row.env_steps}")
            played += confirmation.env_steps
            if isinstance(confirmation, Evaluation):
                evaluation = confirmation
                if evaluation.mean >= self._target:
                    self.done, self.passed_at = True, row.env_steps
        if isinstance(evaluation, Abandoned):
            if self.best is None and evaluation.reward_per_step > self._best_abandoned:
                self._best_abandoned = evaluation.reward_per_step
                self._keep(row.env_steps, None)
            return {
                "eval/at_most": evaluation.at_most,
                "eval/env_steps": float(played),
                "eval/passed": 0.0,
            }
        # One that passed has held the target; a better one before it was only lucky.
        if self.done or self.best is None or evaluation.mean > self.best.mean:
            self.best = evaluation
            self._keep(row.env_steps, evaluation)
        low, high = evaluation.interval()
        return {
            "eval/mean_reward": evaluation.mean,
            "eval/ci_low": low,
            "eval/ci_high": high,
            "eval/mean_ep_length": float(evaluation.lengths.mean()),
            "eval/episodes": float(len(evaluation.returns)),
            "eval/env_steps": float(played),
            "eval/passed": float(self.done),
        }

    def state(self) -> State:
        best = self.best
        return {
            "done": self.done,
            "passed_at": self.passed_at,
            "due": self._due,
            "best": best and list(zip(best.returns.tolist(), best.lengths.tolist(), strict=True)),
            "cut": best.cut if best else 0,
            "rate": self._rate,
            "best_abandoned": self._best_abandoned,
        }

    def restore(self, state: State) -> None:
        saved = msgspec.convert(state, Examined)
        self.done, self.passed_at, self._due = saved.done, saved.passed_at, saved.due
        self._rate, self._best_abandoned = saved.rate, saved.best_abandoned
        if saved.best is not None:
            returns, lengths = zip(*saved.best, strict=True)
            self.best = Evaluation(np.array(returns), np.array(lengths), saved.cut)


class Examined(msgspec.Struct):
    """What a checkpoint holds of an examiner."""

    done: bool
    passed_at: int | None
    due: int
    best: Annotated[list[tuple[float, int]], msgspec.Meta(min_length=1)] | None
    cut: int
    rate: float
    best_abandoned: float


@contextmanager
def open_run(
    folder: Path,
    config: Settings,
    parts: Parts,
    *,
    files: Mapping[str, str],
    resume: bool,
) -> Iterator[Run]:
    """Create the run's folder, or open it and bring the parts to where it stopped.

    ``files`` are all that the run reads, and their digests. Raises UserError for other files or
    settings than it was begun with, for a checkpoint that lacks what a part needs, and while the
    run is open elsewhere.
    """
    if not resume:
        run = Run.create(folder, config, files)
    else:
        check_files(folder, files)
    with claimed(folder / CONFIG):
        if resume:
            run = _gone_on(folder, config, parts)
        with closing(run):
            yield run


def _gone_on(folder: Path, config: Settings, parts: Parts) -> Run:
    """Return a run that was begun before, the parts where it stopped."""
    run = Run(folder)
    if (state := run.resume(config)) is not None:
        try:
            parts.restore(state)
        except UserError:
            raise
        except Exception as error:  # whatever a part cannot take
            raise UserError(
                f"{folder}: its checkpoint does not fit ({error!r}), so another version of "
                "tutelage wrote it: resume it with that one, or begin anew"
            ) from error
    return run


def conduct(
    run: Run,
    parts: Parts,
    *,
    env_steps: int,
    checkpoint_every: int,
    interrupted: Callable[[], bool] = lambda: False,
    keep: Callable[[int], None] = lambda env_steps: None,
) -> Iterator[Row]:
    """Run the loop until the judge is done or the budget is spent, yielding every row.

    Rows go to the run's folder and checkpoints follow every ``checkpoint_every`` env steps and
    the end; ``keep(env_steps)`` comes before each, to save a model beside it. Once
    ``interrupted()``, the round is finished and saved, and UserError says how to go on. It is
    raised too where the network diverged or the environment failed; of that round nothing is kept.
    """
    due = parts.source.env_steps + checkpoint_every
    rows = run_loop(parts.source, parts.learner, parts.assignment)
    try:
        while parts.source.env_steps < env_steps and not parts.judge.done:
            row = next(rows)
            if not parts.learner.is_finite():
                raise diverged(row.env_steps)
            began = time.perf_counter()
            row = replace(row, metrics={**row.metrics, **parts.judge.look(row)})
            run.write(row, evaluation_seconds=time.perf_counter() - began)
            yield row
            done = row.env_steps >= env_steps or parts.judge.done
            stop = interrupted() and not done
            if done or stop or row.env_steps >= due:
                keep(row.env_steps)
                run.checkpoint(row.env_steps, parts.state())
                due = row.env_steps + checkpoint_every
            if stop:
                raise UserError(
                    f"stopped at {row.env_steps:,} env steps; "
                    f"go on by 'tutelage resume {run.folder}'"
                )
    except FaultyEnvironmentError as fault:
        run.note_fault(fault)
        raise UserError(
            f"{fault}; its traceback is in {run.folder / FAULTS}, and 'tutelage resume "
            f"{run.folder}' goes on from the last checkpoint"
        ) from fault
