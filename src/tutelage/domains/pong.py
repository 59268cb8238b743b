"""What the frames of Pong show of its ball: states a teacher is good at, contexts for a selector.

Observations are uint8 ``obs[N,4,84,84]`` or ``[N,4,80,80]`` as ``atari`` gives them; any
other raises UserError. A new region or feature is one function and its entry in the tables.
"""

from dataclasses import dataclass

import numpy as np

from tutelage.domains.atari import scored
from tutelage.domains.base import About, Feature, Mask, Region
from tutelage.errors import UserError
from tutelage.types import Array, Floats

STACK = 4
PADDLE = 148
"""Paddles are at most so bright; of what moves in the court only the ball (236) is brighter."""
FASTEST = 10 / 160
"""Courts that the ball moves in a step, in either direction, when it is fast."""


@dataclass(frozen=True)
class Ball:
    """Where the ball is on N frames, in courts; in the middle where it is not seen."""

    row: Floats
    """``[N]``, from 0 (at the top wall) to 1 (at the bottom wall)."""
    column: Floats
    """``[N]``, from 0 (the enemy's edge) to 1 (the player's)."""
    seen: Mask
    """``[N]``; between points there is no ball."""


_COURTS = {
    # By frame: the rows free of the walls, which are as bright as the ball; the court's top and
    # height in rows. A row of the 84 is 2.5 of the full frame's: 13 and 77 mix court and wall.
    (84, 84): (slice(14, 77), 34 / 2.5, 160 / 2.5),
    (80, 80): (slice(0, 80), 0.0, 80.0),
}


def find_ball(frame: Array) -> Ball:
    """Return the ball on each ``frame[N,84,84]`` or ``[N,80,80]``: the centroid of what is bright.

    A frame max-pooled over two shows two balls, and the centroid lies between them.
    """
    _require(frame)
    rows, top, height = _COURTS[frame.shape[1:]]
    inside = frame[:, rows]
    N, visible, width = inside.shape
    # Few pixels are bright: NumPy finds them twenty times faster in one dimension than in three.
    n, pixel = np.divmod(np.flatnonzero(inside > PADDLE), visible * width)
    row, column = np.divmod(pixel, width)
    # Above the paddles' grey, so that a pixel of half ball, half paddle does not count as more.
    weight = inside[n, row, column] - float(PADDLE)
    total = np.bincount(n, weight, N)
    seen = total > 0.0

    def centroid(place: Array) -> Floats:
        return np.bincount(n, weight * (place + 0.5), N) / np.maximum(total, 1.0)

    return Ball(
        np.where(seen, (centroid(row) + rows.start - top) / height, 0.5),
        np.where(seen, centroid(column) / width, 0.5),
        seen,
    )


def ball_half(obs: Array) -> Mask:
    """Return ``[N,2]``, whether the ball was last seen in the top and in the bottom half.

    Where none of the frames shows it, neither.
    """
    _require(obs, STACK)
    newest = find_ball(obs[:, -1])
    row, seen = newest.row, newest.seen
    for frame in range(STACK - 2, -1, -1):
        hidden = np.flatnonzero(~seen)
        if not hidden.size:
            break
        older = find_ball(obs[hidden, frame])
        row[hidden], seen[hidden] = older.row, older.seen
    return np.stack([seen & (row < 0.5), seen & (row >= 0.5)], axis=1)


def ball_position(obs: Array) -> Floats:
    """Return ``[N,3]``: row and column from -1 to 1 and seen (0 or 1) in the newest frame."""
    _require(obs, STACK)
    return _position(find_ball(obs[:, -1]))


def ball_motion(obs: Array) -> Floats:
    """Return ``[N,5]``: the position, then the velocity in row and column, 1 where fastest.

    The velocity is 0 where either of the last two frames does not show the ball.
    """
    _require(obs, STACK)
    before, now = find_ball(obs[:, -2]), find_ball(obs[:, -1])
    moved = np.stack([now.row - before.row, now.column - before.column], axis=1) / FASTEST
    return np.hstack([_position(now), moved * (before.seen & now.seen)[:, None]])


def _position(ball: Ball) -> Floats:
    return np.stack([2.0 * ball.row - 1.0, 2.0 * ball.column - 1.0, ball.seen], axis=1)


def _require(frames: Array, *stack: int) -> None:
    """Raise UserError unless ``frames[N,*stack,H,W]`` are Pong's, of a known size."""
    if frames.dtype != np.uint8 or frames.shape[1:] not in [(*stack, *size) for size in _COURTS]:
        sizes = " or ".join(str(["N", *stack, *size]).replace("'", "") for size in _COURTS)
        raise UserError(
            f"Pong's ball cannot be read from {frames.dtype} of shape {frames.shape}, "
            f"expected uint8 {sizes}"
        )


REGIONS: dict[str, Region] = {
    "ball-top": lambda obs: ball_half(obs)[:, 0],
    "ball-bottom": lambda obs: ball_half(obs)[:, 1],
}

FEATURES: dict[str, Feature] = {
    "ball-half": Feature(2, lambda obs: ball_half(obs).astype(np.float64)),
    "ball-position": Feature(3, ball_position),
    "ball": Feature(5, ball_motion),
}

ABOUT = About(
    target=20.0,
    return_range=(-21.0, 21.0),
    most=21.0,
    segment_ends=scored,
    features=FEATURES,
    regions=REGIONS,
    milestones=(-15.0, 0.0, 15.0),
)
"""The paper's target; a segment is a rally, and points are what it pays."""
