"""The model card of a run: what Hugging Face's hub reads, with the figures of ``result.json``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

import tutelage as tt
from tests.players import SMALL, controller
from tutelage.model_card import card

QUICK: dict[str, Any] = {**SMALL, "confirm_episodes": 3, "eval_max_steps": 100}


def front_matter(text: str) -> dict[str, Any]:
    nothing, front, rest = text.split("---\n", 2)
    assert nothing == ""
    assert rest.startswith("\n# ")
    found: dict[str, Any] = yaml.safe_load(front)
    return found


def test_a_run_keeps_a_card_with_the_figures_of_its_result(tmp_path: Path) -> None:
    teacher = controller(tmp_path / "teacher.safetensors")
    run = tt.distill(teacher, student="mlp:4", out=tmp_path / "run", **QUICK)
    result = json.loads((run.folder / "result.json").read_text())
    text = (run.folder / "README.md").read_text()
    front = front_matter(text)
    assert front["library_name"] == "tutelage"
    assert "license" not in front
    assert {"reinforcement-learning", "CartPole-v1"} <= set(front["tags"])
    (model,) = front["model-index"]
    (results,) = model["results"]
    assert results["dataset"]["name"] == result["env"] == "CartPole-v1"
    measured = {metric["type"]: metric["value"] for metric in results["metrics"]}
    low, high = result["ci95"]
    assert measured == {"mean_reward": result["mean_return"], "ci95_low": low, "ci95_high": high}
    assert all(metric["args"] == {"episodes": 3} for metric in results["metrics"])
    assert "teacher.safetensors (" in text
    assert str(tmp_path) not in text


def test_names_and_numbers_of_any_kind_are_read_back_from_the_card(tmp_path: Path) -> None:
    model = replace(tt.load("pong"), card={"license": "cc-by-4.0: with: colons # and more"})
    env, ci95 = 'odd "env": {1} é', (-1e-7, 1e300)
    figures = {"env": env, "ci95": ci95, "mean_return": -21.0, "episodes": 1, "env_steps": 0}
    front = front_matter(card(figures, model))
    assert front["license"] == model.card["license"]
    assert front["tags"][-1] == env
    metrics = front["model-index"][0]["results"][0]["metrics"]
    assert [metric["value"] for metric in metrics] == [-21.0, *ci95]
