"""A row per finished run, in ``results/rows.jsonl.gz``: JSON lines, each a gzip member of its own.

So a row is added without touching the others, and ``zcat`` shows them all.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from tutelage.errors import UserError
from tutelage.experiments import Row
from tutelage.experiments.jobs import key
from tutelage.files import sync

NAME = "rows.jsonl.gz"


def finished(results: Path) -> list[Row]:
    """Return the rows that there are, without one that a crash cut short."""
    path = results / NAME
    text, _ = _whole(path.read_bytes()) if path.exists() else (b"", 0)
    return [json.loads(line) for line in text.splitlines()]


def keys(rows: Sequence[Row]) -> set[str]:
    """Return the keys of the jobs that these are the rows of."""
    return {key(row["settings"], row["seed"]) for row in rows}


def keeper(results: Path) -> Callable[[Row], None]:
    """Return what adds a row to those in ``results``, unless it is there.

    Raises UserError where nothing can be written; what is returned does so too.
    """
    path = results / NAME
    try:
        results.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.seek(0)
            _, end = _whole(file.read())
            file.truncate(end)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error

    def keep(row: Row) -> None:
        # An engine that was interrupted here keeps all its rows again.
        if keys([row]) <= keys(finished(results)):
            return
        try:
            with path.open("ab") as file:
                file.write(gzip.compress(json.dumps(row).encode() + b"\n", mtime=0))
            sync(path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error

    return keep


def _whole(data: bytes) -> tuple[bytes, int]:
    """Return what the members hold that are whole, and where the last of them ends."""
    text, end = b"", 0
    while end < len(data):
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            lines = member.decompress(data[end:])
        except zlib.error:
            break
        if not member.eof:
            break
        text, end = text + lines, len(data) - len(member.unused_data)
    return text, end
