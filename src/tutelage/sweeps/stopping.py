"""How a grid stops: gently when asked once, at once when asked again."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(ask: Callable[[], bool], end: Callable[[], None]) -> None:
    """Have the runs under way finish their round; ``end`` them at once if interrupted again.

    ``ask`` tells each to stop, waits a moment and returns whether any is left. One that has only
    begun may miss that, so it is told until it has stopped.
    """
    text = "the runs under way finish their round and save it; Ctrl-C again ends them at once"
    try:
        print(text, file=sys.stderr, flush=True)
        while ask():
            pass
    except KeyboardInterrupt:
        end()
        raise
