"""What assigns teachers to environments, and the order in which it is asked."""

import sys
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tutelage.environments import Step
from tutelage.errors import UserError
from tutelage.types import Array, Feedback, Floats, Selector, State

Arms = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
NO_CONTEXT = np.zeros((1, 0))


class Assignment(Protocol):
    """Assigns a teacher to every environment at every env step.

    Asked in this order: ``begin``; for each env step ``leads``, ``arms`` and ``paid``; ``settle``;
    ``metrics``. Within a step ``arms`` may be asked again: it says the same until ``drop``. Out of
    order what would come to something else raises RuntimeError. ``trust`` may be asked at any time;
    ``state`` and ``restore`` are for between two rounds.
    """

    def begin(self) -> None:
        """Start a round."""

    def leads(self, beta: float, draw: Array) -> Mask:
        """Start a step; return where the teacher acts, ``[N]``.

        It does with probability ``beta``; ``draw[N]`` is uniform in [0, 1).
        """

    def arms(self, obs: Array) -> Arms:
        """Return the teacher ``[N]`` of each state ``obs[N,*O]``."""

    def paid(self, step: Step) -> None:
        """End a step: take in what came of it."""

    def settle(self) -> Mapping[int, Feedback]:
        """End a round: let the selector learn, return the choices now paid by their number."""

    def drop(self, arm: int, reason: str) -> None:
        """Set a teacher that failed aside; raise UserError if it is the last one."""

    def trust(self, obs: Array, arm: Arms) -> Floats | None:
        """Return how far labels ``arm[B]`` of ``obs[B,*O]`` are still trusted, in [0, 1]; or None.

        None stands for all alike.
        """

    def metrics(self) -> dict[str, float]:
        """Return how often each teacher taught in this round, and what that was paid."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


def set_aside(selector: Selector, arm: int, names: tuple[str, ...], reason: str) -> None:
    """Drop a teacher that failed, with a warning; raise UserError if it is the last one."""
    try:
        selector.drop(arm)
    except UserError as error:
        raise UserError(f"teacher {names[arm]} failed, and no other is left: {reason}") from error
    print(f"warning: teacher {names[arm]} is set aside: {reason}", file=sys.stderr)
