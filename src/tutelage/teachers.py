"""Networks in files, the bundled ones, and a ensemble of teachers made of them.

A teacher is any callable ``obs[B,*O] -> q[B,A]``.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.domains.atari import EnvironmentConfig
from tutelage.errors import UserError
from tutelage.files import load_tensors, save_tensors
from tutelage.networks import QNetwork, parse_size
from tutelage.types import QFunction, seeded, torch_generator
from tutelage.wrappers import Wrapper, parse_wrapper

FORMAT = "tutelage-q-network-1"
BUNDLED = Path(str(files("tutelage") / "bundled"))


@dataclass(frozen=True)
class Model:
    """A network and what is known of it."""

    path: Path
    network: QNetwork
    env: str
    """The environment it was made for, such as ``pong``."""
    card: Mapping[str, Any]
    """What its maker wrote down: how it was trained, ``mean_return``, ``reward_per_step``, …"""


def save(
    path: str | Path, network: QNetwork, *, env: str, card: Mapping[str, Any], half: bool = False
) -> None:
    """Write a network as safetensors with its size, environment and card; fp16 if ``half``."""
    about = {
        "format": FORMAT,
        "size": str(network.size),
        "obs_shape": json.dumps(list(network.obs_shape)),
        "num_actions": str(network.num_actions),
        "env": env,
        "card": json.dumps(dict(card)),
    }
    tensors = {
        name: tensor.half() if half and tensor.ndim else tensor
        for name, tensor in network.state_dict().items()
    }
    save_tensors(Path(path), tensors, about)


def bundled_names() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def load(name: str | Path) -> Model:
    """Load a bundled model by name, a model file, or the best model of a run's folder.

    Raises UserError if there is no such model or the file is not one.
    """
    path = Path(name)
    if name in bundled_names():
        path = BUNDLED / f"{name}.safetensors"
    elif path.is_dir():
        path = next(
            (p for p in (path / "best.safetensors", path / "last.safetensors") if p.exists()),
            path / "last.safetensors",
        )
    elif not path.exists():
        wrapped = (
            "; wrappers (+noise:1) are for teachers and 'evaluate'" if "+" in path.name else ""
        )
        raise UserError(
            f"no model {str(name)!r}: expected a .safetensors file, a run's folder or a bundled "
            f"name ({', '.join(bundled_names())}){wrapped}"
        )
    tensors, about = load_tensors(path)
    if about.get("format") != FORMAT:
        raise UserError(
            f"{path} is a safetensors file but no Tutelage model "
            f"(format {about.get('format')!r}, expected {FORMAT!r})"
        )
    try:
        obs_shape = tuple(int(side) for side in json.loads(about["obs_shape"]))
        size, num_actions = parse_size(about["size"]), int(about["num_actions"])
        env, card = about["env"], json.loads(about["card"])
        network = QNetwork(size, obs_shape, num_actions)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{path} has a damaged header: {error!r}") from error
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path} says it is of size {about['size']} but its tensors differ: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()):
        raise UserError(f"{path} holds NaN or infinite weights")
    return Model(path, network.eval().requires_grad_(False), env, card)


def environment_of(model: Model, *, sticky: float = 0.0) -> EnvironmentConfig:
    """Return the environment a model was made for, with sticky actions if asked."""
    frame = 80 if model.network.obs_shape[-1] == 80 else 84
    return EnvironmentConfig(env=model.env, frame=frame, sticky=sticky)


def check_fits(
    model: Model, name: str, env: str, obs_shape: tuple[int, ...], num_actions: int
) -> None:
    """Raise UserError unless the model can play ``env``."""
    theirs = (model.env, model.network.obs_shape, model.network.num_actions)
    if theirs != (env, obs_shape, num_actions):
        raise UserError(
            f"teacher {name!r} plays {theirs[0]} (observations {list(theirs[1])}, {theirs[2]} "
            f"actions); this run plays {env} (observations {list(obs_shape)}, {num_actions} "
            "actions)"
        )


@dataclass(frozen=True)
class Teacher:
    """One arm: a network, and what is done to it."""

    name: str
    network: QFunction
    wrappers: tuple[Wrapper, ...] = ()


class TeacherError(UserError):
    """A teacher raised an exception or gave Q-values that are not finite."""

    def __init__(self, arm: int, reason: str) -> None:
        super().__init__(arm, reason)  # with both it can be pickled
        self.arm = arm
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Ensemble:
    """K teachers; only those asked for do anything, and copies of one network share its pass."""

    def __init__(self, teachers: Sequence[Teacher], *, seed: int = 0) -> None:
        """``seed`` seeds the noise of wrappers, anew for each teacher and env step.

        Raises UserError for no teachers.
        """
        if not teachers:
            raise UserError("no teachers, expected at least one")
        self.teachers = tuple(teachers)
        self._seed = seed
        networks = {id(teacher.network): teacher.network for teacher in teachers}
        place = {which: i for i, which in enumerate(networks)}
        self._networks = list(networks.values())
        self._network_of = np.array([place[id(teacher.network)] for teacher in teachers])

    def __call__(self, obs: Tensor, arm: npt.NDArray[np.int64], env_steps: int) -> Tensor:
        """Return what each row's own teacher says, ``q[N,A]``; raise TeacherError."""
        parts: list[Tensor] = []
        order: list[npt.NDArray[np.int64]] = []
        asked = {k: np.flatnonzero(arm == k) for k in np.unique(arm)}
        for network in np.unique(self._network_of[arm]):
            rows = {k: at for k, at in asked.items() if self._network_of[k] == network}
            seen = {k: obs[torch.from_numpy(at)] for k, at in rows.items()}
            try:
                shown = torch.cat([self._see(k, seen[k]) for k in rows])
                said = self._networks[network](shown).split([len(at) for at in rows.values()])
            except UserError:
                raise
            except Exception as error:  # whatever a teacher does wrong, the run goes on without it
                raise TeacherError(next(iter(rows)), repr(error)) from error
            for (k, at), q in zip(rows.items(), said, strict=True):
                parts.append(self._say(k, q, seen[k], env_steps))
                order.append(at)
        q = torch.cat(parts)
        return q[torch.from_numpy(np.concatenate(order).argsort()).to(q.device)]

    def check(self, obs: Tensor) -> None:
        """Raise UserError if a wrapper does not fit ``obs``; a teacher may fail otherwise."""
        for k in range(len(self.teachers)):
            with suppress(TeacherError), torch.inference_mode():
                self(obs[:1], np.array([k]), 0)

    def _see(self, k: int, obs: Tensor) -> Tensor:
        wrappers = self.teachers[k].wrappers
        return reduce(lambda seen, w: w.see(seen) if w.see else seen, wrappers, obs)

    def _say(self, k: int, q: Tensor, obs: Tensor, env_steps: int) -> Tensor:
        wrappers = [w for w in self.teachers[k].wrappers if w.say]
        generator = torch_generator(seeded(self._seed, "teacher", int(k), env_steps))
        for wrapper in wrappers:
            assert wrapper.say is not None
            q = wrapper.say(q, obs, generator)
        if not bool(torch.isfinite(q).all()):
            raise TeacherError(int(k), f"NaN or infinite Q-values at env step {env_steps}")
        return q

    def alone(self, k: int) -> QFunction:
        """Return teacher ``k`` as one plays it; its noise is another in each call."""
        env_steps = 0

        def q(obs: Tensor) -> Tensor:
            nonlocal env_steps
            env_steps += len(obs)
            return self(obs, np.full(len(obs), k), env_steps)

        return q


def parse_teacher(text: str) -> tuple[str, tuple[Wrapper, ...]]:
    """Return the model's name and the wrappers that ``text``, as ``pong+noise:1``, spells."""
    name, *wrappers = text.split("+")
    return name, tuple(parse_wrapper(wrapper) for wrapper in wrappers)


def load_teachers(
    names: Sequence[str], *, device: torch.device, seed: int
) -> tuple[Ensemble, dict[str, Model]]:
    """Load the teachers that ``names`` spell, each model once; return them and the models."""
    models: dict[str, Model] = {}
    ensemble = []
    for text in names:
        name, wrappers = parse_teacher(text)
        if not name:
            raise UserError(f"teacher {text!r} names no model, expected one as in pong+noise:1")
        if name not in models:
            models[name] = load(name)
            models[name].network.to(device)
        ensemble.append(Teacher(text, models[name].network, wrappers))
    return Ensemble(ensemble, seed=seed), models
