"""A run's ``selections.jsonl``: a line for each choice of a teacher that was paid."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from tutelage.errors import UserError
from tutelage.types import Feedback, Ints


class Line(msgspec.Struct, frozen=True):
    """What a line must hold, in the order in which it is written."""

    round: Annotated[int, Meta(ge=0, le=2**62)]
    context: list[float]
    arm: Annotated[int, Meta(ge=0, lt=2**31)]
    probability: Annotated[float, Meta(gt=0.0, le=1.0)]
    reward: Annotated[float, Meta(ge=0.0, le=1.0)]


@dataclass(frozen=True)
class Log:
    """The settled choices of a run, row by row, and the round in which each was paid."""

    round: Ints
    """``[M]``."""
    feedback: Feedback

    def part(self, rows: npt.NDArray[np.bool_]) -> "Log":
        """Return the rows where ``rows[M]`` is true."""
        of = self.feedback
        return Log(
            self.round[rows],
            Feedback(of.context[rows], of.arm[rows], of.reward[rows], of.probability[rows]),
        )


def append_log(path: Path, *, round_number: int, feedback: Feedback) -> None:
    """Append a line ``{"round", "context", "arm", "probability", "reward"}`` for each row.

    Raises UserError where the system refuses.
    """
    columns = (feedback.context, feedback.arm, feedback.probability, feedback.reward)
    lines = [
        json.dumps(dict(zip(Line.__struct_fields__, (round_number, *row), strict=True)))
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
    except OSError as error:
        raise UserError(f"cannot write the log {path}: {error.strerror or error}") from error


def read_log(path: Path) -> Log:
    """Read what ``append_log`` wrote; raise UserError, naming the line, where it is damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the log {path}: {error.strerror or error}") from error
    read = msgspec.json.Decoder(Line).decode
    lines: list[Line] = []
    for number, text in enumerate(data.splitlines(), start=1):
        try:
            lines.append(read(text))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not a line of a log ({error})") from error
        if (given := len(lines[-1].context)) != (expected := len(lines[0].context)):
            raise UserError(
                f"{path}, line {number}: context has {given} numbers, expected {expected} as on "
                "line 1"
            )
    if not lines:
        raise UserError(f"the log {path} is empty")
    return Log(
        np.array([line.round for line in lines], np.int64),
        Feedback(
            np.array([line.context for line in lines], np.float64),
            np.array([line.arm for line in lines], np.int64),
            np.array([line.reward for line in lines], np.float64),
            np.array([line.probability for line in lines], np.float64),
        ),
    )
