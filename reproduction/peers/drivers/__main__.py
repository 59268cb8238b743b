"""``python -m drivers MODULE:FUNCTION SPEC``: distil by one method; leave ``result.json``."""

import importlib.metadata
import json
import platform
import sys
from importlib import import_module
from pathlib import Path

import torch

from .common import Spec, env_id

PACKAGES = (
    *("tutelage", "imitation", "d3rlpy", "sb3_distill", "stable-baselines3", "gymnasium"),
    *("torch", "numpy", "Box2D", "mujoco", "ale-py"),
)


def installed() -> dict[str, str]:
    """Return the versions of what is there of the packages that matter."""
    there = {
        of.metadata["Name"].lower().replace("_", "-") for of in importlib.metadata.distributions()
    }
    kept = [name for name in PACKAGES if name.lower().replace("_", "-") in there]
    return {name: importlib.metadata.version(name) for name in kept}


def main() -> None:
    """Run the function that is named; it yields the students of a spec."""
    module, _, function = sys.argv[1].partition(":")
    spec = Spec.read(sys.argv[2])
    torch.set_num_threads(1)
    torch.manual_seed(spec.seed)
    Path(spec.out).mkdir(parents=True, exist_ok=True)
    students = list(getattr(import_module(f".{module}", __package__), function)(spec))
    result = {
        "students": students,
        "trained_in": env_id(spec.env),
        "peer": {**installed(), "python": platform.python_version()},
    }
    (Path(spec.out) / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
