"""The engine on a cluster: two real Ray nodes on this machine, of which one is killed.

Ray is not among what ``make`` installs: ``pip install -e '.[ray]'``, then
``pytest -m "slow or not slow" tests/test_cluster.py`` (three minutes on two cores).
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tutelage
from tests.rows import cartpole, job_of
from tutelage.errors import UserError
from tutelage.sweeps import cluster
from tutelage.sweeps.engines import ENGINES
from tutelage.sweeps.grid import Outcome, run_grid
from tutelage.sweeps.jobs import Job
from tutelage.sweeps.rows import Row, finished

# Refusals: these need no Ray.


def refused(folder: Path) -> str:
    """Return why the engine runs nothing."""
    with pytest.raises(UserError) as refusal:
        list(cluster.run_ray([], runs=folder, workers=0, keep=lambda row: None))
    return str(refusal.value)


def test_without_an_address_it_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert all(word in refused(tmp_path) for word in ("RAY_ADDRESS", "HOST:6379", "auto"))


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_at_which_nobody_listens_is_named(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"{scheme}127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert f"RAY_ADDRESS {address!r}" in refused(tmp_path)


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    before = signal.getsignal(signal.SIGTERM)
    assert "pip install -e '.[ray]'" in refused(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


# Jobs that the nodes can import, and what they write down.


@dataclass(frozen=True, kw_only=True)
class Signed(Job):
    """A run that signs ``book`` with the node that runs it, as it begins and as it ends."""

    book: Path

    def run(self, runs: Path) -> Row:
        self._sign("began")
        row = super().run(runs)
        self._sign("ended")
        scores = {"threads": float(os.environ["OMP_NUM_THREADS"]), "pid": float(os.getpid())}
        return msgspec.structs.replace(row, scores=scores)

    def _sign(self, word: str) -> None:
        import ray

        with self.book.open("a") as file:
            file.write(f"{word} {self.seed} {ray.get_runtime_context().get_node_id()}\n")


class Broken(Job):
    """A run that divides by zero."""

    def run(self, runs: Path) -> Row:
        raise ArithmeticError(1 // 0)


class Aborting(Job):
    """A run whose process ends without a word."""

    def run(self, runs: Path) -> Row:
        os.abort()


def signed(book: Path) -> list[list[str]]:
    """Return the entries of a book, each a word, a seed and a node."""
    return [line.split() for line in book.read_text().splitlines()] if book.exists() else []


def grid(
    kind: type[Job], folder: Path, *, seeds: int, book: Path | None = None, **settings: Any
) -> list[Any]:
    """Return runs of a method, of a kind that may write into a book."""
    job = job_of(cartpole(folder, **{"eval_from": 10**9, **settings}))
    given = {name: value for name, value in vars(job).items() if name in Job.__dataclass_fields__}
    given |= {} if book is None else {"book": book}
    return [kind(**{**given, "seed": seed}) for seed in range(1, seeds + 1)]


def go(engine: str, jobs: list[Job], folder: Path, *, workers: int = 0) -> list[Outcome]:
    it = run_grid(
        ENGINES[engine], jobs, results=folder / "results", runs=folder / "runs", workers=workers
    )
    with closing(it) as outcomes:
        return list(outcomes)


def comparable(rows: list[Row]) -> list[Row]:
    """Return rows by seed, without what tells where and when they came about."""
    apart = {"seconds": 0.0, "machine": "", "commit": "", "scores": {}}
    stripped = [msgspec.structs.replace(row, **apart) for row in rows]
    return sorted(stripped, key=lambda row: row.seed)


def wait_until(there: Any) -> Any:
    """Return what ``there()`` returns once that is something."""
    for _ in range(1200):
        if found := there():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


# On a real cluster.


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes with a CPU each, beside a head that has none."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    roots = [str(Path(tutelage.__file__).parents[1]), str(Path(__file__).parents[1])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(roots))  # the nodes inherit it
        it: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(2):
            it.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", it.address)
        yield it
        it.shutdown()


@pytest.mark.slow
def test_the_rows_are_those_of_the_local_engine(
    two_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the nodes are elsewhere: a relative folder must become absolute
    before = signal.getsignal(signal.SIGTERM)
    go("ray", grid(Signed, tmp_path, seeds=3, book=tmp_path / "book"), Path("cluster"))
    go("local", grid(Job, tmp_path, seeds=3), Path("local"), workers=1)
    rows = finished(tmp_path / "cluster/results")
    assert comparable(rows) == comparable(finished(tmp_path / "local/results"))
    assert [row.scores["threads"] for row in rows] == [1.0] * 3
    assert len({row.scores["pid"] for row in rows}) == 3
    assert len(list((tmp_path / "cluster/runs").iterdir())) == 3
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_jobs_start_in_their_order_and_only_so_many_at_once(two_nodes: Any, tmp_path: Path) -> None:
    book = tmp_path / "book"
    go("ray", grid(Signed, tmp_path, seeds=3, book=book), tmp_path, workers=1)
    events = [(word, seed) for word, seed, _ in signed(book)]
    assert events == [(word, seed) for seed in "123" for word in ("began", "ended")]


@pytest.mark.slow
def test_a_run_that_fails_loses_no_other(
    two_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "RETRIES", 0)  # for the one that kills its process each time
    (good,) = grid(Job, tmp_path, seeds=1)
    (bad,) = grid(Job, tmp_path / "gone", seeds=1, tau=2.0)
    (tmp_path / "gone" / "teacher.safetensors").unlink()
    (broken,) = grid(Broken, tmp_path, seeds=1, tau=3.0)
    (aborting,) = grid(Aborting, tmp_path, seeds=1, tau=4.0)
    outcomes = {job.key: came for job, came in go("ray", [bad, broken, aborting, good], tmp_path)}
    assert isinstance(outcomes[bad.key], UserError)
    assert str(outcomes[bad.key]).startswith("no model ")
    failure = outcomes[broken.key]
    assert isinstance(failure, ZeroDivisionError)
    assert "1 // 0" in str(failure.__cause__)  # the traceback from over there
    assert isinstance(outcomes[aborting.key], UserError)
    assert "process was killed" in str(outcomes[aborting.key])
    assert [row.key for row in finished(tmp_path / "results")] == [good.key]


@pytest.mark.slow
def test_a_node_that_is_killed_costs_what_it_was_running(two_nodes: Any, tmp_path: Path) -> None:
    book = tmp_path / "book"
    long: dict[str, Any] = {"env_steps": 2_560, "checkpoint_every": 256}
    jobs = grid(Signed, tmp_path, seeds=4, book=book, **long)
    it = run_grid(
        ENGINES["ray"], jobs, results=tmp_path / "results", runs=tmp_path / "runs", workers=3
    )

    def node_of_the_third() -> str | None:
        """Return where the third run is, once it has a checkpoint."""
        saved = list(jobs[2].folder(tmp_path / "runs").glob("checkpoints/*"))
        return (
            next(node for *what, node in signed(book) if what == ["began", "3"]) if saved else None
        )

    with closing(it) as outcomes:
        yielded = [next(outcomes)[0].seed]
        node = wait_until(node_of_the_third)
        (victim,) = (n for n in two_nodes.worker_nodes if n.node_id == node)
        two_nodes.remove_node(victim, allow_graceful=False)
        two_nodes.add_node(num_cpus=1)
        yielded += [job.seed for job, _ in outcomes]
    assert sorted(yielded) == [1, 2, 3, 4]
    assert sorted(seed for word, seed, _ in signed(book) if word == "began") == [*"12334"]
    go("local", grid(Job, tmp_path, seeds=3, **long)[2:], tmp_path / "local")
    # The one that was lost went on from its checkpoint, as if nothing had been.
    third = comparable(finished(tmp_path / "results"))[2:3]
    assert third == comparable(finished(tmp_path / "local/results"))


@pytest.mark.slow
def test_runs_under_way_are_saved_when_it_is_closed(
    two_nodes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (short,) = grid(Job, tmp_path, seeds=1)
    (long,) = grid(Job, tmp_path, seeds=1, env_steps=10**7)
    folder = long.folder(tmp_path / "runs")
    it = run_grid(
        ENGINES["ray"],
        [long, short],
        results=tmp_path / "results",
        runs=tmp_path / "runs",
        workers=0,
    )
    with closing(it) as outcomes:
        assert next(outcomes)[0] is short
        wait_until((folder / "metrics.jsonl").exists)
    assert "finish their round and save it" in capsys.readouterr().err
    assert len(list(folder.glob("checkpoints/*.safetensors"))) == 1
    assert [row.key for row in finished(tmp_path / "results")] == [short.key]
