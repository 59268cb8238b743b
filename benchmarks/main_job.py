"""The main job over five seeds: env steps and seconds until the student holds 20."""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SEEDS = (1, 2, 3, 4, 5)


def measure() -> dict[str, Any]:
    """Return a row per seed, each run in a process of its own, and the medians."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_run(seed, Path(folder)) for seed in SEEDS]
    steps = [row["env_steps_to_20"] for row in rows if row["env_steps_to_20"] is not None]
    seconds = [row["seconds"] for row in rows]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "rows": rows,
        "reached": f"{len(steps)}/{len(rows)}",
        "median_env_steps_to_20": statistics.median(steps) if steps else None,
        "median_seconds": statistics.median(seconds),
        "peak_memory_mb": peak,
    }


def _run(seed: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tutelage", "distill", "--json", "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--out", str(folder / str(seed))], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    keys = ("env_steps_to_20", "env_steps", "seconds", "evaluation_seconds", "mean_return", "ci95")
    return {"seed": seed, **{key: result[key] for key in keys}}
