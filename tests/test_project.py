"""The files of a maintainer say of the package what pyproject.toml does."""

import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_citation_and_changes_are_of_this_version() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_github_tests_every_python_that_is_claimed_by_the_same_targets_as_ci() -> None:
    (job,) = read(ROOT / ".github" / "workflows" / "test.yml")["jobs"].values()
    tested = job["strategy"]["matrix"]["python"]
    claimed = SpecifierSet(PROJECT["requires-python"])
    assert tested == [f"3.{minor}" for minor in range(20) if f"3.{minor}.0" in claimed]
    targets = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "make" in line]
    assert any(step.get("run", "").startswith("make test ") for step in job["steps"])
    assert "make test" in targets


def test_issue_forms_ask_for_something() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = read(path)
        if path.name != "config.yml":
            assert {"name", "description"} <= set(form)
            assert any(part.get("validations", {}).get("required") for part in form["body"])
