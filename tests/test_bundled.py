"""The models of the package, and those of the reproduction, are what their cards say."""

import itertools
from pathlib import Path

import pytest

from tutelage import bundled_names, evaluate, load
from tutelage.domains import environment_of
from tutelage.heads import QValues
from tutelage.policies import Model

REPRODUCTION = Path(__file__).parents[1] / "reproduction" / "models"
FULL = ["pong", "pong-good", "pong-fair", "pong-weak"]
"""From the best to the worst."""
SMALL = ["pong-small-1", "pong-small-2", "pong-small-3"]
HALVES = {
    "pong-bottom": "ball-bottom",
    "pong-top": "ball-top",
    "pong-top-2": "ball-top:2",
    "pong-top-reward": "ball-top",
}
STICKY = ["pong-sticky", "pong-sticky-student"]
"""A teacher that was trained with sticky actions, and its student."""
TAUGHT = [*SMALL, "pong-bottom", "pong-top"]
"""Students of the temperature 0.1."""


def model(name: str) -> Model:
    return load(name if name in bundled_names() else REPRODUCTION / f"{name}.safetensors")


def test_teachers_and_students_come_with_the_package_and_each_other_model_is_looked_at() -> None:
    assert bundled_names() == ["pong", "pong-small-1", *STICKY]
    others = {path.stem for path in REPRODUCTION.iterdir()}
    assert {*bundled_names(), *others} == {*FULL, *SMALL, *HALVES, *STICKY}


@pytest.mark.parametrize("name", [*FULL, *SMALL, *HALVES])
def test_every_one_knows_its_head_its_size_and_how_well_it_plays(name: str) -> None:
    one = model(name)
    assert (one.env, one.obs_shape) == ("pong", (4, 84, 84))
    assert one.policy.head == QValues(6, temperature=0.1 if name in TAUGHT else 1.0)
    # The paper's teacher has 3,358,374 parameters, its student 216,246.
    assert one.parameters == (3_358_374 if name in FULL else 216_246)
    if name in HALVES:
        assert one.card["only"] == HALVES[name]
        assert "mean_return" not in one.card  # it would be of a game that nobody wants to play
        return
    low, high = one.card["ci95"]
    assert low <= one.card["mean_return"] <= high
    if name in ("pong", *SMALL):
        assert low >= 20.0
    assert one.card["episodes"] >= (100 if name == "pong" else 30)


@pytest.mark.parametrize("name", STICKY)
def test_those_of_sticky_pong_play_the_game_that_they_were_made_for(name: str) -> None:
    one = model(name)
    assert environment_of(one.env, one.obs_shape, one.card).atari.sticky == 0.25
    assert one.card["ci95"][0] >= 20.0
    assert one.card["episodes"] == 100
    assert one.parameters == (1_688_550 if name == "pong-sticky" else 216_246)


def test_the_teachers_of_full_size_differ_in_quality() -> None:
    means = [model(name).card["mean_return"] for name in FULL]
    assert all(better - worse > 2.0 for better, worse in itertools.pairwise(means))


def test_the_teacher_plays_real_pong_as_its_card_says() -> None:
    played = evaluate("pong", episodes=2, seed=5, threads=1)
    assert played.mean >= load("pong").card["min_return"] - 1.0
