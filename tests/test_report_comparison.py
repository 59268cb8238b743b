"""Methods side by side: medians and curves by hand, and the figures opened again."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.pages import inked
from tutelage.errors import UserError
from tutelage.report import style
from tutelage.report.comparison import Spent, env_steps_plot, median, returns_plot, sizes_plot
from tutelage.report.courses import Curve, course, curves_plot, smooth
from tutelage.report.profiles import Band, profiles_plot
from tutelage.report.style import STYLES

MISSED: list[Spent] = [(30_720.0, False)]


def passed(*steps: float) -> list[Spent]:
    return [(x, True) for x in steps]


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
        ({"KL": passed(10_240, 16_384), "a method of a name that is long": MISSED * 3}, 1, 1),
        ({"KL": passed(10_240), "MSE": passed(20_480)}, 1, 0),
        ({"$1 and $2": MISSED * 2}, 0, 1),
    ],
)
def test_figure_shows_what_was_reached(
    tmp_path: Path, rows: dict[str, list[Spent]], reached: bool, missed: bool
) -> None:
    path = tmp_path / "steps.png"
    env_steps_plot(rows, path, title="Env steps")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == 1024
        # Each kind stands in the legend, above all strips.
        image.crop((0, image.height // 3, *image.size)).save(tmp_path / "strips.png")
    assert inked(tmp_path / "strips.png", style.BLUE) == reached
    assert inked(tmp_path / "strips.png", style.VERMILION) == missed


def test_methods_stand_in_the_order_given(tmp_path: Path) -> None:
    rows = {"never": MISSED, "soon": passed(1_024)}
    for order, name in ((rows, "given"), (dict(reversed(rows.items())), "reversed")):
        path = tmp_path / f"{name}.png"
        env_steps_plot(order, path, title="A")
        with Image.open(path) as image:
            # The lower strip alone: half of what is below the legend, and above the axis.
            low, high = int(0.6 * image.height), int(0.75 * image.height)
            image.crop((0, low, image.width, high)).save(path)
    assert inked(tmp_path / "given.png", style.BLUE)
    assert inked(tmp_path / "reversed.png", style.VERMILION)
    assert not inked(tmp_path / "reversed.png", style.BLUE)


def test_nothing_to_draw_and_nowhere_to_write(tmp_path: Path) -> None:
    nothing: list[dict[str, list[Spent]]] = [{}, {"KL": []}]
    for rows in nothing:
        with pytest.raises(ValueError, match="at least one method, and a seed for each"):
            env_steps_plot(rows, tmp_path / "steps.png", title="A")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        env_steps_plot({"KL": passed(1_024)}, tmp_path / "file" / "steps.png", title="A")


def test_a_run_that_missed_stands_at_the_env_steps_that_it_spent(tmp_path: Path) -> None:
    path = tmp_path / "steps.png"
    rows = {"passed": passed(61_440), "short": MISSED, "long": [(61_440.0, False)], "late": MISSED}
    env_steps_plot(rows, path, title="A")
    (short, *_, long) = columns(path, style.VERMILION)
    assert short < long - 0.2


@pytest.mark.parametrize(("longest", "logarithmic"), [(204_800.0, False), (205_824.0, True)])
def test_env_steps_that_differ_very_much_have_a_logarithmic_axis(
    longest: float, logarithmic: bool
) -> None:
    axes = Figure().subplots()
    style.scale(axes, [10_240.0, longest])
    assert (axes.get_xscale() == "log") == logarithmic
    assert (axes.get_xlim()[0] == 0.0) != logarithmic


def columns(path: Path, colour: str) -> list[float]:
    """Return the middles of the vertical lines and marks of a colour, as shares of the width."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    body = pixels[pixels.shape[0] // 4 : -pixels.shape[0] // 4]  # without legend and labels
    there = (np.abs(body - (red, green, blue)).max(axis=2) < 8).any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], there.astype(int), [0]])))
    return [float(middle) for middle in (edges[::2] + edges[1::2]) / 2 / pixels.shape[1]]


def test_returns_reach_as_far_as_their_intervals(tmp_path: Path) -> None:
    path = tmp_path / "returns.png"
    wide = {"a": [(0.0, -10.0, 10.0)], "b": [(5.0, 4.0, 6.0)]}
    returns_plot(wide, path, title="Returns of $1")
    assert inked(path, style.BLUE)
    (middle,) = columns(path, style.BLUE)  # one bar from -10 to 10, the other within it
    returns_plot({"a": [(0.0, -10.0, -9.0)], "b": [(5.0, 4.0, 6.0)]}, path, title="A")
    assert columns(path, style.BLUE) != [middle]


def test_sizes_stand_where_their_logarithm_is(tmp_path: Path) -> None:
    path = tmp_path / "sizes.png"
    rows = {10**k: [(20.0, 19.5, 20.5)] for k in (6, 3, 4)}  # in no order
    sizes_plot(rows, path, title="Sizes", whole=4 * 10**6, target=19.0)
    small, middle, large = columns(path, style.BLUE)
    assert (large - middle) / (middle - small) == pytest.approx(2.0, abs=0.05)
    rows[10**4] = [(20.0, 19.5, 20.5)] * 3
    sizes_plot(rows, path, title="Sizes", whole=4 * 10**6, target=19.0)
    assert len(columns(path, style.BLUE)) == 5  # seeds stand beside each other
    with warnings.catch_warnings(action="error"):
        sizes_plot({10**4: rows[10**4]}, path, title="Sizes", whole=4 * 10**6, target=19.0)
    assert len(columns(path, style.BLUE)) == 3


def test_a_point_is_the_mean_of_those_around_it() -> None:
    assert smooth([0.0, 5.0, 10.0, 0.0, 0.0, 20.0]).tolist() == pytest.approx(
        [5.0, 3.75, 3.0, 7.0, 7.5, 20.0 / 3]
    )
    assert smooth([4.0]).tolist() == [4.0]


def test_a_run_that_is_over_counts_on_with_its_last_value() -> None:
    x, y = course([([10, 20], [1.0, 3.0]), ([10, 20, 25, 30], [4.0, 4.0, 4.0, 4.0])])
    assert x.tolist() == [10, 20, 25, 30]
    assert y.tolist() == [[2.0] * 4, [4.0] * 4]


LEARNS = ([1024, 2048, 3072], [-0.01, 0.0, 0.01])


@pytest.mark.parametrize("count", [1, len(STYLES), len(STYLES) + 1, len(STYLES) + 2])
def test_every_method_has_a_line_of_its_own(tmp_path: Path, count: int) -> None:
    path = tmp_path / "curves.png"
    rows = {f"method {i} of $1": [LEARNS, ([1024], [0.01])] for i in range(count)}
    # A line for each, one above the other.
    apart = {
        m: [(x, [v + i / 50 for v in y]) for x, y in of] for i, (m, of) in enumerate(rows.items())
    }
    curves_plot(apart, path, title="Curves")
    with Image.open(path) as image:
        assert image.width == 1024
    shown = [s["color"] for s in STYLES] if count <= len(STYLES) else [style.BLUE]
    assert all(inked(path, colour) for colour in shown[:count])
    assert not any(inked(path, colour) for colour in shown[count:])


@pytest.mark.parametrize("count", [1, len(STYLES) + 1])
def test_a_teacher_is_a_line_to_measure_by(tmp_path: Path, count: int) -> None:
    figures = []
    for teacher in (None, ("pong", 0.0117), ("pong", 0.005)):
        rows = {str(i): [LEARNS] for i in range(count)}
        curves_plot(rows, tmp_path / "curves.png", title="Curves", teacher=teacher)
        figures.append((tmp_path / "curves.png").read_bytes())
    assert len(set(figures)) == 3


def test_nothing_to_draw_of_returns_sizes_and_curves(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="a seed for each"):
        returns_plot({"KL": []}, path, title="A")
    with pytest.raises(ValueError, match="a seed for each"):
        sizes_plot({}, path, title="A", whole=1, target=20.0)
    nothing: list[dict[str, list[Curve]]] = [{}, {"KL": []}, {"KL": [([], [])]}]
    for rows in nothing:
        with pytest.raises(ValueError, match="a seed with a point for each"):
            curves_plot(rows, path, title="A")
    assert not path.exists()


TITLE = "Returns by episode"


def band(*share: float) -> Band:
    middle = np.array(share)
    return middle, np.maximum(middle - 0.1, 0.0), np.minimum(middle + 0.1, 1.0)


def test_profiles_have_a_line_for_each_method(tmp_path: Path) -> None:
    path, returns = tmp_path / "profiles.png", np.array([-21.0, 0.0, 20.0])
    colours = [style["color"] for style in STYLES[:2]]
    for methods, shown in (({"a": band(1.0, 0.5, 0.0)}, 1), ({m: band(1, 1, 0) for m in "ab"}, 2)):
        profiles_plot(returns, methods, path, title=TITLE)
        assert [inked(path, colour) for colour in colours] == [True, shown == 2]
    before = path.read_bytes()
    profiles_plot(returns, {"a": band(1.0, 1.0, 0.0), "b": band(1, 0, 0)}, path, title=TITLE)
    assert path.read_bytes() != before  # not the legend alone


def test_more_profiles_than_can_be_told_apart_fill_a_second_panel(tmp_path: Path) -> None:
    path, returns = tmp_path / "profiles.png", np.array([-21.0, 0.0, 20.0])
    heights = []
    for count in (len(STYLES), len(STYLES) + 1):
        profiles_plot(returns, {str(i): band(1, 1, 0) for i in range(count)}, path, title=TITLE)
        with Image.open(path) as image:
            heights.append(image.height)
    assert heights[1] == 2 * heights[0]


def test_profiles_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one method"):
        profiles_plot(np.array([0.0, 1.0]), {}, tmp_path / "p.png", title="A")
