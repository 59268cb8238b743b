"""What a round with a teacher is worth, in [0, 1]."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tutelage.selectors.base import scale_reward


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
    low: float
    """The least return there is."""
    high: float
    """The largest return there is."""
    play: Callable[[], float]
    """Evaluate the student for a moment; its mean return."""


Measure = Callable[[Round], float]
"""A round -> its reward in [0, 1], or NaN where the round tells nothing."""


def points(played: Round) -> float:
    """Return the share of the points played that was won; 1/2 where none was played."""
    total = played.won + played.lost
    return played.won / total if total else 0.5


def mean_return(played: Round) -> float:
    """Return the mean return of the round's episodes, scaled from [low, high] to [0, 1]."""
    if np.isnan(played.mean_return):
        return played.mean_return
    return scale_reward(played.mean_return, played.low, played.high)


def improvement(played: Round) -> float:
    """Return by how much the mean return has risen, scaled from [low - high, high - low]."""
    rise, span = played.mean_return - played.previous, played.high - played.low
    return rise if np.isnan(rise) else scale_reward(rise, -span, span)


def evaluation(played: Round) -> float:
    """Return the mean return of a short greedy evaluation, scaled from [low, high]."""
    return scale_reward(played.play(), played.low, played.high)


MEASURES: dict[str, Measure] = {
    "points": points,
    "return": mean_return,
    "improvement": improvement,
    "evaluation": evaluation,
}
"""Name -> what a round is paid."""
