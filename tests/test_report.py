"""The curve and the page that the report package writes are opened again and looked into."""

import base64
import io
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from tutelage.domains.atari import EnvironmentConfig
from tutelage.errors import UserError
from tutelage.report import style
from tutelage.report.blocks import Block, Details, Figure, Film, Link, Strong, Table
from tutelage.report.curves import learning_curve
from tutelage.report.page import Section, write_page
from tutelage.report.summary import write_report
from tutelage.report.video import side_by_side

ROWS: list[dict[str, float]] = [
    {
        "env_steps": 1024 * i,
        "updates": 64 * i,
        "rollout/ep_rew_mean": -21.0 + i,
        "eval/mean_reward": -20.0 + i,
        "eval/ci_low": -20.5 + i,
        "eval/ci_high": -19.0 + i,
        "distill/agreement": 1.0 - 0.9**i,
        "train/loss": 0.8**i,
    }
    for i in range(1, 31)
]


def without(*prefixes: str) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if not k.startswith(prefixes)} for row in ROWS]


def inked(path: Path, colour: str) -> bool:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    near = np.abs(pixels - np.array(ImageColor.getrgb(colour))).max(axis=2) < 8
    return int(near.sum()) > 50


@pytest.mark.parametrize(
    ("rows", "training", "evaluation", "below"),
    [
        (ROWS, True, True, True),
        (without("eval"), True, False, True),
        (without("rollout", "distill"), False, True, True),
        (without("rollout", "eval", "distill"), False, False, True),
        (without("rollout", "eval", "distill", "train"), False, False, False),
        (without("env_steps"), True, True, True),
        (without("eval/ci"), True, True, True),
        (ROWS[:1], True, True, True),
        ([{"train/loss": 1.0}, {"env_steps": 5, "updates": 1, "train/loss": math.nan}],
         False, False, False),
        ([], False, False, False),
    ],
)  # fmt: skip
def test_curve_shows_what_the_rows_hold(
    tmp_path: Path, rows: list[dict[str, float]], training: bool, evaluation: bool, below: bool
) -> None:
    path = tmp_path / "new" / "curve.png"
    learning_curve(rows, path, title="A run at $5 and $6")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (1024, 1152)
    assert inked(path, style.SKY) == training
    assert inked(path, style.VERMILION) == evaluation
    assert inked(path, style.BLUE) == below
    assert list(path.parent.iterdir()) == [path]


def test_curve_draws_teacher_and_target(tmp_path: Path) -> None:
    images = []
    for lines in ({}, {"teacher_return": 20.0}, {"teacher_return": 20.0, "target": 18.0}):
        learning_curve(ROWS, tmp_path / "curve.png", title="A run", **lines)
        images.append((tmp_path / "curve.png").read_bytes())
    assert len(set(images)) == 3


def test_curve_refuses_a_path_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        learning_curve(ROWS, tmp_path / "file" / "curve.png", title="A run")


class Page(HTMLParser):
    """Collects tags and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


SUMMARY = [
    {"player": "teacher", "mean return": 20.71, "parameters": 3_300_000, "95 % interval": None},
    {
        "player": "<b>student",
        "mean return": -3.0,
        "parameters": 213_000,
        "95 % interval": "18 to 19",
    },
]


def written(tmp_path: Path) -> str:
    curve = tmp_path / "curve.png"
    learning_curve(ROWS, curve, title="A run")
    policies = {"sum": lambda obs: obs.float().sum((2, 3))}
    side_by_side(policies, EnvironmentConfig(), tmp_path / "film.mp4", max_steps=3)
    write_page(
        tmp_path / "report.html",
        title='<script>alert("1")</script>',
        sections=[
            Section("Curve", [Figure(curve, 'Up, then "down".', "Shown <small>.")]),
            Section("Comparison", [Table("Comparison", SUMMARY)]),
            Section(
                "Both", [Figure(curve), Table("Both", [{"n": i, "i²": i * i} for i in range(3)])]
            ),
            Section("Play", [Film(tmp_path / "film.mp4", '"Quoted"')]),
        ],
        settings={"env": "pong", "learner": {"tau": 0.01, "note": "<i>&"}, "clip": False},
        text=["First.", "Second & last."],
    )
    return (tmp_path / "report.html").read_text()


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    html = written(tmp_path)
    page = Page(html)
    sources = [
        value
        for _, attrs in page.tags
        for key, value in attrs.items()
        if key in ("src", "href", "poster", "srcset", "data")
    ]
    assert len(sources) == 4
    assert all(str(source).startswith("data:") for source in sources)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert not page.all("script")
    assert not page.all("link")
    assert [image["alt"] for image in page.all("img")] == ['Up, then "down".', ""]
    for image in page.all("img"):
        assert (image["width"], image["height"]) == ("1024", "1152")
    [film] = page.all("video")
    assert film["width"] == "320"
    assert film["aria-label"] == '"Quoted"'


def test_page_shows_and_escapes_what_it_was_given(tmp_path: Path) -> None:
    page = Page(written(tmp_path))
    assert page.text.count('<script>alert("1")</script>') == 2  # title and heading
    assert not page.all("b")
    assert not page.all("i")
    expected = ["<b>student", "20.7", "\N{MINUS SIGN}3.00", "3,300,000", "\N{EN DASH}", "18 to 19",
                "Second & last.", "learner.tau", "0.01", "<i>&", "false", "Settings"]  # fmt: skip
    assert set(expected) <= set(page.text)
    assert [meta["name"] for meta in page.all("meta") if "name" in meta] == ["viewport"]
    assert len(page.all("details")) == 1


def test_page_keeps_the_order_of_its_sections(tmp_path: Path) -> None:
    page = Page(written(tmp_path))
    headings = [page.text.index(name) for name in ("Curve", "Comparison", "Both", "Play")]
    assert headings == sorted(headings)
    assert headings[0] < page.text.index("Shown <small>.") < headings[1]
    assert headings[2] < page.text.index("i²") < headings[3]
    # Few rows of many figures are turned on a narrow screen; many rows are not.
    assert [table.get("class") for table in page.all("table")] == ["few", "many", "settings"]


def test_page_does_without_film_table_and_settings(tmp_path: Path) -> None:
    learning_curve([], tmp_path / "curve.png", title="A run")
    path = tmp_path / "report.html"
    curve = Section("Curve", [Figure(tmp_path / "curve.png")])
    write_page(path, title="A", sections=[curve], settings={})
    page = Page(path.read_text())
    assert not page.all("video")
    assert not page.all("table")
    assert not page.all("details")
    assert not page.all("figcaption")
    assert len(page.all("img")) == 1


def test_page_refuses_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("neither image nor film")
    learning_curve([], tmp_path / "curve.png", title="A run")

    def write(block: Figure | Film) -> None:
        write_page(tmp_path / "report.html", title="A", sections=[Section("B", [block])])

    with pytest.raises(UserError, match=r"cannot read .*nowhere\.png"):
        write(Figure(tmp_path / "nowhere.png"))
    for small in (False, True):
        with pytest.raises(UserError, match="text is no PNG image"):
            write(Figure(tmp_path / "text", small=small))
    with pytest.raises(UserError, match="text is no mp4 video"):
        write(Film(tmp_path / "text"))
    assert not (tmp_path / "report.html").exists()


def test_page_of_many_things_folds_links_and_shrinks(tmp_path: Path) -> None:
    curve = tmp_path / "curve.png"
    learning_curve(ROWS, curve, title="A run")
    rows = [{"claim": Link("1 <Same>", "same"), "verdict": Strong("holds"), "left": ""}]
    inside: list[Block] = [
        Figure(curve, small=True, name="run-1"),
        Table("Runs", [{"run": "KL & NLL"}]),
    ]
    sections = [
        Section("Verdicts", [Table("Verdicts", rows, prose=True)]),
        Section("Same", ["A paragraph <b>.", Details("Every <run>", inside)], name="same"),
    ]
    write_page(tmp_path / "report.html", title="A", sections=sections, wide=True)
    page = Page((tmp_path / "report.html").read_text())
    names = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert [link["href"] for link in page.all("a")] == ["#same"]
    assert names == {"same", "run-1"}
    assert {"1 <Same>", "holds", "A paragraph <b>.", "Every <run>", "KL & NLL"} <= set(page.text)
    # Where the heads of columns are out of sight, each cell says its own.
    assert [cell.get("data-head") for cell in page.all("td")] == ["verdict", "left"]
    data = base64.b64decode(str(page.all("img")[0]["src"]).partition(",")[2])
    assert len(data) < curve.stat().st_size / 3
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (512, 576)
        image.convert("RGB").save(tmp_path / "small.png")
    assert inked(tmp_path / "small.png", style.VERMILION)


@pytest.mark.parametrize("text", ["x", "{}", "[1]", '"mean_return"'])
def test_a_damaged_result_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('command = "distill"\n')
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(
        UserError, match=rf"result\.json is damaged .* 'tutelage resume {tmp_path}'"
    ):
        write_report(tmp_path, video=False)
