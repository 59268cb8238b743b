"""Collecting with a student acting and a teacher labelling, against bare emulators.

The reference is ALE's vector environment under random actions, with the same number of
environments and emulator threads.
"""

import numpy as np
import torch

from benchmarks.bare import NUM_ENVS, emulating
from benchmarks.timing import paired
from tutelage import (
    Behaviour,
    EnvironmentConfig,
    Network,
    Online,
    QValues,
    Replay,
    load,
    make,
    parse_exploration,
)
from tutelage.assignment.alone import Alone
from tutelage.networks import SIZES
from tutelage.teachers import Ensemble, Teacher

STEPS = 4_096


def measure() -> dict[str, dict[str, float]]:
    """Return the ratio for one and for two emulator threads (PyTorch gets as many)."""
    return {f"emulator_threads_{threads}": _measure(threads) for threads in (1, 2)}


def _measure(threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    emulate = emulating(threads)
    rng = np.random.default_rng(1)
    envs = make(EnvironmentConfig(num_envs=NUM_ENVS), seed=1, threads=threads)
    teacher = load("pong").policy
    student = Network(SIZES["student"], envs.obs_shape, QValues(6))
    student.calibrate(envs.obs)
    replay = Replay(
        capacity=STEPS,
        num_envs=NUM_ENVS,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        label_size=6,
        rng=rng,
    )
    source = Online(
        envs,
        behaviour=Behaviour(
            network=lambda obs, env_steps: student(obs),
            head=student.head,
            select=parse_exploration("greedy", student.head).select,
            rng=rng,
        ),
        teachers=Ensemble([Teacher("pong", teacher)]),
        memories={"replay": replay},
        due=None,
        round_steps=STEPS,
        device=torch.device("cpu"),
    )

    def collect() -> int:
        for _ in range(source.steps_per_round):
            source.act(Alone())
            source.store(source.receive())
        return STEPS

    return paired(collect, lambda: emulate(STEPS))
