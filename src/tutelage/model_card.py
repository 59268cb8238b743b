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


def write_tasks_card(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the card of a student of several tasks; raise UserError as above."""
    write_atomic(folder / NAME, tasks_card(result).encode())


def tasks_card(result: Mapping[str, Any]) -> str:
    """Return the card of a student of several tasks, of its run's ``result``."""
    tasks: Mapping[str, Mapping[str, Any]] = result["tasks"]
    text = [
        f"# A policy for {', '.join(tasks)}",
        f"{result['parameters']:,} parameters for {len(tasks)} tasks, made by `tutelage "
        f"multitask`, as they were after {result['kept_at']:,} env steps of all tasks together.",
        *(
            f"- {name}: {one['mean_return']:.2f} on average over {one['episodes']} held-out "
            f"episodes, its teacher {without_folders(one['teacher']['name'])} "
            f"{one['teacher']['mean_return']:.2f}, random play {one['random_return']:.2f}"
            for name, one in tasks.items()
        ),
        "```python\nimport tutelage as tt\n\n"
        f'model = tt.load("best.safetensors+task:{next(iter(tasks))}")\n'
        "print(tt.evaluate(model).mean)\n```",
        "`config.toml` has every setting, `result.json` every figure.",
    ]
    front = _yaml(_front([(one["env"], one) for one in tasks.values()], licence=None))
    return "\n".join(["---", *front, "---", "", "\n\n".join(text), ""])


def front_matter(result: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Return what the hub reads of a model; a licence only where its file says one."""
    licence = model.card.get("licence", model.card.get("license"))
    return _front([(result["env"], result)], licence=licence)


def _front(played: Sequence[tuple[str, Mapping[str, Any]]], *, licence: Any) -> dict[str, Any]:
    """Return the front matter of a model that was evaluated in these environments."""
    return {
        "library_name": "tutelage",
        **({"license": licence} if isinstance(licence, str) else {}),
        "pipeline_tag": TASK,
        "tags": [TASK, "policy-distillation", *(env for env, _ in played)],
        "model-index": [
            {
                "name": f"tutelage {' '.join(env for env, _ in played)}",
                "results": [
                    {
                        "task": {"type": TASK, "name": TASK},
                        "dataset": {"type": env, "name": env},
                        "metrics": _metrics(figures),
                    }
                    for env, figures in played
                ],
            }
        ],
    }


def _metrics(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    low, high = figures["ci95"]
    measured = {
        "mean_reward": (figures["mean_return"], "mean return"),
        "ci95_low": (low, "mean return, lower end of the 95 % interval"),
        "ci95_high": (high, "mean return, upper end of the 95 % interval"),
    }
    return [
        {"type": kind, "value": value, "name": name, "args": {"episodes": figures["episodes"]}}
        for kind, (value, name) in measured.items()
    ]


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
