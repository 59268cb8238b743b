"""Tutelage's own networks."""

from pathlib import Path

from tutelage.importers.base import Space, beginning
from tutelage.models import load_network, load_own
from tutelage.own import make_own
from tutelage.policies import Model
from tutelage.specs import load_object
from tutelage.tasks import load_task

LARGEST = 2**24
"""Bytes of the longest header of a safetensors file that is looked at."""


def recognises(path: Path) -> bool:
    """Return whether a safetensors file has a header of Tutelage's."""
    size = int.from_bytes(beginning(path, 8), "little")
    return size <= LARGEST and b"tutelage-" in beginning(path, 8 + size)


def load(
    path: Path, *, space: Space | None = None, module: str = "", head: str = "", task: str = ""
) -> Model:
    """Return the network; raise UserError if the file is not one, or damaged.

    ``module`` names, as MODULE:NAME, what makes the module of which the file holds the weights,
    ``head`` a head from outside of the package, whose module has its entry in ``HEADS``, and
    ``task`` one of those that a student of several plays.
    """
    if head:
        load_object("head", head)
    if task:
        return load_task(path, task)
    return load_own(path, make_own(module, seed=0)) if module else load_network(path)
