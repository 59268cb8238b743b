"""What a policy's numbers mean, worked out by hand for every head."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import tiny_network
from tutelage import models
from tutelage.errors import UserError
from tutelage.heads import (
    HEADS,
    Bernoulli,
    Categorical,
    Gaussian,
    Head,
    MultiCategorical,
    Point,
    QValues,
    describe_head,
    head_for,
    parse_head,
    to_space,
)

DRAWS = 20_000
LN3 = math.log(3.0)
ALL: list[Head] = [
    QValues(3, temperature=0.1),
    Categorical(3),
    MultiCategorical((2, 3)),
    Bernoulli(4),
    Gaussian(2),
    Gaussian(2, squashed=True),
    Point(2),
]


def named(value: Any) -> str:
    return type(value).__name__ if hasattr(value, "discrete") else ""


def rows(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values)


def draw(head: Head, out: list[float], *, tau: float = 1.0) -> torch.Tensor:
    repeated = torch.tensor([out]).repeat(DRAWS, 1)
    return head.sample(repeated, np.random.default_rng(0), tau)


def near(share: float) -> Any:
    """Four standard deviations of a share of so many draws."""
    return pytest.approx(share, abs=4.0 * math.sqrt(max(share * (1.0 - share), 1e-12) / DRAWS))


def readable(compared: Any) -> dict[str, list[float]]:
    return {name: [round(x, 5) for x in value.tolist()] for name, value in compared.items()}


@pytest.mark.parametrize(
    ("head", "size", "out", "action"),
    [
        (QValues(3), 3, [1.0, 5.0, -9.0], 1),
        (Categorical(3), 3, [1.0, -math.inf, 5.0], 2),
        (MultiCategorical((2, 3)), 5, [0.0, 1.0, 7.0, 0.0, 2.0], [1, 0]),
        (Bernoulli(3), 3, [0.1, -0.1, 0.0], [1, 0, 0]),
        (Gaussian(2), 4, [0.5, -3.0, 9.0, 9.0], [0.5, -1.0]),
        (Gaussian(2, squashed=True), 4, [0.5 * LN3, 0.0, 9.0, 9.0], [0.5, 0.0]),
        (Point(2), 2, [0.25, 3.0], [0.25, 1.0]),
    ],
    ids=named,
)
def test_the_action_that_is_meant(head: Head, size: int, out: list[float], action: Any) -> None:
    mode = head.mode(rows(out, out))
    assert head.size == size
    assert head.discrete == (mode.dtype == torch.int64)
    torch.testing.assert_close(mode, torch.tensor([action, action]))


def test_only_q_values_at_a_temperature_are_converted() -> None:
    out = rows([1.0, -math.inf, 3.0, 4.0])
    assert QValues(4, temperature=0.5).values(out).tolist() == [[0.5, -math.inf, 1.5, 2.0]]
    for head in (QValues(4), Categorical(4), Bernoulli(4), Gaussian(2), Point(4)):
        assert head.values(out) is out


@pytest.mark.parametrize("build", [QValues, Categorical])
def test_sampling_is_the_softmax_at_its_temperature(build: Callable[[int], Head]) -> None:
    action = draw(build(3), [0.0, -math.inf, 2.0 * LN3], tau=2.0)
    assert [(action == a).double().mean().item() for a in range(3)] == [near(0.25), 0, near(0.75)]


def test_sampling_of_several_choices_is_of_each_by_itself() -> None:
    action = draw(MultiCategorical((2, 3)), [0.0, LN3, LN3, -math.inf, 0.0])
    assert action.shape == (DRAWS, 2)
    first, second = action.double().T
    assert (first == 1).double().mean().item() == near(0.75)
    assert [(second == a).double().mean().item() for a in range(3)] == [near(0.75), 0, near(0.25)]
    both = ((first == 1) & (second == 0)).double().mean().item()
    assert both == near(0.75 * 0.75)


def test_sampling_of_bits_is_their_sigmoid() -> None:
    action = draw(Bernoulli(3), [2.0 * LN3, -2.0 * LN3, 0.0], tau=2.0)
    assert action.double().mean(dim=0).tolist() == [near(0.75), near(0.25), near(0.5)]


def test_sampling_of_a_gaussian_has_its_mean_and_its_variance_times_tau() -> None:
    out = [0.1, -0.2, math.log(0.05), math.log(0.1)]
    for tau in (1.0, 4.0):
        for squashed in (False, True):
            action = draw(Gaussian(2, squashed=squashed), out, tau=tau).double()
            raw = action.atanh() if squashed else action
            assert raw.mean(dim=0).tolist() == pytest.approx([0.1, -0.2], abs=0.01)
            deviation = [0.05 * math.sqrt(tau), 0.1 * math.sqrt(tau)]
            assert raw.std(dim=0).tolist() == pytest.approx(deviation, rel=0.03)
    assert draw(Gaussian(1), [0.0, 2.0]).abs().max() == 1.0
    assert draw(Gaussian(1, squashed=True), [0.0, 2.0]).abs().max() <= 1.0


def test_a_deterministic_policy_has_nothing_to_draw() -> None:
    assert (draw(Point(2), [0.25, -3.0], tau=9.0) == torch.tensor([0.25, -1.0])).all()


@pytest.mark.parametrize(
    ("head", "space"),
    [
        (QValues(3), spaces.Discrete(3, start=2)),
        (Categorical(3), spaces.Discrete(3)),
        (MultiCategorical((2, 3)), spaces.MultiDiscrete([2, 3])),
        (Bernoulli(4), spaces.MultiBinary([2, 2])),
        (Gaussian(2), spaces.Box(-1.0, 3.0, (2, 1))),
        (Point(2), spaces.Box(-1.0, 3.0, (2,))),
    ],
    ids=named,
)
def test_random_actions_are_every_one_of_the_space_alike(
    head: Head, space: gymnasium.Space[Any]
) -> None:
    assert head.fits(space)
    action = head.random(DRAWS, np.random.default_rng(0))
    assert action.shape == tuple(head.mode(torch.zeros(DRAWS, head.size)).shape)
    done = to_space(action, space)
    assert all(space.contains(a) for a in done[:50])
    flat = done.reshape(DRAWS, -1)
    if head.discrete:
        for column in flat.T:
            values, counts = np.unique(column, return_counts=True)
            assert len(values) == column.max() - column.min() + 1
            np.testing.assert_allclose(counts / DRAWS, 1.0 / len(values), atol=0.02)
    else:
        np.testing.assert_allclose(flat.mean(axis=0), 1.0, atol=0.05)
        np.testing.assert_allclose(flat.std(axis=0), 4.0 / math.sqrt(12.0), rtol=0.03)


@pytest.mark.parametrize("head", ALL, ids=named)
def test_a_head_fits_no_space_of_other_actions(head: Head) -> None:
    others = [
        spaces.Discrete(5),
        spaces.MultiDiscrete([3, 2]),
        spaces.MultiBinary(5),
        spaces.Box(-1.0, 1.0, (5,)),
        spaces.Text(3),
    ]
    assert not any(head.fits(space) for space in others)


def test_how_far_q_values_are_from_the_teachers_is_regret() -> None:
    ours = rows([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0])
    theirs = rows([5.0, 3.0, 1.0], [5.0, 3.0, 1.0], [-math.inf, 2.0, 1.0], [4.0, -math.inf, 1.0])
    assert readable(QValues(3).compare(ours, theirs)) == {
        "agreement": [1.0, 0.0, 1.0, 0.0],
        "regret": [0.0, 2.0, 0.0, 3.0],  # what is ruled out counts as the worst of the others
    }


@pytest.mark.parametrize(
    ("head", "ours", "theirs", "expected"),
    [
        (
            Categorical(2),
            [0.0, 1.0],
            [LN3, 0.0],
            {"agreement": [0.0], "relative_probability": [0.33333]},
        ),
        (
            MultiCategorical((2, 3)),
            [0.0, 1.0, 9.0, 0.0, 0.0],
            [0.0, 5.0, 0.0, 0.0, 1.0],
            {"agreement": [0.5]},
        ),
        (Bernoulli(4), [1.0, -1.0, 1.0, 1.0], [9.0, -9.0, 9.0, -9.0], {"agreement": [0.75]}),
        (
            Gaussian(2),
            [0.5, 5.0, 0.0, 0.0],
            [0.0, 0.5, 9.0, 9.0],
            {"agreement": [0.75], "action_error": [0.25]},
        ),
        (Point(1), [-4.0], [1.0], {"agreement": [0.0], "action_error": [1.0]}),
    ],
    ids=named,
)
def test_what_a_person_may_read_of_a_difference(
    head: Head, ours: list[float], theirs: list[float], expected: dict[str, list[float]]
) -> None:
    assert readable(head.compare(rows(ours), rows(theirs))) == expected
    assert readable(head.compare(rows(theirs), rows(theirs)))["agreement"] == [1.0]


@pytest.mark.parametrize("head", ALL, ids=named)
def test_a_head_comes_back_from_what_a_file_says_of_it(head: Head) -> None:
    about = describe_head(head)
    assert HEADS[about["kind"]] is type(head)
    assert parse_head(about) == head


LIES: list[dict[str, Any]] = [
    {},
    {"kind": "logits"},
    {"kind": ["q"]},
    {"kind": "q"},
    {"kind": "q", "n": 0},
    {"kind": "q", "n": True},
    {"kind": "q", "n": "6"},
    {"kind": "q", "n": 10**30},
    {"kind": "q", "n": 6, "units": 2},
    {"kind": "q", "n": 6, "temperature": "warm"},
    {"kind": "q", "n": 6, "temperature": 0.0},
    {"kind": "q", "n": 6, "temperature": math.nan},
    {"kind": "multi-categorical", "sizes": []},
    {"kind": "multi-categorical", "sizes": [2, -1]},
    {"kind": "gaussian", "n": 2, "squashed": "yes"},
]


@pytest.mark.parametrize("about", LIES, ids=str)
def test_what_describes_no_head_is_refused(about: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="head"):
        parse_head(about)


@dataclass(frozen=True)
class Opposite(Point):
    """Means the opposite of what it says: a head from outside of the package."""

    def mode(self, out: torch.Tensor) -> torch.Tensor:
        return -super().mode(out)


def test_a_head_of_ones_own_is_an_entry_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HEADS, "opposite", Opposite)
    network = tiny_network(head=Opposite(2))
    models.save(tmp_path / "mine.safetensors", network, env="Slider-v0", card={})
    read = models.load_network(tmp_path / "mine.safetensors").policy
    assert read.head == Opposite(2)
    obs = torch.ones(1, 1, 3)
    assert torch.equal(read.head.mode(read.step(obs, ())[0]), -network(obs).clamp(-1.0, 1.0))


def test_a_head_that_no_file_could_name_is_refused() -> None:
    with pytest.raises(UserError, match="Opposite"):
        describe_head(Opposite(2))


@pytest.mark.parametrize(
    ("space", "head"),
    [
        (spaces.Discrete(3, start=-1), Categorical(3)),
        (spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])), MultiCategorical((2, 3, 4, 5))),
        (spaces.MultiBinary([2, 3]), Bernoulli(6)),
        (spaces.Box(-1.0, 1.0, (2, 3)), Point(6)),
    ],
    ids=str,
)
def test_every_space_of_actions_has_its_usual_head(space: gymnasium.Space[Any], head: Head) -> None:
    assert head_for(space) == head
    assert head.fits(space)


def test_a_space_without_a_head_is_refused() -> None:
    for space in (spaces.Text(3), spaces.Box(-1.0, 1.0, (0,))):
        with pytest.raises(UserError, match=type(space).__name__):
            head_for(space)


def test_actions_are_put_into_their_space_by_hand() -> None:
    discrete = to_space(np.array([0, 2]), spaces.Discrete(3, start=-1))
    assert discrete.tolist() == [-1, 1]
    several = spaces.MultiDiscrete(np.array([[2, 3]]), start=np.array([[5, 10]]))
    assert to_space(np.array([[1, 2]]), several).tolist() == [[[6, 12]]]
    bits = to_space(np.array([[1, 0]]), spaces.MultiBinary([2, 1]))
    assert bits.tolist() == [[[1], [0]]]
    assert bits.dtype == np.int8
    infinite = math.inf
    low, high = np.array([[-2.0, 0.0, -infinite], [2.0, 10.0, infinite]], np.float32)
    box = to_space(np.array([[0.5, -1.0, 7.0], [9.0, 0.0, -7.0]]), spaces.Box(low, high))
    assert box.tolist() == [[1.0, 0.0, 7.0], [2.0, 5.0, -7.0]]
    grey = to_space(np.array([[1.0], [-0.999]]), spaces.Box(0, 255, (1,), np.uint8))
    assert grey.tolist() == [[255], [0]]
    assert grey.dtype == np.uint8


BOUND = st.floats(-1e6, 1e6, width=32)


@given(
    BOUND | st.just(-math.inf),
    BOUND | st.just(math.inf),
    st.lists(st.floats(-3.0, 3.0, width=32), min_size=1, max_size=5),
)
def test_an_action_is_always_one_of_its_space(a: float, b: float, at: list[float]) -> None:
    space = spaces.Box(min(a, b), max(a, b), (1,))
    for action in to_space(np.array(at, np.float32)[:, None], space):
        assert space.contains(action)
