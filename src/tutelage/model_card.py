"""A run's ``README.md``: the model card that Hugging Face's hub reads, with what was measured.

Its front matter is YAML (https://huggingface.co/docs/hub/model-cards); its numbers are those of
``result.json``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.files import write_atomic
from tutelage.own import Own
from tutelage.policies import Model
from tutelage.text import without_folders

NAME = "README.md"
TASK = "reinforcement-learning"


def write_card(folder: Path, result: Mapping[str, Any], model: Model) -> None:
    """Write the card of the model that a run's folder keeps, beside it.

    Raises UserError where the folder cannot be written.
    """
    write_atomic(folder / NAME, card(result, model).encode())


def card(result: Mapping[str, Any], model: Model) -> str:
    """Return a model's card, of its run's ``result``."""
    low, high = result["ci95"]
    text = [
        f"# A policy for {result['env']}",
        f"{model.parameters:,} parameters, made by `{model.card.get('command', 'tutelage')}`. Over "
        f"{result['episodes']} held-out episodes it returned {result['mean_return']:.2f} on "
        f"average (95 % interval {low:.2f} … {high:.2f}), as it was after "
        f"{result.get('kept_at', result['env_steps']):,} env steps.",
    ]
    if teacher := result.get("teacher"):
        size = f" ({n:,} parameters)" if (n := teacher["parameters"]) else ""
        text.append(
            f"Its teacher {without_folders(teacher['name'])}{size} returned "
            f"{teacher['mean_return']:.2f}."
        )
    file = "" if model.path is None else f'"{model.path.name}"'
    own = ", module=…" if isinstance(model.policy, Own) else ""
    text += [
        "```python\nimport tutelage as tt\n\n"
        f"model = tt.load({file}{own})\n"
        f"print(tt.evaluate(model, episodes={result['episodes']}).mean)\n```",
        "`config.toml` has every setting, `result.json` every figure.",
    ]
    front = _yaml(front_matter(result, model))
    return "\n".join(["---", *front, "---", "", "\n\n".join(text), ""])


def front_matter(result: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Return what the hub reads of a model; a licence only where its file says one."""
    low, high = result["ci95"]
    measured = {
        "mean_reward": (result["mean_return"], "mean return"),
        "ci95_low": (low, "mean return, lower end of the 95 % interval"),
        "ci95_high": (high, "mean return, upper end of the 95 % interval"),
    }
    metrics = [
        {"type": kind, "value": value, "name": name, "args": {"episodes": result["episodes"]}}
        for kind, (value, name) in measured.items()
    ]
    licence = model.card.get("licence", model.card.get("license"))
    return {
        "library_name": "tutelage",
        **({"license": licence} if isinstance(licence, str) else {}),
        "pipeline_tag": TASK,
        "tags": [TASK, "policy-distillation", result["env"]],
        "model-index": [
            {
                "name": f"tutelage {result['env']}",
                "results": [
                    {
                        "task": {"type": TASK, "name": TASK},
                        "dataset": {"type": result["env"], "name": result["env"]},
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Return the lines of plain data in YAML, of which JSON's strings are a part."""
    lines: list[str] = []
    named = isinstance(value, Mapping)
    for key, inner in value.items() if named else (("", one) for one in value):
        begin = f"{indent}{key}:" if named else f"{indent}-"
        if isinstance(inner, Mapping | Sequence) and not isinstance(inner, str):
            first, *rest = _yaml(inner, f"{indent}  ")
            lines += [begin, first, *rest] if named else [f"{begin} {first.lstrip()}", *rest]
        else:
            lines.append(f"{begin} {_scalar(inner)}")
    return lines


def _scalar(value: Any) -> str:
    """Return a number or a string; YAML's numbers have a point before their exponent."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text
