"""Killed at any moment, a run goes on to the very bytes of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.players import assert_same_bytes, cartpole_model
from tutelage import recipes
from tutelage.configs import Distill, Teach, build

SHORT: dict[str, Any] = {
    "num_envs": 4,
    "env_steps": 2_048,
    "round_steps": 128,
    "threads": 1,
    "checkpoint_every": 512,
    "learning_starts": 128,
    "batch_size": 16,
}
CARTPOLE = {**SHORT, "env": "CartPole-v1", "precision": "fp32", "samples_per_step": 4.0}
TEACH_CARTPOLE = {**CARTPOLE, "size": "mlp:16", "milestones": (30.0,)}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "a teacher": ("teach", TEACH_CARTPOLE),
    "Pong": (
        "teach",
        {**SHORT, "samples_per_step": 1.0, "size": "4/4/4/16", "sticky": 0.25, "frame": 80},
    ),
    "two teachers, reward, dropout, evaluations": (
        "distill",
        {
            **CARTPOLE,
            "teachers": ("teacher.safetensors", "teacher.safetensors+noise:1"),
            "selector": "thompson-gaussian:noise=0.2",
            "student": "mlp:8",
            "reward_weight": "0.1",
            "explore": "mc-dropout:0.2",
            "eval_from": 0,
            "eval_every": 512,
        },
    ),
    "a teacher with a memory, of continuous actions": (
        "distill",
        {
            **CARTPOLE,
            "env": "Pendulum-v1",
            "teachers": ("recalling:Recalling",),
            "student": "mlp:8",
            "target_return": 0.0,
            "eval_from": 1_000_000,
        },
    ),
}
RECALLING = """
import torch
from tutelage.heads import Point

class Recalling:
    head = Point(1)

    def initial(self, n):
        return (torch.zeros(n),)

    def step(self, obs, carry):
        steps = carry[0] + 1
        return torch.sin(steps)[:, None], (steps,)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be where the teachers are, as are the processes that are started."""
    cartpole_model(tmp_path / "teacher.safetensors")
    (tmp_path / "recalling.py").write_text(RECALLING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def words(command: str, settings: Mapping[str, Any]) -> list[str]:
    """Return how a run is asked for on the command line."""
    said = [command]
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        said += [f"--{name.replace('_', '-')}", *map(str, values)]
    return said


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tutelage", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def go(command: str, settings: Mapping[str, Any], folder: Path, *, resume: bool = False) -> None:
    """Run to the end in this process, which takes no time to begin; nothing is evaluated then."""
    if command == "teach":
        recipes.teach(build(Teach, settings), folder, resume=resume)
    else:
        recipes.distill(build(Distill, settings), folder, resume=resume)


def wait_for_rows(folder: Path, rows: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a run has written so many rows."""
    metrics = folder / "metrics.jsonl"
    for _ in range(6000):
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= rows:
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"too few rows: {process.communicate()[1].decode()}")


def assert_same_results(one: Path, other: Path) -> None:
    names = {"metrics.jsonl", "last.safetensors"}
    for name in ("selections.jsonl", "best.safetensors"):
        names |= {name} if (one / name).exists() else set()
    assert_same_bytes(one, other, *names)


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_goes_on_bit_for_bit_even_from_the_checkpoint_before_a_damaged_one(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, settings = CASES[case]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    go(command, settings, whole)
    for rows, asked in (
        (6, [*words(command, settings), "--out", str(broken)]),
        (11, ["resume", str(broken)]),
    ):
        process = start(*asked)
        wait_for_rows(broken, rows, process)
        process.kill()
        process.communicate()
    newest = sorted((broken / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    go(command, settings, broken, resume=True)
    assert "damaged" in capsys.readouterr().err
    assert_same_results(whole, broken)


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    go("teach", TEACH_CARTPOLE, whole)
    recipes.close_teaching(build(Teach, TEACH_CARTPOLE), whole)
    process = start(*words("teach", TEACH_CARTPOLE), "--out", str(broken))
    wait_for_rows(broken, 6, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"tutelage resume {broken}" in errors.decode()
    process = start("resume", str(broken), "--json")
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()
    assert json.loads(output) == json.loads((broken / "result.json").read_bytes())
    assert_same_results(whole, broken)
