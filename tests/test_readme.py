"""The README's example is run as it stands, only shorter."""

from pathlib import Path

import pytest

import tutelage as tt
from tests.snippets import blocks, changed, run


def test_the_example_distils_a_student_that_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks("README.md")
    shorter = {
        "episodes=10": "episodes=2, max_steps=200",
        '"16/16/16/128"': "'4/4/4/16', env_steps=1_024, precision='fp32', confirm_episodes=2",
    }
    monkeypatch.chdir(tmp_path)
    outcome = run(changed(code, shorter))["outcome"]
    assert isinstance(outcome.student, tt.Network)
    assert outcome.result["episodes"] == 2
    assert (tmp_path / outcome.folder / "result.json").is_file()
