"""What docs/cars.md says of rows: tables, and figures of what students keep and whom they chose."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reproduction.cars.play import RANDOM, Scale
from reproduction.cars.roads import ROADS
from reproduction.records import Record, read
from tutelage.report.style import BLACK, FONT, GREY, VERMILION, blank, dress, label_rows, write_png
from tutelage.report.summary import DASH
from tutelage.sweeps.rows import Row, finished
from tutelage.sweeps.statistics import difference
from tutelage.sweeps.sweep import read_sweep
from tutelage.sweeps.tables import markdown

SWEEP = Path("reproduction/sweeps/cars.toml")
RESULTS = Path("results/cars")
ORACLE = "oracle"
MARKS = ("<!-- python -m reproduction.cars page writes from here -->", "<!-- to here -->")
Found = Mapping[str, Sequence[Row]]


def by_method(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, list[Row]]:
    """Return the rows of each method that has some, by seed, in the order of ``methods``."""
    of = {
        name: sorted(
            (row for row in rows if (SWEEP.stem, name) in row.methods), key=lambda row: row.seed
        )
        for name in methods
    }
    return {name: found for name, found in of.items() if found}


def kept(scale: Scale, row: Row) -> float:
    """Return what a student keeps, the mean over traffics."""
    return float(np.mean([_kept(scale, row, traffic) for traffic in ROADS]))


def _kept(scale: Scale, row: Row, traffic: str) -> float:
    return scale.kept(traffic, row.scores[f"return {traffic}"])


def at_hand() -> tuple[list[Record], list[Record], Found]:
    """Return the rows of teachers, of their play and of students that there are."""
    found = by_method(finished(RESULTS), list(read_sweep(SWEEP).methods))
    return [*read(RESULTS / "teachers.jsonl")], [*read(RESULTS / "play.jsonl")], found


def page(teachers: Sequence[Record], played: Sequence[Record], found: Found) -> str:
    """Return the tables of teachers, of students and of choices."""
    scale = Scale(played)
    parts = [_teachers(teachers, scale), _students(scale, found), _choices(found)]
    return "\n\n".join(filter(None, parts))


def _teachers(teachers: Sequence[Record], scale: Scale) -> str:
    took = {row["traffic"]: row for row in teachers}
    lines = [
        {
            "driver": "random play" if player == RANDOM else f"teacher of {player}",
            **{
                traffic: f"{_signed(scale.mean_return(player, traffic))}: "
                f"{_percent(scale.of(player, traffic))}"
                for traffic in ROADS
            },
            "env steps": f"{took[player]['steps']:,}" if player in took else DASH,
            "seconds": f"{took[player]['seconds']:.0f}" if player in took else DASH,
        }
        for player in (RANDOM, *ROADS)
    ]
    return markdown(lines).strip()


def _students(scale: Scale, found: Found) -> str:
    """Return a line for each way of choosing: what is kept in each traffic, and in the mean."""
    of = {name: [kept(scale, row) for row in rows] for name, rows in found.items()}
    lines = []
    for name, rows in found.items():
        beside = {
            f"less {other}": "" if name == other else _difference(of[name], of[other])
            for other in (ORACLE, RANDOM)
            if other in of
        }
        lines.append(
            {
                "taught by": titled(name),
                **{
                    traffic: _percent(np.mean([_kept(scale, row, traffic) for row in rows]))
                    for traffic in ROADS
                },
                "mean": _percent(np.mean(of[name])),
                "seeds": ", ".join(map(_percent, of[name])),
                **beside,
            }
        )
    return markdown(lines).strip() if lines else ""


def titled(method: str) -> str:
    """Return what a method is called."""
    return f"{method} alone" if method in ROADS else method


def own_share(rows: Sequence[Row], traffic: str) -> float:
    """Return how likely a traffic's own teacher is to be chosen in it."""
    return float(np.mean([row.scores[f"{traffic} by {traffic}"] for row in rows]))


def chosen(found: Found) -> dict[str, Sequence[Row]]:
    """Return the methods that choose among teachers."""
    return {
        name: rows
        for name, rows in found.items()
        if all(f"{traffic} by {traffic}" in row.scores for row in rows for traffic in ROADS)
    }


def _choices(found: Found) -> str:
    lines = [
        {
            "chosen by": name,
            **{traffic: _percent(own_share(rows, traffic)) for traffic in ROADS},
            "mean": _percent(np.mean([own_share(rows, traffic) for traffic in ROADS])),
        }
        for name, rows in chosen(found).items()
    ]
    return markdown(lines).strip() if lines else ""


def figures(played: Sequence[Record], found: Found, folder: Path) -> None:
    """Draw ``cars.png`` and ``cars-choices.png``."""
    _draw_kept(Scale(played), found, folder / "cars.png")
    _draw_choices(chosen(found), folder / "cars-choices.png")


def _draw_kept(scale: Scale, found: Found, path: Path) -> None:
    figure = blank("One student for four kinds of traffic", height=1.2 + 0.42 * len(found))
    axes = figure.subplots()
    of = {name: [100.0 * kept(scale, row) for row in rows] for name, rows in found.items()}
    at = np.arange(len(of))[::-1]
    for y, scores in zip(at, of.values(), strict=True):
        axes.plot(scores, [y] * len(scores), "o", color=GREY, markersize=5, alpha=0.8)
        axes.plot([np.mean(scores)], [y], "|", color=VERMILION, markersize=18, markeredgewidth=3)
    dress(axes)
    axes.axvline(0.0, color=BLACK, linewidth=0.8)
    means = [f"{np.mean(scores):.0f} %" for scores in of.values()]
    label_rows(axes, at.tolist(), [*map(titled, of)], means)
    axes.set_xlabel("% kept: random play 0, own teachers 100", fontsize=FONT - 1)
    write_png(figure, path)


def _draw_choices(found: Found, path: Path) -> None:
    """Draw for each method a square: traffics in rows, teachers in columns."""
    found = {name: rows for name, rows in found.items() if name != RANDOM}
    figure = blank(
        "Whom the selector would choose at the end", height=1.0 + 2.8 * -(-len(found) // 2)
    )
    panels: Any = figure.subplots(-(-len(found) // 2), 2, sharex=True, sharey=True, squeeze=False)
    names = list(ROADS)
    for axes in panels.flat[len(found) :]:
        axes.set_visible(False)
    for axes, (method, rows) in zip(panels.flat, found.items(), strict=False):
        share = np.array(
            [
                [np.mean([row.scores[f"{traffic} by {name}"] for row in rows]) for name in names]
                for traffic in names
            ]
        )
        axes.imshow(share, cmap="Greys", vmin=0.0, vmax=1.0, aspect="auto")
        for (i, j), value in np.ndenumerate(share):
            colour = "white" if value > 0.5 else BLACK
            weight = "bold" if i == j else "normal"
            axes.text(
                j, i, f"{value:.0%}", ha="center", va="center", color=colour,
                fontsize=FONT - 3, fontweight=weight,
            )  # fmt: skip
        axes.set_title(method, fontsize=FONT - 2)
        axes.set_xticks(range(len(names)), names, fontsize=FONT - 4, rotation=25)
        axes.set_yticks(range(len(names)), names, fontsize=FONT - 4)
        axes.tick_params(length=0, labelbottom=True)
    figure.supxlabel("teacher", fontsize=FONT - 1)
    figure.supylabel("traffic", fontsize=FONT - 1)
    write_png(figure, path)


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    of = difference(ours, theirs)
    if not np.isfinite(of.high - of.low):
        return _points(of.middle)
    return f"{_points(of.middle)} ({_points(of.low)} … {_points(of.high)})"


def _points(share: float) -> str:
    return _minus(f"{100.0 * share:.0f}")


def _percent(share: Any) -> str:
    return _minus(f"{share:.0%}")


def _signed(value: float) -> str:
    return _minus(f"{value:.2f}")


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
