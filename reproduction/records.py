"""Rows of what was run beside the claims: one JSON object on each line of a file."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tutelage.files import write_atomic

Record = Mapping[str, Any]


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows that there are."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, row: Record) -> None:
    """Write a row behind those that there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")


def grouped(rows: Iterable[Record], *keys: str) -> dict[Any, list[Record]]:
    """Return rows by what they have under ``keys``."""
    groups: dict[Any, list[Record]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def rewrite(path: Path, marks: tuple[str, str], text: str) -> None:
    """Put ``text`` between two marks of a page, in place of what is there."""
    begin, end = marks
    between = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    made = between.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", path.read_text())
    write_atomic(path, made.encode())
