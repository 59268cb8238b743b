"""The page of the experiments is made from their rows, not typed."""

from pathlib import Path

from tutelage.experiments import document, engine

ROOT = Path(__file__).parent.parent


def test_the_page_is_what_the_rows_in_the_repository_give() -> None:
    rows = engine.finished(ROOT / "results" / "reproduce")
    assert rows
    assert (ROOT / "docs" / "reproduction.md").read_text() == document.page(rows)
