"""One student for several tasks: what each has of its network, and that it learns them all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import tutelage as tt
from tutelage import recipes
from tutelage.assignment.practice import Practice
from tutelage.cli import main
from tutelage.domains import EnvironmentConfig, actions_of
from tutelage.errors import UserError
from tutelage.evaluation import Evaluation
from tutelage.files import load_tensors, save_tensors
from tutelage.heads import Categorical, Head, Point, QValues
from tutelage.importers import import_model
from tutelage.losses import mse
from tutelage.networks import Network, parse_size
from tutelage.objectives import Distillation, PerTask
from tutelage.recipes.examining import Reference
from tutelage.runs import read_config
from tutelage.schema import build
from tutelage.selectors import build_selector
from tutelage.sources.mixed import in_turn, together
from tutelage.tasks import (
    Task,
    network_for,
    outputs_of,
    read_tasks,
    save_tasks,
    shared_out,
)
from tutelage.types import Batch, torch_generator

TASKS = (
    Task("first", "CartPole-v1", QValues(2), (0, 1), {"env_steps": 7}),
    Task("second", "Acrobot-v1", Categorical(3), (2, 3, 4)),
)


def network(tasks: tuple[Task, ...] = TASKS) -> Network:
    head = outputs_of([task.columns for task in tasks])
    generator = torch_generator(np.random.SeedSequence(1))
    return Network(parse_size("mlp:5"), (1, 4), head, generator=generator)


def test_outputs_of_their_own_follow_one_another() -> None:
    heads: list[Head] = [QValues(2), Point(1), Categorical(3)]
    assert shared_out("own", heads, [(), (), ()]) == [(0, 1), (2,), (3, 4, 5)]


def test_shared_outputs_are_those_of_equal_actions() -> None:
    assert shared_out("shared", [QValues(2), QValues(3)], [(0, 4), (0, 3, 4)]) == [
        (0, 4),
        (0, 3, 4),
    ]
    with pytest.raises(UserError, match="outputs shared are for discrete actions"):
        shared_out("shared", [QValues(2), Point(1)], [(0, 1), ()])


@pytest.mark.parametrize(
    ("env", "places"),
    [("pong", (0, 1, 3, 4, 11, 12)), ("freeway", (0, 2, 5)), ("boxing", tuple(range(18)))],
)
def test_a_game_says_which_of_the_joystick_s_actions_it_has(
    env: str, places: tuple[int, ...]
) -> None:
    assert actions_of(EnvironmentConfig(env=env), len(places)) == places


def test_a_network_of_one_task_says_what_the_whole_says_of_it() -> None:
    whole, obs = network(), torch.randn(7, 1, 4)
    for task in TASKS:
        alone = network_for(whole, task)
        assert alone.head == task.head
        torch.testing.assert_close(alone(obs), whole(obs)[:, list(task.columns)])
        assert alone.num_parameters() < whole.num_parameters()


def test_each_state_is_held_to_its_own_task_by_hand() -> None:
    objective = PerTask(TASKS, [Distillation(mse, lambda q: q, task.head) for task in TASKS])
    out = torch.tensor([[1.0, 2.0, 9.0, 9.0, 9.0], [9.0, 9.0, 1.0, 0.0, 3.0]], requires_grad=True)
    label = torch.tensor([[1.0, 0.0, 5.0], [1.0, 1.0, 1.0]])
    batch = Batch(obs=torch.zeros(2, 1), label=label, task=torch.tensor([0, 1]))
    loss = objective(out, batch)
    assert loss.tolist() == [4.0, 5.0]  # (2 - 0)^2; (0 - 1)^2 + (3 - 1)^2
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert out.grad is not None
    assert out.grad.tolist() == [[0.0, 4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, -2.0, 4.0]]
    assert sorted(objective.measure(out, batch)) == [
        *("first/distill/agreement", "first/distill/regret", "first/train/q"),
        *("second/distill/agreement", "second/distill/relative_probability"),
    ]


def draw(value: float, size: int) -> Callable[[int], Batch]:
    return lambda n: Batch(obs=torch.full((n, 1), value), label=torch.full((n, size), value))


def test_batches_are_of_all_tasks_or_of_one_in_turn() -> None:
    draws = [draw(1.0, 2), draw(2.0, 3)]
    both = together(draws, 5, 0)
    assert both.task is not None
    assert both.task.tolist() == [0, 0, 1, 1, 1]
    assert both.obs[:, 0].tolist() == [1.0, 1.0, 2.0, 2.0, 2.0]
    assert both.label[0].tolist() == [1.0, 1.0, 0.0]
    shares = [torch.bincount(together(draws, 5, n).task, minlength=2).tolist() for n in range(4)]  # type: ignore[arg-type]
    assert shares == [[2, 3], [3, 2], [2, 3], [3, 2]]
    turns = [set(in_turn(draws, 4, n).task.tolist()) for n in range(3)]  # type: ignore[union-attr]
    assert turns == [{0}, {1}, {0}]


def test_practice_pays_what_was_learnt() -> None:
    losses = iter([5.0, 1.0, 3.0, 3.0])  # the first choice gains 4, the second nothing

    def losing(task: int) -> Callable[[], float]:
        return lambda: next(losses)

    def rounds(practice: Practice, number: int) -> list[dict[int, float]]:
        paid = []
        for _ in range(number):
            practice.begin()
            settled = practice.settle()
            paid.append({int(f.arm[0]): float(f.reward[0]) for f in settled.values()})
        return paid

    selector = build_selector("exp3", num_arms=2, rng=np.random.default_rng(1))
    practice = Practice(2, selector=selector, losing=losing)
    first, second, third, fourth = rounds(practice, 4)
    assert first == second == {}  # each task is played once before there is a choice
    assert list(third.values()) == [0.5]
    assert list(fourth.values()) == [0.25]  # the lower of two
    other = Practice(
        2,
        selector=build_selector("exp3", num_arms=2, rng=np.random.default_rng(9)),
        losing=lambda task: lambda: 1.0,
    )
    other.restore(practice.state())
    assert json.dumps(other.state(), default=str) == json.dumps(practice.state(), default=str)
    in_turns = Practice(3, selector=None, losing=losing)
    seen = []
    for _ in range(4):
        in_turns.begin()
        seen.append(in_turns.task)
        assert in_turns.settle() == {}
    assert seen == [0, 1, 2, 0]


def test_what_is_kept_is_the_way_from_random_play_to_the_teacher() -> None:
    def returned(mean: float) -> Evaluation:
        return Evaluation(np.array([mean]), np.array([1]))

    reference = Reference(teacher=returned(20.0), random=returned(-20.0))
    assert [reference.kept(mean) for mean in (-20.0, 0.0, 20.0)] == [0.0, 0.5, 1.0]
    hopeless = Reference(teacher=returned(-20.0), random=returned(0.0))
    assert [hopeless.kept(mean) for mean in (-30.0, -20.0)] == [0.0, 1.0]


def test_a_file_of_several_tasks_is_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_tasks(path, network(), TASKS, card={})
    whole, tasks = read_tasks(path)
    assert tasks == list(TASKS)
    obs = torch.randn(3, 1, 4)
    torch.testing.assert_close(whole(obs), network()(obs))
    model = import_model(f"{path}+task:first")
    assert (model.env, model.card, model.policy.head) == (
        "CartPole-v1",
        {"env_steps": 7},
        QValues(2),
    )
    torch.testing.assert_close(model.policy.step(obs, ())[0], network()(obs)[:, :2])
    for text, expected in (
        (f"{path}", r"plays several tasks \(first, second\): choose one, as in .*\+task:first"),
        (f"{path}+task:frist", r"unknown task of .* 'frist': did you mean first"),
        ("pong+task:pong", r"is of one task only: leave \+task: out"),
    ):
        with pytest.raises(UserError, match=expected):
            import_model(text)


def test_the_zoo_lists_each_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tasks(tmp_path / "both.safetensors", network(), TASKS, card={})
    main(["zoo", str(tmp_path), "--json"])
    listed = json.loads(capsys.readouterr().out)
    path = tmp_path / "both.safetensors"
    assert {f"{path}+task:first", f"{path}+task:second", "pong"} <= set(listed)
    assert listed[f"{path}+task:second"]["env"] == "Acrobot-v1"


def test_a_damaged_list_of_tasks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_tasks(path, network(), TASKS, card={})
    tensors, about = load_tensors(path)
    for columns in ([0], [0, 99], [], "x", None, [-1, 0]):
        tasks = [{**about["tasks"][0], "columns": columns}]
        save_tensors(path, tensors, {**about, "tasks": tasks})
        with pytest.raises(UserError, match="columns|has outputs"):
            import_model(f"{path}+task:first")


class Mirrored(gym.ActionWrapper[Any, Any, Any]):
    """CartPole with its two actions the other way round: what is right in one is wrong here."""

    def action(self, action: Any) -> Any:
        return 1 - action


def upright() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def mirrored() -> gym.Env[Any, Any]:
    return Mirrored(gym.make("CartPole-v1"))


def balances(obs: Tensor) -> Tensor:
    """Push towards where the pole falls: this holds an episode to its end."""
    side = (obs.flatten(1) * torch.tensor([0.0, 0.1, 1.0, 1.0])).sum(dim=1)
    return torch.stack([-side, side], dim=1) * 100.0


def balances_mirrored(obs: Tensor) -> Tensor:
    return balances(obs).flip(1)


SHORT: dict[str, Any] = {
    "student": "mlp:32/32",
    "env_steps": 6_000,
    "num_envs": 4,
    "round_steps": 200,
    "teacher_acts": "1:0:1000",
    "threads": 1,
    "eval_from": 3_000,
    "eval_every": 2_000,
    "eval_episodes": 4,
    "confirm_episodes": 6,
    "checkpoint_every": 1_000,
    "learning_rate": "1e-3:1e-4",
}


def learn(folder: Path, **settings: Any) -> tt.Multitasked:
    return tt.multitask(
        [balances, balances_mirrored], [upright, mirrored], out=folder, **{**SHORT, **settings}
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"batches": "in-turn", "practise": "exp3"}],
    ids=["together", "in-turn"],
)
def test_one_student_learns_what_contradicts_itself(tmp_path: Path, settings: Any) -> None:
    outcome = learn(tmp_path / "run", **settings)
    result = outcome.result
    assert result["kept"] > 0.9
    assert all(one["random_return"] < 60.0 for one in result["tasks"].values())
    assert all(one["mean_return"] > 400.0 for one in result["tasks"].values())
    for (name, student), env in zip(outcome.students.items(), (upright, mirrored), strict=True):
        assert tt.evaluate(student, env, episodes=5).mean > 400.0
        loaded = tt.load(f"{outcome.folder}+task:{name}")
        assert tt.evaluate(loaded, env, episodes=5).mean > 400.0
    rows = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").open()]
    played = [rows[-1][f"{name}/env_steps"] for name in result["tasks"]]
    assert sum(played) == rows[-1]["env_steps"] == 6_000
    assert (outcome.folder / "README.md").read_text().startswith('---\nlibrary_name: "tutelage"')


class Noted:
    """A tracker that writes down how far a run has come."""

    def __init__(self, *, folder: Path, config: Any, since: int) -> None:
        self._path = folder / "noted.txt"

    def write(self, env_steps: int, values: Any) -> None:
        with self._path.open("a") as file:
            file.write(f"{env_steps}\n")

    def close(self) -> None:
        pass


def test_trackers_are_told_of_several_tasks(tmp_path: Path) -> None:
    outcome = learn(tmp_path / "run", env_steps=1_000, track=["tests.test_multitask:Noted"])
    told = (outcome.folder / "noted.txt").read_text().split()
    assert told == ["200", "400", "600", "800", "1000"]


def test_shared_outputs_cannot_learn_it(tmp_path: Path) -> None:
    """The two tasks have the same observations and opposite actions."""
    result = learn(tmp_path / "run", outputs="shared").result
    assert min(one["kept"] for one in result["tasks"].values()) < 0.5


@pytest.mark.parametrize("practise", ["in-turn", "thompson-beta"])
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, practise: str) -> None:
    whole = learn(tmp_path / "whole", practise=practise, env_steps=2_400)
    stops: list[int] = []

    class StoppedError(Exception):
        pass

    def stop(row: tt.Row) -> None:
        if row.env_steps == 1_600:
            stops.append(row.env_steps)
            raise StoppedError

    with pytest.raises(StoppedError):
        learn(tmp_path / "cut", practise=practise, env_steps=2_400, watch=stop)
    again = learn(tmp_path / "cut", practise=practise, env_steps=2_400, resume=True)
    assert stops == [1_600]
    metrics = [(one.folder / "metrics.jsonl").read_bytes() for one in (whole, again)]
    assert metrics[0] == metrics[1]
    weights = [load_tensors(one.folder / "last.safetensors")[0] for one in (whole, again)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])


def test_each_task_is_played_as_its_teacher_s_card_has_it_again_when_it_goes_on(
    tmp_path: Path,
) -> None:
    card = {"config": {"environment": {"atari": {"sticky": 0.5, "pool_frames": 4}}}}
    teacher = Network(parse_size("4/4/4/8"), (4, 84, 84), QValues(3))
    tt.save(tmp_path / "freeway.safetensors", teacher, env="freeway", card=card)
    tiny: dict[str, Any] = {
        "teachers": ["pong-sticky", str(tmp_path / "freeway.safetensors")],
        "student": "4/4/4/8",
        "env_steps": 128,
        "num_envs": 2,
        "round_steps": 32,
        "samples_per_step": 1.0,
        "batch_size": 8,
        "learning_starts": 8,
        "eval_episodes": 1,
        "confirm_episodes": 1,
        "eval_max_steps": 10,
        "threads": 1,
    }
    run = tmp_path / "run"
    begun = recipes.multitask(build(tt.Multitask, tiny), run)
    values = read_config(run)
    for key in ("command", "files"):
        del values[key]
    again = recipes.multitask(build(tt.Multitask, values), run, resume=True)
    for outcome in (begun, again):
        played = {name: one.config.environment.atari for name, one in outcome.tasks.items()}
        assert [played[name].sticky for name in ("pong", "freeway")] == [0.25, 0.5]
        assert [played[name].pool_frames for name in ("pong", "freeway")] == [2, 4]
    first, second = ({**recipes.close_multitask(one), "seconds": 0.0} for one in (begun, again))
    for result in (first, second):
        for one in result["tasks"].values():
            one.pop("us_per_action"), one["teacher"].pop("us_per_action")
    assert {**first, "evaluation_seconds": 0.0} == {**second, "evaluation_seconds": 0.0}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--teachers pong", "teachers: 1 given, expected two or more, each of a task of its own"),
        ("--teachers pong pong-sticky", "two teachers play pong: for several tasks there is one"),
        ("--teachers pong pong --envs pong", "envs: 1 given, expected one for each of the 2"),
        ("--teachers pong pong-sticky --env pong", "name environments by --envs"),
        ("--teachers pong pong-sticky --selector ucb1", "selector is a setting of distilling for"),
        ("--teachers pong pong-sticky --reward-weight 1", "reward_weight is a setting of"),
        ("--batches apart", "batches"),
    ],
)
def test_bad_input_is_said_in_a_line(
    words: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["multitask", *words.split(), "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    said = capsys.readouterr().err.strip()
    assert expected in said.replace("\n", " ")
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
