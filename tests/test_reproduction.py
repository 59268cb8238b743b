"""What is in the repository: no row lost; page, manifest and README made of them, not typed."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from markupsafe import escape
from PIL import Image

from reproduction import Claim, document, find_claims, overview
from reproduction import evidence as evidence_module
from reproduction.columns import parameters
from reproduction.evidence import Code, evidence
from reproduction.manifest import manifest
from tests.rows import row, row_of_job
from tutelage import Network, QValues, Size, save
from tutelage.report.video import side_by_side
from tutelage.sweeps import figures
from tutelage.sweeps.judges import Verdict
from tutelage.sweeps.rows import Row, finished
from tutelage.sweeps.statistics import Interval

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "reproduce"
PAGE = ROOT / "docs" / "reproduction.md"
TELLING = ("distillation", "exploration", "input-scaling", "kickstarting", "offline", "teachers")
"""Pages that tell what came of claims."""


FOUND = find_claims()
ROWS = finished(RESULTS)
WRITTEN = json.loads((RESULTS / "manifest.json").read_text())
CODE = Code(WRITTEN["code"]["commit"], frozenset(WRITTEN["code"]["older"]))


# The rows of the paper's claims, counted before they were given their whole configurations.


def test_no_row_is_lost() -> None:
    first = ROWS[:342]
    assert sum(row.env_steps for row in first) == 21_636_154
    assert sum(row.env_steps_to_target or 0 for row in first) == 5_500_943
    assert sum(row.seconds for row in first) == pytest.approx(117_279.9)
    assert sum(row.mean_return for row in first) == pytest.approx(4_961.793333333335)
    assert sum(len(row.returns) for row in first) == 10_140
    assert sum(sum(row.returns) for row in first) == 133_587.0
    assert sum(sum(row.picks) for row in first) == 286_365
    assert sum(sum(row.curve.env_steps) for row in first if row.curve) == 1_755_044_399
    rewards = (sum(row.curve.reward_per_step) for row in first if row.curve)
    assert sum(rewards) == pytest.approx(-42.2885903125)
    scores = (row.scores.get("agreement_with_half", 0.0) for row in first)
    assert sum(scores) == pytest.approx(14.203062229154623)
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert all((row.commit and row.files) or row.command.name == "teach" for row in ROWS)


COUNTS = {
    **{"same-return": 2, "losses": 23, "second-loss": 6, "temperature": 61, "exploration": 38},
    **{"boltzmann": 30, "exploration-as-published": 30, "input-scaling": 13, "alone": 20},
    **{"beyond": 10, "sizes": 25, "four-experts": 30, "twelve-teachers": 76, "twelve-best": 30},
    **{"unequal-teachers": 32, "half-courts": 6, "half-courts-as-published": 7},
    **{"half-experts": 33, "offline": 19},
}
"""Rows of each claim."""


def test_no_claim_has_lost_a_row() -> None:
    methods = {name: evidence(name, claim, ROWS[:342]).methods for name, claim in FOUND.items()}
    assert {name: sum(map(len, of.values())) for name, of in methods.items()} == COUNTS
    for of in methods.values():
        for rows in of.values():
            assert [row.seed for row in rows] == list(range(1, len(rows) + 1))
    kl = methods["losses"]["kl"]
    assert [row.env_steps_to_target for row in kl][:4] == [14_336, 21_504, 14_336, 10_240]
    assert methods["temperature"]["kl, tau 0.1"] == methods["exploration"]["greedy"] == kl
    learning = kl[0].command.config["learning"]
    assert (learning["precision"], learning["batch_size"]) == ("bf16", 64)
    assert kl[0].files == {"pong": "197d8ee980e7cee4"}
    noisy = methods["twelve-teachers"]["ucb1"][0].command.config["teachers"]
    assert "pong-small-3+scale:0.1+noise:2" in noisy  # as it was asked for then


# The page.


def test_the_page_is_what_the_rows_in_the_repository_give() -> None:
    assert PAGE.read_text() == document.page(ROWS, CODE)


def test_every_verdict_is_told_in_a_sentence_and_every_open_one_with_what_would_settle_it() -> None:
    for name, claim in FOUND.items():
        methods = evidence(name, claim, ROWS).methods
        verdict = claim.judge(methods)
        assert claim.told[verdict.word].endswith(".")
        said = document.cost(verdict, methods)
        assert ("would" in said) == (verdict.word == "not settled"), name


def test_the_cost_of_settling_counts_the_runs_that_are_compared() -> None:
    narrow = Interval(1.1, 0.9, 1.3)  # 0.1 above 1, and 0.2 to either side: four times the data
    verdict = Verdict("not settled", "", "", lambda n: judged(narrow.narrowed(n)), ("a", "b"))
    rows = {name: [row(seed, seconds=1_800.0) for seed in (1, 2)] for name in "abc"}
    assert verdict.seeds_wanted() == pytest.approx(4.0, rel=0.05)
    assert "4.1 times as many seeds would settle it: 6 hours" in document.cost(verdict, rows)
    never = replace(verdict, at=lambda times: "not settled")
    assert "More seeds would not settle it" in document.cost(never, rows)
    assert document.cost(replace(verdict, word="holds"), rows) == ""


def judged(figure: Interval) -> str:
    return "holds" if figure.low > 1.0 else "not settled"


def test_the_readme_counts_the_verdicts_that_the_rows_give() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"{document.summary(ROWS)}." in text


def test_the_manifest_is_what_the_rows_in_the_repository_give() -> None:
    assert manifest(ROWS, {}, CODE) == {**WRITTEN, "written_with": {}}
    assert {"python", "torch", "numpy", "ale-py"} <= WRITTEN["written_with"].keys()


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
    assert len(told) > 20
    assert [figure for figure in told if figure not in page] == []


def test_the_figures_of_the_page_are_there() -> None:
    figures = re.findall(r"!\[[^]]+\]\((images/.+\.png)\)", PAGE.read_text())
    assert figures
    for figure in figures:
        with Image.open(PAGE.parent / figure) as image:
            assert image.format == "PNG"


def rows_of(*names: str, seeds: int = 3, **given: Any) -> list[Row]:
    """Return a row for every run of these claims, each method slower than the one before it."""
    rows: dict[str, Row] = {}
    for name in names:
        for place, job in enumerate(FOUND[name].jobs(name, seeds=seeds)):
            rows.setdefault(job.key, row_of_job(job, 10_240 + 1_024 * place, **given))
    return list(rows.values())


def let_there_be(monkeypatch: pytest.MonkeyPatch, claims: Mapping[str, Claim]) -> None:
    monkeypatch.setattr(evidence_module, "find_claims", lambda: claims)


def test_a_page_shows_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("losses", "beyond", "same-return", "sizes", "four-experts")
    let_there_be(monkeypatch, {name: FOUND[name] for name in names})
    rows = rows_of("losses", "beyond", "same-return", seeds=2)
    document.write(rows, tmp_path / "docs", results=tmp_path, versions={"commit": "c" * 40})
    page = (tmp_path / "docs" / "reproduction.md").read_text()
    shown = re.findall(r"images/(.+\.png)", page)
    assert sorted(shown) == sorted(p.name for p in (tmp_path / "docs" / "images").iterdir())
    # Where a model plays beside, episodes are compared; where a student learns, there are curves.
    there = {name: {k for k in ("", "-curves", "-profiles") if f"{name}{k}.png" in shown}
             for name in ("losses", "beyond", "same-return", "four-experts")}  # fmt: skip
    assert there == {
        "losses": {"", "-curves"},
        "beyond": {"", "-curves", "-profiles"},
        "same-return": {"", "-profiles"},
        "four-experts": set(),
    }
    assert page.count("interquartile mean |") == 2
    written = json.loads((tmp_path / "manifest.json").read_text())
    claims = {claim["name"]: claim for claim in written["claims"]}
    assert (written["rows"], claims["losses"]["rows"]) == (len(rows), 11)
    # The usual student is one of the sizes, and is run once for all.
    assert claims["sizes"]["rows"] == 2
    assert claims["four-experts"]["verdict"] == "not run"


def test_curves_stand_beside_what_the_first_teacher_plays() -> None:
    rows = rows_of("losses", "half-courts", "same-return", seeds=1)
    methods = evidence("losses", FOUND["losses"], rows).methods
    assert figures.played_by_teacher(methods, rows) == ("pong", 0.0117)
    assert figures.played_by_teacher(methods, rows_of("losses", "half-courts", seeds=1)) is None


def test_a_student_is_placed_by_its_parameters() -> None:
    sizes = ("teacher", "student", "4/4/4/16")
    assert [parameters(size) for size in sizes] == [3_358_374, 216_246, 7_954]


# Everything there is to see, on one page.

METRICS = "".join(
    json.dumps({"env_steps": 1024 * i, "updates": i, "train/loss": 1.0 / i}) + "\n"
    for i in range(1, 5)
)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be two claims only, which share the usual student."""
    let_there_be(monkeypatch, {name: FOUND[name] for name in ("losses", "offline")})


def below(rows: list[Row], tmp_path: Path, *, film: bool = False) -> dict[str, str]:
    """Write the page; return the HTML below each heading, by the name that links lead to."""
    overview.write_overview(rows, tmp_path / "page.html", runs=tmp_path / "runs", film=film)
    parts = re.split(r'<h2(?: id="([^"]*)")?>', (tmp_path / "page.html").read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def folder_of(row: Row, tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / f"losses-a-{row.seed}-{row.key}"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(METRICS)
    return folder


def test_every_claim_has_a_line_a_section_and_what_there_is_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("same-return", "losses", "four-experts")
    claims = {name: FOUND[name] for name in (*names, "half-courts")}
    claims["losses"] = replace(claims["losses"], claim="A <b>bold</b> claim & more", paper="<i>")
    let_there_be(monkeypatch, claims)
    rows = rows_of(*names)
    sections = below(rows, tmp_path)
    html = (tmp_path / "page.html").read_text()
    assert set(re.findall(r'href="#([^"]+)"', html)) == set(claims) == sections.keys() - {None, ""}
    for name, claim in claims.items():
        methods = evidence(name, claim, rows).methods
        assert ("Not run yet." in sections[name]) == (not methods)
        assert escape(claim.title) in html
        assert (escape(claim.judge(methods).test) in sections[name]) == bool(methods)
        assert all(f">{escape(method)}</th>" in sections[name] for method in methods)
    assert "A &lt;b&gt;bold&lt;/b&gt; claim &amp; more" in html
    assert "<b>" not in html
    assert [sections[name].count("<img") for name in names] == [2, 2, 2]
    assert sections["losses"].count(", seed ") == 16  # five methods of three, a teacher's training


@pytest.mark.usefixtures("two")
def test_a_run_is_shown_once_wherever_it_counts(tmp_path: Path) -> None:
    rows = rows_of("losses", "offline", seeds=1)  # both have the usual student
    folder_of(rows[0], tmp_path)
    name = f"run-{rows[0].key}"
    sections = below(rows, tmp_path)
    assert sections["losses"].count(f'<figure id="{name}">') == 1
    assert f'<a href="#{name}">kl, seed 1</a>' in sections["losses"]
    assert f'<a href="#{name}">online, seed 1</a>' in sections["offline"]
    assert sum(part.count("<figure id=") for part in sections.values()) == 1
    assert "mse, seed 1" in sections["losses"]


@pytest.mark.usefixtures("two")
def test_a_film_is_made_of_the_first_that_passed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filmed = []

    def quick(*args: Any, **options: Any) -> dict[str, float]:
        filmed.append(options["seed"])
        return side_by_side(*args, **{**options, "max_steps": 3})

    monkeypatch.setattr(overview, "side_by_side", quick)
    first, second, *rest = rows_of("losses", seeds=2)
    first = msgspec.structs.replace(first, env_steps_to_target=None)
    rows = [first, second, *rest]
    assert "No film: no run that reached" in below(rows, tmp_path, film=True)["losses"]
    folder_of(first, tmp_path)
    folder = folder_of(second, tmp_path)
    # A folder whose student is gone.
    assert "No film: " in below(rows, tmp_path, film=True)["losses"]
    student = Network(Size((1, 1, 1), (4,)), (4, 84, 84), QValues(6), generator=torch.Generator())
    save(folder / "best.safetensors", student, env="pong", card={})
    for _ in range(2):
        assert below(rows, tmp_path, film=True)["losses"].count("<video") == 1
        assert filmed == [second.seed]
    assert below(rows, tmp_path)["losses"].count("<video") == 1
