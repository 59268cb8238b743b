"""The engine for many machines: each run a task of a Ray cluster, on one CPU of one of its nodes.

RAY_ADDRESS says where the cluster is. Every node needs Ray and this package, the same versions as
here. A run's folder is on the node that runs it, under the absolute path that it would have here.
Where the nodes share a file system there, an interrupted run goes on from its checkpoint on any
node; where they do not, it does so on its own node and begins anew on another.
"""

import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tutelage.errors import UserError
from tutelage.signals import sigterm_as_ctrl_c
from tutelage.sweeps.grid import Outcome
from tutelage.sweeps.jobs import Job
from tutelage.sweeps.rows import Row
from tutelage.sweeps.stopping import stop

RETRIES = 3
"""How often a run is run again after its node or its process was killed under it."""
REACHED_WITHIN = 10.0
"""Seconds. Ray itself would try for two minutes, and fill the screen with it."""


def run_ray(
    left: Sequence[Job],
    *,
    runs: Path,
    workers: int,
    keep: Callable[[Row], None],
    begin: Callable[[Job], None] = lambda job: None,
) -> Generator[Outcome, None, None]:
    """Run jobs on a cluster (see ``grid.Engine``).

    What a lost node was running is run again on another; a run that raises is not.
    ``workers`` 0 keeps as many under way as the cluster has CPUs, which may change meanwhile. On
    Ctrl-C, SIGTERM or ``close`` the runs under way finish their round and save it; on a second
    Ctrl-C they end at once.
    """
    waiting = deque(left)
    running: dict[Any, Job] = {}

    def taken(reference: Any) -> Outcome:
        outcome = _came_of(ray, reference)
        if not isinstance(outcome, Exception):
            keep(outcome)
        return running.pop(reference), outcome

    def finished(*, of: int) -> list[Any]:
        done, _ = ray.wait(list(running), num_returns=of, timeout=1.0)
        return list(done)

    def ask() -> bool:
        for reference in running:
            ray.cancel(reference)  # as Ctrl-C would in the run's own process
        for reference in finished(of=len(running)):
            taken(reference)
        return bool(running)

    def end() -> None:
        for reference in running:
            ray.cancel(reference, force=True)

    with sigterm_as_ctrl_c(), _cluster() as ray:
        task = ray.remote(
            num_cpus=1,
            max_calls=1,  # a process of its own
            max_retries=RETRIES,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        )(_run)
        try:
            while waiting or running:
                # A cluster that has no CPU just now may get one: a task can wait for it there.
                room = workers or max(1, int(ray.cluster_resources().get("CPU", 0)))
                while waiting and len(running) < room:
                    job = waiting.popleft()
                    begin(job)
                    running[task.remote(job, runs.absolute())] = job
                for reference in finished(of=1):
                    yield taken(reference)
        finally:
            if running:
                stop(ask, end)


def _run(job: Job, runs: Path) -> Row:
    return job.run(runs)


@contextmanager
def _cluster() -> Iterator[Any]:
    """Yield Ray, connected; disconnect unless it was connected already."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        raise UserError(
            "engine 'ray': RAY_ADDRESS is not set, expected the address of a cluster "
            "(HOST:6379, or auto on a machine that is one of its nodes)"
        )
    _reach(address)
    try:
        import ray
    except ImportError:
        raise UserError("engine 'ray' needs Ray: pip install -e '.[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    ours = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable(address, error) from error
    finally:
        signal.signal(signal.SIGTERM, ours)  # Ray has taken it
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise UserError if ``address`` is HOST:PORT and nobody listens there."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> UserError:
    return UserError(f"no Ray cluster at RAY_ADDRESS {address!r}: {error}")


def _came_of(ray: Any, reference: Any) -> Row | Exception:
    """Return a finished task's row, or what kept it from having one."""
    try:
        row: Row = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        failure: Exception = error.cause
        failure.__cause__ = error  # it has the traceback from over there
        return failure
    except (
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.WorkerCrashedError,
    ):
        return UserError("its process was killed each time, perhaps for want of memory")
    except ray.exceptions.RayError as error:
        return error  # type: ignore[no-any-return]
    return row
