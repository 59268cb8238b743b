"""Games under sticky actions: the zoo's teachers and their students, the tables of docs/games.md.

Students are made by ``tutelage sweep reproduction/sweeps/games.toml --out results/games``.
``python -m reproduction.games`` plays each game at random where that has no row yet, and writes the
tables, and students of several games, into docs/games.md between its two marks.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tutelage as tt
from reproduction.records import append, read, rewrite
from tutelage.commands.zoo import scores
from tutelage.domains import EnvironmentConfig, spaces_of
from tutelage.heads import head_for
from tutelage.models import bundled_names, find, load_network
from tutelage.policies import Model
from tutelage.recipes.multitask import chance
from tutelage.report.summary import DASH
from tutelage.runs import versions
from tutelage.schema import changed
from tutelage.sweeps.rows import Row, finished
from tutelage.sweeps.statistics import iqm
from tutelage.sweeps.tables import markdown
from tutelage.threads import owning

RESULTS = Path("results/games")
MAIN = Path("results/sticky")
STILL = Path("results/pong")
SMALLEST = Path("results/smallest")
SWEEP = "games"
STICKY = 0.25
EPISODES = 100
MARKS = ("<!-- python -m reproduction.games writes from here -->", "<!-- to here -->")


@dataclass(frozen=True)
class Game:
    """A game, and what Dopamine's Rainbow comes to in it."""

    name: str
    rainbow: float
    """After 50 million frames with sticky actions, the mean of its published runs."""
    teacher: str
    """The model's name, or its file."""


GAMES = {
    "pong": Game("Pong", 19.3, "pong-sticky"),
    "freeway": Game("Freeway", 33.2, "zoo/freeway.safetensors"),
    "boxing": Game("Boxing", 96.0, "zoo/boxing.safetensors"),
    "breakout": Game("Breakout", 48.0, "zoo/breakout.safetensors"),
    "space_invaders": Game("Space Invaders", 1872.0, "zoo/space_invaders.safetensors"),
    "enduro": Game("Enduro", 2102.0, "zoo/enduro.safetensors"),
}
SIZES = {"6.4 %": "16/16/16/60", "1.6 %": "8/8/8/28", "0.4 %": "4/4/4/13"}
"""Share of a teacher's parameters -> the student that has as many."""


def at_hand() -> dict[str, Model]:
    """Return the teachers that there are, by their games."""
    return {
        name: load_network(find(game.teacher))
        for name, game in GAMES.items()
        if game.teacher in bundled_names() or Path(game.teacher).exists()
    }


def play_at_random(results: Path) -> None:
    """Play each game that has a teacher at random, where that has no row yet."""
    known = {row["game"] for row in read(results / "random.jsonl")}
    for name in at_hand():
        if name in known:
            continue
        where = changed(EnvironmentConfig(env=name), sticky=STICKY)
        head = head_for(spaces_of(where).actions)
        played = tt.evaluate(chance(head), where, episodes=EPISODES, threads=1)
        row = {"game": name, "returns": played.returns.tolist(), "versions": versions()}
        append(results / "random.jsonl", row)


def page(
    teachers: Mapping[str, Model],
    random: Sequence[Mapping[str, Any]],
    rows: Sequence[Row],
    several: Sequence[Mapping[str, Any]],
    main: Sequence[Mapping[str, Any]] = (),
    still: Sequence[Mapping[str, Any]] = (),
    small: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]] = (),
) -> str:
    """Return the tables of the main job, of the smallest student, of teachers and of students."""
    by_chance = {row["game"]: float(np.mean(row["returns"])) for row in random}
    parts = [
        main_job(main),
        f"Without sticky actions (`--teacher pong`):\n\n{main_job(still)}" if still else "",
        smallest(small),
        _teachers(teachers, by_chance),
        _students(teachers, by_chance, rows),
    ]
    return "\n\n".join([*filter(None, parts), *map(_several, several)])


def main_job(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of sticky Pong's main job, a line for each seed, and its median."""
    if not results:
        return ""
    table = markdown(
        [
            {
                "seed": str(seed),
                "env steps to 20": _reached(one),
                "seconds": f"{one['seconds']:.0f}",
                "of which evaluating": f"{one['evaluation_seconds']:.0f}",
                "student (95 %)": _within(one["mean_return"], one["ci95"]),
                "teacher": _number(one["teacher"]["mean_return"]),
            }
            for seed, one in enumerate(results, 1)
        ]
    )
    found = [one["env_steps_to_20"] for one in results if one["env_steps_to_20"] is not None]
    middle = f"{float(np.median(found)):,.0f}" if len(found) == len(results) else "not all reached"
    return f"{table}\nMedian of env steps to 20: {middle}."


def smallest(runs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> str:
    """Return the table of a small student: each seed's result, and its contract as C in int8."""
    if not runs:
        return ""
    parameters = sorted({result["parameters"] for result, _ in runs})
    said = (
        f"Without sticky actions, a student of {' or '.join(f'{n:,}' for n in parameters)} "
        "parameters, and as C in int8:"
    )
    lines = [
        {
            "seed": str(seed),
            "env steps to 20": _reached(result),
            "student (95 %)": _within(result["mean_return"], result["ci95"]),
            **_exported(contract),
        }
        for seed, (result, contract) in enumerate(runs, 1)
    ]
    return f"{said}\n\n{markdown(lines).strip()}"


def _exported(contract: Mapping[str, Any] | None) -> dict[str, str]:
    columns = (
        *("in int8, same starts", "difference (95 %)", "equal actions"),
        *("tables, bytes", "code and tables", "static RAM"),
    )
    if contract is None:
        return dict.fromkeys(columns, DASH)
    proof = contract["proof"]
    cells = (
        _number(proof["return_exported"]),
        _within(proof["return_difference"], proof["return_difference_ci95"]),
        f"{proof['agreement']:.0%}",
        *(f"{contract[name]:,}" for name in ("table_bytes", "flash_bytes", "static_ram_bytes")),
    )
    return dict(zip(columns, cells, strict=True))


def _teachers(teachers: Mapping[str, Model], by_chance: Mapping[str, float]) -> str:
    lines = []
    for name, model in teachers.items():
        game, found = GAMES[name], scores(model.card)
        sticky, hours = found[STICKY], model.card.get("hours")
        lines.append(
            {
                "game": game.name,
                "teacher (95 %)": _within(sticky.mean_return, sticky.ci95),
                "episodes": str(sticky.episodes),
                "not sticky": _number(found[0.0].mean_return),
                "random play": _number(by_chance[name]),
                "env steps": f"{model.card['env_steps']:,}",
                "hours": DASH if hours is None else f"{hours:.1f}",
                "Rainbow, 50 M frames": _number(game.rainbow),
            }
        )
    return markdown(lines).strip() if lines else ""


def _students(
    teachers: Mapping[str, Model], by_chance: Mapping[str, float], rows: Sequence[Row]
) -> str:
    """Return a line for each game that has students, and what they keep over games."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        method = dict(row.methods).get(SWEEP, "")
        for name in teachers:
            for share, size in SIZES.items():
                if method == f"{name} {size}":
                    found.setdefault((name, share), []).append(row)
    if not found:
        return ""

    def kept(name: str, row: Row) -> float:
        teacher = scores(teachers[name].card)[STICKY].mean_return
        return (row.mean_return - by_chance[name]) / (teacher - by_chance[name])

    def cell(name: str, share: str) -> str:
        of = sorted(found.get((name, share), []), key=lambda row: row.seed)
        if not of:
            return "not yet"
        means = ", ".join(_number(row.mean_return) for row in of)
        return f"{means}: {np.mean([kept(name, row) for row in of]):.0%}"

    lines = [
        {
            "game": GAMES[name].name,
            **{f"{size} ({share})": cell(name, share) for share, size in SIZES.items()},
        }
        for name in teachers
        if any((name, share) in found for share in SIZES)
    ]
    over = []
    for share in SIZES:
        of = {name: found[name, share] for name in teachers if (name, share) in found}
        runs = min(map(len, of.values()), default=0)
        if len(of) > 1 and runs > 1:
            scored = np.array(
                [
                    [kept(name, row) for name, some in of.items() for row in some[k : k + 1]]
                    for k in range(runs)
                ]
            )
            middle = iqm(scored)
            over.append(
                f"{share}: {middle.middle:.0%} ({middle.low:.0%} … {middle.high:.0%}), "
                f"{len(of)} games, {runs} seeds"
            )
    said = (
        f"\n\nInterquartile mean of what is kept (95 %, stratified): {'; '.join(over)}."
        if over
        else ""
    )
    return markdown(lines).strip() + said


def _several(result: Mapping[str, Any]) -> str:
    """Return the table of one student of several games."""
    share = result["parameters"] / result["teachers_parameters"]
    said = (
        f"One student of {result['parameters']:,} parameters ({share:.1%} of its teachers'), "
        f"{result['env_steps']:,} env steps of all games together, seed {result['seed']}: "
        f"`{result['run']}`."
    )
    lines = [
        {
            "game": GAMES[name].name,
            "student (95 %)": _within(one["mean_return"], one["ci95"]),
            "teacher": _number(one["teacher"]["mean_return"]),
            "random play": _number(one["random_return"]),
            "kept": f"{one['kept']:.0%}",
        }
        for name, one in result["tasks"].items()
    ]
    return f"{said}\n\n{markdown(lines).strip()}"


def _reached(result: Mapping[str, Any]) -> str:
    steps = result["env_steps_to_20"]
    return "not reached" if steps is None else f"{steps:,}"


def _within(mean: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{_number(mean)} ({_number(low)} … {_number(high)})"


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def written() -> str:
    """Return the tables of what is at hand."""
    several, main, still = (
        [json.loads(path.read_text()) for path in sorted(folder.glob(pattern))]
        for folder, pattern in (
            (RESULTS, "several-*.json"),
            (MAIN, "seed*.json"),
            (STILL, "seed*.json"),
        )
    )
    small = [
        (json.loads(path.read_text()), json.loads(at.read_text()) if at.exists() else None)
        for path in sorted(SMALLEST.glob("seed*.json"))
        for at in [path.with_suffix(".contract")]
    ]
    random = read(RESULTS / "random.jsonl")
    return page(at_hand(), random, finished(RESULTS), several, main, still, small)


def main() -> None:
    """Play what is missing at random, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.games", description=__doc__)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    asked = parser.parse_args()
    with owning(1):
        play_at_random(RESULTS)
    rewrite(asked.docs / "games.md", MARKS, written())


if __name__ == "__main__":
    main()
