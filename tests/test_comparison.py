"""Methods side by side: the figures looked into, and curves worked out by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tutelage.errors import UserError
from tutelage.report import style
from tutelage.report.style import STYLES
from tutelage.sweeps import comparison, courses, profiles
from tutelage.sweeps.comparison import env_steps_plot, returns_plot, sizes_plot
from tutelage.sweeps.courses import course, curves_plot, smooth
from tutelage.sweeps.profiles import profiles_plot

PNG = Path("figure.png")
LEARNS = ([1024, 2048, 3072], [-0.01, 0.0, 0.01])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What is drawn, instead of files."""
    figures: list[Figure] = []
    for module in (comparison, courses, profiles):
        monkeypatch.setattr(module, "write_png", lambda figure, path: figures.append(figure))
    return figures


def marks(figure: Figure, colour: str) -> list[tuple[float, float]]:
    """Return the points of a colour, from the top to the bottom."""
    lines = [line for axes in figure.axes for line in axes.lines if line.get_color() == colour]
    points = [point for line in lines for point in np.asarray(line.get_xydata()).tolist()]
    return sorted(map(tuple, points), key=lambda point: -point[1])


def words(figure: Figure) -> list[str]:
    """Return the legend and the names of rows."""
    legends = [text.get_text() for axes in figure.axes for text in _legend(axes)]
    sides = [side for axes in figure.axes for side in (axes, *axes.child_axes)]
    return legends + [text.get_text() for side in sides for text in side.get_yticklabels()]


def _legend(axes: Any) -> Sequence[Any]:
    legend = axes.get_legend()
    return legend.get_texts() if legend else ()


def test_each_method_has_a_strip_and_each_seed_its_place(drawn: list[Figure]) -> None:
    rows = {
        "soon, and $1": [(10_240.0, True), (12_288.0, True), (10_240.0, True)],
        "some": [(20_480.0, True), (30_720.0, False)],
    }
    env_steps_plot(rows, PNG, title="Env steps", target=18.0)
    reached, missed = marks(drawn[0], style.BLUE), marks(drawn[0], style.VERMILION)
    assert [x for x, _ in reached] == [10_240.0, 12_288.0, 10_240.0, 20_480.0]
    assert [x for x, _ in missed] == [30_720.0]  # at what it spent
    assert all(y > 0.5 for _, y in reached[:3])  # the first method is on top
    assert len({y for _, y in reached}) == 4
    texts = words(drawn[0])
    assert {"one seed", "not within 31 k", r"soon, and \$1", "10,240", "> 30,720"} <= set(texts)
    assert "18" in drawn[0].axes[0].get_xlabel()


@pytest.mark.parametrize(("longest", "logarithmic"), [(204_800.0, False), (205_824.0, True)])
def test_env_steps_that_differ_very_much_have_a_logarithmic_axis(
    longest: float, logarithmic: bool
) -> None:
    axes = Figure().subplots()
    style.scale(axes, [10_240.0, longest])
    assert (axes.get_xscale() == "log") == logarithmic
    assert (axes.get_xlim()[0] == 0.0) != logarithmic


def test_returns_reach_as_far_as_their_intervals(drawn: list[Figure]) -> None:
    returns_plot({"a": [(0.0, -10.0, 10.0)], "b": [(5.0, 4.0, 6.0)]}, PNG, title="A")
    (bars,) = [
        [segment for of in axes.collections for segment in of.get_segments()]  # type: ignore[attr-defined]
        for axes in drawn[0].axes[:1]
    ]
    assert [[x for x, _ in bar] for bar in bars] == [[-10.0, 10.0], [4.0, 6.0]]
    assert {"0.0", "5.0"} <= set(words(drawn[0]))


def test_sizes_stand_at_their_parameters_and_the_line_at_their_medians(
    drawn: list[Figure],
) -> None:
    rows = {10**k: [(19.0, 18.0, 20.0), (20.0, 19.0, 21.0), (20.5, 20.0, 21.0)] for k in (6, 3)}
    sizes_plot(rows, PNG, title="Sizes", whole=4 * 10**6, target=19.0)
    places = [x for x, _ in marks(drawn[0], style.BLUE)]
    assert sum(900 < x < 1_100 for x in places) >= 3
    line = [p for p in marks(drawn[0], style.BLACK) if p[1] == 20.0]
    assert line == [(1_000.0, 20.0), (1_000_000.0, 20.0)]
    labels = [text.get_text() for text in drawn[0].axes[0].get_xticklabels()]
    assert labels == ["1.0 k\n0.025 %", "1000 k\n25 %"]


def test_a_point_is_the_mean_of_those_around_it() -> None:
    assert smooth([0.0, 5.0, 10.0, 0.0, 0.0, 20.0]).tolist() == pytest.approx(
        [5.0, 3.75, 3.0, 7.0, 7.5, 20.0 / 3]
    )
    assert smooth([4.0]).tolist() == [4.0]


def test_a_run_that_is_over_counts_on_with_its_last_value() -> None:
    x, y = course([([10, 20], [1.0, 3.0]), ([10, 20, 25, 30], [4.0, 4.0, 4.0, 4.0])])
    assert x.tolist() == [10, 20, 25, 30]
    assert y.tolist() == [[2.0] * 4, [4.0] * 4]


@pytest.mark.parametrize("count", [1, len(STYLES), len(STYLES) + 1])
def test_every_method_has_a_curve_and_the_teacher_a_line(drawn: list[Figure], count: int) -> None:
    rows = {f"method {i}": [LEARNS, ([1024], [i / 100])] for i in range(count)}
    curves_plot(rows, PNG, title="Curves", teacher=("pong", 0.0117))
    (figure,) = drawn
    panels = [axes for axes in figure.axes if axes.get_visible() and axes.lines]
    assert len(panels) == (1 if count <= len(STYLES) else count)  # beyond, a panel each
    lines = [line for axes in panels for line in axes.lines]
    ends = {round(float(np.ravel(line.get_ydata())[-1]), 6) for line in lines}
    # Thousandfold: of the method i the mean of 0 (smoothed) and 10 i; and the teacher.
    assert {round(10.0 * i / 2, 6) for i in range(count)} | {11.7} <= ends
    assert any("pong" in text for text in words(figure)) or count > len(STYLES)


def test_profiles_fall_and_more_than_can_be_told_apart_fill_a_second_panel(
    drawn: list[Figure],
) -> None:
    returns = np.array([-21.0, 0.0, 20.0])
    share = np.array([1.0, 0.5, 0.0])
    band = share, np.maximum(share - 0.1, 0.0), np.minimum(share + 0.1, 1.0)
    for count in (2, len(STYLES) + 1):
        profiles_plot(returns, {f"m{i}": band for i in range(count)}, PNG, title="Profiles")
        lines = [line for axes in drawn[-1].axes for line in axes.lines]
        assert len(lines) == count
        assert all(np.ravel(line.get_ydata()).tolist() == share.tolist() for line in lines)
    assert [len(figure.axes) for figure in drawn] == [1, 2]


def test_nothing_to_draw_and_nowhere_to_write(tmp_path: Path) -> None:
    nothing: Any
    for nothing in ({}, {"KL": []}):
        for plot in (env_steps_plot, returns_plot, curves_plot):
            with pytest.raises(ValueError, match="a seed"):
                plot(nothing, PNG, title="A")
        with pytest.raises(ValueError, match="a seed"):
            sizes_plot(nothing, PNG, title="A", whole=1, target=20.0)
    with pytest.raises(ValueError, match="at least one method"):
        profiles_plot(np.array([0.0, 1.0]), {}, PNG, title="A")
    (tmp_path / "file").touch()
    rows = {"KL": [(1_024.0, True)]}
    with pytest.raises(UserError, match="cannot write"):
        env_steps_plot(rows, tmp_path / "file" / "steps.png", title="A")
    env_steps_plot(rows, tmp_path / "steps.png", title="A")
    with Image.open(tmp_path / "steps.png") as image:
        assert (image.format, image.width) == ("PNG", 1024)
