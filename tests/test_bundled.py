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


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_model_loads_and_knows_how_well_it_plays(name: str) -> None:
    model = load(name)
    assert model.env == "pong"
    low, high = model.card["ci95"]
    assert low <= model.card["mean_return"] <= high


def test_the_bundled_teachers_differ_in_quality() -> None:
    means = sorted(load(name).card["mean_return"] for name in bundled_names())
    assert len(means) >= 4
    assert all(b - a > 2.0 for a, b in itertools.pairwise(means))
