"""Ways to learn from reward: what is remembered, what is learnt from when, what is minimised."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tutelage.configs import Teach
from tutelage.environments import Environments
from tutelage.learner import Objective
from tutelage.networks import Network
from tutelage.objectives import DoubleQ, LambdaQ
from tutelage.recipes.assembly import Plan, build_replay, first_update, replayed
from tutelage.rollout import Rollout
from tutelage.sources.online import Due, Memory, steadily
from tutelage.types import Array, seeded


@dataclass(frozen=True)
class Algorithm:
    """What one way plugs into the loop."""

    name: str
    """Of its objective, as metrics have it."""
    objective: Objective
    memory: Memory
    due: Due
    plan: Plan


def double_q(
    config: Teach, envs: Environments, network: Network, device: torch.device
) -> Algorithm:
    """Double Q-learning (van Hasselt et al. 2016) from a replay, some samples per env step."""
    learning = config.learning
    replay = build_replay(config, envs, network.head)
    return Algorithm(
        "double_q",
        DoubleQ(network, target_every=learning.target_every, loss=learning.td_loss),
        replay,
        steadily(
            lambda: replay.sample_transitions(learning.batch_size),
            per_step=learning.samples_per_step / learning.batch_size,
            begin=first_update(config),
            num_envs=envs.num_envs,
        ),
        replayed(config),
    )


def pqn(config: Teach, envs: Environments, network: Network, device: torch.device) -> Algorithm:
    """PQN (Gallici et al. 2024): all of the last steps at once, by their lambda-returns."""

    def value(obs: Array) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            best = network(torch.from_numpy(obs).to(device)).max(dim=1).values
            return np.asarray(best.cpu().numpy())

    steps, num_envs = config.pqn.rollout_steps, envs.num_envs
    rollout = Rollout(
        steps=steps,
        num_envs=num_envs,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        label_size=network.head.size,
        value=value,
        epochs=config.pqn.epochs,
        minibatches=config.pqn.minibatches,
        gamma=config.learning.gamma,
        decay=config.pqn.return_lambda,
        rng=np.random.default_rng(seeded(config.seed, "rollout")),
        device=device,
    )

    def updates(env_steps: int) -> float:
        # A rollout is learnt from in the step after it.
        rollouts = (env_steps - num_envs) // (num_envs * steps)
        return float(rollouts * config.pqn.epochs * config.pqn.minibatches)

    return Algorithm(
        "lambda_q",
        LambdaQ(loss=config.learning.td_loss),
        rollout,
        lambda env_steps: rollout.batches(),
        Plan(
            updates,
            f"none comes after the first rollout of {steps} steps of {num_envs} environments",
        ),
    )


ALGORITHMS: dict[str, Callable[[Teach, Environments, Network, torch.device], Algorithm]] = {
    "double-q": double_q,
    "pqn": pqn,
}
