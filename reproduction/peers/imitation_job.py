"""The same policies distilled by the library imitation, by BC and by DAgger, at equal env steps.

Run by the Python of an environment of its own, for it pins older versions of Gymnasium and
Stable-Baselines3: ``pip install imitation==1.0.1 sb3-contrib==2.2.1 box2d pygame`` and
``python reproduction/peers/imitation_job.py FOLDER --rows results/any-policy/imitation.jsonl``.

The library's own settings: Adam at 1e-3, batches of 32, ent_weight 1e-3, no l2, one environment.
BC learns four epochs of the teacher's greedy play, a number for which the library has no default.
DAgger is SimpleDAggerTrainer as it is: rounds of 3 episodes and 500 env steps or more, four
epochs of all data after each, the teacher's share falling to 0 over 15 rounds. Students have the
widths of ours, and the library's tanh.
"""

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from imitation.algorithms.bc import BC
from imitation.algorithms.dagger import SimpleDAggerTrainer
from imitation.data import rollout
from imitation.data.wrappers import RolloutInfoWrapper
from imitation.util import logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv

EPISODES = 100
EPOCHS = 4


@dataclass(frozen=True)
class Job:
    """A policy, by the name that it has in ``reproduction.policies``."""

    file: str
    algorithm: str
    env: str
    """As this Gymnasium calls it: LunarLander-v2 was v3 but for a reset of its wind."""
    widths: tuple[int, ...]
    env_steps: int = 30_000


JOBS = {
    "dqn-lunarlander": Job("sb3-dqn-LunarLander-v2.zip", "DQN", "LunarLander-v2", (32, 32)),
    "ppo-lunarlander": Job("sb3-ppo-LunarLander-v2.zip", "PPO", "LunarLander-v2", (24, 24)),
    "qrdqn-cartpole": Job("sb3-qrdqn-CartPole-v1.zip", "QRDQN", "CartPole-v1", (16, 16)),
    "sac-pendulum": Job("sb3-sac-Pendulum-v1.zip", "SAC", "Pendulum-v1", (24, 24)),
}


def teacher_of(job: Job, folder: Path, env: Any) -> Any:
    """Return the policy; what its zip of 2021 pickled of learning is left out."""
    library = stable_baselines3 if hasattr(stable_baselines3, job.algorithm) else sb3_contrib
    gone = ("exploration_schedule", "action_noise", "replay_buffer")
    custom: dict[str, Any] = dict.fromkeys(gone)
    custom |= {name: lambda _: 0.0 for name in ("lr_schedule", "clip_range")}
    custom["exploration_schedule"] = custom["lr_schedule"]
    custom |= {"observation_space": env.observation_space, "action_space": env.action_space}
    kind: Any = getattr(library, job.algorithm)
    more = {"buffer_size": 1} if job.algorithm != "PPO" else {}
    return kind.load(folder / job.file, custom_objects=custom, device="cpu", **more).policy


def distil(job: Job, what: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return what a student by BC or DAgger came to."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    venv = DummyVecEnv([lambda: RolloutInfoWrapper(gym.make(job.env))])
    venv.seed(10_000 * seed)
    teacher = teacher_of(job, folder, venv)
    student = ActorCriticPolicy(
        venv.observation_space, venv.action_space, lambda _: 1e-3, net_arch=list(job.widths)
    )
    bc = BC(
        observation_space=venv.observation_space,
        action_space=venv.action_space,
        rng=rng,
        policy=student,
        custom_logger=logger.configure(tempfile.mkdtemp(), format_strs=[]),
    )
    began = time.perf_counter()
    if what == "imitation-bc":
        until = rollout.make_sample_until(min_timesteps=job.env_steps)
        played = rollout.rollout(teacher, venv, until, rng=rng, deterministic_policy=True)
        shown = rollout.flatten_trajectories(played)[: job.env_steps]
        bc.set_demonstrations(shown)
        bc.train(n_epochs=EPOCHS, progress_bar=False)
        env_steps = len(shown)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            dagger = SimpleDAggerTrainer(
                venv=venv,
                scratch_dir=scratch,
                expert_policy=teacher,
                bc_trainer=bc,
                rng=rng,
                custom_logger=logger.configure(tempfile.mkdtemp(), format_strs=[]),
            )
            quiet = {"n_epochs": EPOCHS, "progress_bar": False}
            dagger.train(job.env_steps, bc_train_kwargs=quiet)
            env_steps = sum(len(one) for one in dagger._all_demos)
    seconds = time.perf_counter() - began
    acting = (student.mlp_extractor.policy_net, student.action_net)
    return {
        "returns": play(student, job.env),
        "env_steps": env_steps,
        "seconds": seconds,
        "parameters": sum(p.numel() for part in acting for p in part.parameters()),
    }


def play(policy: Any, env_id: str) -> list[float]:
    """Return the returns of episodes, played greedily."""
    env, returns = gym.make(env_id), []
    for episode in range(EPISODES):
        obs, _ = env.reset(seed=episode)
        total, over = 0.0, False
        while not over:
            action, _ = policy.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


def versions() -> dict[str, str]:
    """Return what a row was made with."""
    names = ("imitation", "stable-baselines3", "sb3-contrib", "gymnasium", "torch", "numpy")
    here = str(Path(__file__).parent)
    asked = ["git", "-C", here, "rev-parse", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return {
        **{name: importlib.metadata.version(name) for name in names},
        "python": platform.python_version(),
        "commit": commit,
    }


def main() -> None:
    """Run what has no row yet, and append a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the policies' files are")
    parser.add_argument("--rows", type=Path, default=Path("results/any-policy/imitation.jsonl"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(JOBS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = asked.rows.read_text().splitlines() if asked.rows.exists() else []
    known = {(row["case"], row["what"], row["seed"]) for row in map(json.loads, lines)}
    asked.rows.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(1, asked.seeds + 1):
        for name in asked.only:
            for what in ("imitation-bc", "imitation-dagger"):
                if (name, what, seed) in known:
                    continue
                row = {"case": name, "what": what, "seed": seed, "env": JOBS[name].env}
                row |= {**distil(JOBS[name], what, seed, asked.folder), "versions": versions()}
                with asked.rows.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")
                print(name, what, seed, np.mean(row["returns"]), row["seconds"], file=sys.stderr)


if __name__ == "__main__":
    main()
