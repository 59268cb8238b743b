from dataclasses import asdict
from pathlib import Path

import pytest
import tomli_w

from tutelage.configs import Distill, Record, Teach, Training, from_mapping, read_toml
from tutelage.errors import UserError


@pytest.mark.parametrize(
    "config",
    [
        Teach(milestones=()),
        Teach(milestones=(1.5,)),
        Distill(tau=0.5, target_return=18.0),
        Record(seed=7),
    ],
)
def test_a_configuration_comes_back_from_its_file(
    config: Training | Record, tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(asdict(config)))
    assert from_mapping(type(config), read_toml(path), where="here") == config


def test_a_whole_number_stands_for_a_float_and_a_list_for_a_tuple() -> None:
    config = from_mapping(Teach, {"gamma": 1, "milestones": [-15, 0.5]}, where="here")
    assert config.milestones is not None
    assert (config.gamma, config.milestones) == (1.0, (-15.0, 0.5))
    assert all(type(number) is float for number in (config.gamma, *config.milestones))


def test_defaults_are_those_the_rows_were_made_with() -> None:
    """A row is known by what differs from the defaults: another default would rename it."""
    then = read_toml(Path(__file__).parent / "defaults.toml")
    assert from_mapping(Distill, then, where="file") == Distill()


def test_a_number_may_be_left_open_in_a_file_or_given() -> None:
    assert from_mapping(Distill, {}, where="file").target_return is None
    assert from_mapping(Distill, {"target_return": 18}, where="file").target_return == 18.0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gama", 0.9, "unknown key 'gama': choose from .*gamma"),
        ("seed", 1.5, "seed is 1.5, expected a whole number"),
        ("seed", True, "seed is True, expected a whole number"),
        ("gamma", "0.9", "gamma is '0.9', expected a number"),
        ("clip_rewards", 1, "clip_rewards is 1, expected true or false"),
        ("learning_rate", 0.001, "learning_rate is 0.001, expected a string"),
        ("learning_rate", [0.001], r"learning_rate is .*0\.001.*, expected a string"),
        ("milestones", 15.0, "milestones is 15.0, expected a list of numbers"),
        ("milestones", ["good"], r"milestones is \['good'\], expected a list of numbers"),
    ],
)
def test_a_key_that_does_not_fit_is_refused_saying_where(
    key: str, value: object, message: str
) -> None:
    with pytest.raises(UserError, match=f"^run.toml: {message}"):
        from_mapping(Teach, {key: value}, where="run.toml")


@pytest.mark.parametrize(
    ("config", "key", "value", "expected"),
    [
        (Teach, "learning_rate", "-1", "a value from 0 up"),
        (Distill, "learning_rate", "1e-3:-1:100", "a value from 0 up"),
        (Distill, "learning_rate", "1e-3:-1e-4", "a value from 0 up"),
        (Distill, "learning_rate", "fast", "a number"),
        (Distill, "learning_rate", "0", "a value above 0"),
        (Teach, "learning_rate", "0:0", "a value above 0"),
        (Teach, "epsilon", "1.5", "a value from 0 to 1"),
        (Teach, "epsilon", "1:-0.1:100", "a value from 0 to 1"),
        (Teach, "epsilon", "1:0", "a number"),
        (Distill, "teacher_acts", "2:0:100", "a value from 0 to 1"),
        (Distill, "distill_weight", "-1", "a value from 0 up"),
        (Distill, "reward_weight", "1:-1:100", "a value from 0 up"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_naming_the_field(
    config: type[Training], key: str, value: str, expected: str
) -> None:
    with pytest.raises(
        UserError, match=f"^run.toml: {key}: .*schedule '{value}': expected {expected}"
    ):
        from_mapping(config, {key: value}, where="run.toml")


@pytest.mark.parametrize("rate", ["1e-3:0", "0:1e-3:100", "1e-3:0:100", "1"])
def test_a_learning_rate_may_begin_or_end_at_zero(rate: str) -> None:
    assert Teach(learning_rate=rate).learning_rate == rate


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(UserError, match=f"no file {path}: expected a TOML file"):
        read_toml(path)
    for damaged in (b"seed = = 1", b"\xff\xfe", b"seed = 1\nseed = 2"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{path} is no readable TOML file"):
            read_toml(path)
    with pytest.raises(UserError, match=r"is no readable TOML file: .*Is a directory"):
        read_toml(tmp_path)
