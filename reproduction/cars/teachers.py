"""A teacher for each kind of traffic: a DQN of Stable-Baselines3, its zip as that writes it."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium import Env, spaces
from gymnasium.wrappers import TransformObservation, TransformReward

from reproduction.cars.roads import ROADS, env_of
from tutelage.runs import versions

STEPS = 15_000
SETTINGS: dict[str, Any] = {
    "policy_kwargs": {"net_arch": [128, 128]},
    "learning_rate": 5e-4,
    "buffer_size": STEPS,
    "learning_starts": 500,
    "batch_size": 64,
    "gamma": 0.9,
    "train_freq": 1,
    "target_update_interval": 100,
    "exploration_fraction": 0.4,
    "exploration_final_eps": 0.05,
}
"""Of DQN, what is not its default; after highway-env's own example for highway-fast-v0."""


MODELS = Path("reproduction/cars/models")


def place_of(traffic: str) -> Path:
    """Return where the teacher of a traffic is."""
    return MODELS / f"{traffic}.zip"


def about() -> dict[str, Any]:
    """Return what a row was made with."""
    return {**versions(), "highway-env": version("highway-env")}


def as_trained_in(traffic: str) -> Env[Any, Any]:
    """Return an environment of one traffic: vectors, and rewards in highway-env's own unit."""
    made: Env[Any, Any] = gymnasium.make(env_of(traffic))
    assert isinstance(made.observation_space, spaces.Dict)
    seen = TransformObservation(made, lambda obs: obs["cars"], made.observation_space["cars"])
    return TransformReward(seen, lambda reward: float(reward) * ROADS[traffic].most)


def train(traffic: str, path: Path, *, steps: int = STEPS, seed: int = 1) -> dict[str, Any]:
    """Train a teacher and save it; return what that took."""
    from stable_baselines3 import DQN

    began = time.perf_counter()
    model = DQN("MlpPolicy", as_trained_in(traffic), seed=seed, device="cpu", **SETTINGS)
    model.learn(steps, log_interval=100)
    model.save(path)
    return {
        "steps": steps,
        "seed": seed,
        "seconds": round(time.perf_counter() - began, 1),
        "parameters": sum(p.numel() for p in model.q_net.parameters()),
    }
