"""Where runs are run."""

from tutelage.experiments.cluster import run_ray
from tutelage.experiments.grid import Engine
from tutelage.experiments.local import run_local

ENGINES: dict[str, Engine] = {"local": run_local, "ray": run_ray}
"""Name -> engine."""
