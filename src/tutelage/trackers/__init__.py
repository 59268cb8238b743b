"""Where a run's rows go beside its own files: a dashboard each.

A new tracker is one file and its entry in ``TRACKERS``; one from outside of the package is named
``MODULE:NAME``, a function or class that takes ``folder``, ``config`` and ``since``, and perhaps
options. TensorBoard's is written wherever its package is installed; others where they are named.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tutelage.errors import UserError
from tutelage.files import refusing
from tutelage.specs import construct, resolve
from tutelage.trackers.tensorboard import TensorBoard
from tutelage.trackers.trackio import Trackio
from tutelage.trackers.wandb import Wandb


class Tracker(Protocol):
    """Takes a run's metrics, row by row."""

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Show the metrics of a row."""

    def close(self) -> None:
        """Write what is still held back."""


@dataclass(frozen=True)
class Entry:
    """A tracker, and the package that it needs."""

    make: Callable[..., Tracker]
    """``(*, folder, config, since)``: the run's folder and settings, and its env steps so far."""
    package: str = ""


TRACKERS: dict[str, Entry] = {
    "tensorboard": Entry(TensorBoard, "tensorboardX"),
    "wandb": Entry(Wandb, "wandb"),
    "trackio": Entry(Trackio, "trackio"),
}
"""Name -> tracker."""


class Trackers:
    """All trackers of a run; they begin with its first row."""

    def __init__(self, names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> None:
        """Raise UserError for a tracker that there is not, or whose package is not installed."""
        self._names = list(names)
        if "tensorboard" not in names and find_spec(TRACKERS["tensorboard"].package) is not None:
            self._names.insert(0, "tensorboard")
        self._entries = [_entry(name) for name in self._names]
        self._folder, self._config = folder, config
        self._trackers: list[Tracker] = []

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Show a row everywhere; raise UserError where a tracker fails."""
        if not self._trackers:
            given = {"folder": self._folder, "config": self._config, "since": env_steps}
            for name, (entry, rest) in zip(self._names, self._entries, strict=True):
                with self._refusing(name):
                    made = construct(entry.make, f"tracker {name!r}", rest, given)
                    self._trackers.append(made)
        for name, tracker in zip(self._names, self._trackers, strict=True):
            with self._refusing(name):
                tracker.write(env_steps, values)

    def close(self) -> None:
        """End them all; the next row would begin them anew."""
        trackers, self._trackers = self._trackers, []
        for name, tracker in zip(self._names, trackers, strict=False):
            with self._refusing(name):
                tracker.close()

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        try:
            with refusing("write", self._folder):
                yield
        except UserError:
            raise
        except Exception as error:  # another's library may fail in any way
            said = str(error).strip().splitlines() or [repr(error)]
            raise UserError(f"tracker {name!r} failed: {said[-1]}") from error


def _entry(text: str) -> tuple[Entry, str]:
    """Return a tracker and its options; raise UserError where it cannot be had."""
    found, rest = resolve("tracker", text, TRACKERS)
    entry = found if isinstance(found, Entry) else Entry(found)
    if entry.package and find_spec(entry.package) is None:
        name = text.partition(":")[0]
        raise UserError(f"tracker {name!r} needs {entry.package}: pip install 'tutelage[{name}]'")
    return entry, rest
