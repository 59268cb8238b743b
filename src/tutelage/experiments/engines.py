"""Where runs are run."""

from tutelage.experiments.grid import Engine
from tutelage.experiments.local import run_local

ENGINES: dict[str, Engine] = {"local": run_local}
"""Name -> engine."""
