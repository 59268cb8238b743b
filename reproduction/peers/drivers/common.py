"""What the drivers share: what they are asked, the teacher, the clock, and what they leave."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

TAU = 0.1
"""Temperature at which Q-values are read as logits; Tutelage's own default."""
SD = 0.1
"""Standard deviation of a deterministic action where a library needs a distribution."""
FRAMES = 4
"""Frames that a policy of an Atari game sees."""


@dataclass(frozen=True)
class Spec:
    """What is to be distilled, how, and how often."""

    teacher: str
    """Its file."""
    algorithm: str
    """Stable-Baselines3's that wrote it, or ``script``: a TorchScript file that says logits."""
    env: str
    widths: tuple[int, ...]
    budgets: tuple[int, ...]
    """In env steps, rising."""
    seed: int
    settings: Mapping[str, Any]
    out: str

    @classmethod
    def read(cls, text: str) -> "Spec":
        """Return what a JSON object says."""
        given = json.loads(text)
        return cls(**{**given, **{name: tuple(given[name]) for name in ("widths", "budgets")}})


@dataclass
class Clock:
    """Seconds since it was made: of the wall, and of the processor."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def read(self) -> dict[str, float]:
        """Return both."""
        return {
            "seconds": time.perf_counter() - self.wall,
            "cpu_seconds": time.process_time() - self.cpu,
        }

    def put_off(self, begun: "Clock") -> None:
        """Leave out what was spent since ``begun``."""
        gone = begun.read()
        self.wall += gone["seconds"]
        self.cpu += gone["cpu_seconds"]


def student(
    spec: Spec, budget: int, *, acting: nn.Module, obs: Tensor, env_steps: int, clock: Clock
) -> dict[str, Any]:
    """Write what acts, ``obs[N,*O] -> out[N,L]``, as TorchScript; return what it came to.

    Writing is no part of distilling: the clock leaves it out.
    """
    begun = Clock()
    spent = clock.read()
    path = Path(spec.out) / f"{budget}.pt"
    acting.eval()
    with torch.no_grad():
        written: Any = torch.jit.trace(acting, obs)  # type: ignore[no-untyped-call]
        written.save(str(path))
    clock.put_off(begun)
    return {
        "budget": budget,
        "env_steps": env_steps,
        **spent,
        "policy": f"torchscript:{path}",
        "parameters": sum(p.numel() for p in acting.parameters()),
    }


class Predicts(Protocol):
    """A teacher, as far as all libraries of Stable-Baselines3's kind need one."""

    def predict(self, observation: Any, **options: Any) -> tuple[Any, Any]:
        """Return actions of observations ``[N,*O]``, or of one, and a state."""


class Script:
    """A teacher of a TorchScript file that says logits of ``obs[N,*O]``."""

    def __init__(self, path: str) -> None:
        self.module = torch.jit.load(path)  # type: ignore[no-untyped-call]

    def logits(self, obs: Tensor) -> Tensor:
        """Return ``[N,A]``."""
        with torch.no_grad():
            said: Tensor = self.module(obs)
        return said

    def predict(self, observation: Any, **options: Any) -> tuple[Any, Any]:
        """Return the best action of each observation ``[N,4,84,84]``, or of one."""
        obs = torch.as_tensor(observation)
        alone = obs.ndim == 3
        best = self.logits(obs[None] if alone else obs).argmax(dim=1).numpy()
        return (best[0] if alone else best), None


def teacher_of(spec: Spec, observation_space: Any, action_space: Any) -> Any:
    """Return the teacher, a model of Stable-Baselines3 or a ``Script``.

    What a zip of 2021 pickled of learning is left out: it belongs to packages that are no more.
    """
    if spec.algorithm == "script":
        return Script(spec.teacher)
    import stable_baselines3

    custom: dict[str, Any] = dict.fromkeys(("action_noise", "replay_buffer"))
    rates = ("lr_schedule", "clip_range", "exploration_schedule")
    custom |= {name: lambda _: 0.0 for name in rates}
    custom |= {"observation_space": observation_space, "action_space": action_space}
    kind: Any = getattr(stable_baselines3, spec.algorithm)
    more = {"buffer_size": 1} if spec.algorithm != "PPO" else {}
    return kind.load(spec.teacher, custom_objects=custom, device="cpu", **more)


OLDER = {"LunarLander-v3": "LunarLander-v2", "HalfCheetah-v5": "HalfCheetah-v4"}
"""What environments were called before Gymnasium 1.0."""


def env_id(env: str) -> str:
    """Return what this Gymnasium calls an environment."""
    import gymnasium

    return OLDER.get(env, env) if env not in gymnasium.registry else env


def make_env(env: str) -> Any:
    """Return an environment; ``pong`` is sticky Pong, seen as Tutelage sees it."""
    import gymnasium

    if env != "pong":
        return gymnasium.make(env_id(env))
    import ale_py
    from gymnasium import wrappers

    if hasattr(gymnasium, "register_envs"):
        gymnasium.register_envs(ale_py)
    raw = gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.25)
    seen = wrappers.AtariPreprocessing(raw, noop_max=30)
    if not hasattr(wrappers, "FrameStackObservation"):
        older: Any = wrappers.FrameStack  # before Gymnasium 1.0
        return older(seen, FRAMES)
    return wrappers.FrameStackObservation(seen, FRAMES, padding_type="zero")
