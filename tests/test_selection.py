"""The contract that every selector keeps, read from the tables; and what they share."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from tutelage.errors import UserError
from tutelage.files import pack_state, unpack_state
from tutelage.selectors import SELECTORS, is_contextual
from tutelage.selectors.base import ContextualSelector
from tutelage.selectors.contextual import squarecb
from tutelage.types import Choice, Feedback, Floats, Ints, Selector

K, D, N = 3, 2, 4
WORTH = np.array([0.8, 0.5, 0.2])

MAKERS: dict[str, Callable[..., Selector]] = {
    **{
        name: partial(make, context_dim=D) if is_contextual(name) else make
        for name, make in SELECTORS.items()
    },
    "direct, squarecb": partial(SELECTORS["direct"], context_dim=D, explore=squarecb()),
}
each_selector = pytest.mark.parametrize("name", MAKERS)


def make(name: str, seed: int = 0, num_arms: int = K) -> Selector:
    return MAKERS[name](num_arms=num_arms, rng=np.random.default_rng(seed))


def play(selector: Selector, rounds: int, seed: int = 1, size: int = 1) -> list[Choice]:
    """Return the choices of some rounds, each paid at once."""
    rng = np.random.default_rng(seed)
    choices = []
    for _ in range(rounds):
        context = rng.normal(size=(size, D))
        choice = selector.choose(context)
        reward = (rng.random(size) < WORTH[choice.arm]).astype(float)
        selector.update(Feedback(context, choice.arm, reward, choice.probability))
        choices.append(choice)
    return choices


@each_selector
def test_a_teacher_never_tried_is_tried_first(name: str) -> None:
    choices = play(make(name), K)
    assert sorted(int(c.arm[0]) for c in choices) == [0, 1, 2]
    np.testing.assert_allclose([c.probability[0] for c in choices], [1 / 3, 1 / 2, 1])


@each_selector
def test_the_reported_probability_is_that_of_the_chosen_arm(name: str) -> None:
    selector = make(name)
    for _ in range(5):
        play(selector, 4)
        context = np.random.default_rng(3).normal(size=(N, D))
        table = selector.probabilities(context)
        choice = selector.choose(context)
        assert table.shape == (N, K)
        assert choice.arm.shape == choice.probability.shape == (N,)
        np.testing.assert_allclose(table.sum(axis=1), 1.0)
        np.testing.assert_array_equal(choice.probability, table[np.arange(N), choice.arm])
        assert np.all((choice.probability > 0.0) & (choice.probability <= 1.0))


def frequencies(selector: Selector, draws: int) -> Ints:
    context = np.tile([0.3, -0.2], (draws, 1))
    if isinstance(selector, ContextualSelector):
        arms = selector.choose(context).arm
    else:
        arms = np.array([selector.choose(context[:1]).arm[0] for _ in range(draws)])
    return np.bincount(arms, minlength=K)


def agree(counts: Ints, probability: Floats) -> bool:
    possible = probability > 0.0
    if counts[~possible].any():
        return False
    expected = probability[possible] * counts.sum()
    return bool(possible.sum() == 1 or chisquare(counts[possible], expected).pvalue > 1e-3)


@each_selector
def test_arms_are_drawn_as_often_as_reported(name: str) -> None:
    selector = make(name)
    play(selector, 12)
    probability = selector.probabilities(np.array([[0.3, -0.2]]))[0]
    assert agree(frequencies(selector, 2000), probability)


def test_that_check_notices_a_wrong_probability() -> None:
    selector = make("random")
    play(selector, 12)
    counts = frequencies(selector, 2000)
    assert agree(counts, np.array([1 / 3, 1 / 3, 1 / 3]))
    assert not agree(counts, np.array([0.4, 0.3, 0.3]))
    assert not agree(counts, np.array([0.5, 0.5, 0.0]))


@each_selector
def test_environments_share_one_arm_unless_the_context_matters(name: str) -> None:
    selector = make(name)
    play(selector, 6)
    choices = play(selector, 20, size=64)
    shared = all(len(np.unique(c.arm)) == 1 for c in choices)
    assert shared == (not isinstance(selector, ContextualSelector))


@each_selector
def test_a_restored_selector_goes_on_identically(name: str, tmp_path: Path) -> None:
    selector = make(name)
    play(selector, 30)
    selector.drop(2)
    # Through a checkpoint's file, which gives arrays back as tensors.
    (tmp_path / "state").write_bytes(pack_state(selector.state()))
    restored = make(name, seed=99)
    restored.restore(unpack_state(tmp_path / "state"))
    for a, b in zip(play(selector, 30), play(restored, 30), strict=True):
        np.testing.assert_array_equal(a.arm, b.arm)
        np.testing.assert_array_equal(a.probability, b.probability)


@each_selector
def test_a_state_is_a_copy(name: str) -> None:
    selector = make(name)
    play(selector, 10)
    before = selector.state()
    restored = make(name, seed=5)
    restored.restore(before)
    play(restored, 10)
    again = make(name, seed=6)
    again.restore(before)
    np.testing.assert_array_equal(
        again.probabilities(np.ones((1, D))), selector.probabilities(np.ones((1, D)))
    )


@each_selector
def test_a_state_of_another_number_of_teachers_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="of 3 teachers, expected 4"):
        make(name, num_arms=4).restore(make(name).state())


@each_selector
def test_one_seed_gives_one_sequence(name: str) -> None:
    first, second = (play(make(name), 40) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.arm, b.arm)


@each_selector
def test_a_teacher_set_aside_is_never_chosen_again(name: str) -> None:
    selector = make(name)
    play(selector, 20)
    settled = selector.state()["settled"]
    selector.drop(0)
    selector.drop(0)
    assert all(0 not in c.arm for c in play(selector, 40))
    assert np.all(selector.probabilities(np.zeros((N, D)))[:, 0] == 0.0)
    assert selector.state()["settled"][0] == settled[0] > 0
    # What it was owed may still arrive.
    selector.update(Feedback(np.zeros((1, D)), np.array([0]), np.array([1.0]), np.array([0.5])))
    selector.drop(1)
    assert np.all(selector.choose(np.zeros((N, D))).arm == 2)
    with pytest.raises(UserError, match="last one left"):
        selector.drop(2)
    with pytest.raises(UserError, match="no teacher 3"):
        selector.drop(3)


@each_selector
def test_a_teacher_set_aside_before_it_was_tried_is_never_tried(name: str) -> None:
    selector = make(name)
    selector.drop(1)
    assert all(1 not in c.arm for c in play(selector, 10))


@each_selector
def test_an_unknown_teacher_is_refused_and_nothing_is_learnt(name: str) -> None:
    selector = make(name)
    play(selector, 10)
    before = selector.probabilities(np.zeros((1, D)))
    with pytest.raises(UserError, match="no teacher 3, expected 0 to 2"):
        selector.update(Feedback(np.zeros((2, D)), np.array([0, 3]), np.ones(2), np.ones(2)))
    np.testing.assert_array_equal(selector.probabilities(np.zeros((1, D))), before)


@each_selector
def test_one_teacher_is_always_chosen(name: str) -> None:
    selector = make(name, num_arms=1)
    for _ in range(3):
        context = np.zeros((N, D))
        choice = selector.choose(context)
        assert np.all(choice.arm == 0)
        assert np.all(choice.probability == 1.0)
        selector.update(Feedback(context, choice.arm, np.full(N, 0.5), choice.probability))
    with pytest.raises(UserError, match="at least one"):
        make(name, num_arms=0)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "random"])
def test_the_best_teacher_is_chosen_more_often_than_the_worst(name: str) -> None:
    arms = np.concatenate([c.arm for c in play(make(name), 300)])
    counts = np.bincount(arms, minlength=K)
    assert counts[0] > 1.5 * counts[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": [0.5, 1.5]}, r"row 1: reward is 1.5, expected a number in \[0, 1\]"),
        ({"reward": [-0.1, 0.5]}, "row 0: reward is -0.1"),
        ({"reward": [0.5, np.nan]}, "row 1: reward is nan"),
        ({"probability": [0.0, 1.0]}, r"row 0: probability is 0.0, expected one in \(0, 1\]"),
        ({"probability": [0.5, 1.1]}, "row 1: probability is 1.1"),
        ({"probability": [np.nan, 1.0]}, "row 0: probability is nan"),
        ({"context": [[0.0], [np.inf]]}, r"row 1: context is \[inf\]"),
        ({"arm": [0, -1]}, "row 1: arm is -1"),
        ({"reward": [0.5]}, r"reward has shape \(1,\)"),
        ({"context": [[0.0]]}, r"context has shape \(1, 1\) and arm \(2,\)"),
        ({"context": [0.0, 1.0]}, r"context has shape \(2,\)"),
    ],
)
def test_impossible_feedback_is_refused(change: dict[str, Any], message: str) -> None:
    given = {
        "context": [[0.0], [1.0]],
        "arm": [0, 1],
        "reward": [0.0, 1.0],
        "probability": [0.5, 1.0],
    }
    Feedback(**{name: np.array(value) for name, value in given.items()})
    with pytest.raises(UserError, match=message):
        Feedback(**{name: np.array(value) for name, value in (given | change).items()})
