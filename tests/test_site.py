"""The site is built strictly: what is linked or named and is not there ends it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tutelage import public

ROOT = Path(__file__).parent.parent
BUILT = ("mkdocs.yml", "mkdocs_hooks.py", "docs", "examples", "src", "CITATION.cff", "LICENSE")


def build(checkout: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    words = ["-m", "mkdocs", "build", "--strict", "--config-file", "mkdocs.yml"]
    return subprocess.run(
        [sys.executable, *words, "--site-dir", str(site)],
        cwd=checkout,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


def test_the_site_has_the_readme_every_public_name_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    built = build(ROOT, tmp_path)
    assert built.returncode == 0, built.stderr
    index = (tmp_path / "index.html").read_text()
    for image in re.findall(r'<img[^>]* src="([^"]+)"', index):
        assert (tmp_path / image).is_file(), image
    assert "images/play.png" in index
    pages = {path: path.read_text() for path in tmp_path.rglob("*.html")}
    reference = "".join(text for path, text in pages.items() if "reference" in path.parts)
    assert [name for name in public.__all__ if f'id="tutelage.{name}"' not in reference] == []
    loaded = re.compile(r'<(?:script|img|link rel="(?:stylesheet|preconnect)")[^>]*"https?://')
    assert [path for path, text in pages.items() if loaded.search(text)] == []


def test_a_link_to_nowhere_ends_the_build(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for path in (*(ROOT / name for name in BUILT), *ROOT.glob("*.md")):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, checkout / path.name)
    page = checkout / "docs" / "runs.md"
    page.write_text(
        page.read_text() + "\n[a](nowhere.md) [b](evaluation.md#nowhere) [c](../none)\n"
    )
    built = build(checkout, tmp_path / "site")
    assert built.returncode != 0
    assert all(text in built.stderr for text in ("nowhere.md", "#nowhere", "../none")), built.stderr
