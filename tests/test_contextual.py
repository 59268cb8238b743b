"""The regressions against closed forms, and what the selectors learn."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tutelage.errors import UserError
from tutelage.selectors import SELECTORS, is_contextual
from tutelage.selectors.contextual import Ridge, epsilon, squarecb
from tutelage.types import Feedback, Floats, Selector

CONTEXTUAL = [name for name in SELECTORS if is_contextual(name)]


def make(
    name: str, num_arms: int = 2, context_dim: int = 1, seed: int = 0, **parameters: Any
) -> Selector:
    rng = np.random.default_rng(seed)
    return SELECTORS[name](num_arms=num_arms, rng=rng, context_dim=context_dim, **parameters)


def feedback(
    context: npt.ArrayLike, arm: npt.ArrayLike, reward: npt.ArrayLike, probability: npt.ArrayLike
) -> Feedback:
    columns = (context, arm, reward, probability)
    return Feedback(*(np.array(column, kind) for column, kind in zip(columns, "dqdd", strict=True)))


def some(rows: Feedback, part: slice) -> Feedback:
    return Feedback(rows.context[part], rows.arm[part], rows.reward[part], rows.probability[part])


class Scores:
    """An exploration that chooses uniformly and keeps the scores it was shown."""

    seen: Floats
    t: int

    def __call__(self, scores: Floats, t: int) -> Floats:
        self.seen, self.t = scores, t
        return np.full(scores.shape, 1.0 / scores.shape[1])


def test_ridge_by_hand() -> None:
    ridge = Ridge(groups=2, outputs=1, dim=2, penalty=1.0)
    x = np.array([[1.0, 1.0], [1.0, 1.0]])
    ridge.add(x, np.array([[1.0], [0.0]]), np.eye(2))
    # A = [[2, 1], [1, 2]], A^-1 = [[2, -1], [-1, 2]] / 3, b = (1, 1) and (0, 0)
    where = np.array([[1.0, 1.0], [1.0, -1.0]])
    np.testing.assert_allclose(ridge.mean(where), [[2 / 3, 0.0], [0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(ridge.width(where) ** 2, [[2 / 3, 2 / 3], [2.0, 2.0]])


@pytest.mark.parametrize(("groups", "outputs"), [(3, 1), (1, 3)])
def test_ridge_in_batches_is_the_closed_form(groups: int, outputs: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, outputs))
    weight = rng.exponential(size=(60, groups))
    ridge = Ridge(groups=groups, outputs=outputs, dim=4, penalty=0.5)
    for rows in np.split(np.arange(60), 6):
        ridge.add(x[rows], y[rows], weight[rows])
    new = rng.normal(size=(5, 4))
    for g in range(groups):
        gram = 0.5 * np.eye(4) + x.T @ (weight[:, [g]] * x)
        theta = np.linalg.solve(gram, x.T @ (weight[:, [g]] * y))
        np.testing.assert_allclose(ridge.mean(new)[:, g * outputs : (g + 1) * outputs], new @ theta)
        width = np.sqrt(np.diag(new @ np.linalg.inv(gram) @ new.T))
        np.testing.assert_allclose(ridge.width(new)[:, g], width)


def test_a_penalty_too_small_for_features_that_repeat_each_other_is_named() -> None:
    selector = make("direct", context_dim=2, penalty=1e-20)
    same = np.repeat(np.random.default_rng(0).normal(size=(64, 1)), 2, axis=1)
    with pytest.raises(UserError, match="penalty 1e-20 is too small for this context"):
        selector.update(feedback(same, [0, 1] * 32, [0.5] * 64, [0.5] * 64))


def test_squarecb_distribution() -> None:
    # gamma = 10 * 4^0.5 = 20: 1 / (2 + 20 * 0.5) = 1/12
    explore = squarecb(scale=10.0, exponent=0.5)
    np.testing.assert_allclose(explore(np.array([[0.9, 0.4]]), 4), [[11 / 12, 1 / 12]])
    # Of equal scores the first takes what remains: 1 - 1/3 - 1 / (3 + 10 * 0.5)
    expected = [[1 - 1 / 3 - 1 / 8, 1 / 3, 1 / 8]]
    np.testing.assert_allclose(explore(np.array([[0.9, 0.9, 0.4]]), 1), expected)


def test_epsilon_distribution_follows_its_schedule() -> None:
    explore = epsilon(lambda t: 1.0 / t)
    np.testing.assert_allclose(explore(np.array([[0.1, 0.4]]), 4), [[1 / 8, 7 / 8]])
    with pytest.raises(UserError, match=r"epsilon 2\.0"):
        epsilon(lambda t: 2.0)(np.array([[0.1, 0.4]]), 4)


# With no context features x = [1], so that every regression is a shrunk mean.
NOTHING = np.zeros((2, 0))
ROWS = feedback(NOTHING, [0, 1], [1.0, 0.5], [0.5, 0.25])


def scores(name: str, *batches: Feedback) -> tuple[Floats, int]:
    explore = Scores()
    selector = make(name, context_dim=0, explore=explore)
    for batch in batches:
        selector.update(batch)
    selector.choose(NOTHING[:1])
    return explore.seen.ravel(), explore.t


def test_direct_scores() -> None:
    # sum r / (penalty + n)
    np.testing.assert_allclose(scores("direct", ROWS)[0], [1 / 2, 0.5 / 2])


def test_importance_weighted_scores() -> None:
    # Weights 1 / 0.5 = 2 and 0.5 / 0.25 = 2: 2 / (penalty + 4) for each
    np.testing.assert_allclose(scores("importance-weighted", ROWS)[0], [2 / 5, 2 / 5])


def test_doubly_robust_scores() -> None:
    again = feedback(NOTHING[:1], [1], [0.5], [0.5])
    # Nothing is predicted at first: targets (2, 0) and (0, 2). Then the direct method says
    # (1/2, 1/4): target (1/2, 1/4 + (1/2 - 1/4) / 0.5 = 3/4), over penalty + 3.
    got, t = scores("doubly-robust", ROWS, again)
    np.testing.assert_allclose(got, [2.5 / 4, 2.75 / 4])
    assert t == 3


def test_linucb_and_linear_thompson_by_hand() -> None:
    # Means 1/2 and 1/6, widths sqrt(1/2) and sqrt(1/3).
    rows = feedback(np.zeros((3, 0)), [0, 1, 1], [1.0, 0.5, 0.0], [0.5, 0.5, 0.5])
    for alpha, chosen in ((0.0, 0), (10.0, 0), (-10.0, 1)):
        selector = make("linucb", context_dim=0, alpha=alpha)
        selector.update(rows)
        assert selector.choose(NOTHING[:1]).arm[0] == chosen
    thompson = make("linear-thompson", context_dim=0, scale=1.0)
    thompson.update(rows)
    # Phi((1/2 - 1/6) / sqrt(1/2 + 1/3)) = Phi(0.365148)
    np.testing.assert_allclose(thompson.probabilities(NOTHING[:1]), [[0.6425, 0.3575]], atol=1e-4)


def half_experts(context: Floats) -> Floats:
    """Arm 0 is good where the ball is high, arm 1 where it is low, arm 2 is bad everywhere."""
    high = context[:, 0] > 0.0
    return np.stack([0.2 + 0.6 * high, 0.8 - 0.6 * high, np.full(len(high), 0.1)], axis=1)


def play(selector: Selector, rounds: int, seed: int = 1, size: int = 16) -> float:
    """Return the mean reward of the last half of the rounds."""
    rng, paid = np.random.default_rng(seed), []
    for _ in range(rounds):
        context = rng.uniform(-1.0, 1.0, (size, 2))
        choice = selector.choose(context)
        worth = half_experts(context)[np.arange(size), choice.arm]
        reward = (rng.random(size) < worth).astype(float)
        selector.update(Feedback(context, choice.arm, reward, choice.probability))
        paid.append(worth.mean())
    return float(np.mean(paid[rounds // 2 :]))


LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in CONTEXTUAL},
    "direct, squarecb": ("direct", {"explore": squarecb()}),
    "doubly-robust, squarecb": ("doubly-robust", {"explore": squarecb()}),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_half_experts_are_told_apart_by_the_state(name: str) -> None:
    kind, parameters = LEARNERS[name]
    selector = make(kind, num_arms=3, context_dim=2, **parameters)
    earned = play(selector, 150)
    context = np.random.default_rng(2).uniform(-1.0, 1.0, (500, 2))
    right = selector.probabilities(context).argmax(axis=1) == half_experts(context).argmax(axis=1)
    assert right.mean() > 0.9
    # The best that a selector without a context can earn is 0.5.
    assert earned > 0.65


def test_no_selector_without_a_context_can() -> None:
    ucb1 = SELECTORS["ucb1"](num_arms=3, rng=np.random.default_rng(0))
    assert play(ucb1, 150, size=1) < 0.65


@pytest.mark.parametrize("name", ["direct", "importance-weighted", "linucb", "linear-thompson"])
def test_a_batch_teaches_what_its_rows_teach_one_by_one(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = feedback(rng.normal(size=(20, 1)), [0, 1] * 10, rng.random(20), rng.uniform(0.1, 1, 20))
    together, single = make(name), make(name)
    together.update(rows)
    for i in range(20):
        single.update(some(rows, slice(i, i + 1)))
    context = rng.normal(size=(8, 1))
    np.testing.assert_allclose(together.probabilities(context), single.probabilities(context))


def test_weighting_makes_up_for_states_that_were_rarely_chosen_in() -> None:
    # Rewards are not linear: the direct method fits the states where the arm was chosen, the doubly
    # robust one fits all states.
    rng = np.random.default_rng(0)
    size = 20_000
    context = rng.uniform(-1.0, 1.0, (size, 1))
    worth = np.stack([context[:, 0] ** 2, np.full(size, 0.3)], axis=1)
    first = np.where(context[:, 0] > 0.0, 0.95, 0.05)
    arm = (rng.random(size) > first).astype(int)
    probability = np.where(arm == 0, first, 1.0 - first)
    rows = feedback(context, arm, worth[np.arange(size), arm], probability)
    x = np.column_stack([np.ones(size), context])
    new = np.linspace(-1.0, 1.0, 5)[:, None]
    full = np.column_stack([np.ones(5), new]) @ np.linalg.lstsq(x, worth, rcond=None)[0]
    errors = {}
    for name in ("direct", "doubly-robust"):
        explore = Scores()
        selector = make(name, explore=explore)
        for start in range(0, size, 5_000):
            selector.update(some(rows, slice(start, start + 5_000)))
        selector.choose(new)
        errors[name] = np.abs(explore.seen - full)[:, 0].max()
    assert errors["doubly-robust"] < 0.1
    assert errors["direct"] > 0.4


def test_teachers_never_tried_are_spread_over_the_environments() -> None:
    choice = make("direct", num_arms=4).choose(np.zeros((400, 1)))
    counts = np.bincount(choice.arm, minlength=4)
    assert np.all(np.abs(counts - 100) < 4 * np.sqrt(400 * 0.25 * 0.75))
    np.testing.assert_array_equal(choice.probability, np.full(400, 0.25))


@pytest.mark.parametrize("name", CONTEXTUAL)
def test_impossible_contexts_are_refused(name: str) -> None:
    selector = make(name)
    selector.update(feedback([[0.1], [0.2]], [0, 1], [0.5, 0.5], [0.5, 0.5]))
    with pytest.raises(UserError, match=r"shape \(4, 2\), expected \(N, 1\)"):
        selector.choose(np.zeros((4, 2)))
    with pytest.raises(UserError, match="finite"):
        selector.choose(np.array([[np.nan]]))
    with pytest.raises(UserError, match=r"shape \(1, 2\), expected \(N, 1\)"):
        selector.update(feedback([[0.1, 0.2]], [0], [0.5], [0.5]))
