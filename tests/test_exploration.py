import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tutelage.errors import UserError
from tutelage.exploration import EXPLORATIONS, Action, Exploration, parse_exploration
from tutelage.networks import QNetwork, parse_size
from tutelage.schedules import constant

DRAWS = 20_000
CHI_SQUARE_999 = {1: 10.828, 2: 13.816, 3: 16.266}
"""The 99.9 % point of the chi-square distribution, by degrees of freedom."""


def draw(
    exploration: Exploration | str, q: Sequence[float], *, env_steps: int = 0, seed: int = 0
) -> Action:
    strategy = parse_exploration(exploration) if isinstance(exploration, str) else exploration
    repeated = np.tile(np.array(q, np.float32), (DRAWS, 1))
    return strategy.select(repeated, env_steps, np.random.default_rng(seed))


def assert_frequencies(actions: Action, probability: Sequence[float]) -> None:
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


def identity_head(hidden: Sequence[float]) -> tuple[QNetwork, torch.Tensor]:
    """Return a network whose Q-values are its (positive) hidden units, and an input for it."""
    n = len(hidden)
    network = QNetwork(parse_size(f"mlp:{n}"), (1, n), n)
    for layer in (network.body[1], network.head):
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
    network, obs = identity_head([2.0, 1.0, 3.0])
    strategy = parse_exploration("mc-dropout:0.4")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        q = network.dropped(obs.repeat(DRAWS, 1, 1), strategy.hidden_dropout(0), generator)
    actions = strategy.select(q.numpy(), 0, np.random.default_rng(0))
    assert_frequencies(actions, dropout_probability([2.0, 1.0, 3.0], 0.4))


def test_dropped_drops_each_hidden_unit_and_scales_the_others_up() -> None:
    network, obs = identity_head([2.0, 1.0, 4.0])
    with torch.no_grad():
        q = network.dropped(obs.repeat(DRAWS, 1, 1), 0.2, torch.Generator().manual_seed(0))
        undropped = network(obs)
    kept = q != 0.0
    assert torch.equal(q[kept], (torch.tensor([[2.5, 1.25, 5.0]]).expand_as(q))[kept])
    assert_frequencies(kept.flatten().long().numpy(), [0.2, 0.8])
    torch.testing.assert_close(q.mean(dim=0, keepdim=True), undropped, rtol=0.02, atol=0.0)


def test_dropped_is_the_generators_alone_and_nothing_at_probability_zero() -> None:
    network, obs = identity_head(range(1, 33))
    first, again, other = (
        network.dropped(obs, 0.5, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(network.dropped(obs, 0.0, torch.Generator()), network(obs))


def test_only_mc_dropout_drops_hidden_units() -> None:
    dropping = {
        name: build(constant(0.3)).hidden_dropout(5) for name, build in EXPLORATIONS.items()
    }
    assert dropping == {name: 0.3 if name == "mc-dropout" else 0.0 for name in EXPLORATIONS}


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
    assert parse_exploration("mc-dropout:0.5:0:100").hidden_dropout(50) == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thompson", "choose from boltzmann, dropout-q, epsilon, greedy, mc-dropout"),
        ("", "unknown exploration ''"),
        ("greedy:0.1", "greedy takes no parameter"),
        ("epsilon", "epsilon needs a value, as in epsilon:0.05"),
        ("epsilon:often", "unknown schedule 'often'"),
        ("epsilon:1.5", "expected a value from 0 to 1"),
        ("epsilon:nan", "unknown schedule 'nan'"),
        ("boltzmann:0", "expected a value from 1e-06 to 1e"),
        ("boltzmann:1:0:100", "expected a value from 1e-06 to 1e"),
        ("dropout-q:1", "expected a value from 0 to 0.99"),
        ("dropout-q:0:1:100", "expected a value from 0 to 0.99"),
        ("mc-dropout:-0.1:0.5:10", "expected a value from 0 to 0.99"),
    ],
)
def test_what_spells_no_strategy_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_exploration(text)


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_contract_gives_an_action_per_row_from_the_given_generator_alone(name: str) -> None:
    q = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    strategy = EXPLORATIONS[name](constant(0.5))

    def select() -> npt.NDArray[np.int64]:
        return strategy.select(q, 0, np.random.default_rng(3))

    globals_before = (repr(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    actions = select()
    globals_after = (repr(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    assert actions.dtype == np.int64
    assert actions.shape == (64,)
    assert ((actions >= 0) & (actions < 6)).all()
    np.testing.assert_array_equal(actions, select())
    assert globals_before[0] == globals_after[0]
    assert torch.equal(globals_before[1], globals_after[1])
