"""A teacher that knows the state teaches a student that has sensors only.

CartPole without meters of speed: the teacher is given all four numbers of the state, the student
where cart and pole are and how far they have moved since the last step.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

import tutelage as tt


class Sensors(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Give the state and, apart from it, what sensors see."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        four = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.observation_space = spaces.Dict(state=four, sensors=four)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._before = None
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        now = observation[[0, 2]]
        moved = np.zeros(2, np.float32) if self._before is None else now - self._before
        self._before = now
        return {"state": observation, "sensors": np.concatenate([now, moved])}


def teacher(state: torch.Tensor) -> torch.Tensor:
    """Balance the pole: logits ``[N,2]`` of the state ``[N,4]``."""
    lean = 20.0 * (state @ torch.tensor([0.05, 0.2, 1.0, 0.6]))
    return torch.stack([-lean, lean], dim=1)


def main() -> None:
    """Distil across the two views."""
    result = tt.distill(
        teacher,
        Sensors,
        "mlp:16",
        head=tt.Categorical(2),
        teacher_view="state",
        student_view="sensors",
        env_steps=10_000,
        target_return="none",
        seed=1,
    ).result
    print(f"the teacher sees the state: {result['teacher']['mean_return']:.1f}")
    print(f"the student sees sensors: {result['mean_return']:.1f}")


if __name__ == "__main__":
    main()
