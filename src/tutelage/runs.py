"""A run's folder: what was asked for, what happened, and how to go on.

config.toml       the resolved configuration
metrics.jsonl     a row per round; the same seed gives the same bytes
selections.jsonl  which teacher was chosen and what that was paid (several teachers)
timing.jsonl      wall-clock beside it, which no two runs share
events.out.…      the same for TensorBoard
checkpoints/      NNNNNNNNN-DIGEST.safetensors: the name carries the content's checksum
best.safetensors  the student that evaluated best; last.safetensors the last one
result.json       the closing evaluation
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w
from tensorboardX import SummaryWriter

from tutelage.configs import Distill, Teach, nested
from tutelage.errors import UserError
from tutelage.files import (
    check_free,
    digest,
    pack_state,
    read_toml,
    sync,
    unpack_state,
    write_atomic,
    write_json,
)
from tutelage.selectors.offpolicy import append_log
from tutelage.types import Row, State

FAULTS = "faults.log"
"""Holds the tracebacks of what environments did wrong."""
KEEP_CHECKPOINTS = 2
LOGS = ("metrics.jsonl", "timing.jsonl", "selections.jsonl")
"""What a run appends to, and cuts to its checkpoint when it goes on."""


class Run:
    """One run's folder, open for writing."""

    def __init__(self, folder: Path) -> None:
        """Open the folder of an existing run; see ``create`` for a new one."""
        self.folder = folder
        self.config = read_config(folder)
        self._began = time.perf_counter()
        self._seconds_before = 0.0
        self._evaluating = 0.0
        self._last = (0, 0.0)
        self._board: SummaryWriter | None = None

    @classmethod
    def create(cls, folder: Path, config: Teach | Distill, files: Mapping[str, str]) -> "Run":
        """Start a run in ``folder``; raise UserError if a run lives there already.

        ``files`` are all that the run reads, and their digests.
        """
        path = folder / "config.toml"
        asked = {"command": type(config).__name__.lower(), **nested(config), "files": dict(files)}
        if path.exists():
            other = read_config(folder)
            if other == asked:
                raise UserError(
                    f"{folder} holds a run of this very configuration: go on with it by "
                    f"'tutelage resume {folder}', or name another folder with --out"
                )
            differs = _differences(other, asked)
            raise UserError(
                f"{folder} belongs to another configuration (differs in {', '.join(differs)}): "
                "name another folder with --out"
            )
        check_free(folder)
        # First what makes it a run: one that is killed in between can be resumed.
        write_atomic(path, tomli_w.dumps(asked).encode())
        write_json(folder / "versions.json", versions())
        return cls(folder)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds spent on this run, over all its resumptions."""
        return self._seconds_before + time.perf_counter() - self._began

    def write(self, row: Row, *, evaluation_seconds: float = 0.0) -> None:
        """Append a row to ``metrics.jsonl``, its time to ``timing.jsonl``, both to TensorBoard."""
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
        self._append("metrics.jsonl", {**head, **row.metrics})
        self._append("timing.jsonl", {"env_steps": row.env_steps, **timing})
        for number, feedback in row.settled.items():
            append_log(self.folder / "selections.jsonl", round_number=number, feedback=feedback)
        if self._board is None:
            self._board = SummaryWriter(str(self.folder), purge_step=row.env_steps)
        for name, value in {**row.metrics, **timing}.items():
            self._board.add_scalar(name, value, row.env_steps)

    def _append(self, name: str, value: Mapping[str, Any]) -> None:
        try:
            with (self.folder / name).open("a") as file:
                file.write(json.dumps(value) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.folder / name}: {error.strerror}") from error

    def checkpoint(self, env_steps: int, state: State) -> None:
        """Save everything that is needed to go on from here; keep the one before it."""
        logs = [path for name in LOGS if (path := self.folder / name).exists()]
        try:
            for path in (*logs, self.folder):  # a power cut must not leave it ahead of its logs
                sync(path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        sizes = {path.name: path.stat().st_size for path in logs}
        clock = {"seconds": self.seconds, "evaluating": self._evaluating, "last": list(self._last)}
        data = pack_state({"sizes": sizes, "clock": clock, "parts": state})
        folder = self.folder / "checkpoints"
        write_atomic(folder / f"{env_steps:09d}-{digest(data)}.safetensors", data)
        for old in sorted(folder.glob("*.safetensors"))[:-KEEP_CHECKPOINTS]:
            old.unlink()

    def resume(self) -> State | None:
        """Return the newest usable checkpoint and cut the logs to it; None if there is none."""
        saved = self._newest()
        self._truncate({} if saved is None else saved["sizes"])
        if saved is None:
            return None
        self._seconds_before = float(saved["clock"]["seconds"])
        self._evaluating = float(saved["clock"]["evaluating"])
        steps, at = saved["clock"]["last"]
        self._last = (int(steps), float(at))
        parts: State = saved["parts"]
        return parts

    def _newest(self) -> State | None:
        """Read the newest checkpoint that is whole and that the logs reach.

        Newer ones are reported on stderr and deleted. Raises UserError, and deletes nothing, if
        it is for a log that lost rows that the run would begin anew.
        """
        folder = self.folder / "checkpoints"
        saved: State | None = None
        short = ""
        refused: list[Path] = []
        for path in sorted(folder.glob("*.safetensors"), reverse=True):
            if digest(path.read_bytes()) != path.stem.split("-")[-1]:
                print(f"warning: checkpoint {path} is damaged", file=sys.stderr)
            else:
                saved = unpack_state(path)
                short = self._shorter_than(saved["sizes"])
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
            path.unlink()
        return saved

    def _shorter_than(self, sizes: Mapping[str, int]) -> str:
        """Return the name of a log that does not reach its size, or nothing."""
        for name, size in sizes.items():
            path = self.folder / name
            if size > (path.stat().st_size if path.exists() else 0):
                return name
        return ""

    def _truncate(self, sizes: Mapping[str, int]) -> None:
        for name in LOGS:
            if (path := self.folder / name).exists():
                with path.open("r+b") as file:
                    file.truncate(sizes.get(name, 0))

    def note_fault(self, fault: BaseException) -> None:
        """Append a traceback to ``FAULTS``, as far as it can be written."""
        with suppress(OSError), (self.folder / FAULTS).open("a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(fault)) + "\n")

    def close(self) -> None:
        """Flush what TensorBoard still holds."""
        if self._board is not None:
            self._board.close()


def versions() -> dict[str, Any]:
    """Return what a run depends on beside its configuration."""
    packages = ("tutelage", "torch", "numpy", "gymnasium", "ale-py")
    here = Path(__file__).parent

    def git(*words: str) -> str:
        asked = ["git", "-C", str(here), *words]
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()

    try:
        # Of the package alone: a row that was just kept does not make its code another.
        commit = git("rev-parse", "HEAD") + "-dirty" * bool(git("status", "--porcelain", "--", "."))
    except OSError:
        commit = ""
    return {
        **{name: importlib.metadata.version(name) for name in packages},
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
    path = folder / "config.toml"
    if not path.is_file():
        raise UserError(f"{folder} is no run's folder: it has no config.toml")
    return read_toml(path)


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise UserError unless a run's ``files`` are those that it was begun with."""
    known = read_config(folder).get("files", {})
    for name, now in files.items():
        if (before := known.get(name)) not in (None, now):
            raise UserError(
                f"{name} is not the file that {folder} was begun with (digest {now}, then {before})"
                ": put it back, or begin anew"
            )


def read_rows(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, float]]:
    """Read the rows of a run; a line cut short by a crash ends them."""
    rows = []
    if (path := folder / name).exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows
