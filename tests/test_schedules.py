import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import UserError
from tutelage.schedules import is_zero, linear, parse_schedule

NUMBERS = st.floats(-1e6, 1e6)


def test_linear_goes_straight_and_then_stays() -> None:
    schedule = linear(1.0, 0.2, 80)
    assert [schedule(step) for step in (-5, 0, 20, 40, 80, 1000)] == pytest.approx(
        [1.0, 1.0, 0.8, 0.6, 0.2, 0.2]
    )


@given(start=NUMBERS, end=NUMBERS, over=st.integers(1, 10**6), step=st.integers(0, 10**7))
def test_linear_stays_between_its_ends(start: float, end: float, over: int, step: int) -> None:
    slack = 1e-9 * max(abs(start), abs(end))
    assert min(start, end) - slack <= linear(start, end, over)(step) <= max(start, end) + slack


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.05", [0.05, 0.05, 0.05]),
        ("1e-3", [0.001, 0.001, 0.001]),
        ("1:0:4", [1.0, 0.5, 0.0]),
        ("0:1:1e1", [0.0, 0.2, 0.4]),
    ],
)
def test_a_schedule_is_spelled_as_a_number_or_start_end_steps(
    text: str, expected: list[float]
) -> None:
    assert [parse_schedule(text)(step) for step in (0, 2, 4)] == pytest.approx(expected)


def test_start_end_alone_goes_over_the_steps_that_are_given() -> None:
    schedule = parse_schedule("1:0", over=4)
    assert [schedule(step) for step in (0, 2, 4)] == [1.0, 0.5, 0.0]
    assert parse_schedule("1:0:2", over=4)(2) == 0.0
    with pytest.raises(UserError, match="1:0:"):
        parse_schedule("1:0:", over=4)


@pytest.mark.parametrize("text", ["-0.1", "1.1", "0:1.5:10", "-1:1:10", "1:-1"])
def test_a_schedule_beyond_its_bounds_is_refused_at_either_end(text: str) -> None:
    with pytest.raises(UserError, match=r"from 0 to 1$"):
        parse_schedule(text, over=10, low=0.0, high=1.0)
    if "-" in text:
        with pytest.raises(UserError, match=r"from 0 up$"):
            parse_schedule(text, over=10, low=0.0)


@pytest.mark.parametrize("text", ["0", "1", "0:1:10", "1:0"])
def test_bounds_are_within_themselves(text: str) -> None:
    assert {parse_schedule(text, over=10, low=0.0, high=1.0)(t) for t in (0, 10)} <= {0.0, 1.0}


@pytest.mark.parametrize(
    "text",
    ["", "x", "1:0", "1:0:0", "1:0:-5", "1:2:3:4", "nan", "inf", "0:nan:10", "0:1:inf", "1e999"],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match=r"1:0\.02:80000"):
        parse_schedule(text)


def test_a_schedule_is_zero_only_if_it_is_from_its_start_to_its_end() -> None:
    zeros = {text: is_zero(text) for text in ("0", "0:0:9", "0:1:9", "1:0:9", "0:0", "1e-9")}
    assert [text for text, zero in zeros.items() if zero] == ["0", "0:0:9", "0:0"]
