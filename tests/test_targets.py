import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutelage.errors import UserError
from tutelage.targets import TARGETS, parse_target

LN3 = math.log(3.0)


def entropy(q: Tensor, *, tau: float) -> float:
    p = parse_target("softmax", tau)(q)
    return float(torch.special.entr(p).sum())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raw", [[0.0, 2.0 * LN3]]),
        ("divide", [[0.0, LN3]]),
        ("softmax", [[0.25, 0.75]]),
    ],
)
def test_a_target_at_temperature_two_is_the_one_worked_out_by_hand(
    name: str, expected: list[list[float]]
) -> None:
    target = parse_target(name, 2.0)(torch.tensor([[0.0, 2.0 * LN3]]))
    torch.testing.assert_close(target, torch.tensor(expected))


@pytest.mark.parametrize("name", TARGETS)
def test_contract_keeps_shape_order_and_the_samples_apart(name: str) -> None:
    q = torch.tensor([[0.3, -1.0, 2.0], [5.0, 4.0, -3.0]])
    target = parse_target(name, 0.7)
    assert target(q).shape == q.shape
    assert torch.equal(target(q).argsort(dim=1), q.argsort(dim=1))
    torch.testing.assert_close(target(q), torch.cat([target(q[:1]), target(q[1:])]))


@given(
    q=st.lists(st.integers(-300, 300), min_size=3, max_size=6, unique=True),
    tau=st.floats(0.1, 10.0),
    factor=st.floats(1.5, 10.0),
)
def test_sharpening_lowers_entropy_and_softening_raises_it(
    q: list[int], tau: float, factor: float
) -> None:
    values = torch.tensor([q], dtype=torch.float64) / 100.0
    sharp, here, soft = (entropy(values, tau=t) for t in (tau / factor, tau, tau * factor))
    assert sharp < here < soft


def test_an_action_that_is_ruled_out_stays_so() -> None:
    label = torch.tensor([[0.0, -math.inf, 2.0 * LN3]])
    assert parse_target("divide", 2.0)(label).tolist()[0][1] == -math.inf
    torch.testing.assert_close(
        parse_target("softmax", 2.0)(label), torch.tensor([[0.25, 0.0, 0.75]])
    )


@pytest.mark.parametrize("tau", [0.0, -0.5, math.nan])
def test_a_temperature_that_is_not_above_zero_is_refused(tau: float) -> None:
    with pytest.raises(UserError, match="tau"):
        parse_target("raw", tau)


def test_an_unknown_target_is_refused_with_the_choices() -> None:
    with pytest.raises(UserError, match="divide, raw, softmax"):
        parse_target("soft", 1.0)
