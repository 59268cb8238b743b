"""The page: what a reader finds on it. The learning curve: what it draws of a run's rows."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from PIL import Image

from tests.pages import Page
from tutelage.errors import UserError
from tutelage.report.blocks import Block, Details, Figure, Film, Link, Strong, Table
from tutelage.report.curves import curve_of, learning_curve
from tutelage.report.film import write_film
from tutelage.report.page import Section, write_page

ROWS: list[dict[str, float]] = [
    {
        "env_steps": 1024 * i,
        "updates": 64 * i,
        "rollout/ep_rew_mean": -21.0 + i,
        "eval/mean_reward": -20.0 + i,
        "eval/ci_low": -20.5 + i,
        "eval/ci_high": -19.0 + i,
        "distill/agreement": 1.0 - 0.5**i,
        "train/loss": 0.1**i,
    }
    for i in (1, 2, 3)
]


def without(*prefixes: str) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if not k.startswith(prefixes)} for row in ROWS]


def lines(axes: Axes) -> dict[str, list[list[float]]]:
    """Return the points of each line by its label."""
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axes.lines}


def legend_of(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_the_curve_shows_returns_with_intervals_and_agreement() -> None:
    upper, lower = curve_of(ROWS, title="A run", teacher_return=20.0, target=18.0).axes
    training, evaluated, teacher, target = legend_of(upper)
    assert lines(upper)[training] == [[1024.0, -20.0], [2048.0, -19.0], [3072.0, -18.0]]
    assert "held-out" in evaluated
    (bars,) = [drawn for drawn in upper.collections if isinstance(drawn, LineCollection)]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        [-19.5, -18.0],
        [-18.5, -17.0],
        [-17.5, -16.0],
    ]
    assert "20" in teacher
    assert "18" in target
    assert {y for _, y in lines(upper)[teacher]} == {20.0}
    assert {y for _, y in lines(upper)[target]} == {18.0}
    (agreement,) = lines(lower).values()
    assert [y for _, y in agreement] == [0.5, 0.75, 0.875]
    assert lower.get_xlabel() == "env steps"


@pytest.mark.parametrize(
    ("rows", "shown", "below", "along"),
    [
        (without("eval"), ["training"], "agreement", "env steps"),
        (without("rollout", "distill"), ["held-out"], "loss", "env steps"),
        (without("eval/ci", "env_steps"), ["training", "held-out"], "agreement", "optimiser steps"),
        (without("rollout", "eval", "distill", "train"), [], "loss", "env steps"),
        ([], [], "loss", "optimiser steps"),
    ],
)  # fmt: skip
def test_the_curve_does_without_what_the_rows_lack(
    rows: list[dict[str, float]], shown: list[str], below: str, along: str
) -> None:
    upper, lower = curve_of(rows, title="A run").axes
    found = legend_of(upper)
    assert len(found) == len(shown)
    assert all(word in label for word, label in zip(shown, found, strict=True))
    assert bool(upper.texts) == (not shown)  # it says that there is nothing yet
    assert below in lower.get_ylabel()
    assert lower.get_xlabel() == along


def test_a_target_far_from_all_returns_does_not_flatten_them() -> None:
    upper, _ = curve_of(ROWS, title="A run", target=1e9).axes
    assert "off the scale" in legend_of(upper)[-1]
    assert upper.get_ylim()[1] < 0.0
    upper, _ = curve_of(ROWS, title="A run", target=21.0).axes
    assert upper.get_ylim()[1] > 21.0


def test_the_closing_evaluation_stands_at_the_end() -> None:
    closing = {"mean_return": -16.0, "ci95": [-17.0, -15.5]}
    upper, _ = curve_of(ROWS, title="A run", closing=closing).axes
    assert "closing evaluation (\N{MINUS SIGN}16)" in legend_of(upper)
    *_, bars = [drawn for drawn in upper.collections if isinstance(drawn, LineCollection)]
    assert bars.get_segments()[0].tolist() == [[3072.0, -17.0], [3072.0, -15.5]]


def test_while_the_teacher_acts_as_well_the_curve_says_so() -> None:
    rows = [{**row, "rollout/teacher_acts": 0.5} for row in ROWS]
    assert "teacher acting too" in legend_of(curve_of(rows, title="A run").axes[0])[0]


def test_an_abandoned_evaluation_is_shown_by_its_bound_with_the_reward_in_training() -> None:
    rows = [{**row, "eval/at_most": 3.0, "rollout/reward_per_step": 0.5} for row in without("eval")]
    upper, middle, _ = curve_of(rows, title="A run").axes
    bounds = lines(upper)[legend_of(upper)[-1]]
    assert [y for _, y in bounds] == [3.0] * 3
    (reward,) = lines(middle).values()
    assert [y for _, y in reward] == [500.0] * 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("regret", "regret"),
        ("relative_probability", "relative probability"),
        ("probability", "teacher's probability"),  # of older runs
    ],
)
def test_what_tells_more_than_agreement_is_drawn_instead(name: str, words: str) -> None:
    told = {f"distill/{name}": 0.5, f"heldout/{name}": 0.75}
    lower = curve_of([{**row, **told} for row in without("eval")], title="A run").axes[-1]
    _, unseen = legend_of(lower)
    assert words in lower.get_ylabel()
    assert {y for _, y in lines(lower)[unseen]} == {0.75}


def test_offline_the_agreement_on_what_was_held_out_stands_beside() -> None:
    rows = [{**row, "heldout/agreement": 0.25} for row in without("env_steps", "rollout", "eval")]
    lower = curve_of(rows, title="A run").axes[-1]
    seen, unseen = legend_of(lower)
    assert [y for _, y in lines(lower)[seen]] == [0.5, 0.75, 0.875]
    assert [y for _, y in lines(lower)[unseen]] == [0.25] * 3


def test_a_loss_that_falls_by_far_is_drawn_in_orders_of_magnitude() -> None:
    lower = curve_of(without("distill"), title="A run").axes[-1]
    assert lower.get_yscale() == "log"
    assert curve_of(without("distill")[:1], title="A").axes[-1].get_yscale() == "linear"


def test_the_curve_is_a_png_for_a_phone_and_shows_its_title_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "curve.png"
    learning_curve(ROWS, path, title="At $5 and $6: \x1b[31m\\frac")
    with Image.open(path) as image:
        assert (image.format, image.width) == ("PNG", 1024)
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(UserError):
        learning_curve(ROWS, path / "curve.png", title="A run")


SUMMARY = [
    {"player": "teacher", "return": 20.71, "parameters": 3_300_000, "interval": None, "n": 1},
    {"player": "<b>student", "return": -3.0, "parameters": 213_000, "interval": "18…19", "n": 2},
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    curve = folder / "curve.png"
    learning_curve(ROWS, curve, title="A run")
    write_film([np.zeros((48, 64, 3), np.uint8)] * 2, folder / "film.mp4")
    verdict = {"claim": Link("1 <Same>", "same"), "verdict": Strong("holds"), "left": ""}
    inside: list[Block] = [
        Figure(curve, small=True, name="run-1"),
        Table("Runs", [{"run": "KL & NLL"}]),
    ]
    write_page(
        folder / "report.html",
        title='<script>alert("1")</script>',
        sections=[
            Section("Curve", [Figure(curve, 'Up, then "down".', "Shown <small>.")]),
            Section("Comparison", [Table("Comparison", SUMMARY), Table("n", [{"n": 0}] * 3)]),
            Section("Play", [Film(folder / "film.mp4", '"Quoted"')]),
            Section("Verdicts", [Table("Verdicts", [verdict], prose=True)]),
            Section("Same", ["A paragraph <b>.", Details("Every <run>", inside)], name="same"),
        ],
        settings={"env": "pong", "learner": {"tau": 0.01, "note": "<i>&\udc80"}, "clip": False},
        text=["First.", "Second & last."],
    )
    return (folder / "report.html").read_text()


def test_the_page_needs_nothing_else(written: str) -> None:
    page = Page(written)
    kept = [
        str(value).partition(";")[0]
        for _, attrs in page.tags
        for key, value in attrs.items()
        if key in ("src", "href", "poster", "srcset", "data") and value != "#same"
    ]
    assert kept == ["data:image/png", "data:image/png", "data:video/mp4", "data:image/png"]
    assert not any(word in written for word in ("http:", "https:", "url(", "@import"))
    assert not page.all("script")
    assert not page.all("link")
    assert [meta["name"] for meta in page.all("meta") if "name" in meta] == ["viewport"]


def test_the_page_shows_what_it_was_given_in_order_and_as_it_is(written: str) -> None:
    page = Page(written)
    expected = [
        *('<script>alert("1")</script>', "First.", "Second & last.", "Curve", "Shown <small>."),
        *("Comparison", "teacher", "20.7", "3,300,000", "\N{EN DASH}", "<b>student"),
        *("\N{MINUS SIGN}3.00", "18…19", "Play", '"Quoted"', "1 <Same>", "holds", "Same"),
        *("A paragraph <b>.", "Every <run>", "KL & NLL", "Settings", "env", "pong", "learner.tau"),
        *("0.01", "learner.note", "<i>&\\udc80", "clip", "false"),
    ]
    shown = iter(page.text[page.text.index("First.") - 1 :])
    assert all(text in shown for text in expected)  # each after the one before
    assert not page.all("b")
    assert not page.all("i")
    # Few rows of many figures are turned on a narrow screen; words stand beside their heads.
    layouts = [table["class"] for table in page.all("table")]
    assert layouts == ["few", "many", "prose", "many"]
    heads = [cell["data-head"] for cell in page.all("td") if "data-head" in cell]
    assert heads == ["verdict", "left"]


def test_links_lead_somewhere_and_pictures_are_described(written: str) -> None:
    page = Page(written)
    names = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert names == {"same", "run-1"}
    assert [link["href"] for link in page.all("a")] == ["#same"]
    large, small = page.all("img")
    assert large["alt"] == 'Up, then "down".'
    sizes = []
    for image in (large, small):
        with Image.open(io.BytesIO(base64.b64decode(str(image["src"]).partition(",")[2]))) as held:
            sizes.append(held.size)
        assert (image["width"], image["height"]) == ("1024", "1152")
    assert sizes == [(1024, 1152), (512, 576)]
    (film,) = page.all("video")
    assert (film["width"], film["height"], film["aria-label"]) == ("64", "48", '"Quoted"')


def test_a_page_of_nothing_but_a_title(tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", title="A", sections=[], settings={})
    assert Page((tmp_path / "report.html").read_text()).text[-1] == "A"


@pytest.mark.parametrize("block", [Figure, Film, lambda path: Figure(path, small=True)])
@pytest.mark.parametrize("content", [None, b"neither", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x18ftypmp42"])
def test_files_that_are_not_what_they_should_be_are_named(
    tmp_path: Path, block: Any, content: bytes | None
) -> None:
    path = tmp_path / "given"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="given"):
        write_page(
            tmp_path / "report.html",
            title="A",
            sections=[Section("B", [Details("", [block(path)])])],
        )
    assert not (tmp_path / "report.html").exists()
