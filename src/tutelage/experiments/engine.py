"""Runs an experiment: methods x seeds, as many at once as there are cores, each on one thread.

A row per finished run goes to ``results/rows.jsonl`` under a digest of its settings; what has a
row is never run again, whichever experiment asks for it, and a run that was interrupted goes on
from its checkpoint. Each run is a process of its own, so that one that fails harms no other.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from hashlib import sha256
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np

from tutelage import recipes, teachers
from tutelage.configs import Distill, from_mapping
from tutelage.errors import UserError
from tutelage.evaluation import evaluate
from tutelage.experiments import Experiment, Row, find_experiments
from tutelage.files import sync
from tutelage.offpolicy import read_log
from tutelage.report.comparison import median
from tutelage.runs import read_rows, versions

BUDGETS: dict[str, Mapping[str, Any]] = {
    "smoke": {
        "env_steps": 1_024,
        "eval_from": 10**9,
        "round_steps": 512,
        "num_envs": 4,
        "confirm_episodes": 1,
    },
    "short": {},
    "paper": {"env_steps": 250_000},
}
"""Name -> the settings that it overrides: a look, what settles most claims, the paper's own."""


@dataclass(frozen=True)
class Job:
    """One run of a grid."""

    experiment: str
    method: str
    config: Distill

    @property
    def key(self) -> str:
        """Return what tells it from every other run."""
        return key(different(self.config), self.config.seed)


def key(settings: Mapping[str, Any], seed: int) -> str:
    """Return a digest of a run's seed and of the settings that are not the usual ones.

    A setting that is new to ``Distill`` leaves the keys of earlier runs as they are.
    """
    return sha256(json.dumps([seed, settings], sort_keys=True).encode()).hexdigest()[:16]


def jobs(name: str, experiment: Experiment, *, seeds: int, budget: str) -> list[Job]:
    """Return the runs of an experiment, all methods on the first seed before any on the next."""
    return [
        Job(
            name,
            method,
            from_mapping(
                Distill,
                {**_lists(settings), **BUDGETS[budget], "seed": seed, "threads": 1},
                where=f"{name}, {method}",
            ),
        )
        for seed in range(1, seeds + 1)
        for method, settings in experiment.methods.items()
    ]


def _lists(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in settings.items()}


def finished(results: Path) -> list[Row]:
    """Return the rows that there are."""
    return list(read_rows(results, "rows.jsonl"))


def run_grid(
    grid: Sequence[Job], *, results: Path, runs: Path, workers: int
) -> Generator[tuple[Job, Row | Exception], None, None]:
    """Run what has no row yet; yield each with its row as that is written, or with its failure.

    What failed has no row, and is tried again another time. On Ctrl-C, SIGTERM or ``close`` the
    runs under way finish their round and save it; on a second Ctrl-C they end at once.
    """
    done = _keys(results)
    left: dict[str, Job] = {}
    for job in grid:
        if job.key not in done:
            left.setdefault(job.key, job)
    path = _rows_file(results)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Only this process is to see Ctrl-C, and it tells the others: they inherit who is deaf to it.
    # The tracker of multiprocessing makes the thread that starts it listen again, so it goes first.
    resource_tracker.ensure_running()
    deaf = (signal.SIG_BLOCK, {signal.SIGINT})
    pool = ThreadPoolExecutor(workers, initializer=signal.pthread_sigmask, initargs=deaf)
    waiting = {pool.submit(in_a_process, job, runs): job for job in left.values()}
    try:
        for future in as_completed(list(waiting)):
            failure = future.exception()
            if isinstance(failure, Exception):
                yield waiting.pop(future), failure
                continue
            row = future.result()
            _append(path, row)
            yield waiting.pop(future), row
    finally:
        try:
            pool.shutdown(wait=False, cancel_futures=True)
            _stop(waiting)
            done = _keys(results)
            for future, job in waiting.items():
                if not future.cancelled() and not future.exception() and job.key not in done:
                    _append(path, future.result())
        finally:
            signal.signal(signal.SIGTERM, before)


def in_a_process(job: Job, runs: Path) -> Row:
    """Run or go on with one job in a process of its own, on one thread; return its row."""
    # The process reads this as it starts: more threads than cores would slow all of them.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            return alone.submit(run_job, job, runs).result()
    except BrokenProcessPool:
        raise UserError("its process was killed, perhaps for want of memory") from None


def _stop(running: Collection[Future[Row]]) -> None:
    """Have the processes under way finish their round; end them at once if interrupted again."""
    left = [future for future in running if not future.done()]
    if left:
        text = "the runs under way finish their round and save it; Ctrl-C again ends them at once"
        print(text, file=sys.stderr, flush=True)
    try:
        while left:
            for child in multiprocessing.active_children():
                child.terminate()
            wait(left, timeout=1.0)
            left = [future for future in left if not future.done()]
    except KeyboardInterrupt:
        for child in multiprocessing.active_children():
            child.kill()
        raise


def _keys(results: Path) -> set[str]:
    return {key(row["settings"], row["seed"]) for row in finished(results)}


def _rows_file(results: Path) -> Path:
    """Return the file of rows, without a line that a crash cut short."""
    path = results / "rows.jsonl"
    try:
        results.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return path


def _append(path: Path, row: Row) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        sync(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def run_job(job: Job, runs: Path) -> Row:
    """Run or go on with one job; return its row."""
    folder = runs / f"{job.experiment}-{job.method.replace(' ', '-')}-{job.config.seed}-{job.key}"
    began = time.perf_counter()
    outcome = recipes.distill(job.config, folder, resume=(folder / "config.toml").exists())
    played = outcome.evaluation
    if outcome.passed_at is None:
        best = teachers.load(str(folder))
        played = evaluate(
            best.network,
            teachers.environment_of(best),
            episodes=job.config.confirm_episodes,
            seed=job.config.seed,
            stream="closing",
            threads=1,
        )
    assert played is not None
    about = versions()
    row = {
        "seed": job.config.seed,
        "settings": different(job.config),
        "env_steps": outcome.env_steps,
        "target_return": job.config.target_return,
        "env_steps_to_target": outcome.passed_at,
        **played.summary(),
        "seconds": round(time.perf_counter() - began, 1),
        "commit": about["commit"],
        "machine": about["machine"],
        **find_experiments()[job.experiment].score(folder),
    }
    log = folder / "selections.jsonl"
    if log.exists() and log.stat().st_size:
        arm = read_log(log).feedback.arm
        row["picks"] = np.bincount(arm, minlength=len(job.config.teachers)).tolist()
    return row


def different(config: Distill) -> dict[str, Any]:
    """Return the settings in which a run differs from ``Distill()``, but for its seed."""
    usual = asdict(Distill())
    return {k: v for k, v in asdict(config).items() if v != usual[k] and k != "seed"}


def by_method(grid: Sequence[Job], rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of a grid's methods, in the order of the grid, seed by seed."""
    known = {key(row["settings"], row["seed"]): row for row in rows}
    methods: dict[str, list[Row]] = {job.method: [] for job in grid}
    for job in grid:
        if job.key in known:
            methods[job.method].append(known[job.key])
    return methods


def overview(grid: Sequence[Job], rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return a line per method: its seeds one by one, and their median."""
    lines = []
    for method, of in by_method(grid, rows).items():
        if not of:
            continue
        steps = [row["env_steps_to_target"] for row in of]
        middle = median(steps)
        lines.append(
            {
                "method": method,
                "seeds": " ".join("-" if s is None else f"{s:,}" for s in steps),
                "median": "-" if middle is None else f"{middle:,.0f}",
                "mean return": " ".join(f"{row['mean_return']:.1f}" for row in of),
            }
        )
    return lines
