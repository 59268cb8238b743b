"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tutelage.types import Row


@contextmanager
def progress(total: int) -> Iterator[Callable[[Row], None]]:
    """Show env steps, return, agreement with the teacher, steps/s and time left, on stderr."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _plain(total)
        return
    bar = Progress(
        TextColumn("{task.completed:>9,.0f} / {task.total:,.0f} env steps"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[news]}"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=total, news="")
        news = _News()

        def show(row: Row) -> None:
            bar.update(task, completed=row.env_steps, news=news.of(row))

        yield show


def _plain(total: int) -> Callable[[Row], None]:
    """Print a line at most every five seconds, and for every evaluation."""
    news = _News()
    last = [float("-inf")]

    def show(row: Row) -> None:
        text = news.of(row)
        evaluated = "eval/passed" in row.metrics
        if evaluated or row.env_steps >= total or time.monotonic() - last[0] >= 5.0:
            last[0] = time.monotonic()
            print(f"{row.env_steps:>9,} / {total:,} env steps  {text}", file=sys.stderr, flush=True)

    return show


class _News:
    """The latest of every figure worth a glance."""

    def __init__(self) -> None:
        self._metrics: dict[str, float] = {}
        self._before: tuple[int, float] | None = None

    def of(self, row: Row) -> str:
        if "eval/passed" in row.metrics:
            for name in ("eval/mean_reward", "eval/at_most"):
                self._metrics.pop(name, None)
        self._metrics.update(row.metrics)
        now = time.monotonic()
        words = [
            f"{label} {self._metrics[name]:{form}}"
            for label, name, form in (
                ("return", "rollout/ep_rew_mean", ".1f"),
                ("evaluated", "eval/mean_reward", ".1f"),
                ("at most", "eval/at_most", ".1f"),
                ("agreement", "distill/agreement", ".0%"),
            )
            if name in self._metrics
        ]
        if self._before is not None:
            steps, at = self._before
            words.append(f"{(row.env_steps - steps) / max(now - at, 1e-9):,.0f} steps/s")
        self._before = (row.env_steps, now)
        return "  ".join(words)


@contextmanager
def notes() -> Iterator[Callable[[str], None]]:
    """Show in one line on stderr what goes on; on a terminal only."""
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as spinner:
        yield lambda text: spinner.update(Text(text))


def facts(of: Mapping[str, str]) -> None:
    """Print names and what they are, a line each, on stdout."""
    width = max(map(len, of))
    for name, value in of.items():
        print(f"{name:<{width}}  {value}")


@contextmanager
def status(line: Callable[[], str]) -> Iterator[Callable[[str], None]]:
    """Keep ``line()`` up to date at the foot of a terminal's stderr, below what is printed.

    Yields what prints. Elsewhere the line follows whatever is printed.
    """
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        yield lambda text: print(f"{text}\n  {line()}", file=sys.stderr, flush=True)
        return
    with Live(get_renderable=lambda: Text(line()), console=console, refresh_per_second=1):
        yield lambda text: console.print(Text(text))


def table(title: str, rows: Sequence[Mapping[str, str]], *, wrap: bool = False) -> None:
    """Print rows of the same keys as a table on stdout: figures, or text to read if ``wrap``.

    Figures are flush right; text is flush left, on several lines where it is long.
    """
    shown = Table(title=title, title_justify="left", show_lines=wrap)
    for i, name in enumerate(rows[0]):
        shown.add_column(name, justify="left" if i == 0 or wrap else "right", no_wrap=not wrap)
    for row in rows:
        shown.add_row(*row.values())
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(shown)
