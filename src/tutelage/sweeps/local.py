"""The engine for one machine: each run a process of its own on one thread, one per core.

So a run that fails, or is killed, harms no other; and an interrupted one goes on from its
checkpoint when it is asked for again.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path

from tutelage.errors import UserError
from tutelage.signals import sigterm_as_ctrl_c
from tutelage.sweeps.grid import Outcome
from tutelage.sweeps.jobs import Job
from tutelage.sweeps.rows import Row
from tutelage.sweeps.stopping import stop


def run_local(
    left: Sequence[Job],
    *,
    runs: Path,
    workers: int,
    keep: Callable[[Row], None],
    begin: Callable[[Job], None] = lambda job: None,
) -> Generator[Outcome, None, None]:
    """Run jobs here (see ``grid.Engine``).

    On Ctrl-C, SIGTERM or ``close`` the runs under way finish their round and save it; on a second
    Ctrl-C they end at once.
    """
    # Only this process is to see Ctrl-C, and it tells the others: they inherit who is deaf to it.
    # The tracker of multiprocessing makes the thread that starts it listen again, so it goes first.
    resource_tracker.ensure_running()
    deaf = (signal.SIG_BLOCK, {signal.SIGINT})
    with sigterm_as_ctrl_c():
        pool = ThreadPoolExecutor(
            workers or os.cpu_count() or 1, initializer=signal.pthread_sigmask, initargs=deaf
        )

        def started(job: Job) -> Row:
            begin(job)
            return in_a_process(job, runs)

        waiting = {pool.submit(started, job): job for job in left}
        try:
            for future in as_completed(list(waiting)):
                failure = future.exception()
                if isinstance(failure, Exception):
                    yield waiting[future], failure
                    continue
                keep(future.result())
                yield waiting[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            _stop(waiting)
            for future in waiting:
                if not future.cancelled() and not future.exception():
                    keep(future.result())


def in_a_process(job: Job, runs: Path) -> Row:
    """Run or go on with one job in a process of its own, on one thread; return its row."""
    # The process reads this as it starts: more threads than cores would slow all of them.
    os.environ["OMP_NUM_THREADS"] = "1"
    # A server that has imported everything forks off each process: none has to start from nothing,
    # nor to import the command again, which each does that was started from it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tutelage.sweeps.jobs", "torch._dynamo"])
    try:
        with ProcessPoolExecutor(1, mp_context=context) as alone:
            return alone.submit(_run, job, runs).result()
    except BrokenProcessPool:
        raise UserError("its process was killed, perhaps for want of memory") from None


def _run(job: Job, runs: Path) -> Row:
    """Run a job; where the command was killed, stop as for SIGTERM and end."""
    command = multiprocessing.parent_process()
    assert command is not None

    def outlive() -> None:
        command.join()
        os.kill(os.getpid(), signal.SIGTERM)  # ends a process whose job is over at once

    threading.Thread(target=outlive, daemon=True).start()
    try:
        return job.run(runs)
    finally:
        if not command.is_alive():
            os._exit(1)  # its pool would wait for ever for another job


def _stop(running: Collection[Future[Row]]) -> None:
    """Have the processes under way finish their round; end them at once if interrupted again."""

    def left() -> list[Future[Row]]:
        return [future for future in running if not future.done()]

    def ask() -> bool:
        for child in multiprocessing.active_children():
            child.terminate()
        wait(left(), timeout=1.0)
        return bool(left())

    def end() -> None:
        # One that was only starting was not there yet to be killed: all are, again and again.
        while left():
            for child in multiprocessing.active_children():
                child.kill()
            wait(left(), timeout=0.1)

    if left():
        stop(ask, end)
