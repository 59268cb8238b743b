"""Each teacher, and random play, in each traffic: the marks by which students are measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tutelage as tt
from reproduction.cars.roads import ROADS, env_of
from reproduction.cars.teachers import about, place_of
from reproduction.records import append, read
from tutelage.recipes.multitask import chance

RANDOM = "random"
EPISODES = 40


def play(rows: Path) -> None:
    """Play what has no row yet, and append a row for each."""
    known = {(row["player"], row["traffic"]) for row in read(rows)}
    for traffic in ROADS:
        for player in (RANDOM, *ROADS):
            if (player, traffic) in known:
                continue
            played = tt.evaluate(
                chance(tt.QValues(5)) if player == RANDOM else place_of(player),
                env_of(traffic),
                student_view="cars",
                episodes=EPISODES,
                threads=1,
            )
            row = {"player": player, "traffic": traffic, "returns": played.returns.tolist()}
            append(rows, {**row, "versions": about()})


class Scale:
    """Returns of a traffic as a share of the way from random play (0) to its own teacher (1)."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._mean = {
            (row["player"], row["traffic"]): float(np.mean(row["returns"])) for row in rows
        }

    def kept(self, traffic: str, mean_return: float) -> float:
        """Return the share that a mean return is."""
        low, high = self._mean[RANDOM, traffic], self._mean[traffic, traffic]
        return (mean_return - low) / (high - low)

    def of(self, player: str, traffic: str) -> float:
        """Return the share that a player keeps."""
        return self.kept(traffic, self._mean[player, traffic])

    def mean_return(self, player: str, traffic: str) -> float:
        """Return a player's own mean."""
        return self._mean[player, traffic]
