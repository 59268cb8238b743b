"""The command line: results on stdout, progress on stderr, bad input ends with exit code 2."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from tutelage.commands.learning import (
    LEARNING,
    DistillCommand,
    RecordCommand,
    ResumeCommand,
    TeachCommand,
)
from tutelage.commands.offpolicy import OffPolicyCommand
from tutelage.commands.playing import (
    EvaluateCommand,
    InspectCommand,
    SizesCommand,
    WatchCommand,
)
from tutelage.commands.report import ReportCommand
from tutelage.commands.sweep import SweepCommand
from tutelage.configs import build
from tutelage.errors import UserError
from tutelage.files import read_toml

COMMANDS: dict[str, Any] = {
    "distill": DistillCommand,
    "teach": TeachCommand,
    "record": RecordCommand,
    "evaluate": EvaluateCommand,
    "inspect": InspectCommand,
    "resume": ResumeCommand,
    "watch": WatchCommand,
    "report": ReportCommand,
    "offpolicy": OffPolicyCommand,
    "sizes": SizesCommand,
    "sweep": SweepCommand,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command that ``arguments`` (by default the process's own) spell."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(f"tutelage {version('tutelage')}")
        return
    try:
        _parse(words).run()
    except UserError as error:
        print(f"tutelage: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("tutelage: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


def _parse(words: list[str]) -> Any:
    """Return the command, its defaults taken from ``--config FILE.toml`` if that is given."""
    defaults: dict[str, Any] = {}
    words = [part for word in words for part in _apart(word)]
    if words and words[0] in LEARNING and "--config" in words:
        at = words.index("--config")
        if at + 1 == len(words):
            raise UserError("--config needs the name of a TOML file")
        path = Path(words[at + 1])
        del words[at : at + 2]
        values = read_toml(path)
        for key in ("command", "files"):
            values.pop(key, None)
        config = build(LEARNING[words[0]][0], values, where=str(path))
        defaults[words[0]] = {"default": COMMANDS[words[0]](config=config)}
    subcommands: Any = Union[  # noqa: UP007 (built at run time)
        tuple(
            Annotated[kind, tyro.conf.subcommand(name, **defaults.get(name, {}))]
            for name, kind in COMMANDS.items()
        )
    ]
    return tyro.cli(
        subcommands,
        args=words,
        prog="tutelage",
        description="Distil large policies into small, fast ones. --config FILE.toml gives "
        "'teach' and 'distill' their defaults.",
    )


def _apart(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith("--config=") else [word]
