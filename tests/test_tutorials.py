"""The tutorials' code is run from top to bottom, as a reader would, only shorter."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.snippets import ROOT, blocks, changed, run


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def test_tutorials_are_short_and_all_run() -> None:
    pages = sorted(path.name for path in (ROOT / "docs" / "tutorials").glob("*.md"))
    tested = Path(__file__).read_text()
    assert [page for page in pages if f"tutorials/{page}" not in tested] == []
    for page in pages:
        text = (ROOT / "docs" / "tutorials" / page).read_text()
        prose = [part for number, part in enumerate(text.split("```")) if number % 2 == 0]
        assert len(" ".join(prose).split()) <= 300, page


def test_a_policy_of_stable_baselines3() -> None:
    shorter = {
        "learn(20_000)": "learn(8_000)",
        "episodes=20": "episodes=5",
        "env_steps=10_000": "env_steps=4_000, confirm_episodes=10",
    }
    names = run(changed("\n".join(blocks("docs/tutorials/stable-baselines3.md")), shorter))
    teacher = names["result"]["teacher"]["mean_return"]
    assert names["result"]["mean_return"] > 0.7 * teacher > 50.0
    assert names["score"] > 50.0


def test_several_teachers() -> None:
    shorter = {"seed=1,": "seed=1, confirm_episodes=10,"}
    names = run(changed("\n".join(blocks("docs/tutorials/several-teachers.md")), shorter))
    assert names["outcome"].result["mean_return"] > 300.0
    assert max(names["pay"]) == names["pay"][2]


def test_a_loss_of_ones_own() -> None:
    module, use = blocks("docs/tutorials/own-loss.md")
    Path("my_losses.py").write_text(module)
    sys.modules.pop("my_losses", None)
    returns = run(changed(use, {"8_000": "2_000, confirm_episodes=10"}))["returns"]
    assert len(returns) == 3
    assert min(returns.values()) > 50.0  # at random 22


def test_a_policy_without_tutelage() -> None:
    make, export, play = blocks("docs/tutorials/elsewhere.md")
    run(changed(make, {"8_000": "4_000, confirm_episodes=5"}) + export)
    assert run(play)["score"] > 200.0
    assert "tutelage" not in play


def test_a_claim() -> None:
    (module,) = blocks("docs/tutorials/claim.md")
    Path("my_claims.py").write_text(module)
    listed, look, own = blocks("docs/tutorials/claim.md", "sh")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))}

    def said(line: str) -> str:
        words = [sys.executable, *shlex.split(line)[1:]]
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert "losses" in said(listed)
    assert "kl" in said(look)
    assert all(name in said(own) for name in ("cooler", "warmer"))
