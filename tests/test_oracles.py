"""The same algorithms in River, MABWiser and Vowpal Wabbit, where those are installed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.test_bandits import NOTHING, make, settle
from tests.test_contextual import make as make_contextual
from tests.test_contextual import play
from tutelage.selectors.bandits import Exp3, beta_chances, beta_quantile
from tutelage.selectors.contextual import Ridge, epsilon
from tutelage.selectors.statistics import Statistics
from tutelage.types import Choice, Feedback, Floats, Ints, State


def history(
    rounds: int = 200, num_arms: int = 3, seed: int = 0, binary: bool = False
) -> Iterator[tuple[int, float]]:
    rng = np.random.default_rng(seed)
    for t in range(rounds):
        arm = t if t < num_arms else int(rng.integers(num_arms))
        reward = float(rng.random())
        yield arm, float(reward < 0.5) if binary else reward


def test_ucb1_chooses_as_river_does() -> None:
    river = pytest.importorskip("river.bandit")
    theirs, ours = river.UCB(delta=1.0, seed=0), make("ucb1", 3)
    for t, (arm, reward) in enumerate(history()):
        theirs.update(arm, reward)
        settle(ours, arm, reward)
        if t >= 3:
            assert ours.choose(NOTHING).arm[0] == theirs.pull([0, 1, 2])


def test_bayes_ucb_beta_index_is_rivers() -> None:
    river = pytest.importorskip("river.bandit")
    theirs, ours = river.BayesUCB(seed=0), Statistics(3)
    for t, (arm, reward) in enumerate(history(binary=True)):
        theirs.update(arm, bool(reward))
        ours.add(arm, reward)
        if t >= 3:
            expected = [theirs.compute_index(arm) for arm in range(3)]
            np.testing.assert_allclose(beta_quantile(ours), expected, rtol=1e-9)


def test_exp3_probabilities_are_rivers() -> None:
    river = pytest.importorskip("river.bandit")
    theirs = river.Exp3(gamma=0.2, seed=0)
    ours = Exp3(num_arms=3, rng=np.random.default_rng(0), gamma=0.2)
    for arm in range(3):
        settle(ours, arm, 0.0, probability=1 / 3)
    rng = np.random.default_rng(1)
    for _ in range(100):
        arm = theirs.pull([0, 1, 2])
        p = ours.probabilities(NOTHING)[0]
        np.testing.assert_allclose(p, [theirs._probabilities[arm] for arm in range(3)], rtol=1e-9)
        reward = float(rng.random())
        theirs.update(arm, reward)
        settle(ours, arm, reward, probability=p[arm])


def test_thompson_beta_chooses_as_often_as_river_does() -> None:
    river = pytest.importorskip("river.bandit")
    proba = pytest.importorskip("river.proba")
    theirs, ours = river.ThompsonSampling(reward_obj=proba.Beta(), seed=0), Statistics(3)
    for arm, reward in [(0, 1.0), (0, 1.0), (0, 0.0), (1, 1.0), (2, 0.0), (2, 1.0)]:
        theirs.update(arm, bool(reward))
        ours.add(arm, reward)
    pulls = np.bincount([theirs.pull([0, 1, 2]) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(beta_chances(ours), pulls, atol=0.03)


def test_mean_and_width_are_those_of_rivers_bayesian_regression() -> None:
    linear_model = pytest.importorskip("river.linear_model")
    theirs = linear_model.BayesianLinearRegression(alpha=1.0, beta=1.0)
    ours = Ridge(groups=1, outputs=1, dim=3, penalty=1.0)
    rng = np.random.default_rng(0)
    for _ in range(30):
        x, y = rng.normal(size=3), float(rng.random())
        theirs.learn_one(dict(enumerate(x)), y)
        ours.add(x[None], np.array([[y]]), np.ones((1, 1)))
    for x in rng.normal(size=(5, 3)):
        normal = theirs.predict_one(dict(enumerate(x)), with_dist=True)
        assert ours.mean(x[None])[0, 0] == pytest.approx(normal.mu, rel=1e-6)
        # Theirs is of a new reward, whose own variance is 1.
        assert ours.width(x[None])[0, 0] ** 2 == pytest.approx(normal.sigma**2 - 1.0, rel=1e-6)


def mabwisers(policy: str, num_arms: int, **parameters: Any) -> Any:
    """Return a bandit of MABWiser's, none of whose arms is known."""
    mab = pytest.importorskip("mabwiser.mab")
    return mab.MAB(list(range(num_arms)), getattr(mab.LearningPolicy, policy)(**parameters), seed=0)


def test_ucb1_chooses_as_mabwiser_does() -> None:
    theirs, ours = mabwisers("UCB1", 3, alpha=1.0), make("ucb1", 3)
    for t, (arm, reward) in enumerate(history()):
        theirs.partial_fit([arm], [reward])
        settle(ours, arm, reward)
        if t >= 3:
            assert ours.choose(NOTHING).arm[0] == theirs.predict()


def test_epsilon_greedy_chooses_as_often_as_mabwiser_does() -> None:
    theirs = mabwisers("EpsilonGreedy", 3, epsilon=0.3)
    ours = make("epsilon-greedy", 3, epsilon=lambda t: 0.3)
    for arm, reward in history():
        theirs.partial_fit([arm], [reward])
        settle(ours, arm, reward)
    pulls = np.bincount([theirs.predict() for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(ours.probabilities(NOTHING)[0], pulls, atol=0.03)


def test_thompson_beta_chooses_as_often_as_mabwiser_does() -> None:
    theirs, ours = mabwisers("ThompsonSampling", 3), Statistics(3)
    for arm, reward in [(0, 1), (0, 1), (0, 0), (1, 1), (2, 0), (2, 1)]:
        theirs.partial_fit([arm], [reward])
        ours.add(arm, reward)
    pulls = np.bincount([theirs.predict() for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(beta_chances(ours), pulls, atol=0.03)


def contextual_history(num_arms: int, rounds: int = 40) -> Feedback:
    rng = np.random.default_rng(3)
    arm = rng.permutation(np.arange(rounds) % num_arms)
    return Feedback(rng.normal(size=(rounds, 2)), arm, rng.random(rounds), np.full(rounds, 0.5))


def with_one(context: Floats) -> Floats:
    """Return [1, context]: ours regress on a constant too."""
    return np.column_stack([np.ones(len(context)), context])


def test_linucb_chooses_as_mabwiser_does() -> None:
    theirs = mabwisers("LinUCB", 4, alpha=0.7, l2_lambda=1.0)
    ours = make_contextual("linucb", num_arms=4, context_dim=2, alpha=0.7)
    rows = contextual_history(4)
    theirs.fit(rows.arm, rows.reward, with_one(rows.context))
    ours.update(rows)
    context = np.random.default_rng(4).normal(size=(200, 2))
    chosen = ours.choose(context).arm
    assert len(np.unique(chosen)) > 2
    np.testing.assert_array_equal(chosen, theirs.predict(with_one(context)))


def test_linear_thompson_has_the_posterior_that_mabwiser_draws_from() -> None:
    # Its arms share their draws (a generator is copied for each), so that how often it chooses
    # which is not to be compared.
    theirs = mabwisers("LinTS", 4, alpha=0.5, l2_lambda=1.0)
    ours = Ridge(groups=4, outputs=1, dim=3, penalty=1.0)
    rows = contextual_history(4)
    theirs.fit(rows.arm, rows.reward, with_one(rows.context))
    ours.add(with_one(rows.context), rows.reward[:, None], np.eye(4)[rows.arm])
    for x in with_one(np.random.default_rng(4).normal(size=(3, 2))):
        drawn = theirs.predict_expectations(np.tile(x, (4000, 1)))
        samples = np.array([[one[arm] for arm in range(4)] for one in drawn])
        np.testing.assert_allclose(ours.mean(x[None])[0], samples.mean(axis=0), atol=0.03)
        np.testing.assert_allclose(0.5 * ours.width(x[None])[0], samples.std(axis=0), rtol=0.05)


class VowpalWabbit:
    """``vw --cb_explore`` behind the contract, one row at a time."""

    def __init__(self, workspace: Any, seed: int) -> None:
        self._vw, self._rng = workspace, np.random.default_rng(seed)

    @property
    def left(self) -> Ints:
        raise AssertionError("nobody here asks for it")

    @property
    def tried(self) -> bool:
        raise AssertionError("nobody here asks for it")

    @staticmethod
    def _text(context: Floats) -> str:
        return "| " + " ".join(f"f{i}:{value}" for i, value in enumerate(context))

    def probabilities(self, context: Floats) -> Floats:
        p: Floats = np.array([self._vw.predict(self._text(row)) for row in context])
        p /= p.sum(axis=1, keepdims=True)
        return p

    def choose(self, context: Floats, draw: Floats | None = None) -> Choice:
        p = self.probabilities(context)
        draw = self._rng.random(len(p)) if draw is None else draw
        inside = zip(p.cumsum(axis=1)[:, :-1], draw, strict=True)
        arm = np.array([np.searchsorted(bounds, u, side="right") for bounds, u in inside])
        return Choice(arm, p[np.arange(len(p)), arm])

    def exploit(self, context: Floats) -> npt.NDArray[np.int64]:
        raise AssertionError("nobody here asks for it")

    def update(self, feedback: Feedback) -> None:
        for context, arm, reward, p in zip(
            feedback.context, feedback.arm, feedback.reward, feedback.probability, strict=True
        ):
            self._vw.learn(f"{arm + 1}:{1 - reward}:{p} " + self._text(context))

    def drop(self, arm: int) -> None:
        raise AssertionError("nobody here asks for it")

    def state(self) -> State:
        raise AssertionError("nobody here asks for it")

    def restore(self, state: State) -> None:
        raise AssertionError("nobody here asks for it")


@pytest.mark.parametrize(
    ("name", "cb_type"), [("direct", "dm"), ("importance-weighted", "ips"), ("doubly-robust", "dr")]
)
def test_earns_what_vowpal_wabbit_earns(name: str, cb_type: str) -> None:
    vowpalwabbit = pytest.importorskip("vowpalwabbit")
    options = f"--cb_explore 3 --epsilon 0.05 --cb_type {cb_type} --quiet --random_seed 1"
    theirs = VowpalWabbit(vowpalwabbit.Workspace(options), seed=0)
    ours = make_contextual(name, num_arms=3, context_dim=2, explore=epsilon(lambda t: 0.05))
    assert play(ours, 120) > play(theirs, 120) - 0.02
