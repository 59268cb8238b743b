"""``tutelage offpolicy``: what other selectors would have been paid in the states of a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from tutelage.choice_log import Log, read_log
from tutelage.commands import display
from tutelage.configs import Seed
from tutelage.errors import UserError
from tutelage.runs import read_config
from tutelage.selectors import build_selector
from tutelage.selectors.offpolicy import (
    ESTIMATORS,
    Estimate,
    Policy,
    effective,
    evaluate,
    mean_weight,
)
from tutelage.types import Floats, Selector, seeded


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A policy's mean reward per choice, by each estimator."""

    policy: str
    effective: float
    """How many choices made by the policy itself would say as much (Kish's sample size)."""
    mean_weight: float
    """About 1 where the log covers what the policy would choose; below, what share it covers."""
    estimates: dict[str, Estimate]
    """By the names of ``ESTIMATORS``; empty where the log holds no choice of the policy's."""


@dataclass(frozen=True, kw_only=True)
class OffPolicyCommand:
    """Judge selectors by a run's log: they learn from its first half and are paid by its second.

    Beside them stand each teacher alone and what was chosen. Where the run's own selector left
    little to chance, the log says little of others: the effective n tells how much, and a mean
    weight below 1 that it says nothing of part of their choices.
    """

    folder: Annotated[Positional[str], arg(metavar="RUN")]
    """The folder of a run with several teachers."""
    selectors: tuple[str, ...] = ("random", "thompson-beta", "linear-thompson", "doubly-robust")
    """Their names, perhaps with options: linear-thompson:scale=1."""
    seed: Seed = 0
    """Seed of the selectors, and of the intervals."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        folder = Path(self.folder)
        names = _teachers(read_config(folder))
        path = folder / "selections.jsonl"
        if not path.exists():
            raise UserError(f"{folder} has no selections.jsonl: it chose among no teachers")
        log = read_log(path)
        if (most := int(log.feedback.arm.max())) >= len(names):
            raise UserError(f"the log names teacher {most}, the run has {len(names)}")
        early, late = halves(log)
        paid = float(late.feedback.reward.mean())
        judged = [
            judge(name, policy, late, rng=np.random.default_rng(seeded(self.seed, "estimates")))
            for name, policy in self._policies(names, early)
        ]
        if self.json:
            result = {
                "folder": self.folder,
                "choices": len(late.round),
                "mean_reward": paid,
                "policies": [asdict(one) for one in judged],
            }
            display.answer(result)
            return
        display.table(
            f"The second half's {len(late.round):,} choices were paid {paid:.3f} each",
            [cells(one) for one in judged],
        )

    def _policies(self, names: Sequence[str], early: Log) -> Iterator[tuple[str, Policy]]:
        for arm, name in enumerate(names):
            yield f"{name} alone", always(arm, num_arms=len(names))
        for text in self.selectors:
            selector = build_selector(
                text,
                num_arms=len(names),
                rng=np.random.default_rng(seeded(self.seed, "selector", text)),
                context_dim=early.feedback.context.shape[1],
            )
            learn(selector, early)
            yield text, selector.probabilities


def _teachers(config: Mapping[str, Any]) -> list[str]:
    names = config.get("teachers", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"teachers is {names!r} in the run's configuration, expected their names")
    return names


def always(arm: int, *, num_arms: int) -> Policy:
    """Return the policy that chooses ``arm`` in every state."""

    def policy(context: Floats) -> Floats:
        return np.tile(np.eye(num_arms)[arm], (len(context), 1))

    return policy


def halves(log: Log) -> tuple[Log, Log]:
    """Return the choices paid up to the median round and those after.

    Raises UserError for fewer than four rounds: an interval takes two of those that judge.
    """
    rounds = np.unique(log.round)
    if len(rounds) < 4:
        raise UserError(f"the choices of the log were paid in {len(rounds)} rounds, expected 4")
    first = log.round <= np.median(rounds)
    return log.part(first), log.part(~first)


def learn(selector: Selector, log: Log) -> None:
    """Let ``selector`` learn from a log, round by round as a run would have it."""
    for number in np.unique(log.round):
        selector.update(log.part(log.round == number).feedback)


def judge(name: str, policy: Policy, log: Log, *, rng: np.random.Generator) -> Judged:
    """Return every estimate of ``policy`` on ``log``."""
    target = policy(log.feedback.context)
    size = effective(log.feedback, target)
    return Judged(
        policy=name,
        effective=size,
        mean_weight=mean_weight(log.feedback, target),
        estimates=evaluate(log, policy, rng=rng) if size else {},
    )


def cells(judged: Judged) -> dict[str, str]:
    """Return a row of the table."""
    shown = {
        name: f"{e.value:.3f} ({e.low:.3f} … {e.high:.3f})" for name, e in judged.estimates.items()
    }
    return {
        "policy": judged.policy,
        **{name: shown.get(name, "-") for name in ESTIMATORS},
        "effective n": f"{judged.effective:,.0f}",
        "mean weight": f"{judged.mean_weight:.2f}",
    }
