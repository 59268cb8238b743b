"""What one run does and leaves: a data set of its own first, a teacher trained; of CartPole."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.rows import cartpole, job_of
from tutelage import Dataset, recipes
from tutelage.configs import Teach
from tutelage.dataset import FRAGMENT
from tutelage.domains import About
from tutelage.errors import UserError
from tutelage.logs import read_metrics
from tutelage.schema import build
from tutelage.sweeps import tasks
from tutelage.sweeps.jobs import Job
from tutelage.sweeps.rows import Row

TRAINING: dict[str, Any] = {
    "env": "CartPole-v1",
    "size": "mlp:8",
    "env_steps": 512,
    "num_envs": 2,
    "round_steps": 128,
    "learning_starts": 64,
    "batch_size": 16,
}


def recorded(folder: Path) -> Job:
    """Return a run that learns from what its teacher plays."""
    settings = cartpole(folder, target_return=501.0)
    (teacher,) = settings.pop("teachers")
    made = {"teacher": teacher, "env_steps": 400, "num_envs": 2}
    return job_of({**settings, "record": made}, seed=3)


def taught(folder: Path, **training: Any) -> Job:
    """Return a run that learns from the training of a teacher."""
    settings = cartpole(folder, target_return=501.0, train={**TRAINING, **training})
    del settings["teachers"]
    return job_of(settings, seed=3)


def same(one: Row, other: Row) -> bool:
    return one.key == other.key and one.returns == other.returns and one.curve == other.curve


def stop_in(name: str, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> None:
    """Run what is interrupted in the first round of a recipe."""
    recipe = getattr(recipes, name)

    def stopped(config: Any, folder: Path, *, resume: bool, hooks: recipes.Hooks) -> object:
        watch = lambda row: signal.raise_signal(signal.SIGTERM)  # noqa: E731
        return recipe(config, folder, resume=resume, hooks=replace(hooks, watch=watch))

    with monkeypatch.context() as patched:
        patched.setattr(recipes, name, stopped)
        with pytest.raises(UserError, match="stopped at 128 env steps"):
            run()


def test_a_run_records_a_data_set_of_its_own_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = []
    record = recipes.record

    def noted(config: Any, folder: Path) -> int:
        began.append(folder)
        return record(config, folder)

    monkeypatch.setattr(recipes, "record", noted)
    job, runs = recorded(tmp_path), tmp_path / "runs"
    stop_in("distill", monkeypatch, lambda: job.run(runs))
    row = job.run(runs)
    assert same(row, job.run(runs))
    assert len(began) == 1
    data = job.folder(runs).with_name(f"{job.folder(runs).name}-data")
    assert {path.name for path in runs.iterdir()} == {job.folder(runs).name, data.name}
    assert 400 <= Dataset(data).env_steps < 400 + 2 * FRAGMENT
    assert Dataset(data).about["seed"] == 3
    assert row.data is not None
    assert (row.data.name, row.data.config["env_steps"]) == ("record", 400)
    assert row.files.keys() == {row.data.config["teacher"]}
    assert row.env_steps == 256
    assert row.command.config["dataset"] == ""  # or the key would depend on where the runs are


def test_a_data_set_that_was_half_recorded_is_recorded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = recipes.record

    def broken(config: Any, folder: Path) -> int:
        record(replace(config, env_steps=1), folder)
        (folder / "dataset.json").unlink()
        raise KeyboardInterrupt

    job = recorded(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(recipes, "record", broken)
        with pytest.raises(KeyboardInterrupt):
            job.run(tmp_path / "runs")
    (part,) = (tmp_path / "runs").iterdir()
    assert list(part.iterdir())
    assert job.run(tmp_path / "runs").env_steps == 256
    assert not part.exists()


def test_a_run_learns_from_the_training_of_a_teacher_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, runs = taught(tmp_path), tmp_path / "runs"
    stop_in("teach", monkeypatch, lambda: job.run(runs))
    row = job.run(runs)
    kept = Dataset(job.folder(runs).with_name(f"{job.folder(runs).name}-data"))
    assert (kept.env_steps, kept.about["seed"]) == (512, 3)
    assert kept.about["behaviour"] == "its own training"
    assert row.data is not None
    assert (row.data.name, row.data.config["size"]) == ("teach", "mlp:8")
    assert (row.env_steps, row.files) == (256, {})


def test_a_training_whose_data_set_is_gone_begins_anew(tmp_path: Path) -> None:
    job, runs = taught(tmp_path, env_steps=128), tmp_path / "runs"
    folder = job.folder(runs)
    training = folder.with_name(f"{folder.name}-training")
    config = build(Teach, {**TRAINING, "seed": 3, "record": str(tmp_path / "elsewhere")})
    recipes.teach(config, training)
    job.run(runs)
    assert Dataset(folder.with_name(f"{folder.name}-data")).env_steps == 128


def test_the_row_of_a_teachers_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "about", lambda config: About(target=15.0))
    job = job_of({"command": "teach", **TRAINING, "env_steps": 1_024}, seed=2)
    row = job.run(tmp_path)
    assert (row.seed, row.target_return, row.env_steps, row.episodes) == (2, 15.0, 1_024, 30)
    # It has reached its target when the last twenty episodes in training have.
    reached = [
        of["env_steps"]
        for of in read_metrics(job.folder(tmp_path))
        if of["rollout/episodes"] >= 20 and of["rollout/ep_rew_mean"] >= 15.0
    ]
    assert row.env_steps_to_target == next(iter(reached), None)
    assert same(row, job.run(tmp_path))  # it is over: resumed, not run again
