"""Whether students that learn in bytes keep more than students that are rounded afterwards.

``python -m reproduction.quantisation TEACHER`` runs what has no row yet; ``--docs docs`` writes
``quantisation.md`` from the rows. Needs the extra ``onnx``.
"""

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tutelage as tt
from reproduction.records import append, grouped, read
from tutelage import proof
from tutelage.domains import EnvironmentConfig, make
from tutelage.errors import UserError
from tutelage.evaluation import MAX_STEPS
from tutelage.exporters import Portable, exporter_named
from tutelage.exporters.onnx_int8 import CALIBRATION
from tutelage.files import file_digest, write_atomic
from tutelage.importers import import_model
from tutelage.models import find
from tutelage.quantisation import quantise
from tutelage.runs import versions
from tutelage.threads import owning
from tutelage.types import seeded

ROWS = Path("results/quantisation/rows.jsonl")
ENV = "LunarLander-v3"
SIZES = ("mlp:4/4", "mlp:8/8", "mlp:16/16")
WAYS = (("fp32", "fp32"), ("fp32", "int8"), ("int8", "int8"), ("fp32", "int4"), ("int4", "int4"))
"""What a student learnt in, and what it acts in."""
EPISODES, STATES = 100, 10_000
SETTINGS: dict[str, Any] = {
    "env_steps": 15_000,
    "target_return": 1e9,  # ends no run
    "eval_from": 10_000,
    "eval_every": 5_000,
    "precision": "fp32",
}
FORMAT = "onnx-int8"


def command(teacher: str, size: str, seed: int, learnt: str) -> str:
    """Return the command that makes a student."""
    options = "".join(f" --{k.replace('_', '-')} {v:g}" for k, v in SETTINGS.items() if k[0] != "p")
    return (
        f"tutelage distill --teacher {teacher} --env {ENV} --student {size} --student-precision "
        f"{learnt} --precision {SETTINGS['precision']}{options} --seed {seed}"
    )


def student(teacher: Path, size: str, seed: int, learnt: str, runs: Path) -> Path:
    """Return a student's folder, distilled unless it is there."""
    out = runs / f"{learnt}-{size.replace(':', '-').replace('/', '-')}-{seed}"
    if not (out / "result.json").exists():
        tt.distill(
            str(teacher),
            ENV,
            size,
            out=out,
            resume=(out / "config.toml").exists(),
            seed=seed,
            student_precision=learnt,
            threads=1,
            device="cpu",
            confirm_episodes=1,  # it is played below
            **SETTINGS,
        )
    return out


def figures(teacher: Path, folder: Path, learnt: str, acts: str) -> dict[str, Any]:
    """Return how a student plays, in what it ``acts`` in.

    Actions are compared over states that the teacher comes to, with the teacher's, and over states
    that the student comes to, with those it takes as it was trained.
    """
    config = replace(EnvironmentConfig(env=ENV), num_envs=1)
    envs = make(config, seed=0)
    obs, space = envs.obs.copy(), envs.action_space
    envs.close()
    network: Any = import_model(folder).policy
    original = Portable(network, space, obs)
    policy: Any = proof.Original(original)
    agreed = 1.0
    with tempfile.TemporaryDirectory() as made:
        if acts != "fp32":
            source = original
            if acts == "int4" and learnt != acts:
                source = Portable(_rounded(original, network, acts, config), space, obs)
            exporter = exporter_named(FORMAT)
            written = exporter.write(
                source, Path(made), lambda n: proof.states_of(source, config, n, 0)
            )
            run = exporter.open(Path(made), written)
            agreed = proof.agreement(
                original, run, config, states=STATES, seed=0, note=lambda text: None
            ).share
            policy = proof.Exported(original, run, by_numbers=True)
        played = proof.play(
            policy,
            config,
            episodes=EPISODES,
            max_steps=MAX_STEPS,
            seed=0,
            note=lambda text: None,
        )
        return {
            "equal_to_teacher": _equal(teacher, policy, config),
            "equal_to_itself": agreed,
            "returns": played.returns.tolist(),
        }


def _rounded(policy: Portable, network: Any, precision: str, config: EnvironmentConfig) -> Any:
    """Return a network rounded afterwards, ranges read off states that it comes to itself."""
    states = [state[0] for state in proof.states_of(policy, config, CALIBRATION, 0)]
    rounded = quantise(copy.deepcopy(network), precision).train()
    with torch.enable_grad():
        rounded(torch.from_numpy(np.concatenate(states))[:, None])
    return rounded.eval().requires_grad_(False)


def _equal(teacher: Path, policy: Any, config: EnvironmentConfig) -> float:
    """Return the share of actions that are the teacher's, over states that it comes to."""
    theirs = import_model(teacher).policy
    equal, done = 0, 0
    for seen in proof.visits(theirs, config, seed=0, stream="compared"):
        with torch.inference_mode():
            said, _ = policy.step(torch.from_numpy(seen.obs), ())
        equal += int((policy.head.mode(said) == theirs.head.mode(seen.numbers)).sum())
        done += len(said)
        if done >= STATES:
            break
    return equal / done


def run(teacher: Path, *, seeds: int, rows: Path, runs: Path) -> None:
    """Run what has no row yet, and append a row for each."""
    known = {(row["size"], row["seed"], row["learnt"], row["acts"]) for row in read(rows)}
    for seed in range(1, seeds + 1):
        for size in SIZES:
            for learnt, acts in WAYS:
                if (size, seed, learnt, acts) in known:
                    continue
                print(f"{size} {seed}: {learnt} as {acts}", file=sys.stderr, flush=True)
                folder = student(teacher, size, seed, learnt, runs)
                began = json.loads((folder / "versions.json").read_text())
                row = {
                    "size": size,
                    "seed": seed,
                    "learnt": learnt,
                    "acts": acts,
                    **figures(teacher, folder, learnt, acts),
                    "command": command(teacher.name, size, seed, learnt),
                    "files": {
                        teacher.name: file_digest(teacher),
                        "student": file_digest(find(folder)),
                    },
                    "trained_at": began["commit"],
                    "versions": versions(),
                }
                append(rows, row)


HEAD = """# Quantisation-aware distillation

Made by `python -m reproduction.quantisation --docs docs` from `results/quantisation/rows.jsonl`;
not typed.

The teacher is Stable-Baselines3's PPO on LunarLander of
[rl-trained-agents](https://github.com/DLR-RM/rl-trained-agents). Each student is distilled in fp32
and quantised afterwards ("rounded afterwards"), or distilled with `--student-precision`, which
quantises it while it learns. In int8 the first is what `onnx-int8` made of any policy at the commit
below; since then it first brings the numbers of an observation to one range ([taking a policy
elsewhere](deploy.md#the-proof)). In int4 its weights are quantised as in training with
`--student-precision int4`; its activations have eight bits, with the range of 512 states. All act
as the exported `onnx-int8` file does.

Three measures, chosen before any figure was seen. "Equal to the teacher": the share of actions that
are the teacher's, over 10,000 states that the teacher visits. "Equal to itself": the share of the
file's actions that are those of the student as it was trained, over 10,000 states that the student
visits. "Return": the mean of 100 episodes from the same starts. The table has means and, in
brackets, each seed. "Difference" is the mean return of students that learnt in that precision less
that of those rounded afterwards, with the 95 % bootstrap interval over seeds and episodes, which
are paired. Three seeds were planned; each size has those that are measured in every way."""


def page(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return ``quantisation.md``, made from the rows alone.

    Of each size, those seeds that have been measured in every way.
    """
    of_student = grouped(rows, "size", "seed").values()
    every = [row for of in of_student if len(of) == len(WAYS) for row in of]
    by = grouped(every, "size", "learnt", "acts")
    names = {(x, x): f"learnt in {x}" for x in ("fp32", "int8", "int4")}
    lines = []
    for size in SIZES:
        for learnt, acts in WAYS:
            if not (of := by.get((size, learnt, acts))):
                continue
            apart = ""
            if learnt == acts != "fp32" and (after := by.get((size, "fp32", acts))):
                apart = "{:+.1f} ({:+.1f} … {:+.1f})".format(*difference(of, after))
            lines.append(
                f"| {size} | {acts} | {names.get((learnt, acts), 'rounded afterwards')} | "
                f"{_each(of, 'equal_to_teacher', '.2%')} | {_each(of, 'equal_to_itself', '.2%')} | "
                f"{_each(of, 'returns', '.1f')} | {apart} |"
            )
    commits = sorted({row["versions"]["commit"][:7] for row in every})
    trained = sorted({row["trained_at"][:7] for row in every})
    machines = sorted({row["versions"]["machine"] for row in every})
    commands = sorted(
        row["command"] for row in every if row["seed"] == 1 and row["size"] == SIZES[0]
    )
    return f"""{HEAD}

{TABLE}
{chr(10).join(lines)}

The students of the smallest size, of seed 1; the others likewise:

```sh
{chr(10).join(dict.fromkeys(commands))}
```

Trained at {", ".join(trained)}, measured at {", ".join(commits)}, on {"; ".join(machines)}.
"""


TABLE = (
    "| size | acts in | how | equal to the teacher | equal to itself | return | difference |\n|"
    + " --- |" * 7
)


def _each(rows: Iterable[Mapping[str, Any]], key: str, spec: str) -> str:
    """Return the mean of rows, and each."""
    means = [float(np.mean(row[key])) for row in rows]
    return f"{np.mean(means):{spec}} ({', '.join(format(one, spec) for one in means)})"


def difference(
    one: Iterable[Mapping[str, Any]], other: Iterable[Mapping[str, Any]], *, resamples: int = 10_000
) -> tuple[float, float, float]:
    """Return the difference of mean returns, and its 95 % percentile bootstrap interval.

    Rows are paired by seed, their episodes by start; seeds are resampled, then the pairs of each.
    """
    ours, theirs = ({row["seed"]: np.array(row["returns"]) for row in of} for of in (one, other))
    pairs = np.stack([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
    rng = np.random.default_rng(seeded(0, "difference"))
    drawn = rng.integers(pairs.shape[1], size=(len(pairs), resamples, pairs.shape[1]))
    means = np.stack([of[which].mean(axis=1) for of, which in zip(pairs, drawn, strict=True)])
    which = rng.integers(len(pairs), size=(len(pairs), resamples))
    low, high = np.quantile(np.take_along_axis(means, which, axis=0).mean(axis=0), [0.025, 0.975])
    return float(pairs.mean()), float(low), float(high)


def main() -> None:
    """Run, or write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction.quantisation", description=__doc__
    )
    parser.add_argument("teacher", nargs="?", type=Path, help="sb3-ppo-LunarLander-v2.zip")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--runs", type=Path, default=Path("runs/quantisation"))
    parser.add_argument("--docs", type=Path, help="write quantisation.md into this folder")
    asked = parser.parse_args()
    try:
        if asked.teacher is not None:
            with owning(1):
                run(asked.teacher, seeds=asked.seeds, rows=asked.rows, runs=asked.runs)
        if asked.docs is not None:
            write_atomic(asked.docs / "quantisation.md", page(read(asked.rows)).encode())
    except UserError as error:
        print(f"reproduction.quantisation: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
