"""What has been run is kept and never run again; what runs it bears failures and interrupts."""

import errno
import gzip
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dying import dying
from tests.rows import Crew, cartpole, cartpole_model, job_of, row_of_job, toy
from tutelage.errors import UserError
from tutelage.sweeps import local, rows
from tutelage.sweeps.grid import by_method, missing, run_grid
from tutelage.sweeps.jobs import Job, jobs
from tutelage.sweeps.local import run_local
from tutelage.sweeps.rows import Row, finished, keeper
from tutelage.teachers import TeacherError

GRID = jobs(toy(a={"tau": 1.0}, b={"tau": 2.0}), seeds=2)
EVERY = [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    it = Crew()
    monkeypatch.setattr(local, "in_a_process", it)
    return it


def begin(folder: Path, grid: Sequence[Job] = GRID, *, workers: int = 1) -> Any:
    return run_grid(
        run_local, grid, results=folder / "results", runs=folder / "runs", workers=workers
    )


def go(folder: Path, grid: Sequence[Job] = GRID) -> list[tuple[str, int, Row | Exception]]:
    return [(job.method, job.seed, outcome) for job, outcome in begin(folder, grid)]


def kept(folder: Path) -> list[tuple[str, int]]:
    """Return method and seed of each row."""
    return [(row.methods[0][1], row.seed) for row in finished(folder / "results")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_run_leaves_a_row_and_is_never_run_again(
    workers: int, tmp_path: Path, crew: Crew
) -> None:
    for job, outcome in begin(tmp_path, workers=workers):
        assert outcome == row_of_job(job)
        assert outcome in finished(tmp_path / "results")  # written before it is told of
    assert sorted(crew.ran) == sorted(kept(tmp_path)) == sorted(EVERY)
    assert workers != 1 or crew.ran == EVERY
    assert missing(GRID, tmp_path / "results") == []
    assert go(tmp_path) == []
    more = jobs(toy(c={"tau": 2.0}, d={"tau": 3.0}), seeds=3)
    assert [(m, s) for m, s, _ in go(tmp_path, more)] == [("d", 1), ("d", 2), ("c", 3), ("d", 3)]


def test_a_run_that_serves_several_methods_is_run_once_for_all(tmp_path: Path, crew: Crew) -> None:
    twins = jobs(toy(a={"tau": 1.0}, twin={"tau": 1.0}), seeds=1)
    go(tmp_path, twins)
    assert crew.ran == [("a", 1)]
    (row,) = finished(tmp_path / "results")
    assert row.methods == (("toy", "a"), ("toy", "twin"))
    assert by_method(twins, [row]) == {"a": [row], "twin": [row]}


def test_a_run_that_fails_loses_no_other_and_is_tried_again(tmp_path: Path, crew: Crew) -> None:
    crew.fails = {"a": UserError("no such teacher")}
    outcomes = go(tmp_path)
    assert [(m, s) for m, s, _ in outcomes] == EVERY
    assert [str(outcome) for m, _, outcome in outcomes if m == "a"] == ["no such teacher"] * 2
    assert kept(tmp_path) == [("b", 1), ("b", 2)]
    crew.fails = {}
    assert [(m, s) for m, s, _ in go(tmp_path)] == [("a", 1), ("a", 2)]
    assert len(kept(tmp_path)) == 4


def test_an_interrupted_grid_goes_on_with_what_has_no_row(tmp_path: Path, crew: Crew) -> None:
    outcomes = begin(tmp_path)
    next(outcomes)
    outcomes.close()
    ran = list(crew.ran)
    assert ran == kept(tmp_path) == EVERY[: len(ran)]
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
        return row_of_job(job)

    monkeypatch.setattr(local, "in_a_process", slow)
    outcomes = begin(tmp_path)
    next(outcomes)
    assert under_way.wait(30.0)
    threading.Timer(0.2, told.set).start()
    outcomes.close()
    assert kept(tmp_path) == EVERY[:2]


def test_sigterm_interrupts_a_grid_as_ctrl_c_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(job: Job, runs: Path) -> Row:
        if (job.method, job.seed) == ("b", 1):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        return row_of_job(job)

    monkeypatch.setattr(local, "in_a_process", terminated)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert kept(tmp_path) == EVERY[:2]


# The file of rows.


@pytest.mark.parametrize(("module", "name"), [(rows, "pack"), (os, "fsync")])
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
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, GRID[:1])
    assert crew.ran == kept(tmp_path) == EVERY[:1]


def test_a_row_that_the_disk_had_no_room_for_does_not_hide_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = keeper(tmp_path)
    first, second, third = (row_of_job(job) for job in GRID[:3])
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


@pytest.mark.parametrize("cut", [1, 30])
def test_a_row_cut_short_by_a_crash_costs_that_row_alone(
    cut: int, tmp_path: Path, crew: Crew
) -> None:
    go(tmp_path)
    path = tmp_path / "results/rows.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-cut])
    assert kept(tmp_path) == EVERY[:-1]
    assert [(m, s) for m, s, _ in go(tmp_path)] == [EVERY[-1]]
    assert kept(tmp_path) == EVERY


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_rows_damaged_in_the_middle_are_refused_and_none_is_lost(at: float, tmp_path: Path) -> None:
    keep = keeper(tmp_path)
    for job in GRID:
        keep(row_of_job(job))
    path = tmp_path / "rows.jsonl.gz"
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 0xFF
    path.write_bytes(data)
    uses: list[Callable[[], object]] = [
        lambda: finished(tmp_path),
        lambda: keeper(tmp_path),
        lambda: keep(row_of_job(GRID[0])),
    ]
    for use in uses:
        with pytest.raises(UserError, match=r"is damaged at byte \d+, after \d rows"):
            use()
    assert path.read_bytes() == data


ROW = msgspec.to_builtins(row_of_job(GRID[0]))


@pytest.mark.parametrize(
    "line",
    [
        *(b"no json", b"[1, 2]", b"null", b"[" * 100_000, b"\xff", b"1" * 5_000),
        *(
            msgspec.json.encode({**ROW, name: value})
            for name, value in [
                ("env_steps", "9"),
                ("env_steps", None),
                ("returns", [1.0, None]),
                ("command", {"name": "rm", "config": {"seed": 1}}),
                ("command", {"name": "distill", "config": {"seed": "1"}}),
                ("command", {"name": "distill", "config": {"seed": 1, "teachers": [2]}}),
                ("files", []),
                ("unheard", 1),
            ]
        ),
        msgspec.json.encode({k: v for k, v in ROW.items() if k != "commit"}),
    ],
)
def test_what_is_no_row_is_refused(line: bytes, tmp_path: Path) -> None:
    keeper(tmp_path)(row_of_job(GRID[0]))
    path = tmp_path / "rows.jsonl.gz"
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(gzip.compress(line + b"\n"))
    with pytest.raises(UserError, match=rf"is damaged at byte {whole}, after 1 rows"):
        finished(tmp_path)


def test_rows_that_cannot_be_read_or_written_are_named(tmp_path: Path, crew: Crew) -> None:
    (tmp_path / "rows.jsonl.gz").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*rows\.jsonl\.gz: Is a directory"):
        finished(tmp_path)
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*rows\.jsonl\.gz"):
        go(tmp_path)
    assert crew.ran == []


# Processes.


def test_runs_in_processes_of_their_own_fail_alone(tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "teacher.safetensors"
    bad = job_of(cartpole(gone.parent, target_return=1.0))
    gone.unlink()
    good = job_of(cartpole(tmp_path, target_return=1.0), seed=2)
    (_, _, failure), (_, _, row) = go(tmp_path, [bad, good])
    assert isinstance(failure, UserError)
    assert f"no model '{gone}'" in str(failure)
    assert isinstance(row, Row)
    assert row.env_steps_to_target == 128
    assert multiprocessing.active_children() == []


def test_a_process_that_is_killed_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="process was killed"):
        local.in_a_process(dying(), tmp_path)


def test_the_failure_of_a_teacher_comes_back_from_another_process() -> None:
    failure = pickle.loads(pickle.dumps(TeacherError(3, "it is ill")))
    assert (failure.arm, failure.reason, str(failure)) == (3, "it is ill", "it is ill")


UNDER_WAY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script runs with "&"
from tutelage import cli
cli.main(["sweep", sys.argv[1], "--seeds", "2", "--workers", "2",
          "--out", sys.argv[2], "--runs", sys.argv[3]])
"""
LONG = """
teachers = ["{model}"]
student = "mlp:4"
env_steps = 10_000_000
num_envs = 2
round_steps = 128
precision = "fp32"
eval_from = 1_000_000_000
[methods.a]
"""


@pytest.fixture
def under_way(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a grid of two long runs at once; return when both have rows of metrics."""
    model = cartpole_model(tmp_path / "teacher.safetensors")
    (tmp_path / "long.toml").write_text(LONG.format(model=model))
    words = [str(tmp_path / name) for name in ("long.toml", "results", "runs")]
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


def test_what_a_killed_command_was_running_is_saved_and_ends(
    under_way: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = under_way()
    process.kill()
    process.wait()
    for _ in range(600):
        if not session(process.pid):
            break
        time.sleep(0.1)
    assert not session(process.pid)
    assert all(steps > 0 for steps in saved(tmp_path))


def session(number: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # one that has just ended
            status, _, _, of, *_ = path.read_text().rpartition(")")[2].split()
            found += [int(path.parent.name)] * (int(of) == number and status != "Z")
    return found
