"""The models that come with the package are what their cards say."""

import itertools

import pytest

from tutelage import bundled_names, evaluate, load
from tutelage.heads import QValues

SMALL = ["pong-small-1", "pong-small-2", "pong-small-3"]
HALVES = ["pong-bottom", "pong-top", "pong-top-2", "pong-top-reward"]
FULL = [name for name in bundled_names() if name not in (*SMALL, *HALVES)]
TAUGHT = {*SMALL, "pong-bottom", "pong-top"}
"""Students of the temperature 0.1."""


@pytest.mark.parametrize("name", bundled_names())
def test_every_one_knows_its_head_its_size_and_how_well_it_plays(name: str) -> None:
    model = load(name)
    assert (model.env, model.obs_shape) == ("pong", (4, 84, 84))
    assert model.policy.head == QValues(6, temperature=0.1 if name in TAUGHT else 1.0)
    assert model.parameters == (3_358_374 if name in FULL else 216_246)
    if name in HALVES:
        region = name.removesuffix("-reward").replace("pong", "ball")
        assert model.card["only"] == region.replace("-2", ":2")
        assert "mean_return" not in model.card  # it would be of a game that nobody wants to play
        return
    low, high = model.card["ci95"]
    assert low <= model.card["mean_return"] <= high
    if name in ("pong", *SMALL):
        assert low >= 20.0
        assert model.card["episodes"] >= (100 if name == "pong" else 30)


def test_the_bundled_teachers_of_full_size_differ_in_quality() -> None:
    means = sorted(load(name).card["mean_return"] for name in FULL)
    assert len(means) >= 4
    assert all(b - a > 2.0 for a, b in itertools.pairwise(means))


def test_the_teacher_plays_real_pong_as_its_card_says() -> None:
    played = evaluate("pong", episodes=1, seed=5, threads=1)
    assert played.mean >= load("pong").card["min_return"] - 1.0
