"""Run benchmarks by name, all of them by default: ``python -m benchmarks [NAME …]``."""

import json
import os
import platform
import sys
from importlib import import_module

import torch

BENCHMARKS = ("choosing", "collecting", "learning", "space", "teaching", "main-job")


def main(names: list[str]) -> None:
    """Print each benchmark's figures as one line of JSON."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    print(json.dumps({"machine": machine}))
    for name in names or BENCHMARKS:
        # Only then, for 'learning' needs Stable-Baselines3, which 'make benchmarks' installs.
        benchmark = import_module(f"benchmarks.{name.replace('-', '_')}")
        print(json.dumps({name: benchmark.measure()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
