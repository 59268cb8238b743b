"""Trackio, Hugging Face's tracker: a local database, ``trackio show`` its dashboard."""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any


class Trackio:
    """A run of Trackio, named as the run's folder; a resumed run goes on with it."""

    def __init__(
        self, *, folder: Path, config: Mapping[str, Any], since: int, project: str = "tutelage"
    ) -> None:
        self._trackio: Any = import_module("trackio")
        with redirect_stdout(sys.stderr):  # it greets on stdout, where results go
            self._run = self._trackio.init(
                project=project,
                name=folder.name,
                config=dict(config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=env_steps)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._trackio.finish()
