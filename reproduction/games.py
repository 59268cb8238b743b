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
    lines = [
        "| seed | env steps to 20 | seconds | of which evaluating | student (95 %) | teacher |",
        "|" + " --- |" * 6,
    ]
    for seed, one in enumerate(results, 1):
        reached, (low, high) = one["env_steps_to_20"], one["ci95"]
        lines.append(
            f"| {seed} | {'not reached' if reached is None else f'{reached:,}'} | "
            f"{one['seconds']:.0f} | {one['evaluation_seconds']:.0f} | "
            f"{_number(one['mean_return'])} ({_number(low)} … {_number(high)}) | "
            f"{_number(one['teacher']['mean_return'])} |"
        )
    found = [one["env_steps_to_20"] for one in results if one["env_steps_to_20"] is not None]
    middle = f"{float(np.median(found)):,.0f}" if len(found) == len(results) else "not all reached"
    return "\n".join(lines) + f"\n\nMedian of env steps to 20: {middle}."


def smallest(runs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> str:
    """Return the table of a small student: each seed's result, and its contract as C in int8."""
    if not runs:
        return ""
    parameters = sorted({result["parameters"] for result, _ in runs})
    lines = [
        f"A student of {' or '.join(f'{n:,}' for n in parameters)} parameters, and as C in int8:",
        "",
        "| seed | env steps to 20 | student (95 %) | in int8, same starts | difference (95 %) | "
        "equal actions | tables, bytes | code and tables | static RAM |",
        "|" + " --- |" * 9,
    ]
    for seed, (result, contract) in enumerate(runs, 1):
        reached, (low, high) = result["env_steps_to_20"], result["ci95"]
        exported = [DASH] * 6
        if contract is not None:
            proof = contract["proof"]
            below, above = proof["return_difference_ci95"]
            exported = [
                _number(proof["return_exported"]),
                f"{_number(proof['return_difference'])} ({_number(below)} … {_number(above)})",
                f"{proof['agreement']:.0%}",
                *(f"{contract[k]:,}" for k in ("table_bytes", "flash_bytes", "static_ram_bytes")),
            ]
        lines.append(
            f"| {seed} | {'not reached' if reached is None else f'{reached:,}'} | "
            f"{_number(result['mean_return'])} ({_number(low)} … {_number(high)}) | "
            f"{' | '.join(exported)} |"
        )
    return "\n".join(lines)


def _teachers(teachers: Mapping[str, Model], by_chance: Mapping[str, float]) -> str:
    lines = [
        "| game | teacher (95 %) | episodes | not sticky | random play | env steps | hours | "
        "Rainbow, 50 M frames |",
        "|" + " --- |" * 8,
    ]
    for name, model in teachers.items():
        game, found = GAMES[name], scores(model.card)
        sticky, still = found[STICKY], found[0.0]
        hours = model.card.get("hours")
        lines.append(
            f"| {game.name} | {_number(sticky.mean_return)} ({_number(sticky.ci95[0])} … "
            f"{_number(sticky.ci95[1])}) | {sticky.episodes} | {_number(still.mean_return)} | "
            f"{_number(by_chance[name])} | {model.card['env_steps']:,} | "
            f"{DASH if hours is None else f'{hours:.1f}'} | {_number(game.rainbow)} |"
        )
    return "\n".join(lines)


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
        "| game | " + " | ".join(f"{size} ({share})" for share, size in SIZES.items()) + " |",
        "|" + " --- |" * (1 + len(SIZES)),
        *(
            f"| {GAMES[name].name} | {' | '.join(cell(name, share) for share in SIZES)} |"
            for name in teachers
            if any((name, share) in found for share in SIZES)
        ),
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
    return "\n".join(lines) + said


def _several(result: Mapping[str, Any]) -> str:
    """Return the table of one student of several games."""
    share = result["parameters"] / result["teachers_parameters"]
    lines = [
        f"One student of {result['parameters']:,} parameters ({share:.1%} of its teachers'), "
        f"{result['env_steps']:,} env steps of all games together, seed {result['seed']}: "
        f"`{result['run']}`.",
        "",
        "| game | student (95 %) | teacher | random play | kept |",
        "|" + " --- |" * 5,
    ]
    for name, one in result["tasks"].items():
        low, high = one["ci95"]
        lines.append(
            f"| {GAMES[name].name} | {_number(one['mean_return'])} ({_number(low)} … "
            f"{_number(high)}) | {_number(one['teacher']['mean_return'])} | "
            f"{_number(one['random_return'])} | {one['kept']:.0%} |"
        )
    return "\n".join(lines)


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
