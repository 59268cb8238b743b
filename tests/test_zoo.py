"""``tutelage zoo``: what is at hand, and how well it plays."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.players import refusal
from tutelage import Network, QValues, load, models, parse_size
from tutelage.cli import main
from tutelage.commands import zoo
from tutelage.report.summary import DASH

ROOT = Path(__file__).parent.parent
SCORE = {"mean_return": 19.5, "ci95": [19.0, 20.0], "episodes": 100}


def keep(folder: Path, name: str, card: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    network = Network(parse_size("mlp:4:norm"), (1, 3), QValues(2))
    models.save(folder / f"{name}.safetensors", network, env="pong", card=card, half=True)


def test_models_of_the_package_and_of_a_folder_are_listed_with_the_scores_on_their_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sticky = {"config": {"environment": {"atari": {"sticky": 0.25}}}}
    keep(tmp_path / "zoo", "both", {**sticky, **SCORE, "sticky_0.5": {**SCORE, "mean_return": 9.0}})
    keep(tmp_path / "zoo", "odd", {"mean_return": "high", "config": 3, "sticky_x": SCORE})
    monkeypatch.chdir(tmp_path)
    main(["zoo", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["zoo/both.safetensors"] == {
        "env": "pong",
        "scores": {"0.25": SCORE, "0.5": {**SCORE, "mean_return": 9.0}},
        "parameters": 3 * 4 + 4 + 2 * 4 + 4 * 2 + 2,
        "bytes": (tmp_path / "zoo" / "both.safetensors").stat().st_size,
    }
    assert said["zoo/odd.safetensors"]["scores"] == {}
    card = load("pong").card
    assert said["pong"]["scores"]["0"]["mean_return"] == card["mean_return"]
    assert said["pong"]["scores"]["0.25"]["mean_return"] == card["sticky_0.25"]["mean_return"]
    main(["zoo", "zoo"])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("zoo/both", "19.50", "19.00 … 20.00", DASH, "pong-small"))


def test_without_a_folder_there_are_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["zoo", "--json"])
    assert set(json.loads(capsys.readouterr().out)) == set(models.bundled_names())
    assert "nowhere" in refusal(["zoo", "nowhere"], capsys)


def test_the_docs_say_of_sticky_pong_what_the_cards_do() -> None:
    said = (ROOT / "docs" / "games.md").read_text()
    readme = (ROOT / "README.md").read_text()
    for name in ("pong-sticky", "pong-sticky-student"):
        played = zoo.scores(load(name).card)[0.25]
        low, high = played.ci95
        assert f"`{name}`" in said
        told = f"{played.mean_return:.2f} ({low:.2f} … {high:.2f}"
        assert told in " ".join(said.split())
        assert told in readme or name != "pong-sticky"
    assert f"{zoo.scores(load('pong').card)[0.25].mean_return:.2f}." in readme
