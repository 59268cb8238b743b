"""Code of the README and of pages, run as it stands or only shorter."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str = "python") -> list[str]:
    """Return a page's blocks of code."""
    text = (ROOT / page).read_text()
    found = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    assert found, f"{page} has no block of {language}"
    return found


def changed(code: str, changes: dict[str, str]) -> str:
    """Return code with each key, which must be there once, replaced by its value."""
    for old, new in changes.items():
        assert code.count(old) == 1, f"{old!r} is {code.count(old)} times in:\n{code}"
        code = code.replace(old, new)
    return code


def run(code: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run code; return the names it leaves."""
    names = {} if names is None else names
    exec(compile(code, "a page", "exec"), names)
    return names
