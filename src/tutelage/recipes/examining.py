"""How a student of several tasks is judged: by what it keeps of each of its teachers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from tutelage.evaluation import Evaluation
from tutelage.types import Row, State


@dataclass(frozen=True)
class Reference:
    """What a task is measured by: its teacher's return and that of random play."""

    teacher: Evaluation
    random: Evaluation

    def kept(self, mean: float) -> float:
        """Return which part of the way from random play to the teacher a return has come.

        Of a teacher that is no better than random play, whether the return is at least its own.
        """
        way = self.teacher.mean - self.random.mean
        return (mean - self.random.mean) / way if way > 0 else float(mean >= self.teacher.mean)


class TasksExaminer:
    """Evaluates the student in every task when it is due, and keeps the one that keeps most.

    What it keeps of a task is the part of the way from random play to its teacher; of several the
    mean. The budget alone ends the run.
    """

    done = False

    def __init__(
        self,
        play: Callable[[str], Mapping[str, Evaluation]],
        *,
        keep: Callable[[int, Mapping[str, Evaluation]], None],
        begin: int,
        every: int,
        until: int,
    ) -> None:
        """``play(stream)`` evaluates each task; ``keep(env_steps, played)`` saves the best."""
        self.references: Mapping[str, Reference] = {}
        self._play = play
        self._keep = keep
        self._due = min(begin, until)
        self._every = every
        self._until = until
        self._best = float("-inf")

    def look(self, row: Row) -> Mapping[str, float]:
        """Evaluate if it is due, or the run at its end."""
        if row.env_steps < min(self._due, self._until):
            return {}
        self._due = row.env_steps + self._every
        played = self._play(f"evaluation-{row.env_steps}")
        kept = {name: self.references[name].kept(one.mean) for name, one in played.items()}
        mean = float(np.mean(list(kept.values())))
        if mean > self._best:
            self._best = mean
            self._keep(row.env_steps, played)
        measured = {"eval/kept": mean}
        for name, one in played.items():
            low, high = one.interval()
            measured[f"{name}/eval/kept"] = kept[name]
            measured[f"{name}/eval/mean_reward"] = one.mean
            measured[f"{name}/eval/ci_low"] = low
            measured[f"{name}/eval/ci_high"] = high
        return measured

    def state(self) -> State:
        return {
            "due": self._due,
            "best": self._best,
            "references": {
                name: {who: _packed(getattr(one, who)) for who in ("teacher", "random")}
                for name, one in self.references.items()
            },
        }

    def restore(self, state: State) -> None:
        saved = msgspec.convert(state, Examined)
        self._due, self._best = saved.due, saved.best
        self.references = {
            name: Reference(**{who: _unpacked(one) for who, one in by_whom.items()})
            for name, by_whom in saved.references.items()
        }


class Played(msgspec.Struct):
    """What a checkpoint holds of an evaluation."""

    returns: list[float]
    lengths: list[int]
    cut: int


class Examined(msgspec.Struct):
    """What a checkpoint holds of an examiner of several tasks."""

    due: int
    best: float
    references: dict[str, dict[str, Played]]


def _packed(evaluation: Evaluation) -> State:
    return {
        "returns": evaluation.returns.tolist(),
        "lengths": evaluation.lengths.tolist(),
        "cut": evaluation.cut,
    }


def _unpacked(played: Played) -> Evaluation:
    return Evaluation(np.array(played.returns), np.array(played.lengths), played.cut)
