"""Selectors as they are written on the command line."""

import numpy as np
import pytest

from tutelage.errors import UserError
from tutelage.selectors.bandits import SELECTORS
from tutelage.selectors.base import DistributionSelector
from tutelage.selectors.contextual import CONTEXTUAL
from tutelage.selectors.parsing import is_contextual, parse_selector
from tutelage.types import Feedback, Floats

K, D = 3, 2
HERE = np.array([[1.0, -1.0]])
PAID = ((0, 0.9), (1, 0.3), (2, 0.6), (0, 0.8))
"""(arm, reward) of some settled choices, each with probability 1/2 and the context HERE."""


def build(text: str, *, seed: int = 0) -> DistributionSelector:
    given = {"context_dim": D} if is_contextual(text) else {}
    return parse_selector(text)(num_arms=K, rng=np.random.default_rng(seed), **given)


def learnt(text: str, *, times: int = 1) -> Floats:
    """Return the distribution of a selector over the arms after it was PAID."""
    selector = build(text)
    for arm, reward in PAID * times:
        selector.update(
            Feedback(
                HERE if selector.contextual else np.zeros((1, 0)),
                np.array([arm]),
                np.array([reward]),
                np.array([0.5]),
            )
        )
    return np.asarray(selector.probabilities(HERE)[0], np.float64)


@pytest.mark.parametrize("name", [*SELECTORS, *CONTEXTUAL])
def test_every_name_in_the_tables_makes_a_selector_by_that_name(name: str) -> None:
    given = {"context_dim": D} if name in CONTEXTUAL else {}
    made = build(name)
    by_hand = {**SELECTORS, **CONTEXTUAL}[name](num_arms=K, rng=np.random.default_rng(0), **given)
    assert type(made) is type(by_hand)
    np.testing.assert_allclose(made.probabilities(HERE), 1 / K)
    for selector in (made, by_hand):
        for arm, reward in PAID:
            row = Feedback(HERE, np.array([arm]), np.array([reward]), np.array([0.5]))
            selector.update(row)
    np.testing.assert_array_equal(made.probabilities(HERE), by_hand.probabilities(HERE))
    np.testing.assert_array_equal(made.choose(HERE).arm, by_hand.choose(HERE).arm)


def test_what_a_name_says_of_contexts_is_what_its_selector_does() -> None:
    for name in (*SELECTORS, *CONTEXTUAL):
        assert is_contextual(name) == (name in CONTEXTUAL) == build(name).contextual
    assert is_contextual("linucb:alpha=2")
    assert not is_contextual("ucb1-tuned")
    assert not is_contextual("vdbe:sigma=2")
    assert not is_contextual("nonsense")


def test_a_schedule_as_an_option_is_a_number_or_changes_with_the_rounds() -> None:
    np.testing.assert_allclose(learnt("epsilon-greedy"), [0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    np.testing.assert_allclose(learnt("epsilon-greedy:epsilon=0.3"), [0.8, 0.1, 0.1])
    # 4 rounds of 8 are half of the way from 1 to 0.2: 0.6.
    np.testing.assert_allclose(learnt("epsilon-greedy:epsilon=1:0.2:8"), [0.6, 0.2, 0.2])
    np.testing.assert_allclose(
        learnt("epsilon-greedy:epsilon=1:0.2:8", times=2), [13 / 15, 1 / 15, 1 / 15]
    )


def test_whole_numbers_and_numbers_are_options_and_several_go_together() -> None:
    # Of the last two rounds only arms 2 and 0 are known: arm 1 counts as never tried.
    np.testing.assert_array_equal(learnt("sliding-window-ucb:window=2"), [0.0, 1.0, 0.0])
    # Two more: 0.85 + sqrt(xi ln 4 / 2), 0.3 + sqrt(xi ln 4), 0.6 + sqrt(xi ln 4).
    np.testing.assert_array_equal(learnt("sliding-window-ucb:window=4,xi=0.1"), [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(learnt("sliding-window-ucb:xi=1,window=4"), [0.0, 0.0, 1.0])


def test_the_scale_of_exploration_is_an_option_of_contextual_ones_too() -> None:
    narrow, wide = learnt("linear-thompson:scale=0.01"), learnt("linear-thompson:scale=2")
    assert narrow[0] > 0.95
    assert wide.max() < 0.5
    np.testing.assert_array_equal(learnt("linucb:alpha=0"), [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(learnt("linucb:alpha=10,penalty=2")[0], 0.0)


def test_the_exploration_is_an_option_by_its_name() -> None:
    np.testing.assert_allclose(learnt("direct:explore=epsilon"), [0.95 + 0.05 / 3, *[0.05 / 3] * 2])
    np.testing.assert_array_equal(learnt("direct:explore=epsilon"), learnt("direct"))
    # One regression per arm: x'x = 3, so that theta'x = 3 S / (1 + 3 n).
    score = np.array([3 * 1.7 / 7, 3 * 0.3 / 4, 3 * 0.6 / 4])
    others = 1.0 / (3.0 + 10.0 * 4**0.5 * (score[0] - score[1:]))
    np.testing.assert_allclose(learnt("direct:explore=squarecb"), [1.0 - others.sum(), *others])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ucb2", "unknown selector 'ucb2': choose from bayes-ucb-beta, .*, linucb, .*, vdbe"),
        ("", "unknown selector '': choose from"),
        ("UCB1", "unknown selector 'UCB1'"),
        ("ucb1:xi=1", "selector ucb1: unknown option 'xi=1', expected none"),
        ("vdbe:sigm=1", "selector vdbe: unknown option 'sigm=1', expected sigma=…"),
        ("vdbe:sigma", "selector vdbe: unknown option 'sigma', expected sigma=…"),
        ("exp3-s:horizon=9,,", "selector exp3-s: unknown option '', expected horizon=…, segm"),
        ("vdbe:num_arms=3", "unknown option 'num_arms=3', expected sigma=…"),
        ("linucb:context_dim=3", "unknown option 'context_dim=3', expected alpha=…, penalty=…"),
        ("vdbe:sigma=wide", "selector vdbe: sigma is 'wide', expected a number"),
        ("vdbe:sigma=", "selector vdbe: sigma is '', expected a number"),
        ("linucb:alpha=nan", "selector linucb: alpha is 'nan', expected a number"),
        ("discounted-ucb:xi=inf", "selector discounted-ucb: xi is 'inf', expected a number"),
        ("exp3:horizon=1.5", "selector exp3: horizon is '1.5', expected a whole number"),
        ("epsilon-greedy:epsilon=often", "unknown schedule 'often'"),
        ("epsilon-greedy:epsilon=2", "schedule '2': expected a value from 0 to 1"),
        ("epsilon-greedy:epsilon=1:-1:9", "schedule '1:-1:9': expected a value from 0 to 1"),
        ("direct:explore=thompson", "unknown exploration of a selector 'thompson': choose from ep"),
    ],
)
def test_what_is_not_to_be_had_is_refused_before_anything_is_built(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_selector(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vdbe:sigma=0", "sigma 0.0, expected a number above 0"),
        ("discounted-ucb:xi=-1", "xi -1.0, expected a number above 0"),
        ("discounted-ucb:discount=1.5", "discount 1.5"),
        ("sliding-window-ucb:window=0", "window 0"),
        (f"sliding-window-ucb:window={10**20}", f"window {10**20}"),
        ("exp3:horizon=0", "horizon 0, expected a number above 0"),
        ("exp3-s:segments=-1", "segments -1, expected a number above 0"),
        ("thompson-gaussian:noise=0", "noise 0.0, expected a number above 0"),
        ("doubly-robust:penalty=0", "penalty 0.0, expected a number above 0"),
    ],
)
def test_a_value_out_of_range_is_refused_when_the_selector_is_made(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(text)
