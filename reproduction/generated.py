"""Policies of robots without an environment here: parity, and students on generated observations.

``python -m reproduction.generated FOLDER`` appends what has no row yet to
``results/any-policy/generated.jsonl``. Observations are mean + sd z, with z' = 0.9 z + 0.44 e of
standard normal z and e, 100 an episode; what is done changes nothing. Mean and sd are those that
the file normalises its inputs by, or 0 and 0.2 where it holds none. Needs the extra ``dev``.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

import tutelage as tt
from reproduction.policies import NEVER
from reproduction.records import append, read
from tutelage.domains import EnvironmentConfig, make
from tutelage.files import file_digest
from tutelage.policies import Policy
from tutelage.runs import versions
from tutelage.teachers import model_of
from tutelage.threads import owning
from tutelage.types import Array

ROWS = Path("results/any-policy/generated.jsonl")
STEPS = 100
KEPT = 0.9
"""The share of an observation that is left in the next one."""
HELD_OUT = 20
"""Episodes that errors are measured on."""


class Generated(gymnasium.Env[Array, Array]):
    """Observations that nothing done changes, as the module says."""

    def __init__(self, obs: int, actions: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs,), np.float32)
        self.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (actions,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        self._z = self.np_random.standard_normal(self.observation_space.shape)
        return self._z.astype(np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        fresh = self.np_random.standard_normal(self._z.shape)
        self._z = KEPT * self._z + np.sqrt(1.0 - KEPT**2) * fresh
        return self._z.astype(np.float32), 0.0, False, self._steps == STEPS, {}


class Scaled(gymnasium.ObservationWrapper[Array, Array, Array]):
    """Observations as an ONNX file normalises them, or of a standard deviation."""

    def __init__(self, env: gymnasium.Env[Array, Array], file: str = "", sd: float = 1.0) -> None:
        super().__init__(env)
        moments = _normalised(Path(file)) if file else (np.zeros(()), np.array(sd))
        self._mean: Array = moments[0]
        self._sd: Array = moments[1]

    def observation(self, observation: Array) -> Array:
        return np.asarray(self._mean + self._sd * observation, np.float32)


def _normalised(path: Path) -> tuple[Array, Array]:
    """Return mean and sd of each input, which a Sub and the Mul behind it hold."""
    import onnx
    from onnx import numpy_helper

    graph: Any = onnx.load(str(path)).graph
    held = {one.name: numpy_helper.to_array(one) for one in graph.initializer}

    def of(kind: str) -> Array:
        node = next(node for node in graph.node if node.op_type == kind)
        return np.asarray(next(held[name] for name in node.input if name in held))

    return of("Sub"), 1.0 / of("Mul")


def newest(obs: Array) -> Array:
    """Return the last frame of a stack, ``[N,stack,n] -> [N,1,n]``: what a memory is shown."""
    return obs[:, -1:]


for _obs in (47, 48):
    # As the program that runs, this module is imported again by its name.
    if f"Generated{_obs}-v0" not in gymnasium.registry:
        gymnasium.register(
            f"Generated{_obs}-v0",
            "reproduction.generated:Generated",
            kwargs={"obs": _obs, "actions": 12},
        )


@dataclass(frozen=True)
class Case:
    """A policy, and the student that is made of it."""

    file: str
    teacher: str
    """As the command names it, FILE for where it is."""
    env: str
    student: str
    original: Callable[[Path, Sequence[Tensor]], list[Tensor]]
    """What the program itself says of one sequence of observations ``[1,n]``."""
    env_steps: int = 30_000
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def _onnx(path: Path, obs: Sequence[Tensor]) -> list[Tensor]:
    onnxruntime: Any = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(session.run(None, {"obs": x.numpy()})[0]) for x in obs]


def _torchscript(path: Path, obs: Sequence[Tensor]) -> list[Tensor]:
    load: Any = torch.jit.load
    module = load(str(path))
    with torch.no_grad():
        return [module(x).clone() for x in obs]


CASES = {
    "go1": Case(
        "playground-go1.onnx",
        "FILE",
        "reproduction.generated:Generated48-v0",
        "mlp:64/64",
        _onnx,
        settings={"env_wrappers": ("reproduction.generated:Scaled:FILE",)},
    ),
    "g1": Case(
        "unitree-g1-lstm.pt",
        "torchscript:FILE",
        "reproduction.generated:Generated47-v0",
        "mlp:32/32",
        _torchscript,
        # A student has no memory: it sees four observations, its teacher the newest.
        settings={
            "stack": 4,
            "teacher_view": "reproduction.generated:newest",
            "env_wrappers": ("reproduction.generated:Scaled:sd=0.2",),
        },
    ),
}


def settings_of(case: Case, file: str) -> dict[str, Any]:
    """Return the settings of the environment, of a policy that is in ``file``."""
    return {
        name: tuple(one.replace("FILE", file) for one in value)
        if isinstance(value, tuple)
        else value
        for name, value in case.settings.items()
    }


def environment_of(case: Case, folder: Path) -> EnvironmentConfig:
    """Return the environment as student and teacher see it."""
    usual = EnvironmentConfig(env=case.env)
    settings = settings_of(case, str(folder / case.file))
    return replace(usual, gymnasium=replace(usual.gymnasium, **settings))


def teacher_of(case: Case, folder: Path) -> str:
    """Return the teacher as the command names it."""
    return case.teacher.replace("FILE", str(folder / case.file))


def command(case: Case, seed: int) -> str:
    """Return the command that makes a student."""
    options = "".join(
        f" --{name.replace('_', '-')} {' '.join(value) if isinstance(value, tuple) else value}"
        for name, value in settings_of(case, case.file).items()
    )
    return (
        f"tutelage distill --teacher {case.teacher.replace('FILE', case.file)} --env {case.env} "
        f"--student {case.student} --env-steps {case.env_steps} --target-return {NEVER:g}{options} "
        f"--seed {seed}"
    )


def parity(case: Case, folder: Path) -> dict[str, Any]:
    """Return the largest difference from what the program itself says, of 1,000 observations."""
    envs = make(replace(environment_of(case, folder), num_envs=1), seed=0)
    policy = model_of(teacher_of(case, folder), envs.teacher_spaces).policy
    generator = torch.Generator().manual_seed(0)
    obs = [torch.randn(1, *envs.teacher_obs.shape[2:], generator=generator) for _ in range(1_000)]
    envs.close()
    carry, ours = policy.initial(1), []
    for x in obs:
        out, carry = policy.step(x[:, None], carry)
        ours.append(out)
    theirs = case.original(folder / case.file, obs)
    return {"difference": float((torch.cat(ours) - torch.cat(theirs)).abs().max())}


def student(case: Case, folder: Path, seed: int, runs: Path) -> dict[str, Any]:
    """Distil a student; return its error on held-out episodes, beside what it cost."""
    outcome = tt.distill(
        teacher_of(case, folder),
        case.env,
        case.student,
        out=runs / f"{Path(case.file).stem}-{seed}",
        seed=seed,
        env_steps=case.env_steps,
        target_return=NEVER,
        eval_from=case.env_steps,
        confirm_episodes=1,
        threads=1,
        **settings_of(case, str(folder / case.file)),
    )
    result = outcome.result
    return {
        **error(case, folder, outcome.student),
        "parameters": result["parameters"],
        "teacher_parameters": result["teacher"]["parameters"] or _stored(folder / case.file),
        "us_per_action": result["us_per_action"],
        "teacher_us_per_action": result["teacher"]["us_per_action"],
        "env_steps": result["env_steps"],
        "seconds": result["seconds"],
        "command": command(case, seed),
    }


def error(case: Case, folder: Path, policy: Policy) -> dict[str, float]:
    """Return the root mean square of student - teacher on episodes that it has not seen.

    ``error`` is in units of the standard deviation of the teacher's own actions.
    """
    envs = make(replace(environment_of(case, folder), num_envs=HELD_OUT), seed=0, stream="closing")
    teacher = model_of(teacher_of(case, folder), envs.teacher_spaces).policy
    carry, said = teacher.initial(HELD_OUT), []
    with torch.inference_mode():
        for _ in range(STEPS):
            theirs, carry = teacher.step(torch.from_numpy(envs.teacher_obs), carry)
            ours, _ = policy.step(torch.from_numpy(envs.obs), ())
            action = policy.head.mode(ours)
            said.append((action, teacher.head.mode(theirs)))
            envs.step(action.numpy())
    envs.close()
    student, wanted = (torch.stack(side) for side in zip(*said, strict=True))
    rmse = float((student - wanted).square().mean().sqrt())
    spread = float((wanted - wanted.mean(dim=(0, 1))).square().mean().sqrt())
    return {"rmse": rmse, "error": rmse / spread}


def _stored(path: Path) -> int:
    """Return how many numbers the layers of an ONNX file hold."""
    import onnx

    held: Any = onnx.load(str(path)).graph.initializer
    return sum(int(np.prod(list(one.dims))) for one in held)


def run(folder: Path, *, seeds: int, rows: Path, runs: Path) -> None:
    """Run what has no row yet, and append a row for each."""
    known = {(row["case"], row["what"], row.get("seed")) for row in read(rows)}
    there = {name: case for name, case in CASES.items() if (folder / case.file).is_file()}
    for seed in (None, *range(1, seeds + 1)):
        for name, case in there.items():
            what = "parity" if seed is None else "student"
            if (name, what, seed) in known:
                continue
            print(f"{name}: {what} {seed or ''}", file=sys.stderr, flush=True)
            made = parity(case, folder) if seed is None else student(case, folder, seed, runs)
            row = {
                **{"case": name, "what": what, "seed": seed},
                "file": {case.file: file_digest(folder / case.file)},
                **made,
                "versions": versions(),
            }
            append(rows, row)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.generated", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the policies' files are")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--runs", type=Path, default=Path("runs/any-policy"))
    asked = parser.parse_args()
    with owning(1):
        run(asked.folder, seeds=asked.seeds, rows=asked.rows, runs=asked.runs)


if __name__ == "__main__":
    main()
