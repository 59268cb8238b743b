"""Learning from twelve teachers, chosen segment by segment, against learning from one.

Both collect, label and learn as the main job does; only those chosen are asked.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.timing import paired
from reproduction.teams import EXPERTS, NOISY
from tutelage import Distill, recipes
from tutelage.schema import build

STEPS = 2_048
TEAMS = {
    "four_networks_with_noise": (*EXPERTS, *NOISY),
    "twelve_wrappings_of_one": ("pong", *(f"pong+noise:{k}" for k in range(1, 12))),
}


def measure() -> dict[str, dict[str, float]]:
    """Return the ratio of env steps/s with twelve teachers to that with one, for two teams."""
    torch.set_num_threads(2)
    return {name: paired(_work(team), _work(("pong",)), pairs=3) for name, team in TEAMS.items()}


def _work(team: tuple[str, ...]) -> Callable[[], int]:
    def work() -> int:
        asked = {"teachers": team, "env_steps": STEPS, "eval_from": 10**9, "teacher_acts": "1"}
        config = build(Distill, asked)
        with TemporaryDirectory() as folder:
            recipes.distill(config, Path(folder) / "run")
        return STEPS

    return work
