"""Killed at any moment, a run goes on to the very bytes of an undisturbed one."""

import multiprocessing
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
from tutelage.configs import Distill, Teach
from tutelage.errors import UserError
from tutelage.files import digest, pack_state, unpack_state
from tutelage.logs import read_metrics
from tutelage.recipes import Hooks, distill, teach
from tutelage.runs import Run
from tutelage.schema import build, changed
from tutelage.session import open_run
from tutelage.types import Row, State

SHORT: dict[str, Any] = {
    "num_envs": 4,
    "env_steps": 2_048,
    "round_steps": 128,
    "threads": 1,
    "checkpoint_every": 512,
    "learning_starts": 128,
    "batch_size": 16,
    "precision": "fp32",
    "samples_per_step": 4,
    "env": "CartPole-v1",
}
RESULTS = ("metrics.jsonl", "last.safetensors")

# Forked from a server that has everything imported, a process starts at once.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tutelage.recipes"])


def work(config: Teach | Distill, folder: Path, resume: bool) -> None:
    torch.set_num_threads(1)
    if isinstance(config, Teach):
        teach(config, folder, resume=resume)
    else:
        distill(config, folder, resume=resume)


def start(config: Teach | Distill, folder: Path, *, resume: bool = False) -> ForkServerProcess:
    process = FORKS.Process(target=work, args=(config, folder, resume))
    process.start()
    return process


def finish(config: Teach | Distill, folder: Path, *, resume: bool = False) -> None:
    process = start(config, folder, resume=resume)
    process.join(timeout=600)
    assert process.exitcode == 0


def wait_for_rows(folder: Path, rows: int) -> None:
    """Wait until a run has written so many rows."""
    metrics = folder / "metrics.jsonl"
    for _ in range(6_000):
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= rows:
            return
        time.sleep(0.02)
    raise AssertionError("the run wrote too few rows")


def taught(**settings: Any) -> Teach:
    return build(Teach, {**SHORT, "size": "mlp:16", "milestones": [30], **settings})


def distilled(teacher: str, **settings: Any) -> Distill:
    evaluated = {"eval_from": 0, "eval_every": 512, "confirm_episodes": 3}
    short = {**SHORT, **evaluated, "student": "mlp:8"}
    return build(Distill, {**short, "teachers": [teacher], **settings})


KILLED: dict[str, tuple[Callable[[Path], Teach | Distill], int, int]] = {
    "teach": (lambda path: taught(), 7, 11),
    "teach pong": (
        lambda path: taught(
            env="pong", size="4/4/4/16", sticky=0.25, samples_per_step=1, env_steps=1_280
        ),
        5,
        8,
    ),
    # Rounds and checkpoints fall into the middle of rollouts.
    "teach pqn": (
        lambda path: build(
            Teach,
            {
                **{name: SHORT[name] for name in ("round_steps", "threads", "checkpoint_every")},
                "algorithm": "pqn",
                "env": "pong",
                "sticky": 0.25,
                "size": "4/4/4/16:norm",
                "env_steps": 1_280,
                "num_envs": 4,
                "rollout_steps": 24,
                "milestones": [],
            },
        ),
        5,
        8,
    ),
    "distil": (lambda path: distilled(cartpole_model(path), explore="mc-dropout:0.2"), 5, 10),
    "distil from a memory": (
        lambda path: distilled("tests.fakes:Counter", teacher_acts="0.5"),
        6,
        13,
    ),
}
"""A run, and after how many rows it is killed for the first and the second time."""


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    build_config, once, twice = KILLED[name]
    config = build_config(tmp_path / "teacher.safetensors")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(config, whole)
    for rows in (once, twice):
        process = start(config, broken, resume=rows == twice)
        wait_for_rows(broken, rows)
        process.kill()
        process.join()
    assert read_metrics(broken)[-1]["env_steps"] < config.env_steps
    finish(config, broken, resume=True)
    assert_same_bytes(whole, broken, *RESULTS)


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    """As a person types it."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(taught(), whole)
    flags = {**SHORT, "size": "mlp:16", "milestones": 30, "out": broken}
    words = [w for name, value in flags.items() for w in (f"--{name}", str(value))]
    typed = [sys.executable, "-m", "tutelage", "teach", *words]
    process = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_rows(broken, 6)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"tutelage resume {broken}" in said.decode().splitlines()[-1]
    # A damaged checkpoint costs the way to the one before it, and nothing else.
    newest = sorted((broken / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    finish(taught(), broken, resume=True)
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


def test_a_finished_run_that_lost_its_best_student_is_not_over(tmp_path: Path) -> None:
    teacher = cartpole_model(tmp_path / "teacher.safetensors")
    config = build(
        Distill,
        {**SMALL, "teachers": [teacher], "student": "mlp:4", "eval_from": 0, "eval_episodes": 2},
    )
    distill(config, tmp_path / "run")
    (tmp_path / "run" / "best.safetensors").unlink()
    with pytest.raises(UserError, match=r"best.safetensors.* is gone"):
        distill(config, tmp_path / "run", resume=True)


def test_a_run_goes_on_with_the_settings_that_it_was_begun_with(tmp_path: Path) -> None:
    teacher = cartpole_model(tmp_path / "teacher.safetensors")
    other = cartpole_model(tmp_path / "other.safetensors", seed=2)
    short = {**SMALL, "student": "mlp:4", "eval_from": 10**9, "checkpoint_every": 128}
    config = build(Distill, {**short, "teachers": [teacher]})
    with pytest.raises(PowerCutError):
        distill(config, tmp_path / "run", hooks=Hooks(watch=cut_at(300)))
    for name, value in {
        "teachers": (other,),
        "seed": 7,
        "env_steps": 1_024,
        "num_envs": 4,
        "student": "mlp:8",
    }.items():
        with pytest.raises(UserError, match=rf"^{name} is .* was begun with"):
            distill(changed(config, **{name: value}), tmp_path / "run", resume=True)
    free = changed(config, threads=1, checkpoint_every=64, device="cpu")
    assert distill(free, tmp_path / "run", resume=True).env_steps == 512
    # A finished run is refused too, and one from before settings were saved is not.
    with pytest.raises(UserError, match="seed is 7"):
        distill(changed(config, seed=7), tmp_path / "run", resume=True)
    *_, newest = sorted((tmp_path / "run" / "checkpoints").iterdir())
    data = pack_state({k: v for k, v in unpack_state(newest).items() if k != "settings"})
    newest.with_name(f"{'9' * 9}-{digest(data)}.safetensors").write_bytes(data)
    assert distill(config, tmp_path / "run", resume=True).env_steps == 512


def test_a_checkpoint_of_another_version_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    class Parts:
        def restore(self, state: State) -> None:
            state["repeated"]

    config = build(Teach, {"env": "CartPole-v1", "milestones": []})
    run = Run.create(tmp_path / "run", config, {})
    run.checkpoint(1, {"source": 1})
    opened = open_run(tmp_path / "run", config, cast(Any, Parts()), files={}, resume=True)
    with pytest.raises(UserError, match="repeated"), opened:
        pass
