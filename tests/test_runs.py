"""A run's folder: what it belongs to, its logs and checkpoints, and whose files it read."""

import errno
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomli_w
import torch

from tutelage.configs import Distill, Teach
from tutelage.errors import UserError
from tutelage.files import UNFINISHED, read_toml
from tutelage.logs import read_metrics, read_timing
from tutelage.runs import (
    KEEP_CHECKPOINTS,
    Run,
    check_files,
    read_config,
    versions,
)
from tutelage.schema import build, changed, nested
from tutelage.types import Row

CONFIG = build(Teach, {"env": "CartPole-v1", "milestones": []})


def make_run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", CONFIG, {})


def write_rows(run: Run, *env_steps: int) -> None:
    for steps in env_steps:
        run.write(Row(steps, steps // 2, {"train/loss": 1.0 / steps}))


def state_at(env_steps: int) -> dict[str, Any]:
    return {"learner": {"weights": torch.full((3,), float(env_steps)), "env_steps": env_steps}}


def checkpointed(tmp_path: Path, *env_steps: int) -> Run:
    """Return a run with a row and a checkpoint at each of these steps, and a row after the last."""
    run = make_run(tmp_path)
    for steps in env_steps:
        write_rows(run, steps)
        run.checkpoint(steps, state_at(steps))
    write_rows(run, env_steps[-1] + 1)
    run.close()
    return run


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").iterdir())


def steps_of(folder: Path, name: str = "metrics.jsonl") -> list[float]:
    rows = read_timing(folder) if name == "timing.jsonl" else read_metrics(folder)
    return [row["env_steps"] for row in rows]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FILES = {"pong": "0123456789abcdef"}


@pytest.mark.parametrize("config", [CONFIG, Distill(tau=0.5)], ids=["teach", "distill"])
def test_the_very_same_configuration_is_to_be_resumed(
    config: Teach | Distill, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    Run.create(folder, config, FILES)
    with pytest.raises(UserError, match=f"tutelage resume {folder}"):
        Run.create(folder, config, FILES)


def test_a_configuration_is_kept_whole_in_its_groups_with_the_digests_of_its_files(
    tmp_path: Path,
) -> None:
    run = Run.create(tmp_path / "run", CONFIG, FILES)
    kept = read_toml(run.folder / "config.toml")
    assert kept == {"command": "teach", **nested(CONFIG), "files": FILES}
    assert run.config == kept
    del kept["command"], kept["files"]
    assert build(Teach, kept) == CONFIG


@pytest.mark.parametrize(
    ("other", "files", "differs"),
    [
        ({"seed": 2}, {}, "seed"),
        ({"seed": 2, "gamma": 0.5, "sticky": 0.25}, {}, "gamma, seed, sticky"),
        ({}, {"x": "1"}, "x"),
    ],
)
def test_another_configurations_folder_is_refused_naming_what_differs(
    other: dict[str, Any], files: dict[str, str], differs: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    before = (run.folder / "config.toml").read_bytes()
    with pytest.raises(UserError) as caught:
        Run.create(run.folder, changed(CONFIG, **other), files)
    (named,) = [part for part in str(caught.value).split("(") if part.startswith("differs in ")]
    assert set(named.partition(")")[0].removeprefix("differs in ").split(", ")) == set(
        differs.split(", ")
    )
    assert (run.folder / "config.toml").read_bytes() == before


def test_a_run_goes_on_with_the_files_it_was_begun_with_alone(tmp_path: Path) -> None:
    folder = Run.create(tmp_path / "run", CONFIG, FILES).folder
    check_files(folder, FILES)
    with pytest.raises(UserError, match=r"pong.*fedcba.*0123456789abcdef"):
        check_files(folder, {"pong": "fedcba"})
    # Of a run from before they were noted nothing is known, and nothing refused.
    old = read_toml(folder / "config.toml")
    del old["files"]
    (folder / "config.toml").write_text(tomli_w.dumps(old))
    check_files(folder, {"pong": "fedcba"})
    (folder / "config.toml").write_text(tomli_w.dumps({**old, "files": 3}))
    with pytest.raises(UserError, match=r"config\.toml: files is damaged"):
        check_files(folder, {"pong": "fedcba"})


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match=f"{folder} exists"):
            Run.create(folder, CONFIG, {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_without_a_readable_configuration_is_no_run(tmp_path: Path) -> None:
    for content in ("", "seed = = 1"):
        with pytest.raises(UserError, match=r"config\.toml"):
            Run(tmp_path)
        (tmp_path / "config.toml").write_text(content or "seed = = 1")
    with pytest.raises(UserError, match=r"config\.toml"):
        read_config(tmp_path)


def test_rows_are_written_for_people_and_for_tensorboard(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_rows(run, 10, 20)
    run.close()
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert lines[1] == '{"env_steps": 20, "updates": 10, "train/loss": 0.05}'
    assert steps_of(run.folder) == steps_of(run.folder, "timing.jsonl") == [10, 20]
    (events,) = run.folder.glob("events.out.*")
    assert b"train/loss" in events.read_bytes()


def test_a_row_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run.folder / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl: Is a dir"):
        write_rows(run, 10)


def test_the_newest_checkpoint_comes_back_and_the_logs_are_cut_to_it(tmp_path: Path) -> None:
    run = checkpointed(tmp_path, 10, 20)
    assert steps_of(run.folder) == [10, 20, 21]
    state = Run(run.folder).resume()
    assert state is not None
    assert state["learner"]["env_steps"] == 20
    assert torch.equal(state["learner"]["weights"], torch.full((3,), 20.0))
    assert steps_of(run.folder) == steps_of(run.folder, "timing.jsonl") == [10, 20]


def test_what_was_being_written_when_a_run_was_killed_is_swept_away(tmp_path: Path) -> None:
    run = checkpointed(tmp_path, 10)
    left = [run.folder / f"{UNFINISHED}a", run.folder / "checkpoints" / f"{UNFINISHED}b"]
    for path in left:
        path.write_bytes(b"half")
    Run(run.folder).resume()
    assert not any(path.exists() for path in left)
    assert len(checkpoints(run.folder)) == 1


def test_a_folder_that_cannot_be_gone_on_in_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checkpointed(tmp_path, 10)

    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbid)
    with pytest.raises(UserError, match="Permission denied"):
        Run(run.folder).resume()


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpointed(tmp_path, 10, 20)
    before, newest = checkpoints(run.folder)
    damage(newest)
    state = Run(run.folder).resume()
    assert state is not None
    assert state["learner"]["env_steps"] == 10
    assert steps_of(run.folder) == [10]
    assert checkpoints(run.folder) == [before]
    printed = capsys.readouterr()
    assert printed.out == ""
    damaged, then = printed.err.splitlines()
    assert str(newest) in damaged
    assert str(before) in then


@pytest.mark.parametrize("damaged", [True, False])
def test_without_a_whole_checkpoint_a_run_begins_anew(
    damaged: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpointed(tmp_path, 10, 20)
    for path in checkpoints(run.folder):
        damage(path) if damaged else path.unlink()
    assert Run(run.folder).resume() is None
    assert steps_of(run.folder) == steps_of(run.folder, "timing.jsonl") == []
    assert checkpoints(run.folder) == []
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == (3 if damaged else 0)


def test_a_checkpoint_ahead_of_a_log_is_reported_and_the_one_before_it_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, log = checkpointed(tmp_path, 10, 20), "metrics.jsonl"
    before, newest = checkpoints(run.folder)
    first, second, _ = (run.folder / log).read_bytes().splitlines(keepends=True)
    (run.folder / log).write_bytes(first + second[:-1])
    state = Run(run.folder).resume()
    assert state is not None
    assert state["learner"]["env_steps"] == 10
    assert steps_of(run.folder) == steps_of(run.folder, "timing.jsonl") == [10]
    assert b"\0" not in (run.folder / log).read_bytes()
    assert checkpoints(run.folder) == [before]
    ahead, then = capsys.readouterr().err.splitlines()
    assert str(newest) in ahead
    assert log in ahead
    assert str(before) in then


@pytest.mark.parametrize("older_is_damaged", [True, False])
def test_a_lost_log_costs_no_checkpoint(older_is_damaged: bool, tmp_path: Path) -> None:
    run = checkpointed(tmp_path, 10, 20)
    both = checkpoints(run.folder)
    if older_is_damaged:
        damage(both[0])
    content = (run.folder / "metrics.jsonl").read_bytes()
    (run.folder / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl has lost rows"):
        Run(run.folder).resume()
    assert checkpoints(run.folder) == both
    (run.folder / "metrics.jsonl").write_bytes(content)
    assert Run(run.folder).resume() is not None
    assert steps_of(run.folder) == [10, 20]


def test_the_logs_are_on_disk_before_the_checkpoint_that_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    run = make_run(tmp_path)
    write_rows(run, 10)
    synced.clear()
    run.checkpoint(10, {})
    (checkpoint,) = checkpoints(run.folder)
    logs = [run.folder / name for name in ("metrics.jsonl", "timing.jsonl")]
    expected = [*logs, run.folder, checkpoint, checkpoint.parent]
    assert synced == [path.stat().st_ino for path in expected]


def test_logs_that_cannot_be_synced_are_an_error_and_leave_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = make_run(tmp_path)
    write_rows(run, 10)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"metrics\.jsonl: No space"):
        run.checkpoint(10, {})
    assert not (run.folder / "checkpoints").exists()


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run = checkpointed(tmp_path, 5, 90, 100, 1000)
    kept = [int(path.name.split("-")[0]) for path in checkpoints(run.folder)]
    assert kept == [5, 90, 100, 1000][-KEEP_CHECKPOINTS:]
    assert KEEP_CHECKPOINTS >= 2  # a damaged one needs one before it


def test_the_clock_leaves_evaluations_out_and_goes_on_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(
        "tutelage.runs.time", SimpleNamespace(perf_counter=lambda: now, time=time.time)
    )
    run = make_run(tmp_path)
    now += 4.0
    run.write(Row(100, 0, {}))
    now += 5.0
    run.write(Row(200, 0, {}), evaluation_seconds=3.0)
    run.checkpoint(200, {})
    now += 500.0
    resumed = Run(run.folder)
    assert resumed.resume() == {}
    now += 2.0
    resumed.write(Row(250, 0, {}))
    assert read_timing(run.folder) == [
        {"env_steps": 100, "time/fps": 25.0, "time/seconds": 4.0, "time/evaluation": 0.0},
        {"env_steps": 200, "time/fps": 50.0, "time/seconds": 9.0, "time/evaluation": 3.0},
        {"env_steps": 250, "time/fps": 25.0, "time/seconds": 11.0, "time/evaluation": 3.0},
    ]


@pytest.mark.parametrize(
    ("said", "commit"),
    [
        ({"ls-files": "runs.py", "rev-parse": "0123", "status": ""}, "0123"),
        ({"ls-files": "runs.py", "rev-parse": "0123", "status": " M a.py"}, "0123-dirty"),
        ({"ls-files": "", "rev-parse": "0123", "status": ""}, "unknown"),
    ],
)
def test_a_commit_is_dirty_where_the_packages_own_files_differ(
    said: dict[str, str], commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert words[:2] == ["git", "-C"]
        assert words[3] != "status" or words[-1] == "."  # of the package alone
        return subprocess.CompletedProcess(words, 0, stdout=said[words[3]] + "\n")

    monkeypatch.setattr(subprocess, "run", git)
    assert versions()["commit"] == commit


def test_versions_are_told_where_a_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    version = importlib.metadata.version

    def installed(name: str) -> str:
        if name == "ale-py":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert versions()["ale-py"] == "none"
    assert versions()["torch"] == version("torch")
