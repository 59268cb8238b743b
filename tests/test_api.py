"""From Python: the same as the commands, and nothing of the process taken over."""

import json
import signal
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

import tutelage as tt
from tests.fakes import Counter
from tests.players import SMALL, assert_same_bytes, cartpole_model, controller, refusal
from tutelage.cli import main
from tutelage.domains.gym import registered
from tutelage.errors import UserError
from tutelage.report.summary import headline

RUN: dict[str, Any] = {
    **SMALL,
    "student": "mlp:8",
    "seed": 3,
    "explore": "epsilon:0.1",
    "eval_from": 0,
    "eval_every": 256,
    "eval_episodes": 2,
    "confirm_episodes": 4,
    "eval_max_steps": 100,
}
TIMED = ("us_per_action", "seconds", "evaluation_seconds", "folder")


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without what no two runs share."""
    kept = {key: value for key, value in result.items() if key not in TIMED}
    if "teacher" in kept:
        kept["teacher"] = untimed(kept["teacher"])
    return kept


def test_distilling_comes_to_the_same_as_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = cartpole_model(tmp_path / "teacher.safetensors")
    rows: list[tt.Row] = []
    told: list[str] = []
    outcome = tt.distill(
        teacher=teacher,
        env="CartPole-v1",
        out=tmp_path / "python",
        watch=rows.append,
        note=told.append,
        **RUN,
    )
    assert capsys.readouterr() == ("", "")  # a library keeps quiet
    flags = [w for name, value in RUN.items() for w in (f"--{name.replace('_', '-')}", str(value))]
    command = tmp_path / "command"
    main(["distill", "--teacher", teacher, *flags, "--out", str(command), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert untimed(dict(outcome.result)) == untimed(result)
    assert outcome.result == json.loads((tmp_path / "python" / "result.json").read_text())
    for name in ("metrics.jsonl", "config.toml", "best.safetensors"):
        assert_same_bytes(outcome.folder, command, name)
    # The card says what the closing evaluation said, not the best of those it was kept by.
    card = tt.load(outcome.folder).card
    for name in ("mean_return", "ci95", "episodes"):
        assert card[name] == result[name]
    assert [row.env_steps for row in rows] == [128, 256, 384, 512]
    assert any("student" in line for line in told)
    # What is left open in the asking is known in the outcome, and the student is the best one.
    assert (outcome.config.tau, outcome.config.loss) == (0.1, "kl")
    obs = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(0))
    best = tt.load(outcome.folder).policy
    assert torch.equal(outcome.student(obs), best.step(obs, ())[0])


def test_teaching_comes_to_the_same_as_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {**SMALL, "size": "mlp:8", "learning_starts": 64, "seed": 3, "milestones": [1.5]}
    result = tt.teach("CartPole-v1", out=tmp_path / "python", **asked)
    assert tt.load(tmp_path / "python" / "return_1.5.safetensors").card["training_return"] > 1.5
    asked["milestones"] = 1.5
    flags = [w for k, value in asked.items() for w in (f"--{k.replace('_', '-')}", str(value))]
    words = ["teach", "--env", "CartPole-v1", *flags, "--out", str(tmp_path / "command")]
    main([*words, "--json"])
    assert untimed(result) == untimed(json.loads(capsys.readouterr().out))
    assert_same_bytes(tmp_path / "python", tmp_path / "command", "metrics.jsonl")


def test_a_vector_may_have_been_saved_without_the_axis_of_its_frame(tmp_path: Path) -> None:
    network = tt.Network(tt.parse_size("mlp:4"), (4,), tt.QValues(2))
    tt.save(tmp_path / "flat.safetensors", network, env="CartPole-v1", card={})
    outcome = tt.distill(tmp_path / "flat.safetensors", out=tmp_path / "run", **RUN)
    assert outcome.student.obs_shape == (1, 4)


def test_a_setting_that_there_is_not_is_refused_before_anything_begins(tmp_path: Path) -> None:
    teacher = cartpole_model(tmp_path / "teacher.safetensors")
    out = tmp_path / "run"
    for settings, words in (
        ({"tauu": 0.1}, ["'tauu'", "did you mean tau?"]),
        ({"size": "mlp:8"}, ["'size'"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": "1"}, ["seed", "whole number"]),
        ({"student": 5}, ["student", "a string"]),
        ({"precision": "fp8"}, ["precision", "fp32"]),
    ):
        with pytest.raises(UserError) as caught:
            tt.distill(teacher, out=out, **settings)
        assert all(word in str(caught.value) for word in words)
    for wrong in (lambda: tt.teach("CartPole-v1", tau=1.0), lambda: tt.evaluate(teacher, tau=1.0)):
        with pytest.raises(UserError, match="'tau'"):
            wrong()
    assert not out.exists()


def test_numbers_of_numpy_are_as_good_as_pythons(tmp_path: Path) -> None:
    teacher = cartpole_model(tmp_path / "teacher.safetensors")
    for name, number in (("numpy", np.int64), ("python", int)):
        asked = {**RUN, "seed": number(5), "n_step": number(2), "eval_from": 10**6}
        tt.distill(teacher, out=tmp_path / name, **asked)
    one, other = tmp_path / "numpy", tmp_path / "python"
    assert_same_bytes(one, other, "metrics.jsonl", "config.toml")


def test_a_call_in_a_thread_takes_over_neither_signals_nor_torchs_threads(tmp_path: Path) -> None:
    teacher = cartpole_model(tmp_path / "teacher.safetensors")
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    torch.set_num_threads(3)
    state = torch.random.get_rng_state()
    threads: set[int] = set()
    came: list[Any] = []

    def look(row: tt.Row) -> None:
        threads.add(torch.get_num_threads())
        came.append({s: signal.getsignal(s) for s in handlers} == handlers)

    def call(name: str) -> None:
        came.append(tt.distill(teacher, out=tmp_path / name, watch=look, **RUN))

    call("here")
    threads_here, there = set(threads), threading.Thread(target=call, args=("there",))
    threads.clear()
    there.start()
    there.join()
    assert threads_here == {torch.get_num_threads()} == {3}
    assert len(threads) == 1  # whatever it was there, it stayed
    assert [one for one in came if isinstance(one, bool)] == [True] * 8
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_same_bytes(tmp_path / "here", tmp_path / "there", "metrics.jsonl", "last.safetensors")


# Teachers and environments that are no names.


def lean(obs: Tensor) -> Tensor:
    """Push towards where CartPole's pole falls."""
    out = obs.flatten(1) @ torch.tensor([0.05, 0.2, 1.0, 0.6])
    return torch.stack([-out, out], dim=1)


def test_a_teacher_is_a_name_a_path_a_model_a_policy_or_a_function_with_a_head(
    tmp_path: Path,
) -> None:
    path = controller(tmp_path / "teacher.safetensors")
    asked = {**RUN, "env": "CartPole-v1", "eval_from": 10**6}
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    labels = {}
    cases: list[tuple[str, Any, tt.Head | None]] = [
        ("name", path, None),
        ("path", Path(path), None),
        ("model", tt.load(path), None),
        ("policy", tt.load(path).policy, None),
        ("function", lean, tt.QValues(2)),
        ("module", module, tt.Categorical(2)),
        ("memory", Counter(), None),
        ("several", [path, lean], tt.QValues(2)),
    ]
    for name, teacher, head in cases:
        outcome = tt.distill(teacher, head=head, out=tmp_path / name, **asked)
        labels[name] = (outcome.folder / "metrics.jsonl").read_bytes()
    assert labels["name"] == labels["path"] == labels["model"] == labels["policy"]
    assert len({labels[name] for name in ("name", "module", "memory", "several")}) == 4
    for head, says in ((None, "head"), (tt.QValues(2), "by `env`")):
        with pytest.raises(UserError, match=says):
            tt.distill(lean, head=head, out=tmp_path / "none", **{**asked, "env": "auto"})
    assert not (tmp_path / "none").exists()


def test_a_module_that_is_lent_comes_back_as_it_was(tmp_path: Path) -> None:
    frozen = torch.nn.BatchNorm1d(4).eval()
    module = torch.nn.Sequential(frozen, torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))
    random = torch.get_rng_state()
    tt.evaluate(module, "CartPole-v1", episodes=1)
    tt.distill(module, "CartPole-v1", "mlp:4", out=tmp_path / "run", **SMALL)
    tt.export(module, "torch", tmp_path / "out", env="CartPole-v1", states=8, episodes=1)
    assert [part.training for part in module.modules()] == [True, False, True, True]
    assert torch.equal(torch.get_rng_state(), random)


def test_an_environment_is_a_name_or_what_makes_one(tmp_path: Path) -> None:
    made = []

    def make(**options: Any) -> gymnasium.Env[Any, Any]:
        made.append(options)
        return gymnasium.make("CartPole-v1", **options)

    asked = {**RUN, "head": tt.QValues(2), "target_return": 475.0}
    named = tt.distill(lean, "CartPole-v1", out=tmp_path / "named", **asked)
    own = tt.distill(lean, make, out=tmp_path / "own", **asked)
    assert len(made) >= 2
    assert_same_bytes(named.folder, own.folder, "metrics.jsonl")


def pole(**options: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1", **options)


def test_who_learnt_where_a_function_said_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {**RUN, "head": tt.QValues(2), "out": tmp_path / "run"}
    outcome = tt.distill(lean, lambda: pole(), **asked)
    played = tt.evaluate(outcome.student, pole, episodes=2)
    del gymnasium.registry[outcome.config.environment.env]  # as in another process
    folder = str(outcome.folder)
    export = ["export", folder, "--to", "torch", "--out", str(tmp_path / "new")]
    for words in (["evaluate", folder], export):
        assert "name the function by --env as MODULE:FUNCTION" in refusal(words, capsys)
    main(["evaluate", folder, "--env", f"{__name__}:pole", "--episodes", "2", "--json"])
    assert json.loads(capsys.readouterr().out)["mean_return"] == played.mean


def test_functions_have_the_same_id_in_every_process_and_two_of_one_name_have_two() -> None:
    def other() -> Any:
        def pole(**options: Any) -> gymnasium.Env[Any, Any]:
            return gymnasium.make("MountainCar-v0", **options)

        return pole

    first, again, second = registered(pole), registered(pole), registered(other())
    assert first == again == "tutelage-pole-v0"
    assert second == "tutelage-pole-2-v0"
    assert gymnasium.make(second).observation_space.shape == (2,)  # MountainCar
    with pytest.raises(tt.UserError, match="a function that makes an environment"):
        tt.evaluate(lean, gymnasium.make("CartPole-v1"), head=tt.QValues(2))  # type: ignore[arg-type]


def test_what_is_told_of_a_student_is_of_the_env_step_that_it_was_kept_at(tmp_path: Path) -> None:
    asked = {**RUN, "eval_from": 0, "eval_every": 128, "target_return": "none"}
    outcome = tt.distill(lean, "CartPole-v1", head=tt.QValues(2), out=tmp_path / "run", **asked)
    kept = outcome.result["kept_at"]
    assert kept == tt.load(outcome.folder).card["env_steps"]
    assert f"as it was after {kept:,} env steps" in (outcome.folder / "README.md").read_text()
    later = {**outcome.result, "kept_at": 128, "env_steps": 512}
    assert headline(later).endswith("evaluating; the student is that of env step 128)")


def test_where_no_target_is_known_a_run_has_its_whole_budget(tmp_path: Path) -> None:
    def stick(obs: Tensor) -> Tensor:
        return torch.zeros(len(obs), dtype=torch.int64)

    asked = {**RUN, "eval_from": 0, "num_envs": 4}
    outcome = tt.distill(stick, "Blackjack-v1", out=tmp_path / "run", **asked)
    assert outcome.config.examination.target is None
    assert outcome.result["env_steps"] == 512
    assert not any(key.startswith("env_steps_to") for key in outcome.result)
    assert headline(outcome.result).startswith("Blackjack-v1: 512 env steps (")


# Evaluating.


def test_whatever_plays_is_evaluated_alike(tmp_path: Path) -> None:
    path = controller(tmp_path / "teacher.safetensors")
    asked: dict[str, Any] = {"episodes": 6, "seed": 2, "max_steps": 120}
    model = tt.load(path)
    played = [
        tt.evaluate(path, **asked),
        tt.evaluate(Path(path), **asked),
        tt.evaluate(model, **asked),
        tt.evaluate(model.policy, "CartPole-v1", **asked),
        tt.evaluate(lean, "CartPole-v1", head=tt.QValues(2), **asked),
        tt.evaluate(
            tt.Function(lean, tt.QValues(2)), tt.EnvironmentConfig(env="CartPole-v1"), **asked
        ),
    ]
    for one in played:
        assert one.returns.tolist() == [120.0] * 6
        assert one.cut == 6
    worse = tt.evaluate(f"{path}+negate", **asked)
    assert worse.mean < 30.0
    assert worse.cut == 0


def test_settings_of_the_environment_are_keywords_of_evaluate(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"episodes": 1, "max_steps": 60, "threads": 1}
    model = tt.load("pong-small-1")
    plain = tt.evaluate(model, **asked, noop_max=0)
    again = tt.evaluate("pong-small-1", **asked, noop_max=0)
    other = tt.evaluate("pong-small-1", **asked, noop_max=0, sticky=0.5)
    assert plain.returns.tolist() == again.returns.tolist()
    assert plain.cut == other.cut == 1
    with pytest.raises(UserError, match="sticky"):
        tt.evaluate(cartpole_model(tmp_path / "t.safetensors"), sticky=0.5)


@pytest.mark.parametrize(
    ("policy", "options", "words"),
    [
        ("nobody", {}, "'nobody'"),
        (5, {"env": "CartPole-v1"}, "int"),
        (Counter(), {}, "by `env`"),
        (Counter(), {"env": "Acrobot-v1"}, "Counter chooses among 2 actions; Acrobot-v1 has 3"),
        ("pong", {"env": "CartPole-v1"}, "pong sees 4 x 84 x 84 numbers; CartPole-v1 gives 4"),
        (lean, {"env": "CartPole-v1", "head": tt.QValues(2), "device": "abacus"}, "abacus"),
        (lean, {"env": "CartPole-v1", "head": tt.QValues(2), "episodes": 0}, "episodes"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    policy: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        tt.evaluate(policy, **options)


def test_a_student_of_vectors_is_a_perceptron_where_none_is_named(tmp_path: Path) -> None:
    asked = {name: value for name, value in RUN.items() if name != "student"}
    notes: list[str] = []
    outcome = tt.distill(
        lambda obs: torch.zeros(len(obs), dtype=torch.int64),
        "CartPole-v1",
        out=tmp_path / "run",
        note=notes.append,
        **{**asked, "learning_rate": "3e-3"},
    )
    learning = outcome.config.learning
    assert outcome.config.student == "mlp:64/64"
    assert "observations are vectors: the student is mlp:64/64" in notes
    assert (learning.learning_rate, learning.precision) == ("3e-3", "fp32")
