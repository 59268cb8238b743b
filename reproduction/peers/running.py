"""Runs made and played: a row for every student, appended once all of a run's students played."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tutelage as tt
from reproduction.peers.drivers.common import TAU
from reproduction.peers.jobs import JOBS, METHODS, TUNING_SEED, Job, Settings
from reproduction.records import Record, append, read
from tutelage.domains import EnvironmentConfig, spaces_of
from tutelage.errors import UserError
from tutelage.files import file_digest
from tutelage.heads import head_for
from tutelage.runs import versions
from tutelage.types import seeded

ROWS = Path("results/distillbench/rows.jsonl")
TUNING = Path("results/distillbench/tuning.jsonl")
HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where things are."""

    teachers: Path
    pythons: Path
    """The folder of the libraries' environments."""
    runs: Path
    rows: Path
    tuning: Path


@dataclass(frozen=True, kw_only=True)
class Run:
    """A method with some settings and a seed, on a job."""

    job: str
    method: str
    seed: int
    settings: Settings
    budgets: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What tells it from others."""
        return key(vars(self))


def key(row: Mapping[str, Any]) -> tuple[str, str, int, str]:
    """Return what tells the run of a row from others."""
    return row["job"], row["method"], row["seed"], json.dumps(row["settings"], sort_keys=True)


def chosen(job: str, method: str, tuning: Sequence[Record]) -> dict[str, Any] | None:
    """Return the settings that returned most on the seed for tuning; None until all were tried.

    Of equal returns the first of the grid is taken. Where there is one choice, there is no trial.
    """
    at = JOBS[job].tuned_at
    tried = {
        json.dumps(row["settings"], sort_keys=True): float(np.mean(row["returns"]))
        for row in tuning
        if (row["job"], row["method"], row["budget"]) == (job, method, at)
    }
    choices = METHODS[method].choices
    if len(choices) == 1:
        return choices[0]
    names = [json.dumps(of, sort_keys=True) for of in choices]
    if not set(names) <= tried.keys():
        return None
    return max(zip(choices, names, strict=True), key=lambda pair: tried[pair[1]])[0]


def tuning_runs(job: str, method: str) -> list[Run]:
    """Return what is tried before settings are chosen."""
    at, choices = JOBS[job].tuned_at, METHODS[method].choices
    if at is None or len(choices) == 1:
        return []
    return [
        Run(job=job, method=method, seed=TUNING_SEED, settings=of, budgets=(at,)) for of in choices
    ]


def runs_of(job: str, method: str, seed: int, tuning: Sequence[Record]) -> list[Run]:
    """Return a seed's runs: by the library's own settings, and by the chosen ones, if others."""
    best = chosen(job, method, tuning)
    settings: list[dict[str, Any]] = [{}, *([best] if best else [])]
    budgets = tuple(of for of in JOBS[job].budgets if of <= METHODS[method].up_to)
    return [Run(job=job, method=method, seed=seed, settings=of, budgets=budgets) for of in settings]


def run_all(
    place: Place, *, jobs: Sequence[str], methods: Sequence[str], seeds: Sequence[int], tune: bool
) -> None:
    """Run what has no row yet: first what settings are chosen by, then seed by seed."""
    for job in jobs:
        references(place, job)
    pairs = [(job, method) for job in jobs for method in methods if job in METHODS[method].jobs]
    if tune:
        for job, method in pairs:
            for one in tuning_runs(job, method):
                carry_out(place, one, place.tuning)
    for seed in seeds:
        for job, method in pairs:
            for one in runs_of(job, method, seed, read(place.tuning)):
                carry_out(place, one, place.rows)


def carry_out(place: Place, run: Run, rows: Path) -> None:
    """Distil, play the students, and append a row for each, unless the run has its rows."""
    if run.key in {key(row) for row in read(rows) if "seed" in row}:
        return
    job = JOBS[run.job]
    shown = " ".join(f"{name}={value}" for name, value in run.settings.items())
    print(f"{run.job}: {run.method} {run.seed} {shown}", file=sys.stderr, flush=True)
    done = distilled(place, run)
    made = [
        {
            "job": run.job,
            "method": run.method,
            "seed": run.seed,
            "settings": dict(run.settings),
            **{name: value for name, value in one.items() if name != "policy"},
            "returns": play(one["policy"], job),
            "trained_in": done["trained_in"],
            "peer": done["peer"],
            "command": command(run),
            **origin(place, job),
        }
        for one in done["students"]
    ]
    for row in made:
        append(rows, row)
        told = f"{row['budget']}: {np.mean(row['returns']):.1f}, {row['cpu_seconds']:.0f} s"
        print(f"  {told}", file=sys.stderr, flush=True)


def command(run: Run) -> str:
    """Return the command that makes a run's rows."""
    tuned = "--tune" if run.seed == TUNING_SEED else f"--seeds {run.seed}"
    return f"python -m reproduction.peers TEACHERS --jobs {run.job} --methods {run.method} {tuned}"


def origin(place: Place, job: Job) -> dict[str, Any]:
    """Return what a row was made with."""
    path = place.teachers / job.teacher
    files = {job.teacher: file_digest(path)} if path.is_file() else {}
    return {"files": files, "versions": versions()}


def distilled(place: Place, run: Run) -> dict[str, Any]:
    """Return what a driver left, after it ran in a process of its own on one thread."""
    job, method = JOBS[run.job], METHODS[run.method]
    settings: dict[str, Any] = {**method.settings, **run.settings}
    python, path = Path(sys.executable), str(HERE)
    teacher = str((place.teachers / job.teacher).resolve())
    if job.algorithm == "script":
        teacher = job.teacher
    if method.python:
        python = (place.pythons / method.python / "bin" / "python").absolute()
        if not python.is_file():
            raise UserError(f"{python}: no such Python; the page says what to install")
        if job.algorithm == "script":
            teacher = scripted(job, place.runs)
    else:
        settings |= {"student": job.student, **job.settings}
        path = os.pathsep.join([path, *sys.path])
    name = "-".join([run.job, run.method, str(run.seed), *map(str, run.settings.values())])
    out = unused(place.runs / name.replace(":", "-"))
    spec = {
        "teacher": teacher,
        "algorithm": job.algorithm,
        "env": job.env,
        "widths": job.widths,
        "budgets": run.budgets,
        "seed": run.seed,
        "settings": settings,
        "out": str(out.resolve()),
    }
    ended = subprocess.run(
        [str(python), "-m", "drivers", method.driver, json.dumps(spec)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        *_, last = ended.stderr.strip().splitlines() or [""]
        raise UserError(f"{run.job}: {run.method} {run.seed}: the driver failed: {last}")
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def unused(folder: Path) -> Path:
    """Return a folder that does not exist, as what was cut off may lie in the first."""
    tries = (folder.with_name(f"{folder.name}-{n}") for n in range(1, 10_000))
    return folder if not folder.exists() else next(of for of in tries if not of.exists())


class Logits(torch.nn.Module):
    """A bundled model as ``obs[N,4,84,84] -> logits[N,A]``."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.policy: Any = tt.load(name).policy

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return its numbers as the logits that Tutelage distils them at."""
        said: torch.Tensor = self.policy.step(obs, ())[0]
        return said / TAU


def scripted(job: Job, runs: Path) -> str:
    """Return a bundled model as a TorchScript file, which any library's driver can ask."""
    path = (runs / f"{job.teacher}.pt").resolve()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            example = torch.zeros(1, 4, 84, 84, dtype=torch.uint8)
            traced: Any = torch.jit.trace(Logits(job.teacher).eval(), example)  # type: ignore[no-untyped-call]
        traced.save(str(path))
    return str(path)


def play(policy: Any, job: Job) -> list[float]:
    """Return the returns of greedy episodes, from the same starts for every policy."""
    played = tt.evaluate(policy, job.env, episodes=job.episodes, seed=0, threads=1, **job.settings)
    return [float(one) for one in played.returns]


def references(place: Place, name: str) -> None:
    """Append what the teacher and random play return, unless it is known."""
    job = JOBS[name]
    path = place.teachers / job.teacher
    teacher = str(path) if job.algorithm != "script" else job.teacher
    known = {row["what"] for row in read(place.rows) if row["job"] == name and "what" in row}
    for what, policy in (("teacher", teacher), ("random", None)):
        if what in known:
            continue
        returns = play(policy, job) if policy else at_random(job)
        parameters = tt.load(teacher).parameters if policy else 0
        row = {"job": name, "what": what, "returns": returns, "parameters": parameters}
        append(place.rows, {**row, **origin(place, job)})


def at_random(job: Job) -> list[float]:
    """Return the returns of actions that are drawn uniformly."""
    rng = np.random.default_rng(seeded(0, "random"))
    head = head_for(spaces_of(EnvironmentConfig(env=job.env)).actions)

    def draw(obs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(-1.0, 1.0, (len(obs), head.size)))

    played = tt.evaluate(
        draw, job.env, head=head, episodes=job.episodes, seed=0, threads=1, **job.settings
    )
    return [float(one) for one in played.returns]
