"""Tutelage's own networks."""

from pathlib import Path

from tutelage.importers.base import Space, beginning
from tutelage.models import load_network
from tutelage.policies import Model

LARGEST = 2**24
"""Bytes of the longest header of a safetensors file that is looked at."""


def recognises(path: Path) -> bool:
    """Return whether a safetensors file has a header of Tutelage's."""
    size = int.from_bytes(beginning(path, 8), "little")
    return size <= LARGEST and b"tutelage-" in beginning(path, 8 + size)


def load(path: Path, *, space: Space | None = None) -> Model:
    """Return the network; raise UserError if the file is not one, or damaged."""
    return load_network(path)
