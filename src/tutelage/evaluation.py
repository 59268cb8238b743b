"""How well a policy plays: greedy episodes on held-out seeds, with an interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from tutelage.domains import EnvironmentConfig, as_evaluated, make
from tutelage.errors import MisfitError, UserError, counted
from tutelage.heads import check_actions
from tutelage.policies import Policy, allowed, begin_again
from tutelage.text import alike, extremes
from tutelage.threads import one_thread
from tutelage.types import Array, seeded

MAX_STEPS = 10_000
"""Env steps after which an episode is cut, where nothing else is asked for."""

MOST_NUMBERS = 10**7
"""That are drawn at once: a million episodes have an interval too."""

Note = Callable[[str], None]
"""Is told in a word how far an evaluation has come."""


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Returns and lengths of whole episodes."""

    returns: npt.NDArray[np.float64]
    """``[E]``, unclipped."""
    lengths: npt.NDArray[np.int64]
    """``[E]``, in env steps."""
    cut: int = 0
    """How many of them were cut, because they had no end."""

    def __repr__(self) -> str:
        mean, low, high = alike(self.mean, *self.interval())
        least, most = float(self.returns.min()), float(self.returns.max())
        return (
            f"Evaluation: mean return {mean} ({low} … {high}), min … max {extremes(least, most)}, "
            f"{counted(len(self.returns), 'episode')}" + f" ({self.cut} cut)" * bool(self.cut)
        )

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def env_steps(self) -> int:
        """How much was played."""
        return int(self.lengths.sum())

    def interval(self, *, resamples: int = 10_000) -> tuple[float, float]:
        """Return the 95 % percentile bootstrap interval of the mean (Efron 1979), seeded."""
        rng, n = np.random.default_rng(seeded(0, "bootstrap")), len(self.returns)
        rows = max(1, MOST_NUMBERS // n)
        means = [
            self.returns[rng.integers(n, size=(min(rows, resamples - done), n))].mean(axis=1)
            for done in range(0, resamples, rows)
        ]
        low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
        return float(low), float(high)

    def figures(self) -> dict[str, float | int | list[float]]:
        """Return the summary and the returns it is of."""
        return {**self.summary(), "returns": self.returns.tolist()}

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
            "cut_episodes": self.cut,
        }


@dataclass(frozen=True)
class Abandoned:
    """An evaluation that was stopped because its target could no longer be reached."""

    at_most: float
    """What the mean return could still have become."""
    reward_per_step: float
    """Of what was played."""
    env_steps: int
    """How much that was."""


def evaluate(
    policy: Policy,
    config: EnvironmentConfig,
    *,
    episodes: int = 30,
    seed: int = 0,
    stream: str = "evaluation",
    max_steps: int = MAX_STEPS,
    device: torch.device | None = None,
    threads: int = 0,
    note: Note = lambda text: None,
) -> Evaluation:
    """Play whole episodes greedily and return what they gave.

    Every environment plays the same number of episodes (differing by at most one), so that short
    episodes are not over-represented. ``stream`` keeps the seeds apart from training's. Rewards
    are never clipped; an episode of ``max_steps`` is cut and counts as it stands.
    """
    played = examine(
        policy,
        config,
        bound=None,
        episodes=episodes,
        seed=seed,
        stream=stream,
        max_steps=max_steps,
        device=device,
        threads=threads,
        note=note,
    )
    assert isinstance(played, Evaluation)  # nothing is below no target
    return played


@dataclass(frozen=True)
class Bound:
    """A mean return to be reached, and what all positive rewards of an episode come to at most."""

    target: float
    most: float


def examine(
    policy: Policy,
    config: EnvironmentConfig,
    *,
    bound: Bound | None,
    episodes: int = 30,
    seed: int = 0,
    stream: str = "evaluation",
    max_steps: int = MAX_STEPS,
    device: torch.device | None = None,
    threads: int = 0,
    note: Note = lambda text: None,
) -> Evaluation | Abandoned:
    """Evaluate, but stop as soon as the mean return can no longer reach ``bound.target``.

    An episode can still return ``bound.most`` plus the negative rewards it has had. A student far
    from its target is so found out within a fraction of its games, which tend to be the longest.
    """
    for name, number in (("episodes", episodes), ("max_steps", max_steps)):
        if number < 1:
            raise UserError(f"{name} must be at least 1, got {number}")

    def at_most(most: float) -> float:
        return sum(half.at_most(most) for half in halves) / episodes

    def enough() -> bool:
        over = sum(len(half.returns) for half in halves)
        if over != told[0]:
            told[0] = over
            note(f"evaluating: {over} of {episodes} episodes")
        return bound is not None and at_most(bound.most) < bound.target

    told = [0]
    halves = [
        _Half(
            policy,
            config,
            share,
            seed=seed,
            stream=f"{stream}-{i}",
            max_steps=max_steps,
            device=device or torch.device("cpu"),
            threads=threads,
        )
        for i, share in enumerate((episodes - episodes // 2, episodes // 2))
        if share > 0
    ]
    _play(halves, enough)
    if bound is None or not any(half.quota.any() for half in halves):
        return Evaluation(
            np.array([r for half in halves for r in half.returns]),
            np.array([n for half in halves for n in half.lengths]),
            sum(half.cut for half in halves),
        )
    steps = sum(half.steps for half in halves)
    rewards = sum(half.rewards for half in halves)
    return Abandoned(at_most(bound.most), rewards / max(1, steps), steps)


def _play(halves: "Sequence[_Half]", enough: Callable[[], bool]) -> None:
    """Play until all episodes are over or it is enough.

    Two halves of the environments take turns: while one half is emulated, the policy thinks about
    the other, on one thread that leaves the rest to the emulators.
    """
    try:
        with one_thread():
            for half in halves:
                half.act()
            while (playing := [half for half in halves if half.quota.any()]) and not enough():
                for half in playing:
                    half.receive()
                    if half.quota.any():
                        half.act()
    finally:
        for half in halves:
            half.envs.close()


class _Half:
    """Environments that share a number of episodes fairly, and what these gave so far."""

    def __init__(
        self,
        policy: Policy,
        config: EnvironmentConfig,
        episodes: int,
        *,
        seed: int,
        stream: str,
        max_steps: int,
        device: torch.device,
        threads: int,
    ) -> None:
        num_envs = min(episodes, 16)
        played = replace(as_evaluated(config), num_envs=num_envs)
        self.quota = np.full(num_envs, episodes // num_envs)
        self.quota[: episodes % num_envs] += 1
        self.envs = make(
            played, seed=seed, stream=stream, threads=threads, episodes=self.quota.copy()
        )
        try:
            check_actions(policy.head, self.envs.action_space)
        except MisfitError as error:
            self.envs.close()
            raise error.of("the policy", config.env) from None
        self.returns: list[float] = []
        self.lengths: list[int] = []
        self.cut = 0
        self.rewards = 0.0
        self.steps = 0
        self._policy = policy
        self._carry = policy.initial(num_envs)
        self._device = device
        self._max_steps = max_steps
        self._lost = np.zeros(num_envs)

    def act(self) -> None:
        """Begin a step."""
        obs: Array = self.envs.obs
        with torch.inference_mode():
            seen = torch.from_numpy(obs).to(self._device)
            out, self._carry = self._policy.step(seen, self._carry)
            out = allowed(out, self.envs.action_mask)
            action = self._policy.head.mode(out).cpu().numpy()
        self.envs.send(action)

    def receive(self) -> None:
        """Finish a step and note the episodes that ended in it, as far as they are wanted."""
        step = self.envs.recv()
        wanted = self.quota > 0
        self.rewards += float(step.reward[wanted].sum())
        self.steps += int(wanted.sum())
        self._lost += np.minimum(step.reward, 0.0)
        ended = step.terminated | step.truncated
        finished = list(zip(np.flatnonzero(ended), step.finished, strict=True))
        if (endless := self.envs.ages >= self._max_steps).any():
            finished += list(zip(np.flatnonzero(endless), self.envs.cut(endless), strict=True))
            self.cut += int((endless & wanted).sum())
        for i, (episode_return, length) in finished:
            self._lost[i] = 0.0
            if self.quota[i]:
                self.quota[i] -= 1
                self.returns.append(episode_return)
                self.lengths.append(length)
        self._carry = begin_again(self._policy, self._carry, ended | endless)

    def at_most(self, most: float) -> float:
        """Return the most that all its episodes can still come to together."""
        return float(
            sum(self.returns) + (most * self.quota).sum() + self._lost[self.quota > 0].sum()
        )
