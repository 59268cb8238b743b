"""Where runs are run."""

from tutelage.sweeps.cluster import run_ray
from tutelage.sweeps.grid import Engine
from tutelage.sweeps.local import run_local

ENGINES: dict[str, Engine] = {"local": run_local, "ray": run_ray}
"""Name -> engine."""
