import math
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutelage.errors import UserError
from tutelage.heads import Categorical, Gaussian, Head, QValues
from tutelage.losses import LOSSES, LossEntry, kl, mse, nll, parse_loss
from tutelage.targets import TARGETS, parse_target

LN3 = math.log(3.0)
LOGITS = st.lists(st.floats(-50.0, 50.0), min_size=3, max_size=3)
Q2, Q3 = QValues(2), QValues(3)


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


OF_VALUES = [name for name, entry in LOSSES.items() if QValues in entry.heads]


def rows(*values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_q(batch: int, *, actions: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, actions, generator=generator, dtype=torch.float64)


def of(name: str, student: Tensor, target: Tensor) -> Tensor:
    return LOSSES[name].loss(student, target, QValues(student.shape[1]))


def with_gradient(name: str, student: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    value = of(name, student, target)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    return value.detach(), gradient


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: case.loss)
def test_value_and_gradient_are_those_worked_out_by_hand(case: Case) -> None:
    value, gradient = with_gradient(case.loss, rows(case.student), rows(case.target))
    torch.testing.assert_close(value, torch.tensor([case.value], dtype=torch.float64))
    torch.testing.assert_close(gradient, rows(case.gradient))


@pytest.mark.parametrize("name", OF_VALUES)
def test_contract_one_loss_per_sample_with_the_gradient_of_finite_differences(name: str) -> None:
    student, target = random_q(2), random_q(2, seed=1)
    alone = [of(name, student[i : i + 1], target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(of(name, student, target), torch.cat(alone))
    assert torch.autograd.gradcheck(lambda out: of(name, out, target), student.requires_grad_())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", OF_VALUES)
def test_contract_finite_at_a_cold_temperature_and_huge_q(name: str, target: str) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [-1e4, 1e4, 1e4]])
    value, gradient = with_gradient(name, student, parse_target(target, 0.001)(teacher))
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("target", "tau"), [("raw", 1.0), ("divide", 0.5), ("softmax", 0.5)], ids=lambda x: str(x)
)
@pytest.mark.parametrize("name", OF_VALUES)
def test_contract_an_action_that_the_teacher_rules_out_is_one_of_no_probability(
    name: str, target: str, tau: float
) -> None:
    """-inf counts as the limit: as a value far below the others' does."""
    student, label = random_q(4), random_q(4, seed=1)
    ruled_out = torch.tensor(
        [[False, True, False], [True, True, False], [False] * 3, [True] + [False] * 2]
    )
    far = parse_target(target, tau)(label.masked_fill(ruled_out, -1e5))
    limit = parse_target(target, tau)(label.masked_fill(ruled_out, -math.inf))
    value, gradient = with_gradient(name, student, limit)
    if name == "mse" and target != "softmax":  # of its value there is nothing to learn
        far = torch.where(ruled_out, student, far)
    expected, expected_gradient = with_gradient(name, student, far)
    if name == "mse":
        expected_gradient = expected_gradient.masked_fill(limit.isinf(), 0.0)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_ruled_out_actions_by_hand() -> None:
    # p = [1/4, 0, 3/4] against 1/3 each: 1/4 ln 3/4 + 3/4 ln 9/4; gradient softmax - p.
    out, label = rows((0.0, 0.0, 0.0)), rows((0.0, -math.inf, LN3))
    value, gradient = with_gradient("kl", out, label)
    expected = 0.25 * math.log(0.75) + 0.75 * math.log(2.25)
    assert value.tolist() == pytest.approx([expected])
    torch.testing.assert_close(gradient, rows((1 / 3 - 1 / 4, 1 / 3, 1 / 3 - 3 / 4)))
    value, gradient = with_gradient("mse", rows((1.0, 9.0, 0.0)), label)
    assert value.tolist() == pytest.approx([1.0 + LN3**2])
    torch.testing.assert_close(gradient, rows((2.0, 0.0, -2.0 * LN3)))


@pytest.mark.parametrize("name", OF_VALUES)
@pytest.mark.parametrize(
    ("student", "target"), [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((2, 3), (3,)), ((3,), (3,))]
)
def test_contract_wrong_shapes_are_refused_showing_both(
    name: str, student: tuple[int, ...], target: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"\(.*\), expected \(.*\)"):
        LOSSES[name].loss(torch.zeros(student), torch.zeros(target), Q3)


@pytest.mark.parametrize("name", ["kl", "mse", "mse-prob"])
def test_nothing_is_paid_by_a_student_equal_to_its_target(name: str) -> None:
    value, gradient = with_gradient(name, random_q(4), random_q(4))
    torch.testing.assert_close(value, torch.zeros_like(value))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@given(student=LOGITS, target=LOGITS, shift=st.floats(-50.0, 50.0))
def test_kl_is_never_negative_and_blind_to_a_constant(
    student: list[float], target: list[float], shift: float
) -> None:
    value = kl(rows(student), rows(target), Q3)
    assert value.item() >= -1e-9
    torch.testing.assert_close(
        kl(rows(student) + shift, rows(target), Q3), value, atol=1e-9, rtol=1e-9
    )


def test_a_weighted_sum_is_the_sum_by_hand() -> None:
    student, target = rows((0.0, LN3)), rows((5.0, 1.0))
    # 0.5 ((-5)^2 + (ln 3 - 1)^2) + 0.25 ln 4
    expected = 0.5 * (25.0 + (LN3 - 1.0) ** 2) + 0.25 * math.log(4.0)
    loss = parse_loss("mse:0.5+nll:0.25", Q2)
    assert loss(student, target, Q2).tolist() == pytest.approx([expected])
    alone = mse(student, target, Q2) + 2.0 * nll(student, target, Q2)
    torch.testing.assert_close(parse_loss("mse + nll:2", Q2)(student, target, Q2), alone)


def of_my_own(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """A loss from outside: what a user writes in a module of theirs."""
    return (out - target).abs().sum(dim=1)


CONTINUOUS_ONLY = LossEntry(of_my_own, (Gaussian,))
NO_LOSS = 3


def test_a_loss_of_ones_own_is_named_by_its_module_and_weighted_like_any() -> None:
    student, target = rows((0.0, 1.0)), rows((5.0, 1.5))
    loss = parse_loss(f"{__name__}:of_my_own:2+mse", Q2)
    assert loss(student, target, Q2).tolist() == pytest.approx([2.0 * 5.5 + 25.25])


@pytest.mark.parametrize(
    ("text", "head", "says"),
    [
        ("kll", Q2, "choose from gaussian-kl, .*mse-prob, nll"),
        ("", Q2, "choose from gaussian-kl, .*mse-prob, nll"),
        ("mse:0.5+other", Q2, "choose from gaussian-kl, .*mse-prob, nll"),
        ("kl", Gaussian(2), "'kl'.*Gaussian"),
        (
            f"{__name__}:CONTINUOUS_ONLY",
            Categorical(2),
            "choose from js, kl, mse, mse-prob, nll, reverse-kl",
        ),
        (f"{__name__}:NO_LOSS", Q2, "NO_LOSS"),
        (f"{__name__}:missing", Q2, "missing"),
        ("kl:0", Q2, "kl:0"),
        ("mse:0+kl:0.0", Q2, "kl:0.0"),
        *((f"kl+mse:{w}", Q2, f"'{w}'.*mse:0.5") for w in ("half", "1:2", "nan", "inf", "-1")),
    ],
)
def test_what_makes_no_loss_is_refused(text: str, head: Head, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse_loss(text, head)


def test_losses_that_fit_a_head_are_named() -> None:
    losses = {"kl": LOSSES["kl"], "mine": CONTINUOUS_ONLY}
    with pytest.raises(UserError, match=r"choose from mine$"):
        parse_loss("kl", Gaussian(2), losses)
    assert parse_loss("mine", Gaussian(2), losses)(rows((1.0, 2.0)), rows((0.0, 0.0)), Q2) == 3.0
