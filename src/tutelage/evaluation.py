"""How well a policy plays: greedy episodes on held-out seeds, with an interval."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from tutelage.domains.atari import EnvironmentConfig, make
from tutelage.types import Array, QFunction, seeded


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of whole episodes."""

    returns: npt.NDArray[np.float64]
    """``[E]``, unclipped."""
    lengths: npt.NDArray[np.int64]
    """``[E]``, in env steps."""

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    def interval(self, *, resamples: int = 10_000) -> tuple[float, float]:
        """Return the 95 % percentile bootstrap interval of the mean (Efron 1979), seeded."""
        rng = np.random.default_rng(seeded(0, "bootstrap"))
        index = rng.integers(len(self.returns), size=(resamples, len(self.returns)))
        low, high = np.quantile(self.returns[index].mean(axis=1), [0.025, 0.975])
        return float(low), float(high)

    def summary(self) -> dict[str, float | int | list[float]]:
        """Return the figures under the names they have everywhere."""
        return {
            "mean_return": self.mean,
            "ci95": list(self.interval()),
            "min_return": float(self.returns.min()),
            "max_return": float(self.returns.max()),
            "episodes": len(self.returns),
            "mean_length": float(self.lengths.mean()),
            "reward_per_step": float(self.returns.sum() / self.lengths.sum()),
        }


@dataclass(frozen=True)
class Abandoned:
    """An evaluation that was stopped because its target could no longer be reached."""

    at_most: float
    """What the mean return could still have become."""
    reward_per_step: float
    """Of what was played."""


def evaluate(
    policy: QFunction,
    config: EnvironmentConfig,
    *,
    episodes: int = 30,
    seed: int = 0,
    stream: str = "evaluation",
    device: torch.device | None = None,
    threads: int = 0,
) -> Evaluation:
    """Play whole episodes greedily and return what they gave.

    Every environment plays the same number of episodes (differing by at most one), so that short
    episodes are not over-represented. ``stream`` keeps the seeds apart from training's. Rewards
    are never clipped.
    """
    played = examine(
        policy,
        config,
        target=-math.inf,
        most=0.0,
        episodes=episodes,
        seed=seed,
        stream=stream,
        device=device,
        threads=threads,
    )
    assert isinstance(played, Evaluation)  # nothing is below that target
    return played


def examine(
    policy: QFunction,
    config: EnvironmentConfig,
    *,
    target: float,
    most: float,
    episodes: int = 30,
    seed: int = 0,
    stream: str = "evaluation",
    device: torch.device | None = None,
    threads: int = 0,
) -> Evaluation | Abandoned:
    """Evaluate, but stop as soon as the mean return can no longer reach ``target``.

    ``most`` is what all positive rewards of an episode come to at most, so that an episode can
    still return ``most`` plus the negative rewards it has had. A student far from its target is
    so found out within a fraction of its games, which tend to be the longest.
    """

    def at_most() -> float:
        return sum(half.at_most(most) for half in halves) / episodes

    halves = [
        _Half(config, share, seed=seed, stream=f"{stream}-{i}", threads=threads)
        for i, share in enumerate((episodes - episodes // 2, episodes // 2))
        if share > 0
    ]
    _play(policy, halves, device or torch.device("cpu"), lambda: at_most() < target)
    if not any(half.quota.any() for half in halves):
        return Evaluation(
            np.array([r for half in halves for r in half.returns]),
            np.array([n for half in halves for n in half.lengths]),
        )
    rewards = sum(half.rewards for half in halves) / max(1, sum(half.steps for half in halves))
    return Abandoned(at_most(), rewards)


def _play(
    policy: QFunction,
    halves: "Sequence[_Half]",
    device: torch.device,
    enough: Callable[[], bool],
) -> None:
    """Play until all episodes are over or it is enough.

    Two halves of the environments take turns: while one half is emulated, the policy thinks about
    the other, on one thread that leaves the rest to the emulators.
    """

    def act(obs: Array) -> npt.NDArray[np.int64]:
        with torch.inference_mode():
            q = policy(torch.from_numpy(obs).to(device))
        action: npt.NDArray[np.int64] = q.argmax(dim=1).cpu().numpy()
        return action

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for half in halves:
            half.envs.send(act(half.envs.obs))
        while (playing := [half for half in halves if half.quota.any()]) and not enough():
            for half in playing:
                half.receive()
                if half.quota.any():
                    half.envs.send(act(half.envs.obs))
    finally:
        torch.set_num_threads(before)
        for half in halves:
            half.envs.close()


class _Half:
    """Environments that share a number of episodes fairly, and what these gave so far."""

    def __init__(
        self, config: EnvironmentConfig, episodes: int, *, seed: int, stream: str, threads: int
    ) -> None:
        num_envs = min(episodes, 16)
        played = replace(config, num_envs=num_envs, clip_rewards=False)
        self.quota = np.full(num_envs, episodes // num_envs)
        self.quota[: episodes % num_envs] += 1
        self.envs = make(
            played, seed=seed, stream=stream, threads=threads, episodes=self.quota.copy()
        )
        self.returns: list[float] = []
        self.lengths: list[int] = []
        self.rewards = 0.0
        self.steps = 0
        self._lost = np.zeros(num_envs)

    def receive(self) -> None:
        """Finish a step and note the episodes that ended in it, as far as they are wanted."""
        step = self.envs.recv()
        wanted = self.quota > 0
        self.rewards += float(step.reward[wanted].sum())
        self.steps += int(wanted.sum())
        self._lost += np.minimum(step.reward, 0.0)
        ended = np.flatnonzero(step.terminated | step.truncated)
        for i, (episode_return, length) in zip(ended, step.finished, strict=True):
            self._lost[i] = 0.0
            if self.quota[i]:
                self.quota[i] -= 1
                self.returns.append(episode_return)
                self.lengths.append(length)

    def at_most(self, most: float) -> float:
        """Return the most that all its episodes can still come to together."""
        return float(
            sum(self.returns) + (most * self.quota).sum() + self._lost[self.quota > 0].sum()
        )
