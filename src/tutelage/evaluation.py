"""How well a policy plays: greedy episodes on held-out seeds, with an interval."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from tutelage.environments import EnvironmentConfig, make
from tutelage.types import QFunction, seeded


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

    def interval(self, *, confidence: float = 0.95, resamples: int = 10_000) -> tuple[float, float]:
        """Return the percentile bootstrap interval of the mean (Efron 1979), seeded."""
        rng = np.random.default_rng(seeded(0, "bootstrap"))
        index = rng.integers(len(self.returns), size=(resamples, len(self.returns)))
        tail = (1.0 - confidence) / 2.0
        low, high = np.quantile(self.returns[index].mean(axis=1), [tail, 1.0 - tail])
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
    num_envs = min(episodes, 32)
    envs = make(
        replace(config, num_envs=num_envs, clip_rewards=False),
        seed=seed,
        stream=stream,
        threads=threads,
    )
    quota = np.full(num_envs, episodes // num_envs)
    quota[: episodes % num_envs] += 1
    returns: list[float] = []
    lengths: list[int] = []
    try:
        while quota.any():
            with torch.inference_mode():
                q = policy(torch.from_numpy(envs.obs).to(device or "cpu"))
            step = envs.step(q.argmax(dim=1).cpu().numpy())
            ended = np.flatnonzero(step.terminated | step.truncated)
            for i, (episode_return, length) in zip(ended, step.finished, strict=True):
                if quota[i]:
                    quota[i] -= 1
                    returns.append(episode_return)
                    lengths.append(length)
    finally:
        envs.close()
    return Evaluation(np.array(returns), np.array(lengths))
