import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutelage.errors import UserError
from tutelage.losses import LOSSES, kl, mse, nll, parse_loss
from tutelage.targets import TARGETS, parse_target

LN3 = math.log(3.0)
LOGITS = st.lists(st.floats(-50.0, 50.0), min_size=3, max_size=3)


class Case(NamedTuple):
    """One sample of two actions; softmax([0, ln 3]) is [1/4, 3/4]."""

    loss: str
    student: tuple[float, float]
    target: tuple[float, float]
    value: float
    gradient: tuple[float, float]


BY_HAND = [
    # p = [1/2, 1/2]: 1/2 ln(1/2 : 1/4) + 1/2 ln(1/2 : 3/4); gradient softmax(q^S) - p.
    Case("kl", (0.0, LN3), (0.0, 0.0), 0.5 * math.log(4.0 / 3.0), (-0.25, 0.25)),
    # 3^2 + 4^2; gradient 2 (q^S - target).
    Case("mse", (1.0, 2.0), (4.0, -2.0), 25.0, (-6.0, 8.0)),
    # a* = 0: -ln(1/4); gradient softmax(q^S) - onehot(a*).
    Case("nll", (0.0, LN3), (5.0, 1.0), math.log(4.0), (-0.75, 0.75)),
    # [1/4, 3/4] against [3/4, 1/4]; with d = p - t = [-1/2, 1/2] the gradient is 2 p (d - <p, d>).
    Case("mse-prob", (0.0, LN3), (LN3, 0.0), 0.5, (-0.375, 0.375)),
]


def rows(*values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_q(batch: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: case.loss)
def test_value_and_gradient_are_those_worked_out_by_hand(case: Case) -> None:
    student = rows(case.student).requires_grad_()
    value = LOSSES[case.loss](student, rows(case.target))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    torch.testing.assert_close(value, torch.tensor([case.value], dtype=torch.float64))
    torch.testing.assert_close(gradient, rows(case.gradient))


@pytest.mark.parametrize("name", LOSSES)
def test_contract_one_loss_per_sample_independent_of_the_others(name: str) -> None:
    student, target = random_q(2), random_q(2, seed=1)
    both = LOSSES[name](student, target)
    alone = [LOSSES[name](student[i : i + 1], target[i : i + 1]) for i in range(2)]
    assert both.shape == (2,)
    torch.testing.assert_close(both, torch.cat(alone))


@pytest.mark.parametrize("name", LOSSES)
def test_contract_gradient_is_the_one_of_finite_differences(name: str) -> None:
    target = random_q(3, seed=1)
    assert torch.autograd.gradcheck(
        lambda student: LOSSES[name](student, target), random_q(3).requires_grad_()
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LOSSES)
def test_contract_finite_at_a_cold_temperature_and_huge_q(name: str, target: str) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [-1e4, 1e4, 1e4]])
    value = LOSSES[name](student, parse_target(target, 0.001)(teacher))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("student", "target", "shown"),
    [
        ((2, 3), (2, 4), r"\(2, 4\), expected \(2, 3\)"),
        ((2, 3), (3, 3), r"\(3, 3\), expected \(2, 3\)"),
        ((2, 3), (3,), r"\(3,\), expected \(2, 3\)"),
        ((3,), (3,), r"\(3,\), expected \(None, None\)"),
    ],
)
def test_contract_wrong_shapes_are_refused_showing_both(
    name: str, student: tuple[int, ...], target: tuple[int, ...], shown: str
) -> None:
    with pytest.raises(ValueError, match=shown):
        LOSSES[name](torch.zeros(student), torch.zeros(target))


@pytest.mark.parametrize("name", ["kl", "mse", "mse-prob"])
def test_nothing_is_paid_by_a_student_equal_to_its_target(name: str) -> None:
    student = random_q(4).requires_grad_()
    value = LOSSES[name](student, student.detach())
    (gradient,) = torch.autograd.grad(value.sum(), student)
    torch.testing.assert_close(value, torch.zeros_like(value))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@given(student=LOGITS, target=LOGITS, shift=st.floats(-50.0, 50.0))
def test_kl_is_never_negative_and_blind_to_a_constant(
    student: list[float], target: list[float], shift: float
) -> None:
    value = kl(rows(student), rows(target))
    assert value.item() >= -1e-9
    torch.testing.assert_close(kl(rows(student) + shift, rows(target)), value, atol=1e-9, rtol=1e-9)


def test_a_weighted_sum_is_the_sum_by_hand() -> None:
    student, target = rows((0.0, LN3)), rows((5.0, 1.0))
    # 0.5 ((-5)^2 + (ln 3 - 1)^2) + 0.25 ln 4
    expected = 0.5 * (25.0 + (LN3 - 1.0) ** 2) + 0.25 * math.log(4.0)
    assert parse_loss("mse:0.5+nll:0.25")(student, target).tolist() == pytest.approx([expected])


def test_a_name_alone_has_weight_one_and_spaces_do_not_matter() -> None:
    student, target = random_q(3), random_q(3, seed=1)
    expected = mse(student, target) + 2.0 * nll(student, target)
    torch.testing.assert_close(parse_loss("mse + nll:2")(student, target), expected)


@pytest.mark.parametrize("text", ["kll", "", "mse+", "mse:0.5+other"])
def test_an_unknown_loss_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(UserError, match=r"unknown loss '.*': choose from kl, mse, mse-prob, nll"):
        parse_loss(text)


@pytest.mark.parametrize("text", ["kl:0", "mse:0+kl:0.0"])
def test_weights_that_are_all_0_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=rf"weight in loss '{re.escape(text)}' is 0"):
        parse_loss(text)


@pytest.mark.parametrize("weight", ["half", "1:2", "nan", "inf", "-1", "-inf"])
def test_a_weight_that_is_no_finite_number_from_0_up_is_refused(weight: str) -> None:
    with pytest.raises(UserError, match=rf"unknown weight '{weight}'.*as in mse:0\.5"):
        parse_loss(f"kl+mse:{weight}")
