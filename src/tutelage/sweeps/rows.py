"""A row per finished run, in ``results/rows.jsonl.gz``: JSON lines, each a gzip member of its own.

So a row is added without touching the others, and ``zcat`` shows them all. A row stands by itself:
it says everything that decided its result, and stays true whatever the defaults become.
"""

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec

from tutelage.configs import Distill, Record, Teach
from tutelage.errors import UserError
from tutelage.schema import build, flat
from tutelage.sweeps.playing import Evaluate

NAME = "rows.jsonl.gz"
MEMBER = b"\x1f\x8b\x08"
"""How a gzip member begins (RFC 1952)."""

Name = Literal["distill", "teach", "evaluate", "record"]

CONFIGS: dict[Name, Any] = {
    "distill": Distill,
    "teach": Teach,
    "evaluate": Evaluate,
    "record": Record,
}
FILES = ("teachers", "teacher", "model", "init", "dataset")
"""The settings that name files: what counts is what is in them."""
IDLE = ("seed", "device", "threads", "checkpoint_every", "track", "record", "milestones")
"""The settings that decide no result, or none but its last bits; the seed counts by itself."""


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command and every setting of it, with nothing left open."""

    name: Name
    config: dict[str, Any]
    """In its groups, as plain data."""

    def __post_init__(self) -> None:
        """Raise ValueError for a configuration without a seed, or whose files are no names."""
        if type(self.config.get("seed")) is not int:
            raise ValueError("config.seed: expected a whole number")
        for name in FILES:
            value = self.config.get(name, "")
            names = value if isinstance(value, list) else [value]
            if not all(isinstance(one, str) for one in names):
                raise ValueError(f"config.{name}: expected names")

    def settings(self, files: Mapping[str, str]) -> dict[str, Any]:
        """Return by its name each setting that counts, with the digests of ``files`` for names.

        A setting that is newer than a row is taken to have had its default.
        """
        try:
            found = flat(build(CONFIGS[self.name], self.config))
        except UserError:  # of a setting that there is no more: no run of today is the same
            found = dict(self.config)

        def content(name: str) -> str:
            read = [file for file in files if f"{name}+".startswith(f"{file}+")]
            file = max(read, key=len, default="")
            return files.get(file, "") + name.removeprefix(file)

        for name in FILES:
            if name in found:
                value = found[name]
                found[name] = content(value) if isinstance(value, str) else [*map(content, value)]
        return {"command": self.name} | {k: v for k, v in found.items() if k not in IDLE}


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run got in training, round by round."""

    env_steps: tuple[int, ...]
    reward_per_step: tuple[float, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One finished run."""

    methods: tuple[tuple[str, str], ...]
    """Each sweep, and its method, that it was run for."""
    command: Command
    data: Command | None = None
    """How the run made a data set of its own first, if it did."""
    files: dict[str, str]
    """The files that were read, as the configuration names them -> their digests."""
    commit: str
    versions: dict[str, str]
    machine: str
    seconds: float
    env_steps: int
    target_return: float | None = None
    env_steps_to_target: int | None = None
    """None where the target was missed, or there was none."""
    mean_return: float
    ci95: tuple[float, float]
    min_return: float
    max_return: float
    episodes: int
    mean_length: float
    reward_per_step: float
    cut_episodes: int = 0
    """How many were cut, because they had no end."""
    returns: tuple[float, ...] = ()
    """Of each held-out episode; of early rows not known."""
    curve: Curve | None = None
    picks: tuple[int, ...] = ()
    """How often each of several teachers was chosen."""
    scores: dict[str, float] = {}
    """What else its sweep scores it by."""

    @property
    def seed(self) -> int:
        """The run's seed."""
        seed: int = self.command.config["seed"]
        return seed

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the result but for the seed."""
        return settings_of(self.command, self.data, self.files)

    @cached_property
    def key(self) -> str:
        """What tells the run from every other."""
        return key_of(self.settings, self.seed)

    @cached_property
    def configuration(self) -> str:
        """What the seeds of a method have in common."""
        return key_of(self.settings)


def settings_of(command: Command, data: Command | None, files: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that decides the result of a run but for its seed."""
    made = {} if data is None else {f"data.{k}": v for k, v in data.settings(files).items()}
    return {**command.settings(files), **made}


def key_of(settings: Mapping[str, Any], seed: int | None = None) -> str:
    """Return the digest of everything that decides a result, of any seed or of one."""
    return sha256(json.dumps([seed, settings], sort_keys=True).encode()).hexdigest()[:16]


def finished(results: Path) -> list[Row]:
    """Return the rows that there are, without one that a crash cut short.

    Raises UserError if the file is damaged.
    """
    path = results / NAME
    if not path.exists():
        return []
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return [row for row, _ in _whole(path, data)]


def keeper(results: Path) -> Callable[[Row], None]:
    """Return what adds a row to those in ``results``, unless it is there.

    Several processes may add at once. Raises UserError where nothing can be written, or what is
    there is damaged; what is returned does so too.
    """
    path = results / NAME
    try:
        results.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finished(results)

    def keep(row: Row) -> None:
        try:
            with path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                there = list(_whole(path, file.read()))
                # An engine that was interrupted here keeps all its rows again.
                if row.key in {one.key for one, _ in there}:
                    return
                file.truncate(there[-1][1] if there else 0)
                file.write(pack(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error

    return keep


def pack(row: Row) -> bytes:
    """Return a row as it is written."""
    return gzip.compress(msgspec.json.encode(row) + b"\n", mtime=0)


def _whole(path: Path, data: bytes) -> Iterator[tuple[Row, int]]:
    """Yield the rows whose members are whole, each with where it ends.

    What follows may be the beginning of one that was cut short, nothing else.
    """
    end = count = 0
    while end < len(data):
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            lines = member.decompress(data[end:]).splitlines()
            if not member.eof and MEMBER not in data[end + 1 :]:
                return
            rows = [msgspec.json.decode(line, type=Row) for line in lines if member.eof]
            why = "" if member.eof else ": it breaks off"
        except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            why = f": {error}"
        if why:
            raise UserError(
                f"{path} is damaged at byte {end}, after {count} rows{why}; restore it, or cut it "
                "there to lose the rest"
            )
        end, count = len(data) - len(member.unused_data), count + len(rows)
        yield from ((row, end) for row in rows)
