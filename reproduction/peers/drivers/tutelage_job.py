"""Tutelage: its own settings, nothing evaluated on the way, the last student kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tutelage as tt

from .common import Clock, Spec

NEVER = 10**9


def distil(spec: Spec) -> Iterator[dict[str, Any]]:
    """Distil anew for each budget: the learning rate falls over the whole of it."""
    given = dict(spec.settings)
    size = given.pop("student")
    for budget in spec.budgets:
        out, clock = Path(spec.out) / str(budget), Clock()
        outcome = tt.distill(
            spec.teacher,
            spec.env,
            size,
            out=out,
            seed=spec.seed,
            env_steps=budget,
            target_return="none",
            eval_from=NEVER,
            confirm_episodes=1,  # the runner plays it
            threads=1,
            **given,
        )
        yield {
            "budget": budget,
            "env_steps": outcome.result["env_steps"],
            **clock.read(),
            "policy": str(out),
            "parameters": outcome.result["parameters"],
        }
