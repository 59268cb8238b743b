"""Policies that others trained: how they play by their own library and here, and their students.

``python -m reproduction.policies FOLDER`` runs what has no row yet, for each file of the table that
is in FOLDER; ``--docs docs`` writes ``any-policy.md`` from the rows. Needs the extra ``dev``.
"""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
import torch

import tutelage as tt
from reproduction.records import append, grouped, read
from tutelage.errors import UserError
from tutelage.files import file_digest, write_atomic
from tutelage.runs import versions
from tutelage.threads import owning
from tutelage.types import seeded

EPISODES = 100
ROWS = Path("results/any-policy/rows.jsonl")
BESIDE = ("imitation.jsonl", "generated.jsonl", "usual.jsonl")
"""Rows of another library's students, of policies without an environment, and of students by the
usual settings where the table has others."""


@dataclass(frozen=True)
class Case:
    """A policy of another library, and the student that is made of it."""

    file: str
    algorithm: str
    env: str
    owners: str
    """What its owners say it returns."""
    student: str
    env_steps: int = 30_000
    statistics: str = ""
    """The file of VecNormalize's statistics, where it was trained behind that."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of its students, where they are not as usual."""
    library: bool = True
    """Whether it is Stable-Baselines3's, which can then play it as well."""


CASES = {
    "dqn-lunarlander": Case(
        "sb3-dqn-LunarLander-v2.zip", "DQN", "LunarLander-v3", "154 ± 79", "mlp:32/32"
    ),
    "ppo-lunarlander": Case(
        "sb3-ppo-LunarLander-v2.zip", "PPO", "LunarLander-v3", "242 ± 32", "mlp:24/24"
    ),
    "a2c-acrobot": Case(
        "sb3-a2c-Acrobot-v1.zip",
        "A2C",
        "Acrobot-v1",
        "-83 ± 17",
        "mlp:24/24",
        statistics="sb3-a2c-Acrobot-v1-vecnormalize.pkl",
    ),
    "qrdqn-cartpole": Case("sb3-qrdqn-CartPole-v1.zip", "QRDQN", "CartPole-v1", "500", "mlp:16/16"),
    "sac-pendulum": Case("sb3-sac-Pendulum-v1.zip", "SAC", "Pendulum-v1", "-157 ± 89", "mlp:24/24"),
    "tqc-pendulum": Case("sb3-tqc-Pendulum-v1.zip", "TQC", "Pendulum-v1", "-151 ± 88", "mlp:24/24"),
    "sac-halfcheetah": Case(
        "sb3-sac-HalfCheetah-v3.zip",
        "SAC",
        "HalfCheetah-v5",
        "9,535 ± 100 (on v3)",
        "mlp:48/48",
        env_steps=100_000,
        settings={
            "batch_size": 256,
            "samples_per_step": 256.0,
            "learning_rate": "2e-3:1e-4",
            "eval_every": 10_000,
            "eval_from": 20_000,
        },
    ),
    "a3c-pong": Case(
        "baby-a3c-pong.tar",
        "A3C",
        "pong",
        "17.9 (old Gym's Pong-v4)",
        "8/8/8/40",
        settings={"frame": 80, "eval_every": 10_000, "eval_from": 20_000},
        library=False,
    ),
}


def teacher_of(case: Case, folder: Path) -> str:
    """Return the teacher as the command names it."""
    text = str(folder / case.file)
    return f"{text}+vecnormalize:{folder / case.statistics}" if case.statistics else text


def command(case: Case, seed: int) -> str:
    """Return the command that makes a student."""
    statistics = f"+vecnormalize:{case.statistics}" if case.statistics else ""
    options = "".join(f" --{k.replace('_', '-')} {v}" for k, v in case.settings.items())
    return (
        f"tutelage distill --teacher {case.file}{statistics} --env {case.env} --student "
        f"{case.student} --env-steps {case.env_steps} --target-return {NEVER:g}{options} "
        f"--seed {seed}"
    )


ROBOTS = {
    "go1": "Unitree Go1 of MuJoCo Playground, ONNX",
    "g1": "Unitree G1 of unitree_rl_gym, TorchScript, an LSTM",
}
"""What there is no environment of, as ``reproduction.generated`` has it."""

NEVER = 1e9
"""A target that ends no run: students have their whole budget."""


def theirs(case: Case, folder: Path) -> dict[str, Any]:
    """Return what the policy returns by its own library, episode by episode."""
    import sb3_contrib
    import stable_baselines3
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env = gymnasium.make(case.env)
    library = stable_baselines3 if hasattr(stable_baselines3, case.algorithm) else sb3_contrib
    # What these zips of 2021 pickled belongs to packages that are no more; none of it acts.
    gone = ("lr_schedule", "exploration_schedule", "clip_range", "action_noise", "replay_buffer")
    custom = {name: None for name in gone}
    custom["lr_schedule"] = custom["clip_range"] = lambda _: 0.0  # type: ignore[assignment]
    custom["exploration_schedule"] = lambda _: 0.0  # type: ignore[assignment]
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    model = getattr(library, case.algorithm).load(
        folder / case.file, custom_objects={**custom, **spaces}, device="cpu", buffer_size=1
    )
    norm = None
    if case.statistics:
        # Written when Gymnasium was called gym.
        spaces_then = {"gym": gymnasium, "gym.spaces": gymnasium.spaces}
        parts = {f"gym.spaces.{name}": getattr(gymnasium.spaces, name) for name in ("box", "space")}
        with patch.dict(sys.modules, {**spaces_then, **parts}):
            norm = VecNormalize.load(str(folder / case.statistics), DummyVecEnv([lambda: env]))
    returns = []
    for episode in range(EPISODES):
        obs, _ = env.reset(seed=episode)
        total, over = 0.0, False
        while not over:
            shown = obs if norm is None else norm.normalize_obs(obs)
            action, _ = model.predict(shown, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return {"returns": returns}


def at_random(case: Case) -> dict[str, Any]:
    """Return what uniformly random actions return, episode by episode."""
    if not case.library:
        return _at_random_here(case)
    env = gymnasium.make(case.env)
    env.action_space.seed(0)
    returns = []
    for episode in range(EPISODES):
        env.reset(seed=episode)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return {"returns": returns}


def _at_random_here(case: Case) -> dict[str, Any]:
    """Return the same of an environment that is not Gymnasium's."""
    rng = np.random.default_rng(0)

    def draw(obs: Any) -> Any:
        return torch.from_numpy(rng.integers(6, size=len(obs)))

    played = tt.evaluate(draw, case.env, head=tt.Categorical(6), episodes=EPISODES)
    return {"returns": played.returns.tolist()}


def ours(case: Case, folder: Path) -> dict[str, Any]:
    """Return what the policy returns here, episode by episode."""
    played = tt.evaluate(teacher_of(case, folder), case.env, episodes=EPISODES, seed=0)
    return {"returns": played.returns.tolist()}


def student(case: Case, folder: Path, seed: int, runs: Path) -> dict[str, Any]:
    """Distil a student and return what it came to."""
    out = runs / f"{Path(case.file).stem}-{seed}"
    outcome = tt.distill(
        teacher_of(case, folder),
        case.env,
        case.student,
        out=out,
        resume=(out / "config.toml").exists(),
        seed=seed,
        env_steps=case.env_steps,
        target_return=NEVER,
        threads=1,
        confirm_episodes=EPISODES,
        **case.settings,
    )
    result = outcome.result
    return {
        "returns": result["returns"],
        "parameters": result["parameters"],
        "teacher_parameters": result["teacher"]["parameters"],
        "us_per_action": result["us_per_action"],
        "teacher_us_per_action": result["teacher"]["us_per_action"],
        "env_steps": result["env_steps"],
        "seconds": result["seconds"],
        "command": command(case, seed),
    }


def run(folder: Path, *, seeds: int, only: Sequence[str], rows: Path, runs: Path) -> None:
    """Run what has no row yet, and append a row for each."""
    known = {(row["case"], row["what"], row.get("seed")) for row in read(rows)}
    for name, case in CASES.items():
        if (only and name not in only) or not (folder / case.file).is_file():
            continue
        jobs: list[tuple[str, int | None, Callable[[], dict[str, Any]]]] = [
            ("random", None, partial(at_random, case)),
            *([("theirs", None, partial(theirs, case, folder))] if case.library else []),
            ("ours", None, partial(ours, case, folder)),
            *(
                ("student", seed, partial(student, case, folder, seed, runs))
                for seed in range(1, seeds + 1)
            ),
        ]
        for what, seed, job in jobs:
            if (name, what, seed) in known:
                continue
            print(f"{name}: {what} {'' if seed is None else seed}", file=sys.stderr, flush=True)
            row = {
                "case": name,
                "what": what,
                "seed": seed,
                "file": {case.file: file_digest(folder / case.file)},
                **job(),
                "versions": versions(),
            }
            append(rows, row)


def page(
    rows: Iterable[Mapping[str, Any]],
    peers: Iterable[Mapping[str, Any]] = (),
    generated: Iterable[Mapping[str, Any]] = (),
    usual: Iterable[Mapping[str, Any]] = (),
) -> str:
    """Return ``any-policy.md``, made from the rows alone.

    ``peers`` are rows of other libraries, ``generated`` those of ``reproduction.generated``,
    ``usual`` those of students that learnt by the usual settings.
    """
    by_case = {name: of for (name,), of in grouped(rows, "case").items()}
    lines, commands, missed = [], [], []
    for name, case, played, students in _whole(by_case):
        by_library = _mean(played["theirs"]) if case.library else "none here"
        first = students[0]
        kept = _kept(played, students)
        if kept[0] < 0.95 or kept[1] < 0.9:
            missed.append(name)
        seeds = ", ".join(f"{np.mean(row['returns']):,.1f}" for row in students)
        lines.append(
            f"| {case.algorithm}, {case.env} | {case.owners} | {by_library} | "
            f"{_mean(played['ours'])} | {np.mean(played['random']):,.1f} | {_size(first)} | "
            f"{seeds} | {kept[0]:.1%} ({kept[1]:.1%} … {kept[2]:.1%}) | {first['env_steps']:,} | "
            f"{', '.join(format(row['seconds'], '.0f') for row in students)} | "
            f"{first['us_per_action']:.0f} / {first['teacher_us_per_action']:.0f} |"
        )
        commands.append(first["command"])
    commits = sorted({row["versions"]["commit"][:7] for of in by_case.values() for row in of})
    machines = sorted({row["versions"]["machine"] for of in by_case.values() for row in of})
    goal = "All of them do." if not missed else f"Not so: {', '.join(missed)}; the others do."
    return f"""{HEAD}
{goal}

{TABLE}
{chr(10).join(lines)}

{NOTES}
```sh
{chr(10).join(commands)}
```

Their other seeds likewise. At {", ".join(commits)}, on {"; ".join(machines)}, one thread; other
programs ran beside, so that seconds are upper bounds.
{_usually(usual)}{_beside(by_case, peers)}{_without_environment(generated)}"""


def _usually(rows: Iterable[Mapping[str, Any]]) -> str:
    """Say what students of other settings in the table came to by the usual ones."""
    lines = [
        f"With default settings and as many env steps, students in {CASES[name].env} returned "
        + ", ".join(f"{np.mean(row['returns']):,.1f}" for row in of)
        + f" (commit {of[0]['versions']['commit'][:7]})."
        for (name,), of in grouped(rows, "case").items()
    ]
    return "".join(f"\n{textwrap.fill(line, 100)}\n" for line in lines)


def summary(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the table in short, as the README has it."""
    by_case = {name: of for (name,), of in grouped(rows, "case").items()}
    lines = ["| policy | returns | its student | returns | kept (95 %) |", "|" + " --- |" * 5]
    for _, case, played, students in _whole(by_case):
        kept, low, high = _kept(played, students)
        lines.append(
            f"| {case.algorithm}, {case.env} | {_short(played['ours'].mean())} | "
            f"{_size(students[0])} | {_short(np.mean([row['returns'] for row in students]))} | "
            f"{kept:.0%} ({low:.0%} … {high:.0%}) |"
        )
    return "\n".join(lines)


def _short(mean: float) -> str:
    """Return a mean return with one decimal where it is small, else without."""
    return f"{mean:,.1f}" if abs(mean) < 100 else f"{mean:,.0f}"


Whole = tuple[str, Case, dict[str, np.ndarray[Any, Any]], list[Mapping[str, Any]]]


def _whole(by_case: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Whole]:
    """Yield the cases that have been played by all, with returns and students' rows."""
    for name, case in CASES.items():
        of = by_case.get(name, [])
        played = {row["what"]: np.array(row["returns"]) for row in of if row["what"] != "student"}
        students = [row for row in of if row["what"] == "student"]
        needed = {"random", "ours", *(["theirs"] if case.library else [])}
        if set(played) == needed and students:
            yield name, case, played, students


def _kept(
    played: Mapping[str, np.ndarray[Any, Any]], students: Sequence[Mapping[str, Any]]
) -> tuple[float, float, float]:
    of = [np.array(row["returns"]) for row in students]
    return share_kept(of, played["ours"], played["random"])


def _size(row: Mapping[str, Any]) -> str:
    share = row["parameters"] / row["teacher_parameters"]
    return f"{row['parameters']:,} of {row['teacher_parameters']:,} ({share:.1%})"


def _means(rows: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{np.mean(row['returns']):,.1f}" for row in rows)


def _range(rows: Iterable[Mapping[str, Any]], key: str) -> str:
    """Return the least and the most that rows have under ``key``."""
    low, *_, high = sorted([*(row[key] for row in rows)] * 2)
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} … {high:,.0f}"


def _beside(
    ours: Mapping[str, Sequence[Mapping[str, Any]]], peers: Iterable[Mapping[str, Any]]
) -> str:
    """Return the section of what another library makes of the same policies."""
    lines, made = [], []
    for (name, what), of in grouped(peers, "case", "what").items():
        students = [row for row in ours.get(name, ()) if row["what"] == "student"]
        case = CASES[name]
        lines.append(
            f"| {case.algorithm}, {case.env} | {what.replace('imitation-', '')} | {_means(of)} | "
            f"{_range(of, 'env_steps')} | {_range(of, 'seconds')} | {_range(of, 'parameters')} | "
            f"{_means(students) or 'not yet'} |"
        )
        made += of
    if not lines:
        return ""
    versions = made[0]["versions"]
    at = ", ".join(sorted({row["versions"]["commit"][:7] for row in made}))
    return f"""
## By another library

The same policies distilled by [imitation](https://github.com/HumanCompatibleAI/imitation)
{versions["imitation"]}, by its own settings, into students of the same widths, at as many env
steps, each playing 100 episodes. It needs Gymnasium {versions["gymnasium"]}, whose LunarLander is
v2. Its seconds leave evaluation out; other programs ran beside, so that they are upper bounds.
[DistillBench](distillbench.md) has other libraries and budgets; `reproduction/peers` makes its
rows, and made these at the commits below.

| policy | algorithm | its students' returns | env steps | seconds | parameters | ours, by seed |
|{" --- |" * 7}
{chr(10).join(lines)}

At {at}.
"""


def _without_environment(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the section of policies whose environment is not here."""
    lines, commands, at = [], [], set()
    for (name,), of in grouped(rows, "case").items():
        parity = [row for row in of if row["what"] == "parity"]
        students = [row for row in of if row["what"] == "student"]
        if not parity or not students:
            continue
        first = students[0]
        share = first["parameters"] / first["teacher_parameters"]
        lines.append(
            f"| {ROBOTS[name]} | {parity[0]['difference']:.1g} | {first['parameters']:,} of "
            f"{first['teacher_parameters']:,} ({share:.1%}) | "
            f"{', '.join(format(row['error'], '.1%') for row in students)} | "
            f"{first['env_steps']:,} | {_range(students, 'seconds')} | "
            f"{first['us_per_action']:.0f} / {first['teacher_us_per_action']:.0f} |"
        )
        commands.append(first["command"])
        at |= {row["versions"]["commit"][:7] for row in of}
    if not lines:
        return ""
    return f"""
## Without an environment

Two policies of robots whose environments are not here, on generated observations
(`python -m reproduction.generated`): each number wanders as z' = 0.9 z + 0.44 e, of standard normal
z and e, around the mean and by the deviation that the first file normalises its inputs with, and
around 0 by 0.2 for the second, which holds none. No robot walks like that. "Difference" is the
largest one from what the file's own runtime says, of 1,000 observations. "Error" is the root mean
square of student - teacher, in standard deviations of the teacher's actions, over 20 further
episodes. The second has a memory; its student has none and sees four observations instead.

{ROBOT_TABLE}
{chr(10).join(lines)}

```sh
{chr(10).join(commands)}
```

At {", ".join(sorted(at))}.
"""


HEAD = """# Policies that others trained

Made by `python -m reproduction.policies --docs docs` from `results/any-policy/rows.jsonl`; not
typed.

Each is a file of [rl-trained-agents](https://github.com/DLR-RM/rl-trained-agents) (MIT), written
by Stable-Baselines3 or sb3-contrib in 2021, read as it is; A3C is
[baby-a3c](https://github.com/greydanus/baby-a3c)'s (MIT), a state dict. It played 100 episodes by
its own library, where that is here, and 100 here, on other starts. Three students of each, one for
every seed, then played 100.

"Kept" is the share of the teacher's distance from random play, (student - random) / (teacher -
random), with the 95 % bootstrap interval over episodes and seeds. The aim was 95 %, the lower end
at 90 %."""

TABLE = (
    "| policy | its owners say | by its own library (95 %) | by Tutelage (95 %) | random play | "
    "student's parameters | students' returns, by seed | kept | env steps | seconds, by seed | "
    "µs per action, student / teacher |\n|" + " --- |" * 11
)

NOTES = """The budget of 30,000 env steps (HalfCheetah: 100,000) ends with the round of 1,024 in
which it is reached. The students, of seed 1:
"""


ROBOT_TABLE = (
    "| policy | difference | student's parameters | error, by seed | env steps | seconds | "
    "µs per action, student / teacher |\n|" + " --- |" * 7
)


def share_kept(
    students: Sequence[np.ndarray[Any, Any]],
    teacher: np.ndarray[Any, Any],
    random: np.ndarray[Any, Any],
    *,
    resamples: int = 10_000,
) -> tuple[float, float, float]:
    """Return (S - R) / (T - R) of mean returns, and its 95 % percentile bootstrap interval.

    Seeds are resampled, then the episodes of each; teacher's and random play's as well.
    """
    rng = np.random.default_rng(seeded(0, "kept"))

    def means(of: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        drawn = rng.integers(len(of), size=(resamples, len(of)))
        return np.asarray(of[drawn].mean(axis=1))

    each = np.stack([means(of) for of in students])
    which = rng.integers(len(students), size=(len(students), resamples))
    s = np.take_along_axis(each, which, axis=0).mean(axis=0)
    t, r = means(teacher), means(random)
    low, high = np.quantile((s - r) / (t - r), [0.025, 0.975])
    middle = np.mean([of.mean() for of in students])
    kept = (middle - random.mean()) / (teacher.mean() - random.mean())
    return float(kept), float(low), float(high)


def _mean(returns: np.ndarray[Any, Any]) -> str:
    evaluation = tt.Evaluation(returns, np.zeros(len(returns), np.int64))
    low, high = evaluation.interval()
    return f"{evaluation.mean:,.1f} ({low:,.1f} … {high:,.1f})"


def main() -> None:
    """Run, or write the page."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.policies", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="where the policies' files are")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=(), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--runs", type=Path, default=Path("runs/any-policy"))
    parser.add_argument("--docs", type=Path, help="write any-policy.md into this folder")
    asked = parser.parse_args()
    try:
        if asked.folder is not None:
            with owning(1):
                run(
                    asked.folder,
                    seeds=asked.seeds,
                    only=asked.only,
                    rows=asked.rows,
                    runs=asked.runs,
                )
        if asked.docs is not None:
            kept = (asked.rows, *(asked.rows.parent / name for name in BESIDE))
            text = page(*(read(path) for path in kept))
            write_atomic(asked.docs / "any-policy.md", text.encode())
    except UserError as error:
        print(f"reproduction.policies: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
