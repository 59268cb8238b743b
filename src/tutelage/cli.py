"""The command line: results on stdout, progress on stderr, bad input ends with exit code 2."""

import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import (
    AbstractContextManager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from tutelage.errors import PolicyWarning, UserError, did_you_mean, look_up
from tutelage.signals import sigterm_as_ctrl_c
from tutelage.text import printable

COMMANDS = {
    "distill": (
        "tutelage.commands.learning:DistillCommand",
        "Teach a small student what a teacher knows, online or from a recorded data set.",
    ),
    "teach": (
        "tutelage.commands.learning:TeachCommand",
        "Train a teacher from reward: by double Q-learning, or by PQN.",
    ),
    "multitask": (
        "tutelage.commands.learning:MultitaskCommand",
        "Teach one small student several tasks, from a teacher of each.",
    ),
    "record": (
        "tutelage.commands.learning:RecordCommand",
        "Write a data set while a teacher plays ('tutelage teach --record' writes its training).",
    ),
    "evaluate": (
        "tutelage.commands.playing:EvaluateCommand",
        "Play whole episodes greedily on held-out seeds, without and with sticky actions.",
    ),
    "inspect": (
        "tutelage.commands.playing:InspectCommand",
        "Say what a file is: its format, head, observations, size, origin and digest.",
    ),
    "export": (
        "tutelage.commands.exporting:ExportCommand",
        "Write a policy for another runtime, with its contract and the proof that it acts the "
        "same.",
    ),
    "resume": (
        "tutelage.commands.learning:ResumeCommand",
        "Go on with a run that was interrupted, to the very result it would have had.",
    ),
    "watch": (
        "tutelage.commands.playing:WatchCommand",
        "Film one or more models playing the same episode side by side.",
    ),
    "report": (
        "tutelage.commands.report:ReportCommand",
        "Write a run's report.html again, with its learning curve and a film of its players.",
    ),
    "offpolicy": (
        "tutelage.commands.offpolicy:OffPolicyCommand",
        "Judge selectors by a run's log: they learn from its first half and are paid by its "
        "second.",
    ),
    "sizes": (
        "tutelage.commands.playing:SizesCommand",
        "List the named network sizes with their parameter counts.",
    ),
    "zoo": (
        "tutelage.commands.zoo:ZooCommand",
        "List the models that come with the package, and those of a folder, with their scores.",
    ),
    "sweep": (
        "tutelage.commands.sweep:SweepCommand",
        "Compare settings over seeds, as a TOML file names them; what has a row is not run again.",
    ),
}
"""Command -> the class that is it, imported when it is asked for, and the first line of its help.
"""

LONGEST = 2_000
"""Characters of an error that are shown: a name in it may be of any length."""


GYMNASIUM = "\x1b[33mWARN"
"""What its warnings begin with."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command that ``arguments`` (by default the process's own) spell."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where a person's own MODULE:NAME lies
    # Films are drawn without a window; looking for one, SDL complains where there is no desktop.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        if words == ["--version"]:
            from importlib.metadata import version

            print(f"tutelage {version('tutelage')}")
        elif not words:
            print(_help(), file=sys.stderr)
            sys.exit(2)
        elif words[0] in ("--help", "-h"):
            print(_help())
        else:
            # What is begun is then tidied up, and nothing half-written is left.
            with sigterm_as_ctrl_c(), warnings.catch_warnings():
                warnings.showwarning = _warn(warnings.showwarning)
                command = _parse(*words)
                with _stdout_of(command):
                    _run(command)
    except UserError as error:
        # A sweep has its settings in a file, by their names.
        _end(str(error) if words[:1] == ["sweep"] else re.sub(r"`(\w+)`", _flag, str(error)))
    except MemoryError as error:
        _end(f"not enough memory: {error}")
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if error.strerror is None:
            raise
        named = "" if error.filename is None else f"{error.filename}: "
        _end(f"{named}{error.strerror}")
    except KeyboardInterrupt:
        _end("interrupted", code=130)


def _run(command: Any) -> None:
    """Run a command, which ends by itself: what it runs of a person's own may not end it."""
    try:
        command.run()
    except SystemExit as end:
        raise UserError(
            f"an environment or a policy of one's own ended the process, by {end!r}: expected "
            "that it raises an exception or goes on"
        ) from end


def _stdout_of(command: Any) -> AbstractContextManager[None]:
    """Return what keeps others from the stdout of a command that is to print one JSON object."""
    from tutelage.commands import display

    return display.only_answers() if getattr(command, "json", False) else nullcontext()


def _warn(others: Callable[..., None]) -> Callable[..., None]:
    """Return what shows a warning: ours once, on a line of its own, all ``others`` as they were.

    Not Gymnasium's advice on how to write environments: what matters of it is refused.
    """
    said = set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, PolicyWarning):
            line = f"tutelage: warning: {printable(str(message))}"
            if line not in said:
                print(line, file=sys.stderr, flush=True)
            said.add(line)
        elif not str(message).startswith(GYMNASIUM):
            others(message, category, *place)

    return show


def _end(text: str, *, code: int = 2) -> None:
    line = printable(text)
    shown = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
    print(f"tutelage: {shown}", file=sys.stderr)
    sys.exit(code)


def _flag(quoted: re.Match[str]) -> str:
    """Return the flag of a setting, which an error has in backquotes; another word as it is."""
    from tutelage.commands.learning import MultitaskCommand
    from tutelage.schema import settings_of

    setting = quoted[1]
    flag = f"--{setting.replace('_', '-')}"
    return flag if setting in settings_of(MultitaskCommand) else quoted[0]


BRINGING: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "teach": {"algorithm": str},
    "distill": {"student": str, "env_steps": int},
    "multitask": {"student": str},
}
"""Command -> the settings that bring defaults of others with them, and how each is read."""


def _help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: tutelage COMMAND …",
            "",
            "Distil large policies into small, fast ones.",
            "",
            *(f"  {name:<{width}}  {about}" for name, (_, about) in COMMANDS.items()),
            "",
            "'tutelage COMMAND --help' shows the settings of a command; --config FILE.toml gives",
            "'teach', 'distill' and 'multitask' their defaults; --version says which this is.",
            "Without a command this is shown too, with exit code 2, as for any input that is bad.",
        ]
    )


def _parse(name: str, *words: str) -> Any:
    """Return the command, its defaults taken from ``--config FILE.toml`` if that is given."""
    import tyro

    from tutelage.commands.help import REGISTRY
    from tutelage.schema import check, settings_of

    place, _ = look_up("command", name, COMMANDS)
    kind = load(place)
    path, words = _config_file(words)
    values = _settings_in(path, name) if path else {}
    for setting, read in BRINGING.get(name, {}).items():
        with suppress(ValueError):  # tyro will say what is wrong with it
            if given := _given(setting, words):
                values[setting] = read(given)
    said, shown = io.StringIO(), io.StringIO() if os.environ.get("NO_COLOR") else sys.stdout
    try:
        with redirect_stderr(said), redirect_stdout(shown):
            command = tyro.cli(
                kind,
                args=words,
                prog=f"tutelage {name}",
                registry=REGISTRY,
                default=_defaults(name, kind, values, path) if values else tyro.MISSING_NONPROP,
            )
    except SystemExit as end:
        if end.code:
            line = _plainly(_unboxed(said.getvalue()), settings_of(kind))
            raise UserError(f"{line} (see 'tutelage {name} --help')") from None
        if isinstance(shown, io.StringIO) and shown is not sys.stdout:
            print(shown.getvalue(), end="")  # no terminal, no colours
        raise
    return check(command)


def load(place: str) -> Any:
    """Return the class that ``MODULE:NAME`` names in ``COMMANDS``."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _config_file(words: tuple[str, ...]) -> tuple[Path | None, tuple[str, ...]]:
    """Return what ``--config`` names, and the other words."""
    words = tuple(part for word in words for part in _apart(word))
    if "--config" not in words:
        return None, words
    at = words.index("--config")
    if at + 1 == len(words):
        raise UserError("--config needs the name of a TOML file")
    return Path(words[at + 1]), words[:at] + words[at + 2 :]


def _apart(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith("--config=") else [word]


def _given(setting: str, words: tuple[str, ...]) -> str:
    """Return the value that the flag of a setting is given last, empty if none is."""
    value = ""
    for word, following in pairwise((*words, "")):
        flag, equals, there = word.partition("=")
        if flag.replace("_", "-") == f"--{setting.replace('_', '-')}":
            value = there if equals else following
    return value


def _settings_in(path: Path, name: str) -> dict[str, Any]:
    """Return the settings that a file has for a command."""
    from tutelage.commands.learning import LEARNING
    from tutelage.files import read_toml

    if name not in LEARNING:
        raise UserError(f"--config: only with {' and '.join(sorted(LEARNING))}")
    values = read_toml(path)
    if (of := values.pop("command", name)) != name:
        raise UserError(f"{path} configures 'tutelage {of}', expected 'tutelage {name}'")
    values.pop("files", None)
    return values


def _defaults(name: str, kind: Any, values: dict[str, Any], path: Path | None) -> Any:
    """Return the command with the settings of a file, and what they bring with them."""
    from tutelage.commands.learning import LEARNING
    from tutelage.schema import build

    return kind(config=build(LEARNING[name][0], values, where=str(path or "")))


PLAIN = {
    r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)": (
        r"\1 is \2, expected a whole number"
    ),
    r"Error parsing (\S+): could not convert string to float: (.*)": r"\1 is \2, expected a number",
    r"Error parsing (\S+): no type matching \S+ could be instantiated from \[(.*)\]\.": (
        r"\1 cannot be \2"
    ),
    r"Missing value for argument '(\S+)'.*": r"\1 needs a value",
    r"Missing from [^:]*: (.*?)(?: \(required\))?$": r"missing: \1",
}
"""What tyro says -> the same in plain words."""


def _plainly(line: str, settings: Iterable[str]) -> str:
    """Return what tyro says; of an option that there is not, what was probably meant instead."""
    for said, plain in PLAIN.items():
        line = re.sub(said, plain, line)
    if not (unknown := re.match(r"Unrecognized options: ([^, =]+)", line)):
        return line
    if not unknown[1].startswith("-"):
        return f"unexpected {unknown[1]!r}"
    flag = f"--{unknown[1].lstrip('-').replace('_', '-')}"
    hint = did_you_mean(flag, [f"--{name.replace('_', '-')}" for name in settings])
    return f"unknown option {unknown[1]}{': ' * bool(hint)}{hint}"


def _unboxed(text: str) -> str:
    """Return the gist of what tyro says, in a coloured box with rules in it, as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip("│╰╯ ") for line in plain.splitlines()[1:]]
    ruled = "\n".join("\0" if not line.strip("─-") else line for line in lines)
    gist, *_ = [part for part in ruled.split("\0") if part.strip()] or [plain]
    return " ".join(gist.split())
