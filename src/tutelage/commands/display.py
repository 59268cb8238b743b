"""What a person sees: results on stdout; on stderr, while a run goes on, a live line or lines.

Names come from outside: whatever is shown is shown as it is, neither read as Rich's markup nor by
the terminal. Rich leaves out colours where ``NO_COLOR`` is set or nobody looks at a terminal.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tutelage.text import printable
from tutelage.types import Row

SECONDS = 5.0
"""Between two lines where there is no terminal."""
WORDS = 18
"""Columns that a cell of words should have at least; below that, a row is shown line by line."""
PIPED = 100_000
"""Columns where nobody looks at a terminal: as many as a table of figures may want."""


def say(text: str) -> None:
    """Print a line on stdout as it is."""
    print(printable(text))


_ANSWERS: ContextVar[TextIO | None] = ContextVar("answers", default=None)


@contextmanager
def only_answers() -> Iterator[None]:
    """Keep stdout for ``answer``: what else is printed, as by an environment, goes to stderr."""
    token = _ANSWERS.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _ANSWERS.reset(token)


def answer(result: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(result), file=_ANSWERS.get())


def warn(text: str) -> None:
    """Print a line on stderr as it is."""
    print(printable(text), file=sys.stderr, flush=True)


class Watch:
    """Shows a run as it goes on: called with every row, and told what happens in between."""

    def __init__(self, show: Callable[[int, str, bool], None]) -> None:
        """Show by ``show(env_steps, text, important)``."""
        self._show = show
        self._metrics: dict[str, float] = {}
        self._env_steps = 0
        self._at: float | None = None

    def __call__(self, row: Row) -> None:
        """Show the latest of every figure worth a glance."""
        evaluated = "eval/passed" in row.metrics or "eval/kept" in row.metrics
        if evaluated:
            for name in ("eval/mean_reward", "eval/at_most"):
                self._metrics.pop(name, None)
        self._metrics.update(row.metrics)
        if any(f"distill/{name}" in row.metrics for name in TELLING):
            self._metrics.pop("distill/agreement", None)
            self._metrics.pop("heldout/agreement", None)
        words = [
            f"{label} {self._metrics[name]:{form}}"
            for name, (label, form) in GLANCE.items()
            if name in self._metrics
        ]
        now = time.monotonic()
        if self._at is not None:
            speed = (row.env_steps - self._env_steps) / max(now - self._at, 1e-9)
            words.append(f"{speed:,.0f} steps/s")
        self._env_steps, self._at = row.env_steps, now
        self._show(row.env_steps, "  ".join(words), evaluated)

    def note(self, text: str) -> None:
        """Show ``text`` until the next row: ``evaluating: 12 of 30 episodes``."""
        self._show(self._env_steps, printable(text), False)


GLANCE = {
    "rollout/ep_rew_mean": ("return", ".1f"),
    "eval/mean_reward": ("evaluated", ".1f"),
    "eval/at_most": ("at most", ".1f"),
    "eval/kept": ("kept", ".0%"),
    "distill/regret": ("regret", ".3g"),
    "heldout/regret": ("held out", ".3g"),
    "distill/relative_probability": ("relative probability", ".0%"),
    "heldout/relative_probability": ("held out", ".0%"),
    "distill/action_error": ("action error", ".1%"),
    "heldout/action_error": ("held out", ".1%"),
    "distill/agreement": ("agreement", ".0%"),
    "heldout/agreement": ("held out", ".0%"),
    "rollout/epsilon": ("\N{GREEK SMALL LETTER EPSILON}", ".2f"),
    "rollout/teacher_acts": ("led by the teacher", ".0%"),
}
"""Metric -> what it is called while a run goes on, and its format."""

TELLING = ("regret", "relative_probability", "action_error")
"""What says more of a student than agreement, which says little where actions are twins."""


@contextmanager
def progress(total: int) -> Iterator[Watch]:
    """Show env steps out of ``total``, figures, steps/s and time left, on stderr."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        put = _lines()
        yield Watch(
            lambda env_steps, text, important: put(
                f"{env_steps:>9,} / {total:,} env steps  {text}", important or env_steps >= total
            )
        )
        return
    bar = Progress(
        TextColumn("{task.completed:>9,.0f} / {task.total:,.0f} env steps"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[news]}", markup=False),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=total, news="")
        yield Watch(lambda env_steps, text, _: bar.update(task, completed=env_steps, news=text))


@contextmanager
def notes() -> Iterator[Callable[[str], None]]:
    """Show the latest of what is noted on stderr: ``evaluating: 12 of 30 episodes``.

    Where there is no terminal, what takes less than five seconds is not worth a line.
    """
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        put = _lines(time.monotonic())
        yield lambda text: put(printable(text), False)
        return
    with console.status("") as shown:
        yield lambda text: shown.update(Text(printable(text)))


def _lines(last: float = -math.inf) -> Callable[[str, bool], None]:
    """Return what prints a line on stderr, unless it is unimportant and the last was just now."""

    def put(text: str, important: bool) -> None:
        nonlocal last
        if important or time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return put


def facts(of: Mapping[str, str]) -> None:
    """Print names and what they are, a line each, on stdout."""
    _show(Console(width=None if sys.stdout.isatty() else PIPED), _pairs(of))


@contextmanager
def status(line: Callable[[], str]) -> Iterator[Callable[[str], None]]:
    """Keep ``line()`` up to date at the foot of a terminal's stderr, below what is printed.

    Yields what prints. Elsewhere the line follows whatever is printed.
    """
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        yield lambda text: print(
            _literal(text), f"  {line()}", sep="\n", file=sys.stderr, flush=True
        )
        return
    with Live(get_renderable=lambda: _literal(line()), console=console, refresh_per_second=1):
        yield lambda text: console.print(_literal(text))


def table(title: str, rows: Sequence[Mapping[str, str]], *, wrap: bool = False) -> None:
    """Print rows of the same keys on stdout: figures, or text to read if ``wrap``.

    Figures are flush right; text is flush left, on several lines where it is long. Where a terminal
    is too narrow for figures, rows become columns; where that is too wide as well, and for text,
    each row is shown as lines of name and value.
    """
    heads = list(rows[0])
    columns = [[name, *(row[name] for row in rows)] for name in heads]
    shown = [_grid(title, list(zip(*columns, strict=True)), wrap=wrap)]
    if not wrap:
        shown.append(_grid(title, columns, wrap=False))
    console = Console() if sys.stdout.isatty() else Console(width=120 if wrap else PIPED)
    least = WORDS * len(heads) if wrap else PIPED
    for one in shown:
        if min(least, _width(one, console)) <= console.width:
            _show(console, one)
            return
    _show(console, Group(_literal(title), *(part for row in rows for part in (_pairs(row), ""))))


def _show(console: Console, what: RenderableType) -> None:
    """Print on stdout, without the spaces that Rich fills lines up with."""
    with console.capture() as lines:
        console.print(what)
    print(*(line.rstrip() for line in lines.get().splitlines()), sep="\n")


def _pairs(of: Mapping[str, str]) -> Table:
    """Return a line of name and value for each."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    for name, value in of.items():
        lines.add_row(_literal(name), _literal(value))
    return lines


def _grid(title: str, lines: Sequence[Sequence[str]], *, wrap: bool) -> Table:
    """Return a table of lines, the first of which is the head."""
    grid = Table(title=_literal(title), title_justify="left", show_lines=wrap)
    head, *rest = lines
    for i, name in enumerate(head):
        justify: Literal["left", "right"] = "left" if i == 0 or wrap else "right"
        grid.add_column(_literal(name), justify=justify, no_wrap=not wrap, overflow="fold")
    for line in rest:
        grid.add_row(*map(_literal, line))
    return grid


def _width(grid: Table, console: Console) -> int:
    """Return how wide ``grid`` is where no line is broken."""
    return Measurement.get(console, console.options.update(max_width=PIPED), grid).maximum


def _literal(text: str) -> Text:
    return Text(printable(text, keep="\n"))
