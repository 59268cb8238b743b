"""What the site shows beside ``docs/``: the README, the files of a maintainer, the examples.

Links are written as GitHub follows them, in the repository; the site has ``docs/`` as its root.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent
INDEX = {"README.md": "index.md"}
BESIDE = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    *("CITATION.cff", "LICENSE"),
)
LINK = re.compile(r"(\]\()([^)#\s:]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the files beside ``docs/`` that pages link to."""
    examples = sorted(path for path in (ROOT / "examples").glob("*") if path.is_file())
    for path in (*(ROOT / name for name in BESIDE), *examples):
        name = path.relative_to(ROOT).as_posix()
        place = INDEX.get(name, name)
        files.append(File.generated(config, place, content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page with its links to files of the repository as the site has them."""
    at = page.file.src_uri
    beside = {INDEX.get(name, name): name for name in BESIDE}
    folder = posixpath.dirname(beside.get(at, at if at.startswith("examples/") else f"docs/{at}"))

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        if not (ROOT / target).exists():
            return match[0]  # not found: as it is, for MkDocs to say so
        place = INDEX.get(target, target.removeprefix("docs/"))
        return match[1] + posixpath.relpath(place, posixpath.dirname(at) or ".")

    return LINK.sub(moved, markdown)
