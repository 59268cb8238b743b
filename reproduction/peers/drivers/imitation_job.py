"""``imitation``: behavioural cloning, and DAgger.

Its own settings: batches of 32, Adam at 1e-3, ent_weight 1e-3, no l2, four epochs. DAgger is
SimpleDAggerTrainer as it is: rounds of 3 episodes and 500 env steps or more, four epochs of all
data after each, the teacher's share falling to 0 over 15 rounds. One environment. It pins a
Gymnasium whose LunarLander is called v2 and whose HalfCheetah v4.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from imitation.algorithms.bc import BC
from imitation.algorithms.dagger import SimpleDAggerTrainer
from imitation.data import rollout
from imitation.data.wrappers import RolloutInfoWrapper
from imitation.util import logger
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv

from .common import Clock, Script, Spec, make_env, student, teacher_of
from .sb3 import Acting, example_of, network_of


@dataclass(frozen=True)
class Parts:
    """What both ways begin with."""

    venv: Any
    teacher: Any
    bc: BC
    policy: ActorCriticPolicy
    rng: np.random.Generator
    epochs: int


class Expert(BasePolicy):
    """A network that says logits, as an expert."""

    def __init__(self, script: Script, venv: Any) -> None:
        super().__init__(venv.observation_space, venv.action_space)
        self.script = script

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return self.script.logits(observation).argmax(dim=1)


def parts_of(spec: Spec) -> Parts:
    """Return an environment, the teacher, and a student that has learnt nothing."""
    rng = np.random.default_rng(spec.seed)
    venv = DummyVecEnv([lambda: RolloutInfoWrapper(make_env(spec.env))])
    venv.seed(10_000 * spec.seed)
    given = dict(spec.settings)
    epochs, rate = given.pop("n_epochs", 4), given.pop("learning_rate", 1e-3)
    policy = ActorCriticPolicy(
        venv.observation_space,
        venv.action_space,
        lambda _: rate,
        **network_of(spec.widths, venv.observation_space),
    )
    bc = BC(
        observation_space=venv.observation_space,
        action_space=venv.action_space,
        rng=rng,
        policy=policy,
        optimizer_kwargs={"lr": rate},
        custom_logger=quiet(),
        **given,
    )
    model = teacher_of(spec, venv.observation_space, venv.action_space)
    expert = Expert(model, venv) if isinstance(model, Script) else model.policy
    return Parts(venv, expert, bc, policy, rng, epochs)


def quiet() -> Any:
    """Return a logger that writes nothing."""
    return logger.configure(tempfile.mkdtemp(), format_strs=[])


def clone(spec: Spec) -> Iterator[dict[str, Any]]:
    """Learn from the teacher's greedy play, anew for each budget."""
    for budget in spec.budgets:
        torch.manual_seed(spec.seed)
        of, clock = parts_of(spec), Clock()
        until = rollout.make_sample_until(min_timesteps=budget)
        played = rollout.rollout(of.teacher, of.venv, until, rng=of.rng, deterministic_policy=True)
        shown = rollout.flatten_trajectories(played)[:budget]
        of.bc.set_demonstrations(shown)
        of.bc.train(n_epochs=of.epochs, progress_bar=False)
        yield student(
            spec,
            budget,
            acting=Acting(of.policy),
            obs=example_of(of.venv),
            env_steps=len(shown),
            clock=clock,
        )


def dagger(spec: Spec) -> Iterator[dict[str, Any]]:
    """Learn by DAgger; as nothing in it knows the budget, one run passes them all."""
    of, clock, done = parts_of(spec), Clock(), 0
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SimpleDAggerTrainer(
            venv=of.venv,
            scratch_dir=scratch,
            expert_policy=of.teacher,
            bc_trainer=of.bc,
            rng=of.rng,
            custom_logger=quiet(),
        )
        for budget in spec.budgets:
            if done < budget:
                told = {"n_epochs": of.epochs, "progress_bar": False}
                trainer.train(budget - done, bc_train_kwargs=told)
                done = sum(len(one) for one in trainer._all_demos)
            yield student(
                spec,
                budget,
                acting=Acting(of.policy),
                obs=example_of(of.venv),
                env_steps=done,
                clock=clock,
            )
