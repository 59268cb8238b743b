"""What is done to a teacher: its noise by statistics, all else by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, kstest, norm
from torch import Tensor

from tests.test_features import court, observed
from tutelage.domains.pong import REGIONS
from tutelage.errors import UserError
from tutelage.heads import Gaussian, QValues
from tutelage.policies import Function
from tutelage.teachers import Ensemble, Teacher
from tutelage.wrappers import WRAPPERS, parse_wrapper

CARDS = torch.tensor([[3.0, -1.0, 2.0], [0.0, 5.0, -5.0]])
BLIND = torch.zeros(2, 1, 1)
"""Observations that nobody looks at."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def said(wrapper: str, q: Tensor = CARDS, obs: Tensor = BLIND, *, seed: int = 0) -> Tensor:
    say = parse_wrapper(wrapper, REGIONS).say
    assert say is not None
    return say(q, obs, generator(seed))


def seen(wrapper: str, obs: Tensor) -> Tensor:
    see = parse_wrapper(wrapper, REGIONS).see
    assert see is not None
    return see(obs)


def of(text: str, says: Callable[[Tensor], Tensor], *, actions: int = 3, seed: int = 0) -> Ensemble:
    """Return an ensemble of one: what ``text``, such as ``x+noise:1``, makes of a function."""
    wrappers = tuple(parse_wrapper(word, REGIONS) for word in text.split("+")[1:])
    return Ensemble([Teacher(text, Function(says, QValues(actions)), wrappers)], seed=seed)


def ask(ensemble: Ensemble, obs: Tensor, *, arm: int = 0, env_steps: int = 0) -> Tensor:
    return ensemble(obs, np.full(len(obs), arm), env_steps)


# Noise.


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_noise_is_normal_with_mean_0_and_the_given_deviation(sigma: float) -> None:
    q = torch.linspace(-20.0, 20.0, 30_000).reshape(-1, 6)
    added = (said(f"noise:{sigma}", q) - q).double().flatten().numpy()
    n = len(added)
    # Each of the three fails once in a thousand seeds.
    assert abs(added.mean()) < norm.ppf(0.9995) * sigma / np.sqrt(n)
    low, high = chi2.ppf([0.0005, 0.9995], n) * sigma**2 / n
    assert low < (added**2).mean() < high
    assert kstest(added, norm(0.0, sigma).cdf).pvalue > 1e-3
    # And it is another for each state and for each action.
    table = added.reshape(-1, 6)
    assert np.abs(np.corrcoef(table.T) - np.eye(6)).max() < 0.06
    assert abs(np.corrcoef(added[1:], added[:-1])[0, 1]) < 0.02


def test_that_check_notices_another_deviation() -> None:
    added = said("noise:1.05", torch.zeros(5_000, 6)).double().flatten().numpy()
    assert kstest(added, norm(0.0, 1.0).cdf).pvalue < 1e-3


def test_no_noise_is_none() -> None:
    assert torch.equal(said("noise:0"), CARDS)


def still(obs: Tensor) -> Tensor:
    return torch.zeros(len(obs), 3)


def test_noise_is_fresh_in_each_env_step_and_for_each_teacher_and_seed() -> None:
    obs = torch.zeros(200, 1, 1)
    noisy = (parse_wrapper("noise:1", {}),)
    copies = [Teacher(str(k), Function(still, QValues(3)), noisy) for k in range(2)]
    ensemble, other = Ensemble(copies, seed=5), Ensemble(copies, seed=6)
    drawn = [
        ask(ensemble, obs, env_steps=0),
        ask(ensemble, obs, env_steps=8),
        ask(ensemble, obs, env_steps=16),
        ask(ensemble, obs, arm=1, env_steps=0),
        ask(other, obs, arm=0, env_steps=0),
    ]
    related = np.corrcoef(torch.stack(drawn).flatten(1).numpy())
    # Of 600 pairs; 0.17 is 4 standard deviations.
    assert np.abs(related - np.eye(5)).max() < 0.17


def test_the_same_seed_gives_the_same_noise_whatever_was_asked_before() -> None:
    obs = torch.zeros(7, 1, 1)
    one, two = (of("x+noise:1+noise:2", still, seed=5) for _ in range(2))
    for env_steps in (0, 8, 16):
        ask(one, obs, env_steps=env_steps)
    assert torch.equal(ask(one, obs, env_steps=24), ask(two, obs, env_steps=24))


def test_of_two_noises_the_variances_add() -> None:
    q = ask(of("x+noise:3+noise:4", still), torch.zeros(10_000, 1, 1))
    low, high = chi2.ppf([0.0005, 0.9995], q.numel()) * 25 / q.numel()
    assert low < q.square().mean() < high


# All else.


def test_scale_and_negate_are_what_the_hand_computes() -> None:
    assert said("scale:0.5").tolist() == [[1.5, -0.5, 1.0], [0.0, 2.5, -2.5]]
    assert said("scale:0").abs().max() == 0.0
    assert said("negate").tolist() == [[-3.0, 1.0, -2.0], [0.0, -5.0, 5.0]]


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=6, unique=True))
def test_of_a_negated_teacher_the_best_is_the_worst(values: list[float]) -> None:
    q = torch.tensor([values], dtype=torch.float64)
    assert said("negate", q).argmax() == q.argmin()
    twice = of("x+negate+negate", lambda obs: q, actions=len(values))
    assert torch.equal(ask(twice, BLIND[:1]), q)


@pytest.mark.parametrize("size", [84, 80])
def test_a_restricted_teacher_knows_nothing_outside_of_its_region(size: int) -> None:
    top, bottom, none = court((40, 80)), court((120, 80)), court()
    stacks = [[top] * 4, [bottom] * 4, [none] * 4, [top, bottom, none, none], [bottom, top]]
    obs = torch.from_numpy(np.concatenate([observed(*stack, size=size) for stack in stacks]))
    q = torch.arange(1.0, 11.0).reshape(5, 2)
    # Where a ball is hidden it is where it was last seen; between points it is nowhere.
    for region, inside in (
        ("ball-top", [True, False, False, False, True]),
        ("ball-bottom", [False, True, False, True, False]),
    ):
        expected = q * torch.tensor(inside)[:, None]
        assert torch.equal(said(f"restrict:{region}", q, obs), expected)


def test_a_delayed_teacher_sees_older_frames_the_oldest_repeated() -> None:
    obs = torch.arange(2 * 4).reshape(2, 4, 1).to(torch.uint8)
    before = obs.clone()
    for steps, frames in ((1, [0, 0, 1, 2]), (2, [0, 0, 0, 1]), (3, [0, 0, 0, 0])):
        delayed = seen(f"delay:{steps}", obs)
        assert delayed.dtype == torch.uint8
        assert delayed[:, :, 0].tolist() == [frames, [4 + frame for frame in frames]]
    assert torch.equal(obs, before)
    asked: list[Tensor] = []

    def noting(obs: Tensor) -> Tensor:
        asked.append(obs)
        return torch.zeros(len(obs), 3)

    ask(of("x+delay:1+delay:1", noting), obs)
    assert torch.equal(asked[0], seen("delay:2", obs))


@pytest.mark.parametrize(("steps", "stack"), [(1, 1), (4, 4), (7, 4)])
def test_a_delay_beyond_the_stack_is_refused(steps: int, stack: int) -> None:
    with pytest.raises(UserError, match=f"delay {steps}.* {stack} frames"):
        seen(f"delay:{steps}", torch.zeros(2, stack, 3))


# In their order.


def test_wrappers_compose_from_left_to_right() -> None:
    obs = torch.zeros(2, 1, 1)

    def network(obs: Tensor) -> Tensor:
        return CARDS

    noise = ask(of("x+noise:1", network), obs) - CARDS
    for text, expected in [
        ("x+noise:1+scale:2", 2.0 * (CARDS + noise)),
        ("x+scale:2+noise:1", 2.0 * CARDS + noise),
        ("x+negate+noise:1", -CARDS + noise),
        ("x+noise:1+negate", -CARDS - noise),
        ("x+scale:3+noise:1+negate+scale:0.5", -(3.0 * CARDS + noise) * 0.5),
    ]:
        torch.testing.assert_close(ask(of(text, network), obs), expected, msg=text)


def test_what_is_restricted_before_the_noise_is_noisy_everywhere() -> None:
    obs = torch.from_numpy(np.concatenate([observed(court((r, 80)), size=84) for r in (40, 120)]))

    def network(obs: Tensor) -> Tensor:
        return CARDS

    after = ask(of("x+noise:1+restrict:ball-top", network), obs)
    before = ask(of("x+restrict:ball-top+noise:1", network), obs)
    assert after[1].tolist() == [0.0, 0.0, 0.0]
    assert before[1].abs().min() > 0.0
    torch.testing.assert_close(after[0], before[0])


def test_a_delay_and_a_restriction_go_together() -> None:
    # The ball was at the bottom and is now at the top; the teacher still sees it at the bottom.
    obs = torch.from_numpy(observed(*[court((120, 80))] * 3, court((40, 80)), size=84))
    asked: list[Tensor] = []

    def network(obs: Tensor) -> Tensor:
        asked.append(obs)
        return torch.ones(len(obs), 3)

    assert ask(of("x+delay:1+restrict:ball-top", network), obs).tolist() == [[1.0, 1.0, 1.0]]
    np.testing.assert_array_equal(asked[0][0], obs[0, [0, 0, 1, 2]])


@pytest.mark.parametrize("head", [Gaussian(2), Gaussian(2, squashed=True)])
def test_of_a_distribution_over_actions_the_mean_is_changed_and_the_deviation_kept(
    head: Gaussian,
) -> None:
    out = torch.tensor([[0.25, -0.5, -1.0, -2.0]])

    def wrapped(wrapper: str) -> Tensor:
        teacher = Teacher("x", Function(lambda obs: out, head), (parse_wrapper(wrapper, {}),))
        return ask(Ensemble([teacher]), BLIND[:1])

    assert wrapped("negate").tolist() == [[-0.25, 0.5, -1.0, -2.0]]
    assert wrapped("scale:2").tolist() == [[0.5, -1.0, -1.0, -2.0]]
    assert (wrapped("noise:1") != out).tolist() == [[True, True, False, False]]


# As they are written.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("blind", ["'blind'", ", ".join(sorted(WRAPPERS))]),
        ("", ["''"]),
        ("Noise:1", ["'Noise'"]),
        *((f"noise{value}", ["noise", "sigma"]) for value in ("", ":", ":-1", ":nan", ":inf")),
        ("noise:1:2", ["noise", "'1:2'"]),
        ("scale", ["scale", "factor"]),
        ("scale:-2", ["scale", "'-2'", "from 0"]),
        ("negate:1", ["negate", "'1'"]),
        ("restrict", ["restrict", "region"]),
        ("restrict:left", ["'left'", "ball-bottom, ball-top"]),
        ("delay", ["delay", "steps"]),
        *((f"delay:{value}", ["delay", f"'{value}'"]) for value in ("1.5", "0", "-1", "nan")),
    ],
)
def test_a_wrapper_that_makes_no_sense_is_refused(text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse_wrapper(text, REGIONS)
    assert all(word in str(caught.value) for word in words), caught.value
