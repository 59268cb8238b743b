"""What the reproduction shows beside what every sweep shows: shares by run, returns by size."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tutelage.heads import QValues
from tutelage.networks import count_parameters, parse_size
from tutelage.sweeps.comparison import Return, sizes_plot
from tutelage.sweeps.figures import mean_of, target_of
from tutelage.sweeps.judges import ByMethod
from tutelage.sweeps.rows import Row
from tutelage.sweeps.tables import Column

PONG = (4, 84, 84), QValues(6)
"""What a network of Pong sees, and what it says."""


def shares(of: Callable[[Row], float | None]) -> Column:
    """Return a column with a share of every run, "-" where there is none."""

    def show(rows: Sequence[Row]) -> str:
        return " ".join("-" if (value := of(row)) is None else f"{value:.0%}" for row in rows)

    return show


def sizes(rows: ByMethod, path: Path, title: str) -> None:
    """Draw the mean return of every seed against the number of the student's parameters."""
    by_size: dict[int, list[Return]] = {}
    for row in (row for of in rows.values() for row in of):
        by_size.setdefault(parameters(row.command.config["student"]), []).append(mean_of(row))
    whole = parameters("teacher")
    sizes_plot(by_size, path, title=title, whole=whole, target=target_of(rows))


def parameters(size: str) -> int:
    """Return how many parameters a network of Pong of that size has."""
    return count_parameters(parse_size(size), *PONG)
