"""A job for a process of its own that does not survive it; it imports nothing, to start quickly."""

import os


def die(job: object, runs: object) -> None:
    """End the process as the kernel does where memory is short: without a word."""
    os.abort()
