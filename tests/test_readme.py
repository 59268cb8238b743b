"""The README's example is run as it stands, only shorter."""

import re
from pathlib import Path
from typing import Any

import pytest

import tutelage as tt

README = Path(__file__).parent.parent / "README.md"


def test_the_example_distils_a_student_that_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    shorter = code.replace("20_000, seed=1", "1_024, precision='fp32', confirm_episodes=2, seed=1")
    shorter = shorter.replace("episodes=10", "episodes=2, max_steps=200")
    shorter = shorter.replace('"16/16/16/128"', '"4/4/4/16"')
    assert shorter.count("1_024") == shorter.count("max_steps") == shorter.count("4/4/4/16") == 1
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(shorter, "README.md", "exec"), names)
    outcome = names["outcome"]
    assert isinstance(outcome.student, tt.Network)
    assert outcome.result["episodes"] == 2
    assert (tmp_path / outcome.folder / "result.json").is_file()
