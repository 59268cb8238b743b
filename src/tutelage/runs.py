"""A run's folder: what was asked for, what happened, and how to go on.

config.toml       the resolved configuration
metrics.jsonl     a row per round; the same seed gives the same bytes
selections.jsonl  which teacher was chosen and what that was paid (several teachers)
timing.jsonl      wall-clock beside it, which no two runs share
events.out.…      the same for TensorBoard
checkpoints/      NNNNNNNNN-DIGEST.safetensors: the name carries the content's checksum
best.safetensors  the student that evaluated best; last.safetensors the last one
result.json       the closing evaluation
README.md         the model card
"""

import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tomli_w

from tutelage.choice_log import append_log
from tutelage.configs import Distill, Multitask, Teach
from tutelage.errors import UserError
from tutelage.files import (
    check_free,
    convert,
    digest,
    pack_state,
    read_bytes,
    read_toml,
    refusing,
    sweep,
    sync,
    unpack_state,
    write_atomic,
    write_json,
)
from tutelage.logs import read_metrics
from tutelage.schema import build, flat, nested
from tutelage.trackers import Trackers
from tutelage.types import Row, State

CONFIG = "config.toml"
FAULTS = "faults.log"
"""Holds the tracebacks of what environments did wrong."""
KEEP_CHECKPOINTS = 2
TIMING = "timing.jsonl"
"""Is for people only: what is lost or damaged of it stops nothing."""
LOGS = ("metrics.jsonl", "selections.jsonl", TIMING)
"""What a run appends to, and cuts to its checkpoint when it goes on."""

FREE = ("checkpoint_every", "device", "threads", "track")
"""Settings that may be others when a run goes on: they change nothing of what is asked of it."""

Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


Settings = Teach | Distill | Multitask
"""Of a run, whatever it does."""


class Clock(msgspec.Struct):
    """What a run's seconds were when it was saved."""

    seconds: float
    evaluating: float
    last: tuple[Size, float]


class Saved(msgspec.Struct):
    """A checkpoint: the logs' sizes, the clock, the state of every part, and the settings."""

    sizes: dict[str, Size]
    clock: Clock
    parts: dict[str, Any]
    settings: dict[str, Any] | None = None
    """In their groups; older checkpoints lack them."""


class Run:
    """One run's folder, open for writing."""

    def __init__(self, folder: Path) -> None:
        """Open the folder of an existing run; see ``create`` for a new one."""
        self.folder = folder
        self.config = read_config(folder)
        for place in (folder, folder / "checkpoints"):
            sweep(place)
        self._began = time.perf_counter()
        self._seconds_before = 0.0
        self._evaluating = 0.0
        self._last = (0, 0.0)
        asked = self.config.get("distill", self.config)  # the group that has it, if one does
        track = asked.get("track", []) if isinstance(asked, dict) else []
        named = convert(track, list[str], f"{folder / CONFIG}: track")
        self._trackers = Trackers(named, folder, self.config)

    @classmethod
    def create(cls, folder: Path, config: Settings, files: Mapping[str, str]) -> "Run":
        """Start a run in ``folder``; raise UserError if a run lives there already.

        ``files`` are all that the run reads, and their digests.
        """
        path = folder / CONFIG
        asked = {"command": type(config).__name__.lower(), **nested(config), "files": dict(files)}
        if path.exists():
            other = read_config(folder)
            if other == asked:
                raise UserError(
                    f"{folder} holds a run of this very configuration: go on with it by "
                    f"'tutelage resume {folder}', or name another folder by `out`"
                )
            differs = _differences(other, asked)
            raise UserError(
                f"{folder} belongs to another configuration (differs in {', '.join(differs)}): "
                "name another folder by `out`"
            )
        check_free(folder)
        Trackers(flat(config)["track"], folder, asked)
        # First what makes it a run: one that is killed in between can be resumed.
        write_atomic(path, tomli_w.dumps(asked).encode())
        write_json(folder / "versions.json", versions())
        return cls(folder)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds spent on this run, over all its resumptions."""
        return self._seconds_before + time.perf_counter() - self._began

    def write(self, row: Row, *, evaluation_seconds: float = 0.0) -> None:
        """Append a row to ``metrics.jsonl``, its time to ``timing.jsonl``, both to the trackers."""
        self._evaluating += evaluation_seconds
        before, at = self._last
        training = self.seconds - self._evaluating
        fps = (row.env_steps - before) / max(training - at, 1e-9)
        self._last = (row.env_steps, training)
        timing = {
            "time/fps": fps,
            "time/seconds": self.seconds,
            "time/evaluation": self._evaluating,
        }
        head = {"env_steps": row.env_steps, "updates": row.updates}
        finite = {name: value for name, value in row.metrics.items() if math.isfinite(value)}
        self._append("metrics.jsonl", {**head, **finite})
        self._append(TIMING, {"env_steps": row.env_steps, **timing})
        for number, feedback in row.settled.items():
            append_log(self.folder / "selections.jsonl", round_number=number, feedback=feedback)
        self._trackers.write(row.env_steps, {**row.metrics, **timing})

    def _append(self, name: str, value: Mapping[str, Any]) -> None:
        with self._writing(name), (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")

    def _writing(self, name: str) -> AbstractContextManager[None]:
        return suppress(OSError) if name == TIMING else refusing("write", self.folder / name)

    def checkpoint(self, env_steps: int, state: State) -> None:
        """Save everything that is needed to go on from here; keep the one before it."""
        logs = [path for name in LOGS if (path := self.folder / name).exists()]
        for path in (*logs, self.folder):  # a power cut must not leave it ahead of its logs
            with refusing("write", path):
                sync(path)
        sizes = {path.name: path.stat().st_size for path in logs}
        clock = {"seconds": self.seconds, "evaluating": self._evaluating, "last": list(self._last)}
        saved = {"sizes": sizes, "clock": clock, "parts": state, "settings": self._settings}
        data = pack_state(saved)
        folder = self.folder / "checkpoints"
        write_atomic(folder / f"{env_steps:09d}-{digest(data)}.safetensors", data)
        for old in sorted(folder.glob("*.safetensors"))[:-KEEP_CHECKPOINTS]:
            old.unlink()

    def resume(self, config: Settings | None = None) -> State | None:
        """Return the newest usable checkpoint and cut the logs to it; None if there is none.

        Raises UserError where the folder cannot be written, its rows cannot be read, or the
        checkpoint was made under other settings than those of ``config``.
        """
        saved = self._newest()
        if config is not None:
            self._check_settings(saved, config)
        self._truncate({} if saved is None else saved.sizes)
        read_metrics(self.folder)
        if saved is None:
            return None
        self._seconds_before = saved.clock.seconds
        self._evaluating = saved.clock.evaluating
        self._last = saved.clock.last
        return saved.parts

    @property
    def _settings(self) -> dict[str, Any]:
        """What the run's ``CONFIG`` says, in groups."""
        return {k: v for k, v in self.config.items() if k not in ("command", "files")}

    def _check_settings(self, saved: Saved | None, config: Settings) -> None:
        """Raise UserError, naming it, for a setting that is not as the run was begun with."""
        known = self._settings if saved is None or saved.settings is None else saved.settings
        # Settings that came with a later version are as usual in a run from before.
        before, now = flat(build(type(config), known, where=str(self.folder))), flat(config)
        if differs := [name for name in now if name not in FREE and now[name] != before[name]]:
            name = differs[0]
            raise UserError(
                f"{name} is {now[name]!r}, but {self.folder} was begun with {before[name]!r}: put "
                f"it back ({self.folder / CONFIG}), or begin anew in another folder"
            )

    def _newest(self) -> Saved | None:
        """Read the newest checkpoint that is whole and that the logs reach.

        Newer ones are reported on stderr and deleted. Raises UserError, and deletes nothing, if
        it is for a log that lost rows that the run would begin anew.
        """
        folder = self.folder / "checkpoints"
        saved: Saved | None = None
        short = ""
        refused: list[Path] = []
        for path in sorted(folder.glob("*.safetensors"), reverse=True):
            if digest(read_bytes(path, "a checkpoint")) != path.stem.split("-")[-1]:
                print(f"warning: checkpoint {path} is damaged", file=sys.stderr)
            else:
                saved = convert(unpack_state(path), Saved, path)
                short = self._shorter_than(saved.sizes)
                if not short:
                    break
                print(f"warning: checkpoint {path} is ahead of {short}", file=sys.stderr)
                saved = None
            refused.append(path)
        if short:
            raise UserError(
                f"{self.folder / short} has lost rows that every whole checkpoint counts: "
                f"put it back, or delete {folder} to begin anew"
            )
        if refused:
            then = "the run begins anew" if saved is None else f"going on from {path}"
            print(f"warning: {then}", file=sys.stderr)
        for path in refused:
            with refusing("delete", path):
                path.unlink()
        return saved

    def _shorter_than(self, sizes: Mapping[str, int]) -> str:
        """Return the name of a log that does not reach its size, or nothing."""
        for name, size in sizes.items():
            path = self.folder / name
            if name != TIMING and size > (path.stat().st_size if path.exists() else 0):
                return name
        return ""

    def _truncate(self, sizes: Mapping[str, int]) -> None:
        for name in LOGS:
            path, size = self.folder / name, sizes.get(name, 0)
            with self._writing(name):
                if path.exists() and path.stat().st_size > size:
                    with path.open("r+b") as file:
                        file.truncate(size)

    def note_fault(self, fault: BaseException) -> None:
        """Append a traceback to ``FAULTS``, as far as it can be written."""
        with suppress(OSError), (self.folder / FAULTS).open("a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(fault)) + "\n")

    def close(self) -> None:
        """End the trackers."""
        self._trackers.close()


def versions() -> dict[str, Any]:
    """Return what a run depends on beside its configuration."""
    here = Path(__file__).parent

    def installed(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "none"

    def git(*words: str) -> str:
        asked = ["git", "-C", str(here), *words]
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()

    try:
        # Of the package alone: a row that was just kept does not make its code another.
        ours = git("ls-files", Path(__file__).name)  # or a repository that it is installed into
        commit = git("rev-parse", "HEAD") if ours else ""
        commit += "-dirty" * bool(ours and git("status", "--porcelain", "--", "."))
    except OSError:
        commit = ""
    return {
        **{name: installed(name) for name in ("tutelage", "torch", "numpy", "gymnasium", "ale-py")},
        "python": platform.python_version(),
        "machine": machine(),
        "commit": commit or "unknown",
    }


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the settings in which two configurations differ, by name."""
    different = []
    for key in sorted({*one, *other}):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            different += _differences(a, b)
        elif a != b:
            different.append(key)
    return different


def machine() -> str:
    """Return what a run's speed depends on."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def read_config(folder: Path) -> dict[str, Any]:
    """Read a run's configuration; raise UserError if ``folder`` holds none."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} is no run's folder: it has no {CONFIG}")
    return read_toml(path)


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise UserError unless a run's ``files`` are those that it was begun with."""
    given = read_config(folder).get("files", {})
    known = convert(given, dict[str, str], f"{folder / CONFIG}: files")
    for name, now in files.items():
        if (before := known.get(name)) not in (None, now):
            raise UserError(
                f"{name} is not what {folder} was begun with (digest {now}, then {before})"
                ": put it back, or begin anew"
            )
