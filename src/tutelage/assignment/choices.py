"""The choices of teachers that are made within one segment."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from tutelage.types import Array, Feedback, State


@dataclass(frozen=True)
class Choices:
    """T choices, one after the other, in one environment and one segment."""

    context: list[Array]
    """``T x [d]``."""
    arm: list[int]
    probability: list[float]

    def add(self, context: Array, arm: int, probability: float) -> None:
        """Remember one more."""
        self.context.append(context)
        self.arm.append(arm)
        self.probability.append(probability)

    def paid(self, worth: float, decay: float) -> Feedback:
        """Return them as settled: k steps before the end, (1 + decay^k (2 worth - 1)) / 2."""
        before = np.arange(len(self.arm) - 1, -1, -1)
        return Feedback(
            np.array(self.context),
            np.array(self.arm),
            np.asarray((1.0 + decay**before * (2.0 * worth - 1.0)) / 2.0, np.float64),
            np.array(self.probability),
        )


def pack(segments: Sequence[Choices]) -> State:
    """Return the choices of several segments as plain data."""
    return {
        "lengths": np.array([len(one.arm) for one in segments], np.int64),
        "context": np.array([row for one in segments for row in one.context], np.float64),
        "arm": np.array([arm for one in segments for arm in one.arm], np.int64),
        "probability": np.array([p for one in segments for p in one.probability], np.float64),
    }


def unpack(state: State, segments: int | None = None) -> list[Choices]:
    """Return what ``pack`` made plain data of; raise ValueError unless it is of ``segments``."""
    lengths = np.asarray(state["lengths"])
    columns = [np.asarray(state[one.name]) for one in fields(Choices)]
    total = int(lengths.sum())
    if (lengths < 0).any() or any(len(column) != total for column in columns):
        raise ValueError(f"segments of lengths {lengths} have {[len(c) for c in columns]} choices")
    if segments is not None and len(lengths) != segments:
        raise ValueError(f"choices of {len(lengths)} segments, expected {segments}")
    if not len(lengths):
        return []
    if columns[0].ndim != (2 if total else columns[0].ndim):
        raise ValueError(f"contexts of shape {columns[0].shape}, expected (T, d)")
    parts = [np.split(column, np.cumsum(lengths)[:-1]) for column in columns]
    return [Choices(*map(list, segment)) for segment in zip(*parts, strict=True)]
