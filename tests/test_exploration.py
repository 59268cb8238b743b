import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tutelage.errors import UserError
from tutelage.exploration import EXPLORATIONS, Exploration, parse_exploration
from tutelage.heads import (
    Bernoulli,
    Categorical,
    Gaussian,
    Head,
    MultiCategorical,
    Point,
    QValues,
)
from tutelage.networks import Network, parse_size
from tutelage.specs import ProbabilitySchedule
from tutelage.types import Array

DRAWS = 20_000
CHI_SQUARE_999 = {1: 10.828, 2: 13.816, 3: 16.266}
"""The 99.9 % point of the chi-square distribution, by degrees of freedom."""


def draw(text: str, q: Sequence[float], *, env_steps: int = 0, seed: int = 0) -> Array:
    head = QValues(len(q))
    repeated = torch.tensor([list(q)], dtype=torch.float32).repeat(DRAWS, 1)
    select = parse_exploration(text, head).select
    return select(head, repeated, env_steps, np.random.default_rng(seed))


def assert_frequencies(actions: Array, probability: Sequence[float]) -> None:
    """Pearson's test: sum (observed - expected)^2 / expected over the actions that may occur."""
    expected = len(actions) * np.array(probability)
    observed = np.bincount(actions, minlength=len(expected))
    possible = expected > 0.0
    assert observed.sum() == observed[possible].sum(), "an action of probability 0 was taken"
    if possible.sum() > 1:
        gap = observed[possible] - expected[possible]
        statistic = float((gap**2 / expected[possible]).sum())
        assert statistic < CHI_SQUARE_999[int(possible.sum()) - 1], (observed, expected)


def dropout_probability(q: Sequence[float], p: float) -> list[float]:
    """Add up P(mask) over the 2^A masks by the action that each makes the best."""
    probability = [0.0] * len(q)
    for kept in itertools.product((False, True), repeat=len(q)):
        dropped = [value / (1.0 - p) if keep else 0.0 for value, keep in zip(q, kept, strict=True)]
        likelihood = float(np.prod([1.0 - p if keep else p for keep in kept]))
        probability[dropped.index(max(dropped))] += likelihood
    return probability


def identity(hidden: Sequence[float]) -> tuple[Network, torch.Tensor]:
    """Return a network whose Q-values are its (positive) hidden units, and an input for it."""
    n = len(hidden)
    network = Network(parse_size(f"mlp:{n}"), (1, n), QValues(n))
    for layer in (network.body[1], network.output):
        assert isinstance(layer, torch.nn.Linear)
        layer.weight.data.copy_(torch.eye(n))
    return network, torch.tensor([[list(hidden)]])


def test_greedy_always_takes_the_best_action() -> None:
    assert_frequencies(draw("greedy", [0.1, -3.0, 0.2, 0.0]), [0.0, 0.0, 1.0, 0.0])


def test_epsilon_is_the_exact_mixture_of_best_and_uniform() -> None:
    # 0.7 for the best action, and a quarter of 0.3 for each of the four.
    actions = draw("epsilon:0.3", [0.0, 5.0, 1.0, 2.0])
    assert_frequencies(actions, [0.075, 0.775, 0.075, 0.075])


@pytest.mark.parametrize("tau", [0.5, 20.0])
def test_boltzmann_is_the_softmax_at_its_temperature(tau: float) -> None:
    q = tau * np.log([1.0, 2.0, 5.0])
    assert_frequencies(draw(f"boltzmann:{tau}", q.tolist()), [0.125, 0.25, 0.625])


@pytest.mark.parametrize(
    ("q", "probability"),
    [([1e4, 1e4, 0.0, -1e4], [0.5, 0.5, 0.0, 0.0]), ([-1e30, 5e29, 1e30], [0.0, 0.0, 1.0])],
)
def test_boltzmann_does_not_overflow_on_huge_q(q: list[float], probability: list[float]) -> None:
    with np.errstate(all="raise"):
        actions = draw("boltzmann:0.001", q)
    assert_frequencies(actions, probability)


def test_dropout_q_takes_a_dropped_action_where_all_are_negative() -> None:
    # Action 1 if none is dropped (1/8), else the first dropped one: 1/2, 1/4, 1/8.
    actions = draw("dropout-q:0.5", [-3.0, -1.0, -2.0])
    assert_frequencies(actions, [1 / 2, 1 / 8 + 1 / 4, 1 / 8])


@pytest.mark.parametrize("q", [(2.0, 1.0, 3.0), (2.0, 1.0, -1.0), (-1.0, 2.0, -0.5)])
@pytest.mark.parametrize("p", [0.1, 0.4])
def test_dropout_q_weighs_all_masks_by_their_probability(
    q: tuple[float, float, float], p: float
) -> None:
    assert_frequencies(draw(f"dropout-q:{p}", q), dropout_probability(q, p))


def test_mc_dropout_acts_on_a_draw_of_the_network() -> None:
    network, obs = identity([2.0, 1.0, 3.0])
    head = QValues(3)
    strategy = parse_exploration("mc-dropout:0.4", head)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        q = network.dropped(obs.repeat(DRAWS, 1, 1), strategy.hidden_dropout(0), generator)
    actions = strategy.select(head, q, 0, np.random.default_rng(0))
    assert_frequencies(actions, dropout_probability([2.0, 1.0, 3.0], 0.4))


def test_dropped_drops_each_hidden_unit_and_scales_the_others_up() -> None:
    network, obs = identity([2.0, 1.0, 4.0])
    with torch.no_grad():
        q = network.dropped(obs.repeat(DRAWS, 1, 1), 0.2, torch.Generator().manual_seed(0))
        undropped = network(obs)
    kept = q != 0.0
    assert torch.equal(q[kept], (torch.tensor([[2.5, 1.25, 5.0]]).expand_as(q))[kept])
    assert_frequencies(kept.flatten().long().numpy(), [0.2, 0.8])
    torch.testing.assert_close(q.mean(dim=0, keepdim=True), undropped, rtol=0.02, atol=0.0)


def test_dropped_is_the_generators_alone_and_nothing_at_probability_zero() -> None:
    network, obs = identity(range(1, 33))
    first, again, other = (
        network.dropped(obs, 0.5, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(network.dropped(obs, 0.0, torch.Generator()), network(obs))


def test_only_mc_dropout_drops_hidden_units() -> None:
    head = QValues(2)
    assert parse_exploration("mc-dropout:0.5:0:100", head).hidden_dropout(50) == 0.25
    assert parse_exploration("dropout-q:0.5", head).hidden_dropout(5) == 0.0


def test_a_schedule_is_honoured_at_every_env_step() -> None:
    q = [0.0, 1.0]
    for env_steps, best in ((0, 0.5), (50, 0.75), (100, 1.0), (1000, 1.0)):
        assert_frequencies(draw("epsilon:1:0:100", q, env_steps=env_steps), [1.0 - best, best])
    for env_steps, tau in ((0, 1.0), (100, 0.25)):
        odds = np.exp(np.array(q) / tau)
        actions = draw("boltzmann:1:0.25:100", q, env_steps=env_steps)
        assert_frequencies(actions, (odds / odds.sum()).tolist())
    for env_steps, p in ((0, 0.8), (100, 0.2)):
        actions = draw("dropout-q:0.8:0.2:100", [1.0, 2.0], env_steps=env_steps)
        assert_frequencies(actions, dropout_probability([1.0, 2.0], p))


def reluctant(share: ProbabilitySchedule) -> Exploration:
    """Take the last action with a probability: a strategy from outside."""

    def select(head: Head, out: torch.Tensor, env_steps: int, rng: np.random.Generator) -> Array:
        last = rng.random(len(out)) < share(env_steps)
        return np.where(last, out.shape[1] - 1, head.mode(out).numpy())

    return Exploration(select, shown={"reluctance": share})


def test_a_strategy_of_ones_own_is_named_by_its_module() -> None:
    actions = draw(f"{__name__}:reluctant:1:0:100", [3.0, 0.0, 0.0], env_steps=75)
    assert_frequencies(actions, [0.75, 0.0, 0.25])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("thompson", "choose from boltzmann, dropout-q, epsilon, greedy, mc-dropout"),
        ("", "choose from"),
        ("greedy:0.1", "0.1"),
        ("epsilon", "epsilon"),
        ("epsilon:often", "often"),
        ("epsilon:1.5", "from 0 to 1"),
        ("epsilon:nan", "nan"),
        ("boltzmann:0", "from 1e-06"),
        ("boltzmann:1:0:100", "from 1e-06"),
        ("dropout-q:1", "from 0 to 0.99"),
        ("dropout-q:0:1:100", "from 0 to 0.99"),
        ("mc-dropout:-0.1:0.5:10", "from 0 to 0.99"),
        (f"{__name__}:reluctant:2", "from 0 to 1"),
        (f"{__name__}:DRAWS", "DRAWS"),
    ],
)
def test_what_spells_no_strategy_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse_exploration(text, QValues(3))


SPELT = {name: name if name in ("greedy", "sample") else f"{name}:0.5" for name in EXPLORATIONS}
HEADS = [QValues(6), Categorical(6), MultiCategorical((2, 4)), Bernoulli(6), Gaussian(3), Point(6)]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
@pytest.mark.parametrize("name", EXPLORATIONS)
def test_contract_gives_an_action_per_row_from_the_given_generator_alone(
    name: str, head: Head
) -> None:
    if (name == "dropout-q" and not head.discrete) or (name == "noise" and head.discrete):
        with pytest.raises(UserError, match=type(head).__name__):
            parse_exploration(SPELT[name], head)
        return
    out = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    strategy = parse_exploration(SPELT[name], head)
    assert all(schedule(0) == 0.5 for schedule in strategy.shown.values())
    globals_before = (repr(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    first, again = (strategy.select(head, out, 0, np.random.default_rng(seed)) for seed in (3, 3))
    globals_after = (repr(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    some = head.random(64, np.random.default_rng(0))
    assert (first.shape, first.dtype) == (some.shape, some.dtype)
    low, high = (some.min(), some.max()) if head.discrete else (-1.0, 1.0)
    assert low <= first.min() <= first.max() <= high
    np.testing.assert_array_equal(first, again)
    assert globals_before[0] == globals_after[0]
    assert torch.equal(globals_before[1], globals_after[1])
