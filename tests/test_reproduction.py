"""The page and the manifest of the experiments are made from their rows, not typed."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.synthetic import row_of, rows_of
from tutelage.experiments import document, find_experiments, plots
from tutelage.experiments.grid import methods_of
from tutelage.experiments.manifest import manifest
from tutelage.experiments.rows import finished
from tutelage.experiments.tasks import is_play

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "reproduce"
PAGE = ROOT / "docs" / "reproduction.md"
TELLING = ("distillation", "exploration", "input-scaling", "kickstarting", "offline", "teachers")
"""Pages that tell what came of claims."""


def test_the_page_is_what_the_rows_in_the_repository_give() -> None:
    rows = finished(RESULTS)
    assert rows
    assert PAGE.read_text() == document.page(rows)


def test_the_readme_has_the_verdicts_that_the_rows_give() -> None:
    assert document.summary(finished(RESULTS)) in (ROOT / "README.md").read_text()


INTERVAL = re.compile(r"\(((?:\S+ )?…(?: [^\s;)]+)?)(?:; [^)]*)?\)")


def figures_told() -> list[str]:
    """Return "figure (low … high)" for every interval in README and docs that is of claims."""
    before, _, after = (ROOT / "README.md").read_text().partition("\n## Results")
    _, _, after = after.partition("\n## The paper")
    after, _, _ = after.partition("\n## Speed")
    pages = [before, after, *((PAGE.parent / f"{name}.md").read_text() for name in TELLING)]
    told = []
    for page in pages:
        text = " ".join(page.split())
        for found in INTERVAL.finditer(text):
            figure = re.findall(r"\d+\.\d\d", text[: found.start()])[-1]
            told.append(f"{figure} ({found.group(1)})")
    return told


def test_what_is_told_of_the_claims_is_what_the_page_has() -> None:
    told, page = figures_told(), PAGE.read_text()
    assert len(told) > 25
    assert [figure for figure in told if figure not in page] == []


def test_the_figures_of_the_page_are_there() -> None:
    figures = re.findall(r"!\[[^]]+\]\((images/.+\.png)\)", PAGE.read_text())
    assert figures
    for figure in figures:
        with Image.open(PAGE.parent / figure) as image:
            assert image.format == "PNG"


def test_the_manifest_is_what_the_rows_in_the_repository_give() -> None:
    written = json.loads((RESULTS / "manifest.json").read_text())
    expected = manifest(finished(RESULTS), {})
    assert {**written, "written_with": {}} == expected
    assert {"python", "torch", "numpy", "ale-py"} <= written["written_with"].keys()


def test_a_manifest_by_hand() -> None:
    rows = rows_of("sizes", seeds=2)
    elsewhere = row_of({"env_steps": 512}, 1, 0)  # a look: no claim's
    versions = {"torch": "2", "commit": "c" * 40, "machine": "Linux"}
    it = manifest([*rows, elsewhere], versions)
    assert (it["rows"], it["seeds"], it["seconds"]) == (13, [1, 2], 1300.0)
    assert it["env_steps"] == sum(row["env_steps"] for row in rows) + elsewhere["env_steps"]
    assert it["commits"] == {"0" * 40: 6, "1" * 40: 7}
    assert it["machines"] == {"Linux": 13}
    assert it["written_with"] == {"torch": "2"}
    claims = {claim["name"]: claim for claim in it["claims"]}
    assert list(claims) == list(find_experiments())
    assert claims["sizes"] == {
        "name": "sizes",
        "number": "7",
        "rows": 12,
        "env_steps": sum(row["env_steps"] for row in rows),
        "seconds": 1200.0,
        "verdict": "not settled",
    }
    # The usual student is one of the sizes, and a run is known by its settings alone.
    assert claims["losses"]["rows"] == 2
    assert claims["four-experts"]["rows"] == 0
    assert claims["four-experts"]["verdict"] == "not run"


def test_a_page_shows_learning_curves_where_there_are_any(tmp_path: Path) -> None:
    early = rows_of("losses", curves=False)
    assert "images/losses.png" in document.page(early)
    assert "-curves.png" not in document.page(early)
    rows = [*early[1:], *rows_of("losses", seeds=1)[:1]]
    document.write(rows, tmp_path / "docs", results=tmp_path, versions={"torch": "2"})
    assert (tmp_path / "docs" / "reproduction.md").read_text() == document.page(rows)
    shown = re.findall(r"images/(.+\.png)", document.page(rows))
    assert "losses-curves.png" in shown
    assert sorted(shown) == sorted(p.name for p in (tmp_path / "docs" / "images").iterdir())
    assert json.loads((tmp_path / "manifest.json").read_text())["rows"] == len(rows)


def test_episodes_are_compared_where_a_model_plays_beside(tmp_path: Path) -> None:
    rows = rows_of("beyond", "losses")
    methods = methods_of("beyond", find_experiments()["beyond"], rows)
    # Of a model one run, of a student three: two episodes each, returning a point less and more.
    shapes = {method: x.shape for method, x in plots.episodes(methods).items()}
    assert shapes == {m: (2, 1 if m == "teacher" else 3) for m in methods}
    assert plots.episodes(methods)["distilled"].tolist() == [[19.1, 19.2, 19.3], [21.1, 21.2, 21.3]]
    page = document.page(rows)
    assert page.count("interquartile mean |") == 1
    assert "images/beyond-profiles.png" in page
    assert "images/losses-profiles.png" not in page
    drawn = document.draw("beyond", find_experiments()["beyond"], rows, tmp_path)
    assert "Beyond the teacher: returns by episode" in drawn
    early = [
        {k: v for k, v in row.items() if k != "returns" or is_play(row["settings"])} for row in rows
    ]
    assert "-profiles.png" not in document.page(early)


def test_curves_are_of_the_rows_that_have_one_and_the_teacher_of_any_that_played() -> None:
    learnt = [*rows_of("losses", curves=False)[1:], *rows_of("losses", seeds=1)[:1]]
    rows = [*learnt, *rows_of("same-return", "half-courts")]
    methods = methods_of("losses", find_experiments()["losses"], rows)
    learning = plots.with_curves(methods)
    assert {method: len(of) for method, of in learning.items()} == {"kl": 1}
    assert plots.played_by_teacher(learning, rows) == ("pong", 0.0117)
    assert plots.played_by_teacher(learning, learnt) is None
    # In half a court a model's rate is another matter.
    halves = {"a": [row_of({"teachers": ["pong-top+scale:0.1"]}, 1, 0)]}
    half = [row for row in rows if row["settings"].get("play", {}).get("only")]
    assert half
    assert plots.played_by_teacher(halves, half) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, 216_246), ({"student": "student"}, 216_246), ({"student": "4/4/4/16"}, 7_954)],
)
def test_a_row_is_placed_by_its_students_parameters(
    settings: dict[str, str], expected: int
) -> None:
    assert plots.parameters(row_of(settings, 1, 0)) == expected
    assert plots.TEACHER == 3_358_374
