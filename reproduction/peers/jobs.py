"""What is compared: teachers and students, methods and their settings, and by which measure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

SB3_DISTILL = "e82ff6b10259aad6ccc12eba83bbbdba62fb31aa"
"""The commit of github.com/spiglerg/sb3_distill, which no index has."""

MARGIN = 0.05
"""Two returns are as good as equal that differ by less than this share of what the teacher's play
is above random play."""
TUNING_SEED = 0

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A teacher, where it plays, and the student that is made of it."""

    title: str
    teacher: str
    """A file in the folder that is named on the command line, or a bundled model."""
    algorithm: str
    """Stable-Baselines3's that wrote the file; ``script`` of a model of Tutelage's own."""
    env: str
    widths: tuple[int, ...]
    budgets: tuple[int, ...]
    """Env steps; each is a run of its own, as far as a method's settings know the budget."""
    tuned_at: int | None = None
    """The budget at which settings are chosen; None where they are not."""
    settings: Settings = field(default_factory=dict)
    """Of the environment, as Tutelage calls them."""
    episodes: int = 50
    """Each student plays so many, from the same starts as all others."""

    @property
    def student(self) -> str:
        """The student as Tutelage names it."""
        widths = "/".join(map(str, self.widths))
        return widths if self.algorithm == "script" else f"mlp:{widths}"


JOBS = {
    "ppo-lunarlander": Job(
        title="PPO, LunarLander-v3",
        teacher="sb3-ppo-LunarLander-v2.zip",
        algorithm="PPO",
        env="LunarLander-v3",
        widths=(24, 24),
        budgets=(2_000, 5_000, 10_000, 30_000),
        tuned_at=10_000,
    ),
    "dqn-lunarlander": Job(
        title="DQN, LunarLander-v3",
        teacher="sb3-dqn-LunarLander-v2.zip",
        algorithm="DQN",
        env="LunarLander-v3",
        widths=(32, 32),
        budgets=(2_000, 5_000, 10_000, 30_000),
        tuned_at=10_000,
    ),
    "sac-halfcheetah": Job(
        title="SAC, HalfCheetah-v5",
        teacher="sb3-sac-HalfCheetah-v3.zip",
        algorithm="SAC",
        env="HalfCheetah-v5",
        widths=(48, 48),
        budgets=(10_000, 30_000, 100_000),
        tuned_at=30_000,
    ),
    "pong-sticky": Job(
        title="PQN, sticky Pong",
        teacher="pong-sticky",
        algorithm="script",
        env="pong",
        widths=(16, 16, 16, 128),
        budgets=(10_000, 30_000),
        settings={"sticky": 0.25},
        episodes=20,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to distil, its own settings where they are given here, and what is tried beside."""

    title: str
    driver: str
    """MODULE:FUNCTION of ``drivers``."""
    python: str = ""
    """The environment whose Python runs it, as a folder; Tutelage's own has none."""
    grid: Mapping[str, Sequence[Any]]
    """Setting -> values, all combinations of which are tried; None leaves it as it is."""
    jobs: tuple[str, ...] = tuple(JOBS)
    settings: Settings = field(default_factory=dict)
    """What it is always told."""
    up_to: float = math.inf
    """The largest budget that it is run with."""

    @property
    def choices(self) -> list[dict[str, Any]]:
        """All combinations of the grid; the first has the library's own settings."""
        return [
            {name: value for name, value in zip(self.grid, of, strict=True) if value is not None}
            for of in product(*self.grid.values())
        ]


METHODS = {
    "tutelage": Method(
        title="Tutelage",
        driver="tutelage_job:distil",
        settings={"num_envs": 16},
        grid={"learning_rate": (None, "3e-3:1e-4"), "samples_per_step": (None, 256.0)},
    ),
    "tutelage-4": Method(
        title="Tutelage, 4 environments",
        driver="tutelage_job:distil",
        grid={},
        jobs=("ppo-lunarlander", "dqn-lunarlander"),
        settings={"num_envs": 4},
        up_to=10_000,
    ),
    "sb3-distill-student": Method(
        title="sb3_distill, StudentDistill",
        driver="sb3_distill_job:student_distill",
        python="sb3_distill",
        grid={"learning_rate": (None, 3e-3), "n_steps": (None, 2)},
    ),
    "sb3-distill-ppd": Method(
        title="sb3_distill, PPD",
        driver="sb3_distill_job:proximal",
        python="sb3_distill",
        grid={"learning_rate": (None, 3e-3), "n_epochs": (None, 30)},
    ),
    "d3rlpy-bc": Method(
        title="d3rlpy, BC",
        driver="d3rlpy_job:clone",
        python="d3rlpy",
        grid={"learning_rate": (None, 3e-3), "n_steps": (None, 30_000)},
    ),
    "imitation-bc": Method(
        title="imitation, BC",
        driver="imitation_job:clone",
        python="imitation",
        grid={"learning_rate": (None, 3e-3), "n_epochs": (None, 32)},
    ),
    "imitation-dagger": Method(
        title="imitation, DAgger",
        driver="imitation_job:dagger",
        python="imitation",
        grid={"learning_rate": (None, 3e-3), "n_epochs": (None, 12)},
    ),
}
