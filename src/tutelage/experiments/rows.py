"""A row per finished run, in ``results/rows.jsonl.gz``: JSON lines, each a gzip member of its own.

So a row is added without touching the others, and ``zcat`` shows them all.
"""

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from tutelage.errors import UserError
from tutelage.experiments import Row
from tutelage.experiments.jobs import key

NAME = "rows.jsonl.gz"
MEMBER = b"\x1f\x8b\x08"
"""How a gzip member begins (RFC 1952)."""


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
    return _whole(path, data)[0]


def short(commit: str) -> str:
    """Return a commit as people write it; that files differed from it stays to be seen."""
    digest, dash, dirty = commit.partition("-")
    return digest[:7] + dash + dirty


def key_of(row: Row) -> str:
    """Return the key of the job that this is the row of."""
    return key(row["settings"], row["seed"])


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
                rows, end = _whole(path, file.read())
                # An engine that was interrupted here keeps all its rows again.
                if key_of(row) in map(key_of, rows):
                    return
                file.truncate(end)
                file.write(gzip.compress(json.dumps(row).encode() + b"\n", mtime=0))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error

    return keep


def _whole(path: Path, data: bytes) -> tuple[list[Row], int]:
    """Return the rows whose members are whole, and where the last of them ends.

    What follows may be the beginning of one that was cut short, nothing else.
    """
    rows: list[Row] = []
    end = 0
    while end < len(data):
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            lines = member.decompress(data[end:]).splitlines()
            if not member.eof and MEMBER not in data[end + 1 :]:
                break
            rows += [_row(line) for line in lines]
            intact = member.eof
        except (zlib.error, ValueError, RecursionError):
            intact = False
        if not intact:
            raise UserError(
                f"{path} is damaged at byte {end}, after {len(rows)} rows: restore it, or cut it "
                "there to lose the rest"
            )
        end = len(data) - len(member.unused_data)
    return rows, end


def _row(line: bytes) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict) or not {"seed", "settings"} <= row.keys():
        raise ValueError("no row")
    return row
