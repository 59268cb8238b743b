"""The paper's cars: ``python -m reproduction.cars teachers``, ``students``, ``page``, ``film``.

What is there already is not made again. Needs the extra ``cars``, and Stable-Baselines3 to train.
"""

import argparse
import sys
from pathlib import Path

from reproduction.cars import film, page, play
from reproduction.cars.roads import ROADS
from reproduction.cars.teachers import about, place_of, train
from reproduction.records import append, rewrite
from tutelage import cli
from tutelage.errors import UserError
from tutelage.threads import owning

RUNS = Path("runs/cars")
DOCS = Path("docs")


def teachers() -> None:
    """Train the teachers that there are not, and play each in each traffic."""
    for traffic in ROADS:
        if not place_of(traffic).exists():
            print(f"training a teacher of {traffic}", file=sys.stderr, flush=True)
            row = {"traffic": traffic, **train(traffic, place_of(traffic))}
            append(page.RESULTS / "teachers.jsonl", {**row, "versions": about()})
    play.play(page.RESULTS / "play.jsonl")


def students() -> None:
    """Make the students that have no row yet."""
    words = f"sweep {page.SWEEP} --out {page.RESULTS} --runs {RUNS} --workers 1"
    cli.main(words.split())


def write_page() -> None:
    """Write the tables of docs/cars.md, and its figures."""
    teachers, played, found = page.at_hand()
    rewrite(DOCS / "cars.md", page.MARKS, page.page(teachers, played, found))
    page.figures(played, found, DOCS / "images")


def write_film() -> None:
    """Film the student that is kept."""
    film.write(film.STUDENT, DOCS / "images" / "cars.gif")


STEPS = {"teachers": teachers, "students": students, "page": write_page, "film": write_film}


def main() -> None:
    """Do one step."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.cars", description=__doc__)
    parser.add_argument("step", choices=STEPS)
    asked = parser.parse_args()
    try:
        with owning(1):
            STEPS[asked.step]()
    except UserError as error:
        print(f"reproduction.cars: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
