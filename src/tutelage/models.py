"""Policies in files: Tutelage's own networks, written and read, and the bundled ones."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch

from tutelage.errors import UserError
from tutelage.files import convert, decode, file_digest, load_tensors, save_tensors
from tutelage.heads import Head, QValues, UnknownHeadError, describe_head, parse_head
from tutelage.networks import Network, parse_size
from tutelage.own import Given, Own, make_own
from tutelage.policies import Model
from tutelage.quantisation import layers_of, precision_of, quantise, rounded_weights
from tutelage.types import load_weights

FORMAT = "tutelage-policy-1"
OWN_FORMAT = "tutelage-module-1"
"""The weights of a module of one's own: its code is not in the file."""
TASKS_FORMAT = "tutelage-tasks-1"
"""A network of several tasks (see ``tasks``)."""
Q_FORMAT = "tutelage-q-network-1"
"""Of files from before heads: Q-values, ``obs_shape`` and ``card`` as JSON in strings."""
BUNDLED = Path(str(files("tutelage") / "bundled"))

Student = Network | Own

CONSTANTS = ("shift", "scale")
"""Of the input: one number each, or as many as broadcast to an observation."""

Side = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class Said(msgspec.Struct):
    """What any model's file says of itself."""

    obs_shape: Annotated[tuple[Side, ...], msgspec.Meta(min_length=1, max_length=5)]
    head: dict[str, Any]
    env: str
    card: dict[str, Any]


class Header(Said):
    """What the file of a network of Tutelage's says beside it."""

    size: str
    precision: Literal["fp32", "int8", "int4"] = "fp32"


class OwnHeader(Said):
    """What the file of a module of one's own says beside it."""

    module: str


def save(
    path: str | Path, network: Student, *, env: str, card: Mapping[str, Any], half: bool = False
) -> None:
    """Write a network as safetensors with its size, head, environment and card; fp16 if ``half``.

    Of a network that rounds, its rounded weights and the ranges of its layers' inputs. Of a module
    of one's own its weights alone: whoever loads it gives the module. Raises UserError
    for a policy of another kind.
    """
    if isinstance(network, Own):
        named, weights = {"format": OWN_FORMAT, "module": network.name}, network.module.state_dict()
    elif isinstance(network, Network):
        named, weights = {"format": FORMAT, "size": str(network.size)}, rounded_weights(network)
        if (precision := precision_of(network)) != "fp32":
            named["precision"] = precision
    else:
        raise UserError(f"only a tutelage.Network can be saved, got a {type(network).__name__}")
    about = {
        **named,
        "obs_shape": list(network.obs_shape),
        "head": describe_head(network.head),
        "env": env,
        "card": dict(card),
    }
    # Weights that layers share are written for each of them.
    tensors = {
        name: tensor.half() if half and name not in CONSTANTS else tensor.clone()
        for name, tensor in weights.items()
    }
    save_tensors(Path(path), tensors, about)


def amend_card(path: Path, facts: Mapping[str, Any]) -> None:
    """Write ``facts`` on the card of a model's file; its numbers stay as they are."""
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, {**about, "card": {**about["card"], **facts}})


def bundled_names() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def find(name: str | Path) -> Path:
    """Return the file of a bundled model, of the best model of a run's folder, or the file itself.

    Raises UserError if there is none.
    """
    path = Path(name)
    if str(name) in bundled_names():
        return BUNDLED / f"{name}.safetensors"
    try:
        if path.is_dir():
            for file in ("best.safetensors", "last.safetensors"):
                if (there := path / file).exists():
                    return there
            raise UserError(f"{path} holds no model: neither best.safetensors nor last.safetensors")
        if path.is_file():  # a pipe or a device may have no end
            return path
    except (OSError, ValueError) as error:  # a name longer than the system allows, a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"no model {str(name)[:200]!r}: {reason}") from error
    raise UserError(
        f"no model {str(name)!r}: expected a file, a run's folder or a bundled name "
        f"({', '.join(bundled_names())})"
    )


def load_own(path: Path, module: Given) -> Model:
    """Read the weights of a module of one's own into a copy of ``module``.

    Raises UserError if the file is of another kind, damaged, or of other layers.
    """
    tensors, about = load_tensors(path)
    if about.get("format") != OWN_FORMAT:
        raise UserError(f"{path} is no module of one's own: load it without one")
    header = convert({k: v for k, v in about.items() if k != "format"}, OwnHeader, path)
    policy = Own(make_own(module, seed=0), header.obs_shape, parse_head(header.head))
    try:
        load_weights(policy.module, tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} holds the weights of a {header.module}, which are not those of this "
            f"{policy.name}: {str(error).splitlines()[-1].strip()}"
        ) from error
    if not all(bool(torch.isfinite(t).all()) for t in policy.state_dict().values()):
        raise UserError(f"{path} holds NaN or infinite weights")
    return Model(
        policy=policy.requires_grad_(False),
        name=str(path),
        format="tutelage",
        env=header.env,
        obs_shape=header.obs_shape,
        card=header.card,
        parameters=sum(p.numel() for p in policy.parameters()),
        files={path.name: file_digest(path)},
        path=path,
    )


def load_network(path: Path) -> Model:
    """Read one of Tutelage's own networks.

    Raises UserError if the file is not one, or damaged.
    """
    tensors, about = load_tensors(path)
    if about.get("format") == OWN_FORMAT:
        raise UserError(
            f"{path} holds the weights of a module of one's own ({about.get('module')}), not its "
            "code: give the module, as in tutelage.load(path, module=…) or +module:MODULE:NAME"
        )
    if about.get("format") == TASKS_FORMAT:
        names = [str(one.get("name")) for one in about.get("tasks", ()) if isinstance(one, dict)]
        raise UserError(
            f"{path} plays several tasks ({', '.join(names)}): choose one, as in "
            f"{path}+task:{next(iter(names), 'NAME')}"
        )
    header = _header(path, about)
    if about["format"] == Q_FORMAT:
        tensors = {name.replace("head.", "output."): tensor for name, tensor in tensors.items()}
    return model_from(path, network_of(path, tensors, header), env=header.env, card=header.card)


def model_from(path: Path, network: Network, *, env: str, card: Mapping[str, Any]) -> Model:
    """Return a network with what its file says of it."""
    return Model(
        policy=network,
        name=str(path),
        format="tutelage",
        env=env,
        obs_shape=network.obs_shape,
        card=card,
        parameters=network.num_parameters(),
        files={path.name: file_digest(path)},
        path=path,
    )


def network_of(path: Path, tensors: dict[str, torch.Tensor], header: Header) -> Network:
    """Return the network that a file's header and tensors are of.

    Raises UserError, naming the file, where they do not go together.
    """
    if wrong := [name for name, t in tensors.items() if not t.is_floating_point()]:
        raise UserError(f"{path}: tensor {wrong[0]} is of type {tensors[wrong[0]].dtype}")
    try:
        with torch.device("meta"):  # no memory for what the header only claims
            network = Network(parse_size(header.size), header.obs_shape, parse_head(header.head))
            quantise(network, header.precision)
    except UnknownHeadError as error:
        raise UserError(f"{path}: {error}") from error
    except (UserError, RuntimeError) as error:
        raise UserError(f"{path} has a damaged header: {error}") from error
    for name in ("shift", "scale"):  # constants of the input may be one number each, or many
        if name in tensors:
            _check_constant(path, name, tensors[name], header.obs_shape)
            network.register_buffer(name, tensors[name])
    try:
        network.load_state_dict({n: t.float().clone() for n, t in tensors.items()}, assign=True)
    except RuntimeError as error:
        raise UserError(
            f"{path} says it is of size {header.size} but its tensors differ: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()):
        raise UserError(f"{path} holds NaN or infinite weights")
    for layer in layers_of(network):
        if not layer.inputs.low <= 0.0 <= layer.inputs.high:
            raise UserError(f"{path}: a layer's inputs are of a range that does not hold 0")
    return network.eval().requires_grad_(False)


def _check_constant(path: Path, name: str, given: torch.Tensor, obs: tuple[int, ...]) -> None:
    """Raise UserError unless a constant of the input is broadcast to observations."""
    sides = zip(reversed(given.shape), reversed(obs), strict=False)
    if given.ndim > len(obs) or any(side not in (1, whole) for side, whole in sides):
        raise UserError(
            f"{path}: tensor {name} has shape {list(given.shape)}, observations {list(obs)}"
        )


def _header(path: Path, about: Mapping[str, Any]) -> Header:
    """Return the header of either format; raise UserError where it is of neither, or damaged."""
    values = dict(about)
    if values.pop("format", None) not in (FORMAT, Q_FORMAT):
        raise UserError(
            f"{path} is a safetensors file but no Tutelage model "
            f"(format {about.get('format')!r}, expected {FORMAT!r})"
        )
    if about["format"] == Q_FORMAT:
        for key, kind in (("obs_shape", list[Any]), ("card", dict[str, Any]), ("num_actions", int)):
            values[key] = decode(str(values.get(key)), kind, f"{path}: {key} of its header")
        values["head"] = {"kind": "q", "n": values.pop("num_actions")}
    return convert(values, Header, f"the header of {path}")


def label_head(head: Head) -> Head:
    """Return the head of what a policy of ``head`` says as a teacher: Q-values as values."""
    return QValues(head.n) if isinstance(head, QValues) else head
