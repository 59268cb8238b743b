"""Weights & Biases: offline unless ``WANDB_MODE`` says otherwise; ``wandb sync`` uploads later."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tutelage.files import digest


class Wandb:
    """A run of Weights & Biases in the run's own folder; a resumed run goes on with it."""

    def __init__(
        self, *, folder: Path, config: Mapping[str, Any], since: int, project: str = "tutelage"
    ) -> None:
        wandb: Any = import_module("wandb")
        self._run = wandb.init(
            project=project,
            name=folder.name,
            id=digest(str(folder.resolve()).encode()),
            resume="allow",
            dir=str(folder),
            config=dict(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="env_steps")

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        self._run.log({"env_steps": env_steps, **values})

    def close(self) -> None:
        self._run.finish()
