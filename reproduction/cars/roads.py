"""The four kinds of traffic, and what a driver sees of each: all that needs no highway-env."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tutelage import Feature
from tutelage.types import Array, Floats

VEHICLES = 6
"""That are seen: one's own, and the nearest."""
SEEN = ("presence", "x", "y", "vx", "vy", "cos_h", "sin_h")
"""Of each, with highway-env's names. Places and speeds of others are relative to one's own."""
UNITS = np.array([1.0, 100.0, 20.0, 20.0, 20.0, 1.0, 1.0], np.float32)
"""What is seen as 1 of each: metres, and metres per second."""


@dataclass(frozen=True)
class Road:
    """One kind of traffic."""

    id: str
    most: float
    """About the most that an episode gives. Rewards are divided by it, so that returns of all
    traffic have one scale."""
    speeds: tuple[float, float, float]
    """Between which FASTER and SLOWER choose, in m/s: highway-env's own for this traffic."""
    config: Mapping[str, Any] = field(default_factory=dict)


ROADS = {
    "highway": Road("highway-fast-v0", 15.0, (20, 25, 30), {"vehicles_count": 10, "duration": 15}),
    "merge": Road("merge-v1", 13.0, (20, 25, 30)),
    "roundabout": Road("roundabout-v1", 11.0, (0, 8, 16)),
    "intersection": Road(
        "intersection-v2",
        8.0,
        (0, 4.5, 9),
        {
            "initial_vehicle_count": 5,
            "spawn_probability": 0.3,
            "other_vehicles_type": "reproduction.cars.env.AtIntersection",
        },
    ),
}


def env_of(traffic: str) -> str:
    """Return the name of the environment that has this traffic alone."""
    return f"reproduction.cars.env:{traffic.capitalize()}-v0"


def _rows(obs: Array) -> Floats:
    """Return ``[N,VEHICLES,7]`` of ``obs[N,1,42]``."""
    return np.asarray(obs, np.float64).reshape(len(obs), VEHICLES, len(SEEN))


# Of oneself there is always one, so that this number says nothing.
own = Feature(len(SEEN) - 1, lambda obs: _rows(obs)[:, 0, 1:])
"""A context: place, speed and heading of one's own car."""
all_cars = Feature(VEHICLES * len(SEEN) - 1, lambda obs: _rows(obs).reshape(len(obs), -1)[:, 1:])
"""A context: the whole observation."""
