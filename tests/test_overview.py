"""The page of all claims: written from rows that nobody ran, and looked into."""

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.synthetic import rows_of
from tests.test_cli import refusal
from tests.pages import Page, inked
from tutelage import QNetwork, teachers
from tutelage.cli import main
from tutelage.experiments import Row, document, find_experiments, overview
from tutelage.experiments.grid import methods_of
from tutelage.experiments.jobs import key
from tutelage.experiments.overview import write_overview
from tutelage.experiments.rows import keeper
from tutelage.networks import Size
from tutelage.report import style
from tutelage.report.video import side_by_side

FOUND = find_experiments()
CLAIMS = ("same-return", "losses", "four-experts")
METRICS = "".join(
    json.dumps({"env_steps": 1024 * i, "updates": i, "train/loss": 1.0 / i}) + "\n"
    for i in range(1, 5)
)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be two claims only, which share the usual student."""
    few = {name: FOUND[name] for name in ("losses", "offline")}
    monkeypatch.setattr(overview, "find_experiments", lambda: few)


def page_of(rows: list[Row], tmp_path: Path, *, film: bool = False) -> Page:
    write_overview(rows, tmp_path / "report.html", runs=tmp_path / "runs", film=film)
    return Page((tmp_path / "report.html").read_text())


def folder_of(row: Row, tmp_path: Path, claim: str = "losses") -> Path:
    folder = tmp_path / "runs" / f"{claim}-a-{row['seed']}-{key(row['settings'], row['seed'])}"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(METRICS)
    return folder


def student(folder: Path) -> None:
    network = QNetwork(Size((1, 1, 1), (4,)), (4, 84, 84), 6, generator=torch.Generator())
    teachers.save(folder / "best.safetensors", network, env="pong", card={})


def sections(tmp_path: Path) -> dict[str, str]:
    """Return the HTML below each heading, by the name that links lead to."""
    parts = re.split(r'<h2(?: id="([^"]*)")?>', (tmp_path / "report.html").read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_claim_has_a_line_a_section_and_what_there_is_of_it(tmp_path: Path) -> None:
    rows = rows_of(*CLAIMS)
    page = page_of(rows, tmp_path)
    below = sections(tmp_path)
    links = {str(link["href"]).removeprefix("#") for link in page.all("a")}
    assert links == set(FOUND) == below.keys() - {None}
    for name, experiment in FOUND.items():
        assert experiment.claim in page.text
        methods = methods_of(name, experiment, rows)
        line = document.verdict_cells(experiment, methods)
        assert {line["verdict"], line["decided by"], line["ours (95 % interval)"]} <= set(page.text)
        assert ("Not run yet." in below[name]) == (not methods)
        for method in methods:
            assert f">{escape(method)}</th>" in below[name]
    # Models that play have episodes to compare, students have learning curves.
    assert [below[name].count("<img") for name in CLAIMS] == [2, 2, 2]
    assert [below[name].count("<details>") for name in CLAIMS] == [1, 1, 1]
    assert below["losses"].count(", seed ") == 16  # five methods of three, a teacher's training
    assert "20.10 (19.60 … 20.60)" in below["losses"]
    assert {"1111111", "100"} <= set(page.text)


def test_the_page_needs_nothing_else_and_its_images_open(tmp_path: Path) -> None:
    page = page_of(rows_of(*CLAIMS), tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert not page.all("script")
    assert not page.all("link")
    assert "url(" not in html
    assert re.findall(r'(?:src|poster|srcset)="(?!data:)', html) == []
    assert re.findall(r'href="(?!#)', html) == []
    images = [str(image["src"]) for image in page.all("img")]
    assert len(images) >= 5
    for image in images:
        kind, data = image.split(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
            opened.load()
            assert opened.format == "PNG"
    assert all(image["alt"] for image in page.all("img"))


def test_what_is_shown_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = replace(
        FOUND["losses"], title="<script>a</script>", claim="A <b>bold</b> claim & more", paper="<i>"
    )
    monkeypatch.setattr(overview, "find_experiments", lambda: {"losses": evil})
    page = page_of(rows_of("losses"), tmp_path)
    assert not page.all("script")
    assert not page.all("b")
    assert not page.all("i")
    assert {"2 <script>a</script>", "A <b>bold</b> claim & more", "<i>"} <= set(page.text)


@pytest.mark.usefixtures("two")
def test_a_run_is_shown_once_wherever_it_counts(tmp_path: Path) -> None:
    rows = rows_of("losses", "offline", seeds=1)  # both have the usual student
    folder = folder_of(rows[0], tmp_path)
    page_of(rows, tmp_path)
    below = sections(tmp_path)
    name = f"run-{folder.name.rpartition('-')[2]}"
    assert below["losses"].count(f'<figure id="{name}">') == 1
    assert f'<a href="#{name}">kl, seed 1</a>' in below["losses"]
    assert f'<a href="#{name}">online, seed 1</a>' in below["offline"]
    assert sum(part.count(f'id="{name}"') for part in below.values()) == 1
    # Other runs are there without a curve of their own.
    assert below["losses"].count("<figure id=") == 1
    assert "mse, seed 1" in below["losses"]


@pytest.mark.usefixtures("two")
def test_a_folder_without_rows_shows_nothing(tmp_path: Path) -> None:
    rows = rows_of("losses", seeds=1)
    (folder_of(rows[0], tmp_path) / "metrics.jsonl").write_text("")
    page_of(rows, tmp_path)
    assert "<figure id=" not in sections(tmp_path)["losses"]


@pytest.mark.usefixtures("two")
def test_a_film_is_made_of_the_first_that_passed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filmed = []

    def quick(*args: Any, **options: Any) -> dict[str, float]:
        filmed.append(options["seed"])
        return side_by_side(*args, **{**options, "max_steps": 3})

    monkeypatch.setattr(overview, "side_by_side", quick)
    rows = [{**row, "env_steps_to_target": None} if row["seed"] == 1 else row
            for row in rows_of("losses")]  # fmt: skip
    for row in rows:
        if row["settings"] == rows[0]["settings"]:
            student(folder_of(row, tmp_path))
    assert not page_of(rows, tmp_path).all("video")
    assert filmed == []
    for _ in range(2):
        (film,) = page_of(rows, tmp_path, film=True).all("video")
        assert film["aria-label"] == "The student at play: kl, seed 2"
        assert filmed == [2]
    assert len(page_of(rows, tmp_path).all("video")) == 1


@pytest.mark.usefixtures("two")
def test_a_film_that_cannot_be_made_is_said_so_where_it_would_be(tmp_path: Path) -> None:
    rows = rows_of("losses", seeds=1)
    page_of(rows, tmp_path, film=True)
    assert "No film: no run that reached the target" in sections(tmp_path)["losses"]
    folder_of(rows[0], tmp_path)
    page_of(rows, tmp_path, film=True)
    assert "No film: " in sections(tmp_path)["losses"]
    assert "last.safetensors" in sections(tmp_path)["losses"]


def test_report_needs_rows_and_either_a_folder_or_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["report"], ["report", "runs/a", "--all"]):
        line = refusal(words, capsys)
        assert "either a run's folder or --all" in line
    empty = ["report", "--all", "--results", str(tmp_path / "none")]
    assert "tutelage reproduce NAME" in refusal(empty, capsys)
    assert "is no run's folder" in refusal(["report", str(tmp_path)], capsys)
    (tmp_path / "config.toml").write_text('command = "distill"')
    line = refusal(["report", str(tmp_path)], capsys)
    assert f"'tutelage resume {tmp_path}' goes on" in line


def test_report_all_writes_its_page_beside_the_rows_or_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = keeper(tmp_path)
    for row in rows_of("four-experts"):
        keep(row)
    words = ["report", "--all", "--results", str(tmp_path), "--runs", str(tmp_path / "runs")]
    main(words)
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    main([*words, "--out", str(tmp_path / "new" / "page.html")])
    assert (tmp_path / "new" / "page.html").read_bytes() == (tmp_path / "report.html").read_bytes()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser")
@pytest.mark.usefixtures("two")
def test_a_browser_shows_it_and_complains_of_nothing(tmp_path: Path) -> None:
    rows = rows_of("losses")
    folder_of(rows[0], tmp_path)
    page_of(rows, tmp_path)
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    quiet = "--disable-background-networking --disable-component-update --enable-logging=stderr"
    done = subprocess.run(
        [
            "chromium",
            *flags.split(),
            *quiet.split(),
            f"--user-data-dir={tmp_path / 'browser'}",
            "--window-size=500,4000",
            f"--screenshot={tmp_path / 'page.png'}",
            f"file://{tmp_path / 'report.html'}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert "CONSOLE" not in done.stderr
    assert inked(tmp_path / "page.png", style.BLUE)  # of the figures
