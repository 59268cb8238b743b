"""Memory of the replay and of a recorded data set, per env step."""

import tempfile
from pathlib import Path

import numpy as np

from tutelage import EnvironmentConfig, Record, Replay, make, record

STEPS = 16_384


def measure() -> dict[str, float]:
    """Return bytes per env step in memory and on disk (the bundled teacher playing Pong)."""
    envs = make(EnvironmentConfig(num_envs=1), seed=1)
    replay = Replay(
        capacity=1_000,
        num_envs=1,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        label_size=6,
        rng=np.random.default_rng(1),
    )
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        recorded = record(Record(env_steps=STEPS), data)
        on_disk = sum(path.stat().st_size for path in data.iterdir()) / recorded
    return {"replay_bytes_per_step": replay.bytes_per_step, "recorded_bytes_per_step": on_disk}
