"""What one run does, what it is known by, and what it leaves: keys, budgets, runs of CartPole."""

import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import cartpole_model
from tests.toys import cartpole_study, row_of, toy
from tutelage import recipes
from tutelage.configs import Distill, Record, Teach
from tutelage.dataset import FRAGMENT, Dataset
from tutelage.errors import UserError
from tutelage.experiments import find_experiments, tasks
from tutelage.experiments import jobs as jobs_module
from tutelage.experiments.jobs import Job, jobs, key
from tutelage.experiments.tasks import Play, Study, Training, is_play
from tutelage.recipes import appointment
from tutelage.runs import read_rows, versions

FOUND = find_experiments()


def test_all_methods_have_their_first_seed_before_any_has_its_second() -> None:
    grid = jobs("toy", toy(a={"tau": 1.0}, b={"tau": 2.0}), seeds=3, budget="short")
    assert [(job.method, job.seed) for job in grid] == [
        *(("a", 1), ("b", 1)),
        *(("a", 2), ("b", 2)),
        *(("a", 3), ("b", 3)),
    ]
    studies = [Study(Distill(tau=tau, threads=1)) for tau in (1.0, 2.0)]
    assert [job.task for job in grid] == studies * 3


@pytest.mark.parametrize("of", [Play("pong"), Teach()])
def test_a_model_plays_and_a_teacher_is_trained_once_whatever_the_seeds(of: Play | Teach) -> None:
    grid = jobs("toy", toy(a={}, model=of), seeds=3, budget="short")
    assert [(job.method, job.seed) for job in grid] == [("a", 1), ("model", 1), ("a", 2), ("a", 3)]


@pytest.mark.parametrize(
    ("budget", "env_steps", "recorded", "episodes"),
    [("smoke", 256, 256, 1), ("short", 50_000, 70_000, 7), ("paper", 250_000, 70_000, 7)],
)
def test_a_budget_overrides_what_a_method_asks_for(
    budget: str, env_steps: int, recorded: int, episodes: int
) -> None:
    asks = {"threads": 4, **({} if budget == "short" else {"env_steps": 9})}
    it = toy(
        a=asks,
        played={"record": {"env_steps": 70_000}},
        learnt={"train": {"env_steps": 70_000}},
        model=Play("pong-weak", episodes=7),
    )
    study, played, learnt, play = (job.task for job in jobs("toy", it, seeds=1, budget=budget))
    assert isinstance(study, Study)
    assert (study.config.env_steps, study.config.threads, study.data) == (env_steps, 1, None)
    for of, kind in ((played, Record), (learnt, Teach)):
        assert isinstance(of, Study)
        assert isinstance(of.data, kind)
        assert (of.data.env_steps, of.data.threads) == (recorded, 1)
    assert play == Play("pong-weak", episodes=episodes)


@pytest.mark.parametrize(
    ("asks", "refused"),
    [
        ({"tauu": 1.0}, "key 'tauu'"),
        ({"record": {"env_stepz": 1}}, "key 'env_stepz'"),
        ({"train": {"sise": "teacher"}}, "key 'sise'"),
    ],
)
def test_a_method_of_a_setting_that_there_is_not_is_named(
    asks: dict[str, Any], refused: str
) -> None:
    with pytest.raises(UserError, match=f"toy, a: unknown {refused}"):
        jobs("toy", toy(a=asks), seeds=1, budget="short")


def test_a_run_is_told_from_others_by_its_task_and_seed_alone() -> None:
    grid = [job for name, e in FOUND.items() for job in jobs(name, e, seeds=2, budget="short")]
    known: dict[str, Job] = {}
    for job in grid:
        twin = known.setdefault(job.key, job)
        assert (twin.task, twin.seed) == (job.task, job.seed)
    different: list[tuple[object, int]] = []
    for job in grid:
        if (job.task, job.seed) not in different:
            different.append((job.task, job.seed))
    assert len(different) == len(known) < len(grid)
    first, second = jobs("toy", toy(a={"teachers": ("pong",)}, b={}), seeds=1, budget="short")
    assert first.key == second.key != replace(first, seed=2).key


def test_a_row_read_back_is_known_for_its_run() -> None:
    for name, e in FOUND.items():
        for job in jobs(name, e, seeds=2, budget="paper"):
            row = json.loads(json.dumps(row_of(job)))
            assert key(row["settings"], row["seed"]) == job.key
            assert is_play(row["settings"]) == isinstance(job.task, Play)


def test_the_threads_of_a_teachers_training_do_not_tell_it_from_others() -> None:
    assert Training(Teach()).settings == Training(Teach(threads=1)).settings == {"teach": {}}
    assert Training(Teach(env_steps=1)).settings == {"teach": {"env_steps": 1}}


def test_the_key_of_a_run_is_what_it_was_when_the_first_rows_were_kept() -> None:
    (job, *_) = jobs("unequal-teachers", FOUND["unequal-teachers"], seeds=1, budget="short")
    assert job.task.settings == {"threads": 1}
    assert job.key == key({"threads": 1}, 1) == "0a45179f501d27e5"


# Real runs, of CartPole.


def of_cartpole(folder: Path, **settings: Any) -> Job:
    return Job("four-experts", "a b: 1/2", 1, cartpole_study(folder, **settings))


def folder_of(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def test_the_row_of_a_run_that_passes(tmp_path: Path) -> None:
    job = of_cartpole(tmp_path, target_return=1.0)
    row = job.run(tmp_path / "runs")
    assert (row["env_steps"], row["env_steps_to_target"], row["target_return"]) == (128, 128, 1.0)
    assert (row["episodes"], row["seed"]) == (3, 1)
    assert row["mean_return"] == pytest.approx(sum(row["returns"]) / 3)
    assert row["settings"]["student"] == "mlp:4"
    assert row["curve"]["env_steps"] == [128]
    assert row["curve"]["rollout/reward_per_step"] == [1.0]
    assert "picks" not in row
    folder = folder_of(tmp_path)
    assert folder.name == f"four-experts-a-b--1-2-1-{job.key}"
    again = job.run(tmp_path / "runs")  # it is over: resumed, not run again
    assert {**row, "seconds": 0.0} == {**again, "seconds": 0.0}
    assert len(read_rows(folder)) == 1


def test_the_row_of_a_run_that_misses_is_of_further_episodes_of_its_best(tmp_path: Path) -> None:
    row = of_cartpole(tmp_path, target_return=501.0).run(tmp_path / "runs")
    assert (row["env_steps"], row["env_steps_to_target"]) == (256, None)
    assert row["episodes"] == len(row["returns"]) == 3
    assert row["curve"]["env_steps"] == [128, 256]


def test_a_row_has_what_its_claim_scores_and_who_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = of_cartpole(tmp_path)
    model = str(tmp_path / "teacher.safetensors")
    study = cartpole_study(tmp_path, target_return=501.0, teachers=(model, model + "+negate"))
    monkeypatch.setattr(appointment, "has_segments", lambda env: True)
    scored = replace(FOUND["four-experts"], score=lambda folder: {"rows": len(read_rows(folder))})
    monkeypatch.setattr(jobs_module, "find_experiments", lambda: {"four-experts": scored})
    row = replace(job, task=study).run(tmp_path / "runs")
    assert row["rows"] == 2
    assert len(row["picks"]) == 2
    # Every step of CartPole gives a reward, and so is a segment; the teachers led most of them.
    assert 200 < sum(row["picks"]) == len(read_rows(folder_of(tmp_path), "selections.jsonl")) < 256


def test_a_row_has_the_commit_that_its_grid_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs("toy", toy(a=Play("pong", episodes=1)), seeds=1, budget="smoke")
    assert job.commit.partition("-")[0] == versions()["commit"].partition("-")[0]
    monkeypatch.setattr(Play, "run", lambda self, folder, *, seed: {})
    monkeypatch.setattr("tutelage.experiments.jobs.find_experiments", lambda: {"toy": toy(a={})})
    assert replace(job, commit="an older one").run(tmp_path)["commit"] == "an older one"


def test_the_seed_of_a_job_is_that_of_its_study(tmp_path: Path) -> None:
    job = of_cartpole(tmp_path, target_return=501.0, seed=7)
    rows = [replace(job, seed=seed).run(tmp_path / f"{seed}") for seed in (1, 2)]
    assert rows[0]["settings"] == rows[1]["settings"]
    assert rows[0]["returns"] != rows[1]["returns"]


def test_the_row_of_a_model_that_plays(tmp_path: Path) -> None:
    play = Play(cartpole_model(tmp_path / "teacher.safetensors") + "+negate", episodes=5)
    row = Job("four-experts", "model", 1, play).run(tmp_path / "runs")
    assert row["settings"] == {"play": {"model": play.model, "episodes": 5, "only": ""}}
    assert row["episodes"] == len(row["returns"]) == 5
    # Every step of CartPole returns 1.
    assert row["env_steps"] == sum(row["returns"]) > 0
    assert row["mean_return"] == pytest.approx(row["env_steps"] / 5)
    assert not row.keys() & {"env_steps_to_target", "target_return", "curve"}


def test_the_row_of_a_teachers_training(tmp_path: Path) -> None:
    training = Training(replace(TRAINING, env="CartPole-v1", env_steps=1_024))
    job = Job("four-experts", "teacher", 2, training)
    row = job.run(tmp_path / "runs")
    assert row["env_steps"] == row["curve"]["env_steps"][-1] == 1_024
    assert (row["seed"], row["target_return"], row["env_steps_to_target"]) == (2, 475.0, None)
    assert row["episodes"] == len(row["returns"]) == 30
    again = job.run(tmp_path / "runs")  # it is over: resumed, not run again
    assert {**row, "seconds": 0.0} == {**again, "seconds": 0.0}


def test_a_teacher_has_reached_its_target_when_twenty_episodes_in_training_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "usual_target", lambda env: 15.0)
    row = Training(replace(TRAINING, env_steps=1_024)).run(tmp_path, seed=1)
    first = row["env_steps_to_target"]
    for of in read_rows(tmp_path):
        reached = of["rollout/episodes"] >= 20 and of["rollout/ep_rew_mean"] >= 15.0
        assert reached or of["env_steps"] != first
        assert not reached or of["env_steps"] >= first


class Recorder:
    """Records as ``recipes.record`` does and counts; half of it in the ``broken`` try."""

    def __init__(self, broken: int = 0) -> None:
        self.began: list[Path] = []
        self._broken = broken
        self._record = recipes.record

    def __call__(self, config: Record, folder: Path) -> int:
        self.began.append(folder)
        if len(self.began) == self._broken:
            self._record(replace(config, env_steps=1), folder)
            (folder / "dataset.json").unlink()
            raise KeyboardInterrupt
        return self._record(config, folder)


def recorded_study(folder: Path) -> Study:
    study = cartpole_study(folder, target_return=501.0)
    (teacher,) = study.config.teachers
    return replace(study, data=Record(teacher=teacher, env_steps=400, num_envs=2, threads=1))


def test_a_run_records_a_data_set_of_its_own_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(recipes, "record", recorder)
    job = Job("offline", "a", 3, recorded_study(tmp_path))
    folder = job.folder(tmp_path / "runs")

    def stopped(config: Distill, folder: Path, *, resume: bool) -> recipes.Outcome:
        ctrl_c = partial(signal.raise_signal, signal.SIGINT)
        return distill(config, folder, resume=resume, watch=lambda row: ctrl_c())

    distill = recipes.distill
    with monkeypatch.context() as patched:
        patched.setattr(recipes, "distill", stopped)
        with pytest.raises(UserError, match="stopped at 128 env steps"):
            job.run(tmp_path / "runs")
    row = job.run(tmp_path / "runs")
    again = job.run(tmp_path / "runs")
    assert {**row, "seconds": 0.0} == {**again, "seconds": 0.0}
    assert len(recorder.began) == 1
    data = folder.with_name(f"{folder.name}-data")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {folder.name, data.name}
    assert len(Dataset(data)) == 1024 // FRAGMENT  # a round of recording, though 400 would do
    assert Dataset(data).about["seed"] == 3
    assert row["settings"]["record"]["env_steps"] == 400
    assert row["env_steps"] == 256
    assert "dataset" not in row["settings"]  # or the key would depend on where the runs are


TRAINING = Teach(
    env="CartPole-v1",
    size="mlp:8",
    env_steps=128,
    num_envs=2,
    round_steps=128,
    learning_starts=64,
    batch_size=16,
    threads=1,
    milestones=(),
)


def test_a_run_learns_from_the_training_of_a_teacher_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = cartpole_study(tmp_path, target_return=501.0)
    job = Job("offline", "a", 3, replace(study, data=replace(TRAINING, env_steps=512)))
    folder = job.folder(tmp_path / "runs")
    teach = recipes.teach

    def stopped(config: Teach, folder: Path, *, resume: bool) -> object:
        ctrl_c = partial(signal.raise_signal, signal.SIGINT)
        return teach(config, folder, resume=resume, watch=lambda row: ctrl_c())

    with monkeypatch.context() as patched:
        patched.setattr(recipes, "teach", stopped)
        with pytest.raises(UserError, match="stopped at 128 env steps"):
            job.run(tmp_path / "runs")
    row = job.run(tmp_path / "runs")
    kept = Dataset(folder.with_name(f"{folder.name}-data"))
    assert kept.env_steps == 512
    assert kept.about["behaviour"] == "its own training"
    assert kept.about["seed"] == 3
    assert row["settings"]["train"]["env_steps"] == 512
    assert row["env_steps"] == 256


def test_a_training_whose_data_set_is_gone_begins_anew(tmp_path: Path) -> None:
    job = Job("offline", "a", 1, replace(cartpole_study(tmp_path), data=TRAINING))
    folder = job.folder(tmp_path / "runs")
    training = folder.with_name(f"{folder.name}-training")
    recipes.teach(replace(TRAINING, seed=1, record=str(tmp_path / "elsewhere")), training)
    job.run(tmp_path / "runs")
    assert Dataset(folder.with_name(f"{folder.name}-data")).env_steps == 128


def test_a_data_set_that_was_half_recorded_is_recorded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(broken=1)
    monkeypatch.setattr(recipes, "record", recorder)
    job = Job("offline", "a", 1, recorded_study(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        job.run(tmp_path / "runs")
    (part,) = (tmp_path / "runs").iterdir()
    assert list(part.iterdir())
    row = job.run(tmp_path / "runs")
    assert row["env_steps"] == 256
    assert len(recorder.began) == 2
    assert not part.exists()
