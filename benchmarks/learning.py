"""Training by double Q-learning against SB3's DQN: env steps/s after learning has started.

The same network (NatureCNN), Pong, 8 learnt samples per env step and 2 threads on both sides. SB3
learns as its zoo does, a batch of 32 every 4 steps of one environment; here 16 environments step
together and a batch is 128. SB3's DQN is plain, not double: it does less work per update.
"""

import tempfile
import time
from pathlib import Path

import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from tutelage import Row, Teach, recipes
from tutelage.schema import build
from tutelage.threads import owning

THREADS = 2
OURS = 8_192
THEIRS = 1_000


class _Clock(BaseCallback):  # type: ignore[misc, unused-ignore]
    """Times SB3's env steps from the first update on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.began = 0.0

    def _on_step(self) -> bool:
        if self.num_timesteps == self.after:
            self.began = time.perf_counter()
        return True


def measure() -> dict[str, float]:
    """Return both rates and their ratio."""
    ours, theirs = _ours(), _theirs()
    return {"ours_per_second": ours, "reference_per_second": theirs, "ratio": ours / theirs}


def _ours() -> float:
    times: list[tuple[int, float]] = []

    def watch(row: Row) -> None:
        if row.updates > 0:
            times.append((row.env_steps, time.perf_counter()))

    asked = {"size": "nature", "env_steps": OURS, "learning_starts": 1_000, "threads": THREADS}
    with tempfile.TemporaryDirectory() as folder, owning(THREADS):
        hooks = recipes.Hooks(watch=watch)
        recipes.teach(build(Teach, asked), Path(folder) / "run", hooks=hooks)
    (first, began), (last, ended) = times[0], times[-1]
    return (last - first) / (ended - began)


def _theirs() -> float:
    torch.set_num_threads(THREADS)
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=1, seed=1), n_stack=4)
    model = DQN(
        "CnnPolicy",
        env,
        learning_rate=1e-4,
        buffer_size=10_000,
        batch_size=32,
        learning_starts=200,
        train_freq=4,
        gradient_steps=1,
        target_update_interval=1_000,
        seed=1,
    )
    clock = _Clock(after=208)
    model.learn(THEIRS, callback=clock)
    return (THEIRS - 208) / (time.perf_counter() - clock.began)
