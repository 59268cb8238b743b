"""PyTorch's threads: a setting of the whole process, which a command owns and a library does not.

A command runs within ``owning``; only there does anything change how many threads PyTorch has.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_owned = ContextVar("tutelage_owns_the_process", default=False)


@contextmanager
def owning(threads: int) -> Iterator[None]:
    """Give PyTorch so many threads until the end; evaluations within may think on one."""
    before = torch.get_num_threads()
    token = _owned.set(True)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        _owned.reset(token)
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Think on one thread meanwhile, where the process is ours; elsewhere change nothing."""
    if not _owned.get():
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def usual(*, convolutions: bool) -> int:
    """Return how many threads suit this work on this machine now.

    One for a network without convolutions, whose steps are too short to share. Two otherwise, where
    the machine has a second core that nobody else is using: threads that wait for each other on
    busy cores take several times as long as one.
    """
    cores = os.cpu_count() or 1
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return 2 if convolutions and cores - round(busy) >= 2 else 1
