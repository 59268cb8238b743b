"""Four kinds of traffic of highway-env, alike in what is seen and done.

``reproduction.cars.env:Traffic-v0`` draws one for each episode; ``Highway-v0``, ``Merge-v0``,
``Roundabout-v0`` and ``Intersection-v0`` are one each.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from highway_env.vehicle.behavior import IDMVehicle

from reproduction.cars.roads import ROADS, SEEN, UNITS, VEHICLES, Road

# IntersectionEnv sets how eagerly all cars of its class drive: those of other traffic are no part.
AtIntersection = type("AtIntersection", (IDMVehicle,), {})


class Traffic(gymnasium.Env[Any, np.int64]):
    """Draws the traffic of each episode: ``cars`` is what is seen, ``traffic`` which one it is."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012 -- Gymnasium's own

    def __init__(
        self, roads: tuple[str, ...] = tuple(ROADS), render_mode: str | None = None
    ) -> None:
        self.render_mode = render_mode
        self._most = [ROADS[name].most for name in roads]
        self._envs: list[Any] = [_made(ROADS[name], render_mode) for name in roads]
        self._kinds = [list(ROADS).index(name) for name in roads]
        self._now = 0
        self.action_space = spaces.Discrete(5)
        self.observation_space = spaces.Dict(
            {
                "cars": spaces.Box(-np.inf, np.inf, (VEHICLES * len(SEEN),), np.float32),
                "traffic": spaces.Discrete(len(ROADS)),
            }
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._now = int(self.np_random.integers(len(self._envs)))
        _, info = self._envs[self._now].reset(seed=int(self.np_random.integers(2**31)))
        return self._seen(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = self._envs[self._now].step(action)
        return (
            self._seen(),
            float(reward) / self._most[self._now],
            bool(terminated),
            bool(truncated),
            info,
        )

    def render(self) -> Any:
        return self._envs[self._now].render()

    def watch(self, camera: Any) -> None:
        """Let highway-env tell a camera of the moments between two steps."""
        for env in self._envs:
            env.set_record_video_wrapper(camera)

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _seen(self) -> dict[str, Any]:
        env = self._envs[self._now]
        own, found = env.vehicle, [*env.road.vehicles, *env.road.objects]
        others = sorted(
            (np.linalg.norm(one.position - own.position), number)
            for number, one in enumerate(found)
            if one is not own
        )
        seen = np.zeros((VEHICLES, len(SEEN)), np.float32)
        seen[0] = 1.0, *own.position, *own.velocity, *own.direction
        for row, (_, number) in zip(seen[1:], others, strict=False):
            one = found[number]
            row[:] = (
                1.0,
                *(one.position - own.position),
                *(one.velocity - own.velocity),
                *one.direction,
            )
        return {"cars": (seen / UNITS).ravel(), "traffic": np.int64(self._kinds[self._now])}


def _made(road: Road, render_mode: str | None) -> gymnasium.Env[Any, Any]:
    config = {
        # highway-env's own Kinematics takes a fifth of a step, by way of pandas: ``_seen`` has it.
        "observation": {"type": "AttributesObservation", "attributes": ["steps"]},
        "action": {"type": "DiscreteMetaAction", "target_speeds": list(road.speeds)},
        "simulation_frequency": 5,
        "screen_width": 300,
        "screen_height": 150,
        "scaling": 2.5,
        **road.config,
    }
    made = gymnasium.make(
        f"highway_env:{road.id}", config=config, render_mode=render_mode, disable_env_checker=True
    )
    return made.unwrapped


gymnasium.register("Traffic-v0", entry_point=f"{__name__}:Traffic")
for _name in ROADS:
    gymnasium.register(
        f"{_name.capitalize()}-v0", entry_point=f"{__name__}:Traffic", kwargs={"roads": (_name,)}
    )
