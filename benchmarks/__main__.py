"""Run benchmarks by name, all of them by default: ``python -m benchmarks [NAME …]``."""

import json
import os
import platform
import sys

import torch

from benchmarks import choosing, collecting, learning, main_job, space, teaching

BENCHMARKS = {
    "choosing": choosing.measure,
    "collecting": collecting.measure,
    "learning": learning.measure,
    "space": space.measure,
    "teaching": teaching.measure,
    "main-job": main_job.measure,
}


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
        print(json.dumps({name: BENCHMARKS[name]()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
