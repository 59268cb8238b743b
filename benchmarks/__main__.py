"""Run benchmarks by name, all of them by default: ``python -m benchmarks [NAME …]``."""

import json
import sys
from importlib import import_module

from tutelage.runs import versions

BENCHMARKS = (
    *("choosing", "collecting", "exporting", "learning", "runtimes", "space", "teaching"),
    *("updating", "main-job"),
)


def main(names: list[str]) -> None:
    """Print each benchmark's figures as one line of JSON."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    # Those asked for alone: 'learning' needs Stable-Baselines3, which 'make benchmarks' installs.
    wanted = {
        name: import_module(f"benchmarks.{name.replace('-', '_')}") for name in names or BENCHMARKS
    }
    print(json.dumps({"versions": versions()}))
    for name, benchmark in wanted.items():
        print(json.dumps({name: benchmark.measure()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
