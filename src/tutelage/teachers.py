"""Networks in files, and the bundled ones: a teacher is any callable ``obs -> q``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from tutelage.environments import EnvironmentConfig
from tutelage.errors import UserError
from tutelage.files import load_tensors, save_tensors
from tutelage.networks import QNetwork, parse_size

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
    path: Path, network: QNetwork, *, env: str, card: Mapping[str, Any], half: bool = False
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
    save_tensors(path, tensors, about)


def bundled_names() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def load(name: str) -> Model:
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
        raise UserError(
            f"no model {name!r}: expected a .safetensors file, a run's folder or a bundled name "
            f"({', '.join(bundled_names())})"
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
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} has a damaged header: {error!r}") from error
    network = QNetwork(size, obs_shape, num_actions)
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
