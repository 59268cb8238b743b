"""Where the tensors of a network lie in its working memory."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Buffer:
    """Numbers of one type that are needed from one statement to another."""

    kind: str
    length: int
    first: int
    """The statement that fills it."""
    last: int
    """The last one that reads it."""


def placed(buffers: Mapping[str, Buffer]) -> dict[str, int]:
    """Return where each begins, in an arena of its type.

    Those whose times do not meet share memory: from the largest on, each has the first place that
    fits.
    """
    found: dict[str, int] = {}
    for name, one in sorted(buffers.items(), key=lambda item: -item[1].length):
        taken = sorted(
            (found[name], found[name] + other.length)
            for name, other in buffers.items()
            if name in found
            and other.kind == one.kind
            and other.first <= one.last
            and one.first <= other.last
        )
        at = 0
        for start, end in taken:
            if at + one.length <= start:
                break
            at = max(at, end)
        found[name] = at
    return found
