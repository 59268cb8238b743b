"""What a number may be, by the name of its setting: the same wherever that name is used."""

import math
from dataclasses import dataclass

from tutelage.errors import UserError


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``; each end belongs to it unless it is said to be open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'above' if self.open_low else 'at least'} {self.low:g}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


POSITIVE = Range(0.0, open_low=True)
SHARE = Range(0.0, 1.0)
SHARE_BELOW_1 = Range(0.0, 1.0, open_high=True)

RANGES = {
    "average": SHARE_BELOW_1,
    "batch_size": Range(1),
    "checkpoint_every": Range(1),
    "confirm_episodes": Range(1),
    "credit_decay": SHARE,
    "env_steps": Range(1),
    "episodes": Range(1),
    "eval_episodes": Range(1),
    "eval_every": Range(1),
    "eval_from": Range(0),
    "eval_readiness": Range(0.0),
    "gamma": SHARE,
    "learning_starts": Range(0),
    "max_grad_norm": POSITIVE,
    "measure_episodes": Range(1),
    "n_step": Range(1),
    "noop_max": Range(0),
    "num_envs": Range(1),
    "replay_size": Range(1),
    "round_steps": Range(1),
    "samples_per_step": POSITIVE,
    "seed": Range(0),
    "sticky": SHARE_BELOW_1,
    "student_tau": POSITIVE,
    "target_every": Range(1),
    "threads": Range(1),
}


def check_numbers(asked: object) -> None:
    """Raise UserError for a field of ``asked`` that is outside of its range, or infinite."""
    for name, value in vars(asked).items():
        if name in RANGES and value not in RANGES[name]:
            raise UserError(f"{name} must be {RANGES[name]}, got {value}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} must be a finite number, got {value}")
