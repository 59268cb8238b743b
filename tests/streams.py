"""Invented experience, whose every frame says which stream it belongs to and when it was shown."""

import numpy as np
import numpy.typing as npt
import torch

from tutelage.types import Array, Transitions

GOES_ON, TERMINATES, TRUNCATES = range(3)
NUM_ACTIONS = 3
FRAME = (2,)


NUM_ARMS = 5


def invent(
    ends: npt.NDArray[np.int64], *, stack: int, inside: npt.NDArray[np.bool_] | None = None
) -> list[Transitions]:
    """Return T steps of N streams; ``ends[T,N]`` says how each step ended.

    A frame is [stream + 1, its number in the stream], and numbers go on over episodes. All states
    are inside of the region unless ``inside[T,N]`` says which.
    """
    rng = np.random.default_rng(0)
    inside = np.ones(ends.shape, np.bool_) if inside is None else inside
    streams = np.arange(ends.shape[1])
    shown = np.zeros(len(streams), np.int32)

    def next_frame(of: Array) -> Array:
        shown[of] += 1
        return np.stack([of + 1, shown[of]], axis=1).astype(np.int32)

    def begin(obs: Array, of: Array) -> Array:
        obs = obs.copy()
        obs[of] = 0
        obs[of, -1] = next_frame(of)
        return obs

    obs = begin(np.zeros((len(streams), stack, *FRAME), np.int32), streams)
    steps = []
    for end, counts in zip(ends, inside, strict=True):
        next_obs = np.concatenate([obs[:, 1:], next_frame(streams)[:, None]], axis=1)
        steps.append(
            Transitions(
                obs=obs,
                action=rng.integers(NUM_ACTIONS, size=len(streams)),
                reward=rng.normal(size=len(streams)).astype(np.float32),
                terminated=end == TERMINATES,
                truncated=end == TRUNCATES,
                next_obs=next_obs,
                label=rng.normal(size=(len(streams), NUM_ACTIONS)).astype(np.float32),
                inside=counts,
                arm=rng.integers(NUM_ARMS, size=len(streams)),
            )
        )
        obs = begin(next_obs, np.flatnonzero(end != GOES_ON))
    return steps


def random_ends(
    *, steps: int, num_envs: int, seed: int = 0, likely: float = 0.1
) -> npt.NDArray[np.int64]:
    """Return ``[T,N]`` ends, of which a share ``likely`` terminates and as many truncate."""
    rng = np.random.default_rng(seed)
    return rng.choice(3, size=(steps, num_envs), p=[1.0 - 2.0 * likely, likely, likely])


def index(steps: list[Transitions]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the (time, stream) at which each frame was the newest that a policy saw."""
    return {
        (int(frame[0]), int(frame[1])): (time, stream)
        for time, step in enumerate(steps)
        for stream, frame in enumerate(step.obs[:, -1])
    }


def identify(
    obs: torch.Tensor, known: dict[tuple[int, int], tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the (time, stream) of each observation of a batch, by its newest frame."""
    return [known[stream, number] for stream, number in obs[:, -1].tolist()]
