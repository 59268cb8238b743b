"""``sb3_distill``: StudentDistill, and Proximal Policy Distillation.

Its own settings are its classes' defaults, which are those of Stable-Baselines3's A2C and PPO, on
one environment. A teacher is asked ``get_distribution`` and ``predict_values``, which only PPO and
A2C have. Of another it is told: of DQN the Q-values over 0.1 as logits and their largest as the
value; of SAC a normal distribution around the greedy action with a standard deviation of 0.1 and
the lesser of its critics; of a network that only says logits these, and a value of 0.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from sb3_distill import ProximalPolicyDistillation, StudentDistill
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from .common import SD, TAU, Clock, Script, Spec, make_env, student, teacher_of
from .sb3 import Acting, example_of, network_of


class OfDqn:
    """A DQN that is asked as a PPO is."""

    def __init__(self, model: Any) -> None:
        self._net, self._actions = model.q_net, int(model.action_space.n)

    def get_distribution(self, obs: Tensor) -> CategoricalDistribution:
        """Return softmax(q / tau)."""
        with torch.no_grad():
            said = self._net(obs) / TAU
        return CategoricalDistribution(self._actions).proba_distribution(said)

    def predict_values(self, obs: Tensor) -> Tensor:
        """Return max_a q, ``[N,1]``."""
        with torch.no_grad():
            best: Tensor = self._net(obs).max(dim=1, keepdim=True).values
        return best


class OfSac:
    """A SAC that is asked as a PPO is; its actions are in the range of -1 to 1."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def get_distribution(self, obs: Tensor) -> DiagGaussianDistribution:
        """Return a normal distribution around the greedy action."""
        with torch.no_grad():
            mean = self._model.actor(obs, deterministic=True)
        around = DiagGaussianDistribution(mean.shape[1])
        around.distribution = torch.distributions.Normal(mean, torch.full_like(mean, SD))
        return around

    def predict_values(self, obs: Tensor) -> Tensor:
        """Return the lesser critic of the greedy action, ``[N,1]``."""
        with torch.no_grad():
            action = self._model.actor(obs, deterministic=True)
            said = torch.cat(self._model.critic(obs, action), dim=1)
        return said.min(dim=1, keepdim=True).values


class OfScript:
    """A network that says logits only."""

    def __init__(self, script: Script, actions: int) -> None:
        self._script, self._actions = script, actions

    def get_distribution(self, obs: Tensor) -> CategoricalDistribution:
        """Return the softmax of its logits."""
        said = self._script.logits(obs)
        return CategoricalDistribution(self._actions).proba_distribution(said)

    def predict_values(self, obs: Tensor) -> Tensor:
        """Return 0, as nothing is known of its values."""
        return torch.zeros(len(obs), 1)


ASKED: dict[str, Any] = {
    "PPO": lambda model: model.policy,
    "DQN": OfDqn,
    "SAC": OfSac,
    "script": lambda model: OfScript(model, 6),
}
"""Algorithm -> what of it has ``get_distribution`` and ``predict_values``."""


def distil(spec: Spec, kind: Any) -> Iterator[dict[str, Any]]:
    """Learn by one of the library's algorithms; no schedule knows the budget, so one run does."""
    env = DummyVecEnv([lambda: Monitor(make_env(spec.env))])
    model = teacher_of(spec, env.observation_space, env.action_space)
    teacher = SimpleNamespace(policy=ASKED[spec.algorithm](model))
    clock = Clock()
    pupil = kind(
        "MlpPolicy",
        env,
        policy_kwargs=network_of(spec.widths, env.observation_space),
        seed=spec.seed,
        device="cpu",
        **spec.settings,
    )
    pupil.set_teacher(teacher)
    for budget in spec.budgets:
        if pupil.num_timesteps < budget:
            pupil.learn(budget - pupil.num_timesteps, reset_num_timesteps=False)
        yield student(
            spec,
            budget,
            acting=Acting(pupil.policy),
            obs=example_of(env),
            env_steps=pupil.num_timesteps,
            clock=clock,
        )


def student_distill(spec: Spec) -> Iterator[dict[str, Any]]:
    """Learn by StudentDistill."""
    return distil(spec, StudentDistill)


def proximal(spec: Spec) -> Iterator[dict[str, Any]]:
    """Learn by Proximal Policy Distillation."""
    return distil(spec, ProximalPolicyDistillation)
