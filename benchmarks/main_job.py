"""The main job over five seeds: how long a student takes to hold 20, against bare emulators.

Deterministic Pong, the teacher ``pong``, the usual student. Each run is in a process of its own;
right after it, as many emulator threads alone play as many env steps as it has played, those of
its evaluations included. A run's seconds include its evaluations, but not the closing ones.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bare import emulating
from benchmarks.timing import rate
from tutelage.logs import read_metrics

SEEDS = (1, 2, 3, 4, 5)
THREADS = 2


def measure() -> dict[str, Any]:
    """Return a row per seed and the medians."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_run(seed, Path(folder) / str(seed)) for seed in SEEDS]
    steps = [row["env_steps_to_20"] for row in rows if row["env_steps_to_20"] is not None]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "rows": rows,
        "reached": f"{len(steps)}/{len(rows)}",
        "median_env_steps_to_20": statistics.median(steps) if steps else None,
        "median_seconds": statistics.median(row["seconds"] for row in rows),
        "median_ratio": statistics.median(row["ratio"] for row in rows),
        "peak_memory_mb": peak,
    }


def _run(seed: int, folder: Path) -> dict[str, Any]:
    asked = {"--teacher": "pong", "--seed": str(seed), "--threads": str(THREADS)}
    words = [word for pair in asked.items() for word in pair]
    command = [sys.executable, "-m", "tutelage", "distill", "--json", *words, "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    evaluated = int(sum(row.get("eval/env_steps", 0) for row in read_metrics(folder)))
    played = result["env_steps"] + evaluated
    emulate = emulating(THREADS)
    emulate(played // 10)  # a warm-up
    bare = played / rate(lambda: emulate(played))
    keys = ("env_steps_to_20", "env_steps", "seconds", "evaluation_seconds", "mean_return", "ci95")
    return {
        "seed": seed,
        **{key: result[key] for key in keys},
        "evaluation_env_steps": evaluated,
        "bare_seconds": bare,
        "ratio": result["seconds"] / bare,
    }
