"""The strips of methods: their medians by hand, and the figure opened again."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.test_report import inked
from tutelage.errors import UserError
from tutelage.report import style
from tutelage.report.comparison import env_steps_plot, median


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([3.0, 1.0, 2.0, 5.0], 2.5),
        ([3.0, None, 1.0], 3.0),
        ([3.0, None], None),
        ([None, None, 1.0, 2.0], None),
        ([None], None),
    ],
)
def test_who_never_arrives_took_longest(
    steps: Sequence[float | None], expected: float | None
) -> None:
    assert median(steps) == expected


@pytest.mark.parametrize(
    ("rows", "reached", "missed"),
    [
        ({"KL": [10_240, 16_384, 10_240], "a method of a name that is long": [None] * 3}, 1, 1),
        ({"KL": [10_240], "MSE": [20_480]}, 1, 0),
        ({"$1 and $2": [None, None]}, 0, 1),
    ],
)
def test_figure_shows_what_was_reached(
    tmp_path: Path, rows: dict[str, list[float | None]], reached: bool, missed: bool
) -> None:
    path = tmp_path / "steps.png"
    env_steps_plot(rows, path, title="Env steps", budget=30_720)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == 1024
        # Each kind stands in the legend, above all strips.
        image.crop((0, image.height // 3, *image.size)).save(tmp_path / "strips.png")
    assert inked(tmp_path / "strips.png", style.BLUE) == reached
    assert inked(tmp_path / "strips.png", style.VERMILION) == missed


def test_methods_stand_in_the_order_given(tmp_path: Path) -> None:
    rows: dict[str, list[float | None]] = {"never": [None], "soon": [1.0]}
    for order, name in ((rows, "given"), (dict(reversed(rows.items())), "reversed")):
        path = tmp_path / f"{name}.png"
        env_steps_plot(order, path, title="A", budget=4)
        with Image.open(path) as image:
            # The lower strip alone: half of what is below the legend, and above the axis.
            low, high = int(0.6 * image.height), int(0.75 * image.height)
            image.crop((0, low, image.width, high)).save(path)
    assert inked(tmp_path / "given.png", style.BLUE)
    assert inked(tmp_path / "reversed.png", style.VERMILION)
    assert not inked(tmp_path / "reversed.png", style.BLUE)


def test_nothing_to_draw_and_nowhere_to_write(tmp_path: Path) -> None:
    nothing: list[dict[str, list[float | None]]] = [{}, {"KL": []}]
    for rows in nothing:
        with pytest.raises(ValueError, match="at least one method, and a seed for each"):
            env_steps_plot(rows, tmp_path / "steps.png", title="A", budget=4)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        env_steps_plot({"KL": [1]}, tmp_path / "file" / "steps.png", title="A", budget=4)
