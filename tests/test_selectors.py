"""Selectors as they are written on the command line, the package's own and others'."""

import inspect

import numpy as np
import pytest

from tests import outside
from tutelage.errors import UserError
from tutelage.selectors import SELECTORS, build_selector, is_contextual
from tutelage.selectors.base import ContextualSelector
from tutelage.types import Feedback, Floats, Selector

K, D = 3, 2
HERE = np.array([[1.0, -1.0]])
PAID = ((0, 0.9), (1, 0.3), (2, 0.6), (0, 0.8))
"""(arm, reward) of some settled choices, each with probability 1/2 and the context HERE."""


def build(text: str, *, seed: int = 0) -> Selector:
    return build_selector(text, num_arms=K, rng=np.random.default_rng(seed), context_dim=D)


def learnt(text: str, *, times: int = 1) -> Floats:
    """Return the distribution of a selector over the arms after it was PAID."""
    selector = build(text)
    for arm, reward in PAID * times:
        selector.update(Feedback(HERE, np.array([arm]), np.array([reward]), np.array([0.5])))
    return np.asarray(selector.probabilities(HERE)[0], np.float64)


@pytest.mark.parametrize("name", SELECTORS)
def test_every_name_makes_a_selector_that_looks_at_the_context_if_it_says_so(name: str) -> None:
    made = build(name)
    np.testing.assert_allclose(made.probabilities(HERE), 1 / K)
    assert isinstance(made, ContextualSelector) == is_contextual(name)
    assert is_contextual(f"{name}:option=2") == is_contextual(name)


def test_a_schedule_as_an_option_is_a_number_or_changes_with_the_rounds() -> None:
    np.testing.assert_allclose(learnt("epsilon-greedy"), [0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    np.testing.assert_allclose(learnt("epsilon-greedy:epsilon=0.3"), [0.8, 0.1, 0.1])
    np.testing.assert_allclose(learnt("epsilon-greedy:0.3"), [0.8, 0.1, 0.1])
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


def test_the_exploration_is_an_option_with_options_of_its_own() -> None:
    np.testing.assert_allclose(learnt("direct:explore=epsilon"), [0.95 + 0.05 / 3, *[0.05 / 3] * 2])
    np.testing.assert_array_equal(learnt("direct:explore=epsilon"), learnt("direct"))
    np.testing.assert_allclose(learnt("direct:explore=epsilon:0.3"), [0.8, 0.1, 0.1])
    # One regression per arm: x'x = 3, so that theta'x = 3 S / (1 + 3 n).
    score = np.array([3 * 1.7 / 7, 3 * 0.3 / 4, 3 * 0.6 / 4])
    for text, gamma in (("squarecb", 10.0 * 4**0.5), ("squarecb:scale=7", 7.0 * 4**0.5)):
        others = 1.0 / (3.0 + gamma * (score[0] - score[1:]))
        expected = [1.0 - others.sum(), *others]
        np.testing.assert_allclose(learnt(f"direct:explore={text}"), expected)


def test_selectors_of_ones_own_come_by_module_and_name_in_few_lines() -> None:
    # exp(0.85), exp(0.3) and exp(0.6) over their sum.
    expected = np.exp([0.85, 0.3, 0.6]) / np.exp([0.85, 0.3, 0.6]).sum()
    np.testing.assert_allclose(learnt("tests.outside:softmax:tau=1"), expected)
    np.testing.assert_allclose(learnt("tests.outside:softmax:1"), expected)
    nearest = build("tests.outside:Nearest")
    contexts, arms = np.array([[0.0, 0.0], [9.0, 9.0], [1.0, 1.0], [5.0, 5.0]]), [0, 1, 0, 2]
    nearest.update(Feedback(contexts, np.array(arms), np.ones(4), np.ones(4)))
    assert nearest.choose(np.array([[8.0, 7.0], [1.0, 0.0], [4.0, 5.0]])).arm.tolist() == [1, 0, 2]
    assert not is_contextual("tests.outside:softmax")
    assert is_contextual("tests.outside:Nearest")
    for of in (outside.softmax, outside.Nearest):
        assert len(inspect.getsource(of).splitlines()) < 25


DIGITS = "9" * 24


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ucb2", "bayes-ucb-beta, .*linucb, .*vdbe"),
        ("", "ucb1"),
        ("UCB1", "ucb1"),
        ("ucb1:xi=1", "xi=1"),
        ("vdbe:sigm=1", "sigm=1.* sigma="),
        ("exp3-s:horizon=9,,", "horizon=.* segments="),
        ("vdbe:num_arms=3", "num_arms=3.* sigma="),
        ("linucb:context_dim=3", "context_dim=3.* alpha=.* penalty="),
        ("vdbe:sigma=wide", "sigma .*'wide'.* number"),
        ("vdbe:sigma=", "sigma .*''.* number"),
        ("vdbe:sigma=0", "sigma .*'0'"),
        ("linucb:alpha=nan", "alpha .*'nan'.* number"),
        ("linucb:alpha=-1", "alpha .*'-1'"),
        ("discounted-ucb:xi=inf", "xi .*'inf'.* number"),
        ("discounted-ucb:xi=-1", "xi .*'-1'"),
        ("discounted-ucb:discount=1.5", "discount .*'1.5'"),
        ("discounted-ucb:discount=0", "discount .*'0'"),
        ("sliding-window-ucb:window=0", "window .*'0'"),
        (f"sliding-window-ucb:window={DIGITS}", f"window .*'{DIGITS}'"),
        (f"sliding-window-ucb:window={'9' * 400}", "window .* whole number"),
        (f"sliding-window-ucb:window={'9' * 5000}", "window .* whole number"),
        ("exp3:horizon=0", "horizon .*'0'"),
        ("exp3:horizon=1.5", "horizon .*'1.5'.* whole number"),
        ("exp3:horizon=1e400", "horizon .*'1e400'.* whole number"),
        ("exp3-s:segments=-1", "segments .*'-1'"),
        ("thompson-gaussian:noise=0", "noise .*'0'"),
        ("thompson-gaussian:noise=1e-300", "noise .*'1e-300'"),
        ("doubly-robust:penalty=0", "penalty .*'0'"),
        ("linear-thompson:scale=1e308", "scale .*'1e308'"),
        ("epsilon-greedy:epsilon=often", "'often'"),
        ("epsilon-greedy:epsilon=2", "'2'.* from 0 to 1"),
        ("epsilon-greedy:epsilon=1:-1:9", "'1:-1:9'.* from 0 to 1"),
        ("direct:explore=thompson", "'thompson'.* epsilon, squarecb"),
        ("direct:explore=squarecb:exponent=99", "exponent .*'99'"),
        ("vw:cb_type=best", "cb_type .*'best'.* dm, dr, ips, mtr"),
        ("vw:epsilon=2", "epsilon .*'2'"),
        ("no_such_module:name", "no_such_module"),
        ("tests.outside:none", "none"),
        ("tests.outside:softmax:tau=0", "tau .*'0'"),
        ("math:pi", "math:pi"),
        ("math:sqrt", "math:sqrt"),
        ("builtins:dict", "builtins:dict"),
        ("pathlib:Path", "pathlib:Path"),
    ],
)
def test_what_is_not_to_be_had_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        build(text)
    assert "\n" not in str(refused.value)
