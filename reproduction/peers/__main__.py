"""``python -m reproduction.peers``: run what has no row yet, or write the page."""

import argparse
import sys
from pathlib import Path

from reproduction.peers.figures import figures
from reproduction.peers.jobs import JOBS, METHODS
from reproduction.peers.page import page
from reproduction.peers.running import ROWS, TUNING, Place, run_all
from reproduction.records import read
from tutelage.errors import UserError
from tutelage.files import write_atomic
from tutelage.threads import owning


def main() -> None:
    """Run, or write the page."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.peers", description=__doc__)
    parser.add_argument("teachers", nargs="?", type=Path, help="where the policies' files are")
    parser.add_argument(
        "--pythons",
        type=Path,
        default=Path("runs/peers-envs"),
        help="where the libraries' environments are",
    )
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--tune", action="store_true", help="also choose settings")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--tuning", type=Path, default=TUNING)
    parser.add_argument("--runs", type=Path, default=Path("runs/distillbench"))
    parser.add_argument("--docs", type=Path, help="write distillbench.md into this folder")
    asked = parser.parse_args()
    try:
        if asked.teachers is not None:
            place = Place(
                teachers=asked.teachers,
                pythons=asked.pythons,
                runs=asked.runs,
                rows=asked.rows,
                tuning=asked.tuning,
            )
            with owning(1):
                run_all(
                    place,
                    jobs=asked.jobs,
                    methods=asked.methods,
                    seeds=asked.seeds,
                    tune=asked.tune,
                )
        if asked.docs is not None:
            rows, tuning = read(asked.rows), read(asked.tuning)
            write_atomic(asked.docs / "distillbench.md", page(rows, tuning).encode())
            figures(rows, tuning, asked.docs / "images")
    except UserError as error:
        print(f"reproduction.peers: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
