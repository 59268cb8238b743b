"""A student of all traffic: what it returns in each, and whom its selector would choose there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tutelage as tt
from reproduction.cars.roads import ROADS, env_of
from tutelage.choice_log import read_log
from tutelage.networks import Network
from tutelage.policies import Carry, Policy
from tutelage.selectors import build_selector
from tutelage.specs import is_place, load_object
from tutelage.types import Floats

EPISODES = 20
"""Of each traffic, the same for all students."""


class Watched:
    """A policy, and the states that it was shown."""

    def __init__(self, policy: Policy) -> None:
        self.head = policy.head
        self.seen: list[Tensor] = []
        self._policy = policy

    def initial(self, n: int) -> Carry:
        """Return the policy's own memory."""
        return self._policy.initial(n)

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Say what the policy says."""
        self.seen.append(obs)
        return self._policy.step(obs, carry)


def by_traffic(folder: Path) -> dict[str, float]:
    """Return ``return TRAFFIC``, and ``TRAFFIC by TEACHER`` where there were several.

    The latter is how likely each teacher is to be chosen, by what the selector knew at the end of
    the run, in the states of that traffic that the student comes to.
    """
    model = tt.load(folder)
    config = model.card["config"]
    choice = _choice(folder, model.policy, config)
    found = {}
    for traffic in ROADS:
        watched = Watched(model.policy)
        played = tt.evaluate(
            watched, env_of(traffic), student_view="cars", episodes=EPISODES, threads=1
        )
        found[f"return {traffic}"] = played.mean
        if choice:
            likely = choice(torch.cat(watched.seen)).mean(axis=0)
            for name, share in zip(config["teachers"], likely, strict=True):
                found[f"{traffic} by {Path(name).stem}"] = float(share)
    return found


def _choice(folder: Path, student: Policy, config: Mapping[str, Any]) -> Any:
    """Return what says ``p[N,K]`` of ``obs[N,1,42]``; None where there was one teacher.

    The selector learns again from the run's own log.
    """
    if len(config["teachers"]) == 1:
        return None
    asked, log = config["selection"], read_log(folder / "selections.jsonl")
    selector = build_selector(
        asked["selector"],
        num_arms=len(config["teachers"]),
        rng=np.random.default_rng(0),
        context_dim=log.feedback.context.shape[1],
    )
    for number in np.unique(log.round):
        selector.update(log.part(log.round == number).feedback)

    def context(obs: Tensor) -> Floats:
        if is_place(asked["features"]):
            feature: tt.Feature = load_object("features", asked["features"])
            return feature.of(obs.numpy())
        assert isinstance(student, Network)
        with torch.inference_mode():
            return np.asarray(student.hidden(obs).numpy(), np.float64)

    return lambda obs: selector.probabilities(context(obs))
