"""Configurations: read from anywhere, checked once, refused in a line that says what would do."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pytest
import tomli_w
from msgspec import Meta

from tutelage.configs import Distill, Record, Teach
from tutelage.errors import UserError
from tutelage.files import read_toml
from tutelage.schema import Scheduled, build, changed, check, flat, nested, settings_of

KINDS = (Teach, Distill, Record)


def refused(kind: type[Any], **values: Any) -> str:
    with pytest.raises(UserError) as caught:
        build(kind, values, where="here")
    line = str(caught.value)
    assert line.startswith("here: ")
    assert "\n" not in line
    assert len(line) < 1_500
    return line


# What does not fit.

OUTSIDE: dict[str, list[tuple[Any, str]]] = {
    "seed": [(-1, "[0, "), (2**63, "[0, ")],
    "env_steps": [(0, "[1, "), (10**12 + 1, "1,000,000,000,000]")],
    "threads": [(-1, "[0, 1,024]"), (1_025, "[0, 1,024]")],
    "round_steps": [(0, "[1, "), (10**7 + 1, "10,000,000]")],
    "checkpoint_every": [(0, "[1, "), (10**24, "[1, ")],
    "num_envs": [(0, "[1, 65,536]"), (65_537, "[1, 65,536]")],
    "sticky": [(-0.1, "[0, 1)"), (1.0, "[0, 1)")],
    "noop_max": [(-1, "[0, 10,000]"), (10_001, "[0, 10,000]")],
    "frame": [(99, "84, 80"), (84.0, "84, 80"), ("84", "84, 80")],
    "vector": [("both", "sync, async")],
    "stack": [(0, "[1, 64]"), (65, "[1, 64]")],
    "batch_size": [(0, "[1, 1,000,000]"), (10**6 + 1, "[1, 1,000,000]")],
    "samples_per_step": [(0.0, "(0, 10,000]"), (1e308, "(0, 10,000]")],
    "learning_rate": [("fast", "number"), ("-1", "from 0"), ("1e-3:-1:9", "from 0"), ("0:0", "0")],
    "learning_starts": [(-1, "[0, "), (10**12 + 1, "[0, ")],
    "replay_size": [(0, "[1, "), (10**9 + 1, "[1, ")],
    "max_grad_norm": [(0.0, "above 0"), (-1.0, "above 0")],
    "scaling": [("none", "standard, unit")],
    "precision": [("fp8", "auto, bf16, fp32")],
    "gamma": [(-0.1, "[0, 1]"), (1.1, "[0, 1]")],
    "n_step": [(0, "[1, 1,000]"), (1_001, "[1, 1,000]")],
    "target_every": [(0, "[1, 1,000,000]"), (10**6 + 1, "[1, 1,000,000]")],
    "td_loss": [("l1", "huber, mse")],
    "optimizer": [("sgd", "adam, radam")],
    "algorithm": [("dqn", "double-q, pqn")],
    "rollout_steps": [(0, "[1, 100,000]"), (10**5 + 1, "[1, 100,000]")],
    "epochs": [(0, "[1, 1,000]"), (1_001, "[1, 1,000]")],
    "minibatches": [(0, "[1, 100,000]"), (10**5 + 1, "[1, 100,000]")],
    "return_lambda": [(-0.1, "[0, 1]"), (1.1, "[0, 1]")],
    "pool_frames": [(3, "2, 4"), (1, "2, 4")],
    "epsilon": [("1.5", "from 0 to 1"), ("1:-0.1:9", "from 0 to 1"), ("1:0", "number")],
    "choice_per": [("game", "segment, round"), ("rally", "segment, round")],
    "segment_steps": [(-1, "[0, "), (10**12 + 1, "[0, ")],
    "pay": [("well", "led, all")],
    "measure_episodes": [(0, "[1, 1,000,000]"), (10**6 + 1, "[1, 1,000,000]")],
    "credit_decay": [(1.5, "[0, 1]"), (-0.5, "[0, 1]")],
    "eval_episodes": [(0, "[1, 1,000,000]"), (10**24, "[1, 1,000,000]")],
    "confirm_episodes": [(0, "[1, 1,000,000]"), (10**6 + 1, "[1, 1,000,000]")],
    "eval_from": [(-1, "[0, "), (10**12 + 1, "[0, ")],
    "eval_every": [(0, "[1, "), (10**12 + 1, "[1, ")],
    "eval_readiness": [(-1.0, "at least 0")],
    "eval_max_steps": [(0, "[1, "), (10**9 + 1, "[1, ")],
    "tau": [(0.0, "above 0"), (-1.0, "above 0")],
    "student_tau": [(0.0, "above 0")],
    "student_precision": [("int2", "fp32, int8, int4")],
    "teacher_acts": [("2:0:9", "from 0 to 1"), ("-1", "from 0 to 1")],
    "distill_weight": [("-1", "from 0"), ("nan", "number")],
    "reward_weight": [("1:-1:9", "from 0"), ("inf", "number")],
    "average": [(1.0, "[0, 1)"), (-0.1, "[0, 1)")],
}
"""Values outside of what a setting may be, and what the line must say of what would do."""


def of(name: str) -> type[Any]:
    return next(kind for kind in KINDS if name in settings_of(kind))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_value_out_of_bounds_is_refused_by_name_value_and_what_would_do(name: str) -> None:
    for value, expected in OUTSIDE[name]:
        line = refused(of(name), **{name: value})
        assert name in line
        assert str(value)[:20] in line
        assert expected in line


def bounded() -> Iterator[str]:
    """Every setting that has a bound, choices or a schedule."""
    for kind in KINDS:
        for name, hint in settings_of(kind).items():
            plain, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            known = any(isinstance(extra, Meta | Scheduled) for extra in extras)
            if known or get_origin(plain) is Literal:
                yield name


def test_no_bound_is_untried() -> None:
    assert set(bounded()) == set(OUTSIDE)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", 1.5, "a whole number"),
        ("seed", True, "a whole number"),
        ("seed", "7", "a whole number"),
        ("seed", None, "a whole number"),
        ("gamma", "0.9", "a number"),
        ("gamma", float("nan"), "finite"),
        ("samples_per_step", float("inf"), "finite"),
        ("samples_per_step", 10**400, "a number"),
        ("clip_rewards", 1, "true or false"),
        ("learning_rate", 0.001, "a string"),
        ("env", b"pong", "a string"),
        ("env", "po\0ng", "zero byte"),
        ("milestones", 15.0, "a list of numbers"),
        ("milestones", ["good"], "a list of numbers"),
        ("milestones", [float("nan")], "finite"),
        ("precision", np.zeros(3), "auto, bf16, fp32"),
        ("precision", ["auto"], "auto, bf16, fp32"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any, expected: str) -> None:
    line = refused(Teach, **{name: value})
    assert name in line
    assert expected in line


def test_what_is_too_long_to_show_is_refused_all_the_same() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for name, value in (("seed", 10**5_000), ("gamma", 10**5_000), ("env", deep)):
        assert name in refused(Teach, **{name: value})
    assert "precision" in refused(Teach, precision="x" * 10**6)


@pytest.mark.parametrize(
    "values",
    [
        {"teachers": []},
        {"teachers": "pong"},
        {"return_range": [5]},
        {"return_range": [5, -5]},
        {"return_range": [1, 1]},
        {"return_range": [1, 2, 3]},
        {"distill_weight": "0", "reward_weight": "0:0:5"},
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any]) -> None:
    assert next(iter(values)) in refused(Distill, **values)


def test_an_unknown_name_is_refused_with_all_that_there_are() -> None:
    assert "'tauu': did you mean tau?" in refused(Distill, tauu=0.1)
    line = refused(Distill, zzz=0.1)
    assert all(f"{name}" in line for name in settings_of(Distill))
    assert "'learning'" in refused(Distill, learning=3)
    assert "'batch'" in refused(Distill, learning={"batch": 3})
    assert "'size'" in refused(Distill, size="mlp")  # another command's


# What fits.


@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_has_one_name_in_all_groups(kind: type[Any]) -> None:
    """So that a flag, a keyword and a key need no prefix."""

    def names(of: Any) -> Iterator[str]:
        for field in fields(of):
            value = getattr(of, field.name)
            yield from names(value) if is_dataclass(value) else [field.name]

    every = list(names(kind()))
    assert sorted(every) == sorted(set(every)) == sorted(settings_of(kind)) == sorted(flat(kind()))


def test_settings_are_given_by_name_or_in_their_groups() -> None:
    by_name = build(Distill, {"seed": 3, "env": "CartPole-v1", "sticky": 0.25, "batch_size": 7})
    in_groups = build(
        Distill,
        {
            "seed": 3,
            "environment": {"env": "CartPole-v1", "atari": {"sticky": 0.25}},
            "learning": {"batch_size": 7},
        },
    )
    assert by_name == in_groups
    assert by_name.environment.atari.sticky == 0.25
    # All else is as usual, of this command and no other.
    assert replace(by_name.learning, batch_size=128) == Distill().learning != Teach().learning


def test_a_configuration_comes_back_from_its_file(tmp_path: Path) -> None:
    for config in (
        Teach(milestones=(1.5, 2.0)),
        build(Distill, {"tau": 0.5, "target_return": 18, "return_range": [0, 1], "forget": False}),
        build(Record, {"seed": 7, "env": "breakout"}),
    ):
        path = tmp_path / "config.toml"
        path.write_text(tomli_w.dumps(nested(config)))
        assert build(type(config), read_toml(path)) == config
        path.write_text(tomli_w.dumps({k: v for k, v in flat(config).items() if v is not None}))
        assert build(type(config), read_toml(path)) == config


def test_numbers_of_numpy_become_pythons_own_and_lists_tuples() -> None:
    given = Distill(seed=np.int64(7), tau=np.float32(0.5), teachers=["a", "b"])  # type: ignore[arg-type]
    config = check(changed(given, return_range=np.array([-1, 4]), forget=np.bool_(False)))
    assert (config.seed, config.tau, config.teachers) == (7, 0.5, ("a", "b"))
    assert config.selection.return_range == (-1.0, 4.0)
    assert (type(config.seed), type(config.tau), config.selection.forget) == (int, float, False)
    milestones = build(Teach, {"milestones": [np.float64(1.5), np.int32(2)]}).milestones
    assert [type(number) for number in milestones or ()] == [float, float]
    with pytest.raises(UserError, match="seed"):
        check(Distill(seed=np.int64(-1)))  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", ["1e-3:0", "0:1e-3:100", "1e-3:0:100", "1"])
def test_a_learning_rate_may_begin_or_end_at_zero(rate: str) -> None:
    assert build(Teach, {"learning_rate": rate}).learning.learning_rate == rate


# Files of before there were groups.

BEFORE = Path(__file__).parent.parent / "results" / "teacher" / "config.toml"
DISTILLED = """
command = "distill"
env = "pong"
num_envs = 16
sticky = 0.0
frame = 84
clip_rewards = false
noop_max = 30
only = ""
seed = 3
env_steps = 50000
device = "auto"
precision = "bf16"
threads = 2
batch_size = 64
scaling = "standard"
samples_per_step = 16.0
max_grad_norm = 10.0
gamma = 0.99
n_step = 3
target_every = 250
td_loss = "huber"
learning_starts = 256
replay_size = 200000
round_steps = 1024
checkpoint_every = 5000
teachers = ["pong"]
selector = "thompson-beta"
choice_per = "{choice_per}"
pay = "led"
forget = true
measure = "points"
return_range = []
measure_episodes = 2
features = "ball-half"
credit_decay = 0.95
student = "student"
dataset = ""
loss = "kl"
target = "divide"
tau = 0.1
student_tau = 1.0
explore = "greedy"
teacher_acts = "1:0:8000"
distill_weight = "1"
reward_weight = "0"
learning_rate = "1e-3:1e-4:5000"
average = 0.998
target_return = 20.0
eval_episodes = 10
confirm_episodes = 30
eval_from = 8000
eval_every = 2000
eval_readiness = 0.75
eval_whole = false
"""
"""As commit 6089b50 wrote it, ``choice_per`` apart."""


def test_a_flat_file_is_read_and_an_old_word_refused_with_the_new_one(tmp_path: Path) -> None:
    taught = read_toml(BEFORE)
    del taught["command"]
    config = build(Teach, taught)
    assert (config.learning.precision, config.milestones) == ("bf16", (-15.0, 0.0, 15.0))
    path = tmp_path / "config.toml"
    path.write_text(DISTILLED.format(choice_per="round"))
    values = read_toml(path)
    del values["command"]
    old = build(Distill, values)
    assert (old.seed, old.threads, old.examination.target_return) == (3, 2, 20.0)
    assert (old.learning.precision, old.learning.batch_size) == ("bf16", 64)
    assert "segment" in refused(Distill, choice_per="rally")


def test_a_student_of_no_convolutions_brings_its_defaults_and_what_is_given_goes_before_them() -> (
    None
):
    config = build(Distill, {"student": "mlp:8/8", "learning_rate": "1e-2"})
    assert (config.learning.samples_per_step, config.learning.learning_rate) == (64.0, "1e-2")
    assert build(Distill, {"student": "student"}) == Distill()
