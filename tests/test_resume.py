"""Killed at any moment, a run goes on to the very bytes of an undisturbed one."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tests.players import SMALL, assert_same_bytes, cartpole_model
from tutelage.cli import main
from tutelage.configs import Distill, Teach, build
from tutelage.errors import UserError
from tutelage.recipes import Hooks, distill, teach
from tutelage.runs import Run
from tutelage.session import open_run
from tutelage.types import Row, State

SHORT = ["--num-envs", "4", "--env-steps", "2048", "--round-steps", "128", "--threads", "1"]
SHORT += ["--checkpoint-every", "512", "--learning-starts", "128", "--batch-size", "16"]
SHORT += ["--precision", "fp32", "--samples-per-step", "4"]
CARTPOLE = [*SHORT, "--env", "CartPole-v1"]
RESULTS = ("metrics.jsonl", "last.safetensors")

# Forked from a server that has everything imported, a process starts at once.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tutelage.cli", "tutelage.report.summary"])


def command(words: list[str], errors: Path) -> None:
    """Be the command, its stderr in a file."""
    torch.set_num_threads(1)
    with errors.open("wb") as file:
        os.dup2(file.fileno(), 2)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    main(words)


def start(words: list[str], errors: Path) -> ForkServerProcess:
    process = FORKS.Process(target=command, args=(words, errors))
    process.start()
    return process


def finish(words: list[str], errors: Path) -> None:
    process = start(words, errors)
    process.join(timeout=600)
    assert process.exitcode == 0, errors.read_text()


def wait_for_rows(folder: Path, rows: int) -> None:
    """Wait until a run has written so many rows."""
    metrics = folder / "metrics.jsonl"
    for _ in range(6_000):
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= rows:
            return
        time.sleep(0.02)
    raise AssertionError("the run wrote too few rows")


def commands(tmp_path: Path) -> dict[str, list[str]]:
    teacher = cartpole_model(tmp_path / "teacher.safetensors")
    distilled = ["distill", *CARTPOLE, "--student", "mlp:8", "--eval-from", "0"]
    return {
        "teach-cartpole": ["teach", *CARTPOLE, "--size", "mlp:16", "--milestones", "30"],
        "distill-cartpole": [
            *[*distilled, "--teacher", teacher, "--eval-every", "512"],
            *["--explore", "mc-dropout:0.2", "--confirm-episodes", "3"],
        ],
        "distill-from-a-memory": [
            *[*distilled, "--teacher", "tests.fakes:Counter", "--teacher-acts", "0.5"],
            *["--eval-every", "1024", "--confirm-episodes", "2"],
        ],
        "teach-pong": [
            *["teach", *SHORT, "--samples-per-step", "1", "--size", "4/4/4/16"],
            *["--sticky", "0.25", "--env-steps", "1280", "--checkpoint-every", "384"],
        ],
    }


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("teach-cartpole", (7, 11)),
        ("distill-cartpole", (5, 10)),
        ("distill-from-a-memory", (6, 13)),
        ("teach-pong", (4, 7)),
    ],
)
def test_a_killed_run_resumes_bit_for_bit(
    name: str, rows: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its closing games are not what is tried, and take longer than the rest.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    words, errors = commands(tmp_path)[name], tmp_path / "errors"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish([*words, "--out", str(whole)], errors)
    for count, begin in zip(
        rows, ([*words, "--out", str(broken)], ["resume", str(broken)]), strict=True
    ):
        process = start(begin, errors)
        wait_for_rows(broken, count)
        process.kill()
        process.join()
    finish(["resume", str(broken)], errors)
    assert_same_bytes(whole, broken, *RESULTS)


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    """As a person types it, in a process of its own."""
    words, errors = commands(tmp_path)["teach-cartpole"], tmp_path / "errors"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish([*words, "--out", str(whole)], errors)
    typed = [sys.executable, "-m", "tutelage", *words, "--out", str(broken)]
    process = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_rows(broken, 6)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"tutelage resume {broken}" in said.decode().splitlines()[-1]
    # A damaged checkpoint costs the way to the one before it, and nothing else.
    newest = sorted((broken / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    finish(["resume", str(broken)], errors)
    assert str(newest) in errors.read_text()
    assert_same_bytes(whole, broken, *RESULTS)


# What a run does not go on with.


class PowerCutError(Exception):
    pass


def cut_at(env_steps: int) -> Callable[[Row], None]:
    def watch(row: Row) -> None:
        if row.env_steps >= env_steps:
            raise PowerCutError

    return watch


def test_another_teacher_in_the_place_of_a_runs_own_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    teacher = cartpole_model(path)
    mine = path.read_bytes()
    config = build(
        Distill,
        {**SMALL, "teachers": [teacher], "student": "mlp:4", "eval_from": 10**9},
    )
    with pytest.raises(PowerCutError):
        distill(config, tmp_path / "run", hooks=Hooks(watch=cut_at(200)))
    cartpole_model(path, seed=2)
    with pytest.raises(UserError, match=teacher):
        distill(config, tmp_path / "run", resume=True)
    path.write_bytes(mine)
    assert distill(config, tmp_path / "run", resume=True).env_steps == 512


def test_another_model_in_the_place_of_what_was_begun_with_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "init.safetensors"
    config = build(
        Teach,
        {
            **SMALL,
            "env": "CartPole-v1",
            "init": cartpole_model(path),
            "learning_starts": 64,
            "checkpoint_every": 128,
        },
    )
    with pytest.raises(PowerCutError):
        teach(config, tmp_path / "run", hooks=Hooks(watch=cut_at(300)))
    cartpole_model(path, seed=2)
    with pytest.raises(UserError, match=str(path)):
        teach(config, tmp_path / "run", resume=True)


def test_a_checkpoint_of_another_version_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    class Parts:
        def restore(self, state: State) -> None:
            state["repeated"]

    config = build(Teach, {"env": "CartPole-v1", "milestones": []})
    run = Run.create(tmp_path / "run", config, {})
    run.checkpoint(1, {"source": 1})
    with pytest.raises(UserError, match="repeated"):
        open_run(tmp_path / "run", config, cast(Any, Parts()), files={}, resume=True)
