"""What has been run is kept and never run again; what runs it bears failures and interrupts."""

import errno
import gzip
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.dying import Dying
from tests.test_cli import cartpole_model
from tests.toys import Crew, cartpole_study, row_of, toy
from tutelage.errors import UserError
from tutelage.experiments import Row, local, rows
from tutelage.experiments.engines import ENGINES
from tutelage.experiments.grid import by_method, missing, overview, run_grid
from tutelage.experiments.jobs import Job, jobs
from tutelage.experiments.local import run_local
from tutelage.experiments.rows import finished, keeper, short
from tutelage.experiments.tasks import Play
from tutelage.teachers import TeacherError

GRID = jobs("toy", toy(a={"tau": 1.0}, b={"tau": 2.0}), seeds=2, budget="short")
EVERY = [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    it = Crew()
    monkeypatch.setattr(local, "in_a_process", it)
    return it


def go(
    folder: Path, left: Sequence[Job] = GRID, *, workers: int = 1
) -> list[tuple[str, int, Row | Exception]]:
    outcomes = run_grid(
        run_local, left, results=folder / "results", runs=folder / "runs", workers=workers
    )
    return [(job.method, job.seed, outcome) for job, outcome in outcomes]


def kept(folder: Path) -> list[tuple[float, int]]:
    """Return tau and seed of each row."""
    with gzip.open(folder / "results/rows.jsonl.gz", "rt") as lines:
        return [(row["settings"]["tau"], row["seed"]) for row in map(json.loads, lines)]


def test_the_engine_of_this_machine_is_there_by_its_name() -> None:
    assert ENGINES["local"] is run_local


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_run_leaves_a_row_and_is_never_run_again(
    workers: int, tmp_path: Path, crew: Crew
) -> None:
    outcomes = go(tmp_path, workers=workers)
    assert sorted(crew.ran) == sorted(EVERY)
    rows = {(job.method, job.seed): row_of(job) for job in GRID}
    assert {(method, seed): outcome for method, seed, outcome in outcomes} == rows
    assert sorted(kept(tmp_path)) == [(1.0, 1), (1.0, 2), (2.0, 1), (2.0, 2)]
    assert missing(GRID, tmp_path / "results") == []
    assert go(tmp_path, workers=workers) == []
    more = jobs("other", toy(c={"tau": 2.0}, d={"tau": 3.0}), seeds=3, budget="short")
    expected = [("d", 1), ("d", 2), ("c", 3), ("d", 3)]
    assert sorted((m, s) for m, s, _ in go(tmp_path, more)) == sorted(expected)


def test_runs_come_in_the_order_of_the_grid(tmp_path: Path, crew: Crew) -> None:
    go(tmp_path)
    assert crew.ran == EVERY


def test_a_row_is_written_before_it_is_told_of(tmp_path: Path, crew: Crew) -> None:
    outcomes = run_grid(
        run_local, GRID, results=tmp_path / "results", runs=tmp_path / "runs", workers=1
    )
    for _, outcome in outcomes:
        assert outcome in finished(tmp_path / "results")


def test_methods_of_the_same_settings_are_run_once(tmp_path: Path, crew: Crew) -> None:
    twins = jobs("toy", toy(a={"tau": 1.0}, twin={"tau": 1.0}), seeds=1, budget="short")
    go(tmp_path, twins)
    assert crew.ran == [("a", 1)]
    rows = by_method(twins, finished(tmp_path / "results"))
    assert [len(of) for of in rows.values()] == [1, 1]


def test_a_model_that_plays_is_run_once(tmp_path: Path, crew: Crew) -> None:
    it = toy(a={"tau": 1.0}, model=Play("pong"))
    for seeds in (1, 3):
        go(tmp_path, jobs("toy", it, seeds=seeds, budget="short"))
    assert crew.ran == [("a", 1), ("model", 1), ("a", 2), ("a", 3)]
    of = by_method(jobs("toy", it, seeds=3, budget="short"), finished(tmp_path / "results"))
    assert {method: len(rows) for method, rows in of.items()} == {"a": 3, "model": 1}


def test_a_run_that_fails_loses_no_other_and_is_tried_again(tmp_path: Path, crew: Crew) -> None:
    crew.fails = {"a": UserError("no such teacher")}
    outcomes = go(tmp_path)
    assert [(m, s) for m, s, _ in outcomes] == EVERY
    assert [str(outcome) for m, _, outcome in outcomes if m == "a"] == ["no such teacher"] * 2
    assert kept(tmp_path) == [(2.0, 1), (2.0, 2)]
    crew.fails = {}
    assert [(m, s) for m, s, _ in go(tmp_path)] == [("a", 1), ("a", 2)]
    assert len(kept(tmp_path)) == 4


def test_an_interrupted_grid_goes_on_with_what_has_no_row(tmp_path: Path, crew: Crew) -> None:
    outcomes = run_grid(
        run_local, GRID, results=tmp_path / "results", runs=tmp_path / "runs", workers=1
    )
    next(outcomes)
    outcomes.close()
    ran = list(crew.ran)
    assert ran == EVERY[: len(ran)]
    assert len(kept(tmp_path)) == len(ran)
    go(tmp_path)
    assert crew.ran == EVERY


def test_what_finishes_after_an_interrupt_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, told = threading.Event(), threading.Event()

    def slow(job: Job, runs: Path) -> Row:
        if job.method == "b":
            under_way.set()
            assert told.wait(30.0)
        return row_of(job)

    monkeypatch.setattr(local, "in_a_process", slow)
    outcomes = run_grid(
        run_local, GRID, results=tmp_path / "results", runs=tmp_path / "runs", workers=1
    )
    next(outcomes)
    assert under_way.wait(30.0)
    threading.Timer(0.2, told.set).start()
    outcomes.close()
    assert kept(tmp_path) == [(1.0, 1), (2.0, 1)]


def test_sigterm_interrupts_a_grid_as_ctrl_c_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(job: Job, runs: Path) -> Row:
        if (job.method, job.seed) == ("b", 1):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        return row_of(job)

    monkeypatch.setattr(local, "in_a_process", terminated)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert kept(tmp_path) == [(1.0, 1), (2.0, 1)]


@pytest.mark.parametrize(("module", "name"), [(rows, "key_of"), (os, "fsync")])
def test_a_row_is_written_once_even_if_interrupted_before_or_after(
    module: Any, name: str, tmp_path: Path, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    real = getattr(module, name)

    def interrupted(of: Any) -> Any:
        calls.append(of)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(of)

    monkeypatch.setattr(module, name, interrupted)
    asks = {"tau": 1.0, "teachers": ("pong", "pong-good")}  # a tuple is read back as a list
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, jobs("toy", toy(a=asks), seeds=1, budget="short"))
    assert crew.ran == [("a", 1)]
    assert kept(tmp_path) == [(1.0, 1)]


def test_a_row_that_the_disk_had_no_room_for_does_not_hide_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = keeper(tmp_path)
    first, second, third = (row_of(job) for job in GRID[:3])
    keep(first)

    def full(descriptor: int) -> None:
        os.truncate(tmp_path / "rows.jsonl.gz", os.path.getsize(tmp_path / "rows.jsonl.gz") - 9)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"cannot write .*rows\.jsonl\.gz: No space left"):
            keep(second)
    assert finished(tmp_path) == [first]
    keep(third)
    keep(second)
    assert finished(tmp_path) == [first, third, second]


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_rows_damaged_in_the_middle_are_refused_and_none_is_lost(at: float, tmp_path: Path) -> None:
    keep = keeper(tmp_path)
    for job in GRID:
        keep(row_of(job))
    path = tmp_path / "rows.jsonl.gz"
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 0xFF
    path.write_bytes(data)
    for use in (finished, keeper):
        with pytest.raises(
            UserError, match=r"rows\.jsonl\.gz is damaged at byte \d+, after \d rows"
        ):
            use(tmp_path)
    with pytest.raises(UserError, match="damaged"):
        keep(row_of(GRID[0]))
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "line", [b"no json", b"[1, 2]", b'{"seed": 1}', b"[" * 100_000, b"\xff", b"1" * 5_000]
)
def test_rows_that_are_none_are_refused(line: bytes, tmp_path: Path) -> None:
    keep = keeper(tmp_path)
    keep(row_of(GRID[0]))
    path = tmp_path / "rows.jsonl.gz"
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(gzip.compress(line + b"\n"))
    with pytest.raises(UserError, match=rf"is damaged at byte {whole}, after 1 rows"):
        finished(tmp_path)


def test_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*rows\.jsonl\.gz: Is a directory"):
        finished(tmp_path)


@pytest.mark.parametrize(
    ("commit", "shown"),
    [("0123456789", "0123456"), ("0123456789-dirty", "0123456-dirty"), ("unknown", "unknown")],
)
def test_a_commit_is_shortened_but_not_cleaned(commit: str, shown: str) -> None:
    assert short(commit) == shown


@pytest.mark.parametrize("cut", [1, 30])
def test_a_row_cut_short_by_a_crash_costs_that_row_alone(
    cut: int, tmp_path: Path, crew: Crew
) -> None:
    go(tmp_path)
    path = tmp_path / "results/rows.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(finished(tmp_path / "results")) == 3
    assert [(m, s) for m, s, _ in go(tmp_path)] == [EVERY[-1]]
    assert len(kept(tmp_path)) == 4
    assert go(tmp_path) == []


def test_results_that_cannot_be_written_are_named(tmp_path: Path, crew: Crew) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*rows\.jsonl\.gz"):
        go(tmp_path)
    assert crew.ran == []


def test_the_overview_has_a_line_for_each_method_with_rows() -> None:
    it = toy(a={"tau": 1.0}, b={"tau": 2.0}, c={"tau": 3.0})
    asked = jobs("toy", it, seeds=3, budget="short")
    steps = {("a", 1): 9_000, ("a", 2): 1_000, ("a", 3): None, ("b", 1): None, ("b", 3): None}
    rows = [
        row_of(job, steps[at]) for job in asked[::-1] if (at := (job.method, job.seed)) in steps
    ]
    assert overview(asked, rows) == [
        {
            "method": "a",
            "env steps, by seed": "9,000 1,000 -",
            "median": "9,000",
            "mean return": "20.5 20.5 20.5",
        },
        {
            "method": "b",
            "env steps, by seed": "- -",
            "median": "-",
            "mean return": "20.5 20.5",
        },
    ]


# Processes.


def test_runs_in_processes_of_their_own_fail_alone(tmp_path: Path) -> None:
    good = Job("four-experts", "a", 1, cartpole_study(tmp_path, target_return=1.0))
    bad = replace(good, task=cartpole_study(tmp_path, teachers=("nobody",)))
    (_, _, failure), (_, _, row) = go(tmp_path, [bad, good])
    assert isinstance(failure, UserError)
    assert "no model 'nobody'" in str(failure)
    assert not isinstance(row, Exception)
    assert row["env_steps_to_target"] == 128


def test_a_process_that_is_killed_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="process was killed"):
        local.in_a_process(Job("toy", "a", 1, Dying()), tmp_path)


def test_the_failure_of_a_teacher_comes_back_from_another_process() -> None:
    failure = pickle.loads(pickle.dumps(TeacherError(3, "it is ill")))
    assert (failure.arm, failure.reason, str(failure)) == (3, "it is ill", "it is ill")


UNDER_WAY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script runs with "&"
from tests.toys import toy
from tutelage import cli
from tutelage.commands import reproduce
reproduce.find_experiments = lambda: {"toy": toy(a={
    "teachers": (sys.argv[1],), "student": "mlp:4", "num_envs": 2, "round_steps": 128,
    "precision": "fp32", "eval_from": 10**9})}
cli.main(["reproduce", "toy", "--budget", "paper", "--seeds", "2", "--workers", "2",
          "--results", sys.argv[2], "--runs", sys.argv[3]])
"""


@pytest.fixture
def under_way(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a grid of two long runs at once; return when both have rows of metrics."""
    model = cartpole_model(tmp_path / "teacher.safetensors")
    words = [model, str(tmp_path / "results"), str(tmp_path / "runs")]
    processes: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", UNDER_WAY, *words],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        before = lines_of(tmp_path)
        for _ in range(3000):
            now = lines_of(tmp_path)
            if len(now) == 2 and all(now[path] > before.get(path, 0) for path in now):
                return process
            time.sleep(0.1)
        raise AssertionError("the runs are not under way")

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def lines_of(folder: Path) -> dict[Path, int]:
    """Return how many rows of metrics each run has."""
    paths = (folder / "runs").glob("*/metrics.jsonl")
    return {path: path.read_bytes().count(b"\n") for path in paths}


def test_an_interrupt_saves_the_runs_under_way_and_the_same_command_goes_on(
    under_way: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    steps = [0, 0]
    # As a terminal does for Ctrl-C: every process of it. SIGTERM goes to the command alone.
    for tell, ends in ((os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)):
        process = under_way()
        tell(process.pid, ends)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2, errors
        assert "Traceback" not in errors
        assert errors.splitlines()[-1] == "tutelage: stopped; the same command goes on from there"
        before, steps = steps, saved(tmp_path)
        assert all(now > then for now, then in zip(steps, before, strict=True))


def saved(folder: Path) -> list[int]:
    """Return at how many env steps the newest checkpoint of each run is."""
    runs = sorted((folder / "runs").iterdir())
    names = [max(path.name for path in run.glob("checkpoints/*")) for run in runs]
    return [int(name[:9]) for name in names]


def test_ctrl_c_again_ends_the_runs_at_once(
    under_way: Callable[[], subprocess.Popen[str]],
) -> None:
    process = under_way()
    assert process.stderr is not None
    os.killpg(process.pid, signal.SIGINT)
    assert "Ctrl-C again ends them at once" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in errors


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    job = Job("four-experts", "a", 1, cartpole_study(tmp_path, target_return=1.0))
    local.in_a_process(job, tmp_path / "runs")
    assert multiprocessing.active_children() == []
