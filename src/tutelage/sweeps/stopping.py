"""How a grid stops: gently when asked once, at once when asked again."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def told_to_stop() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and Ctrl-C, however often they come, into a question asked between rounds.

    Whoever sent them has other means to end a run at once.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {s: signal.signal(s, lambda number, frame: received.append(number)) for s in signals}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
