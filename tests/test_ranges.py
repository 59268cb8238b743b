from dataclasses import fields

import pytest

from tutelage.commands.playing import EvaluateCommand
from tutelage.configs import Distill, Record, Teach
from tutelage.ranges import RANGES, Range


def test_every_range_is_that_of_a_setting() -> None:
    asked = (Teach, Distill, Record, EvaluateCommand)
    assert set(RANGES) <= {field.name for of in asked for field in fields(of)}


@pytest.mark.parametrize(
    ("range_", "inside", "outside", "words"),
    [
        (Range(1), [1, 2, 1e9], [0, -1], "at least 1"),
        (Range(0.0, open_low=True), [1e-9, 5.0], [0.0, -1.0], "above 0"),
        (Range(0.0, 1.0), [0.0, 0.5, 1.0], [-0.1, 1.1], "in [0, 1]"),
        (Range(0.0, 1.0, open_high=True), [0.0, 0.9], [1.0, -0.1], "in [0, 1)"),
        (Range(0.0, 1.0, open_low=True), [0.1, 1.0], [0.0, 1.1], "in (0, 1]"),
    ],
)
def test_a_range_holds_what_it_says(
    range_: Range, inside: list[float], outside: list[float], words: str
) -> None:
    assert all(value in range_ for value in inside)
    assert not any(value in range_ for value in [*outside, float("nan")])
    assert str(range_) == words
