"""Rows on dashboards: any tracker by its name, none of which may harm a run or its figures."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import tutelage as tt
from tests.players import QUICK as QUICK_FLAGS
from tests.players import SMALL, assert_same_bytes, cartpole_model
from tutelage.errors import UserError
from tutelage.logs import read_metrics
from tutelage.trackers import TRACKERS, Entry

QUICK: dict[str, Any] = {**SMALL, "student": "mlp:4", "confirm_episodes": 1, "eval_max_steps": 50}


class Kept:
    """A tracker that keeps what it is told in a file."""

    def __init__(
        self, *, folder: Path, config: Mapping[str, Any], since: int, name: str = "kept"
    ) -> None:
        self._path = folder / f"{name}.jsonl"
        self._say(since=since, student=config["student"])

    def _say(self, **said: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(said) + "\n")

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        if env_steps > 300 and self._path.stem == "broken":
            raise RuntimeError("no room\nat the server")
        self._say(env_steps=env_steps, values=dict(values))

    def close(self) -> None:
        self._say(closed=True)


def test_a_tracker_is_shown_every_row_and_changes_none(tmp_path: Path) -> None:
    teacher = cartpole_model(tmp_path / "t.safetensors")
    name = "tests.test_trackers:Kept:name=mine"
    ours = tt.distill(teacher, out=tmp_path / "ours", track=(name,), **QUICK)
    theirs = tt.distill(teacher, out=tmp_path / "theirs", **QUICK)
    assert_same_bytes(ours.folder, theirs.folder, "metrics.jsonl")
    first, *rows, last = map(json.loads, (ours.folder / "mine.jsonl").read_text().splitlines())
    assert first == {"since": 128, "student": "mlp:4"}
    assert last == {"closed": True}
    written = read_metrics(ours.folder)
    assert [row["env_steps"] for row in rows] == [row["env_steps"] for row in written]
    for shown, row in zip(rows, written, strict=True):
        kept = {key: row[key] for key in row if key not in ("env_steps", "updates")}
        assert kept.items() <= shown["values"].items()
        assert shown["values"]["time/fps"] > 0.0
    assert list(ours.folder.glob("events.out.*"))


def test_a_tracker_that_fails_ends_the_run_in_one_line(tmp_path: Path) -> None:
    teacher = cartpole_model(tmp_path / "t.safetensors")
    name = "tests.test_trackers:Kept:name=broken"
    with pytest.raises(UserError, match=r"tracker .* failed: at the server"):
        tt.distill(teacher, out=tmp_path / "run", track=(name,), **QUICK)


def test_what_there_is_not_is_refused_before_a_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = cartpole_model(tmp_path / "t.safetensors")
    monkeypatch.setitem(TRACKERS, "wandb", Entry(Kept, "no_such_package"))
    for name, said in (("wandb", r"pip install 'tutelage\[wandb\]'"), ("comet", "tensorboard")):
        with pytest.raises(UserError, match=said):
            tt.distill(teacher, out=tmp_path / "run", track=(name,), **QUICK)
        assert not (tmp_path / "run").exists()


def distilled(tracker: str, folder: Path) -> Path:
    """Run the command with a tracker in a process of its own; its stdout is one object."""
    teacher = cartpole_model(folder / "t.safetensors")
    quick = [*QUICK_FLAGS, "--student", "mlp:4", "--confirm-episodes", "1"]
    words = ["distill", "--teacher", teacher, "--out", str(folder / "run"), *quick, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tutelage", *words, "--track", tracker],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["env_steps"] == 512
    return folder / "run"


def test_weights_and_biases_keeps_a_run_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = distilled("wandb:project=mine", tmp_path)
    (kept,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    data = kept.read_bytes()
    assert all(word in data for word in (b"train/loss", b"time/fps", b"env_steps", b"mlp:4"))


def test_trackio_keeps_a_run_in_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run = distilled("trackio", tmp_path)
    data = b"".join(path.read_bytes() for path in (tmp_path / "trackio").glob("tutelage*.db*"))
    assert data
    assert all(word in data for word in (run.name.encode(), b"train/loss", b"time/fps"))
