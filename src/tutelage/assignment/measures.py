"""What a round with a teacher comes to, and how that is put on [0, 1]."""

from collections.abc import Callable
from dataclasses import dataclass

from tutelage.assignment.scales import KnownRange, Ranks, Scale


@dataclass(frozen=True)
class Round:
    """What a round gave, for a measure of it."""

    won: float
    """Sum of the positive rewards."""
    lost: float
    """Sum of the negative ones, as a positive number."""
    mean_return: float
    """Mean return of the episodes that ended in the round; NaN if none did."""
    previous: float
    """The same of the last round that had one; NaN before."""
    play: Callable[[], float]
    """Evaluate the student for a moment; its mean return."""


def points(played: Round) -> float:
    """Return the share of the points played that was won; 1/2 where none was played."""
    total = played.won + played.lost
    return played.won / total if total else 0.5


def mean_return(played: Round) -> float:
    """Return the mean return of the round's episodes."""
    return played.mean_return


def improvement(played: Round) -> float:
    """Return by how much the mean return has risen."""
    return played.mean_return - played.previous


def evaluation(played: Round) -> float:
    """Return the mean return of a short greedy evaluation."""
    return played.play()


@dataclass(frozen=True)
class Measure:
    """What a round is paid by."""

    of: Callable[[Round], float]
    """A round -> a number, the larger the better, or NaN where the round tells nothing."""
    bounds: Callable[[float, float], tuple[float, float]] = lambda low, high: (low, high)
    """The least and the largest return there is -> the same of the measure."""
    by_points: bool = False
    """Whether it counts rewards as points won and lost, and is a share of them."""

    def scale(self, returns: tuple[float, float] | None) -> Scale:
        """Return what puts it on [0, 1]: by its bounds if those are known, else by rank."""
        if self.by_points:
            return KnownRange(0.0, 1.0)
        return Ranks() if returns is None else KnownRange(*self.bounds(*returns))


MEASURES = {
    "points": Measure(points, by_points=True),
    "return": Measure(mean_return),
    "improvement": Measure(improvement, lambda low, high: (low - high, high - low)),
    "evaluation": Measure(evaluation),
}
"""Name -> what a round is paid by."""
