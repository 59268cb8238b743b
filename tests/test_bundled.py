"""The models that come with the package are what their cards say."""

import itertools

import pytest

from tutelage import bundled_names, evaluate, load
from tutelage.teachers import environment_of


def test_the_teacher_has_the_papers_size_and_a_card_of_a_hundred_episodes() -> None:
    model = load("pong")
    assert model.network.num_parameters() == 3_358_374
    assert model.card["episodes"] >= 100
    assert model.card["mean_return"] >= 20.0
    assert model.card["ci95"][0] >= 20.0


def test_the_teacher_plays_real_pong_as_its_card_says() -> None:
    model = load("pong")
    played = evaluate(model.network, environment_of(model), episodes=2, seed=5)
    assert played.mean >= model.card["min_return"] - 1.0


SMALL = ["pong-small-1", "pong-small-2", "pong-small-3"]
HALVES = ["pong-bottom", "pong-top", "pong-top-2", "pong-top-reward"]
FULL = [name for name in bundled_names() if name not in (*SMALL, *HALVES)]


@pytest.mark.parametrize("name", FULL + SMALL)
def test_every_bundled_player_loads_and_knows_how_well_it_plays(name: str) -> None:
    model = load(name)
    assert model.env == "pong"
    low, high = model.card["ci95"]
    assert low <= model.card["mean_return"] <= high


def test_the_bundled_teachers_of_full_size_differ_in_quality() -> None:
    models = [load(name) for name in FULL]
    assert {model.network.num_parameters() for model in models} == {3_358_374}
    means = sorted(model.card["mean_return"] for model in models)
    assert len(means) >= 4
    assert all(b - a > 2.0 for a, b in itertools.pairwise(means))


def test_the_bundled_small_experts_are_students_of_20_points() -> None:
    for model in map(load, SMALL):
        assert model.network.num_parameters() == 216_246
        assert model.card["ci95"][0] >= 20.0


@pytest.mark.parametrize("name", HALVES)
def test_the_bundled_half_experts_say_which_half_is_theirs(name: str) -> None:
    model = load(name)
    assert model.network.num_parameters() == 216_246
    region = name.removesuffix("-reward").replace("pong", "ball")
    assert model.card["only"] == region.replace("-2", ":2")
    assert "mean_return" not in model.card  # it would be of a game that nobody wants to play
