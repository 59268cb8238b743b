"""Killed at any moment, a run goes on to the very bytes of an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from tests.test_cli import cartpole_model
from tutelage.configs import Teach
from tutelage.errors import UserError
from tutelage.runs import Run
from tutelage.session import open_run
from tutelage.types import State

PONG = ["--num-envs", "4", "--env-steps", "2048", "--round-steps", "128", "--threads", "1"]
PONG += ["--checkpoint-every", "512", "--learning-starts", "128", "--batch-size", "16"]
CARTPOLE = [*PONG, "--env", "CartPole-v1", "--precision", "fp32", "--samples-per-step", "4"]


def start(words: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tutelage", *words]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(words: list[str]) -> None:
    process = start(words)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()


def wait_for_rows(folder: Path, rows: int) -> None:
    """Wait until a run has written so many rows."""
    metrics = folder / "metrics.jsonl"
    for _ in range(3000):
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= rows:
            return
        time.sleep(0.02)
    raise AssertionError("the run wrote too few rows")


def same_results(one: Path, other: Path) -> None:
    for name in ("metrics.jsonl", "last.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def commands(tmp_path: Path) -> dict[str, list[str]]:
    teacher = cartpole_model(tmp_path / "teacher.safetensors")
    return {
        "teach-cartpole": ["teach", *CARTPOLE, "--size", "mlp:16", "--milestones", "30"],
        "distill-cartpole": [
            *["distill", *CARTPOLE, "--student", "mlp:8", "--teacher", teacher],
            *["--explore", "mc-dropout:0.2", "--eval-every", "512", "--eval-from", "0"],
        ],
        "teach-pong": [
            "teach",
            *PONG,
            "--samples-per-step",
            "1",
            "--size",
            "4/4/4/16",
            "--sticky",
            "0.25",
        ],
    }


@pytest.mark.parametrize("name", ["teach-cartpole", "distill-cartpole", "teach-pong"])
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, name: str) -> None:
    words = commands(tmp_path)[name]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish([*words, "--out", str(whole)])
    for rows in (7, 11):
        process = start([*words, "--out", str(broken)] if rows == 7 else ["resume", str(broken)])
        wait_for_rows(broken, rows)
        process.kill()
        process.communicate()
    finish(["resume", str(broken)])
    same_results(whole, broken)


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = commands(tmp_path)["teach-cartpole"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish([*words, "--out", str(whole)])
    process = start([*words, "--out", str(broken)])
    wait_for_rows(broken, 6)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"tutelage resume {broken}" in errors.decode()
    finish(["resume", str(broken)])
    same_results(whole, broken)


def test_a_checkpoint_of_another_version_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    class Parts:
        def restore(self, state: State) -> None:
            state["repeated"]

    run = Run.create(
        tmp_path / "run", {"command": "teach", **asdict(Teach(env="CartPole-v1", milestones=()))}
    )
    run.checkpoint(1, {"source": 1})
    with pytest.raises(UserError, match=r"run: its checkpoint has no 'repeated'.*version"):
        open_run(tmp_path / "run", Teach(env="CartPole-v1"), cast(Any, Parts()), resume=True)


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_used(tmp_path: Path) -> None:
    words = commands(tmp_path)["teach-cartpole"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish([*words, "--out", str(whole)])
    process = start([*words, "--out", str(broken)])
    wait_for_rows(broken, 10)
    process.kill()
    process.communicate()
    newest = sorted((broken / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    process = start(["resume", str(broken)])
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0
    assert "damaged" in errors.decode()
    same_results(whole, broken)
