"""State dicts: CleanRL's and baby-a3c's by their layers' names, any other with a named size.

A state dict says nothing of what stands between its layers. For CleanRL's own networks (Huang et
al. 2022, JMLR 23(274)) that is known; for others it has to be named.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from tutelage.errors import UserError, choose_from
from tutelage.heads import Categorical, Gaussian, Head, Point, QValues
from tutelage.importers.base import (
    Observation,
    Space,
    assembling,
    beginning,
    checked_weights,
    chosen_head,
    count_parameters,
    few,
    line_of,
    members,
    named_head,
    one_tensor,
    quoted,
    read_bytes,
    read_tensors,
    shaped,
    to_range,
)
from tutelage.importers.layers import (
    Cell,
    Constant,
    Frames,
    Layers,
    Mapped,
    Recurrent,
    Several,
    Weights,
    activation_named,
    filled,
)
from tutelage.networks import KERNELS, parse_size
from tutelage.policies import Model

LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How files of ``torch.save`` began until version 1.6."""
STRIDES = tuple(stride for _, stride in KERNELS)


def recognises(path: Path) -> bool:
    """Return whether ``torch.save`` or safetensors wrote a file of tensors."""
    head = beginning(path, 16)
    if head.startswith(LEGACY) or (head[8:9] == b"{" and head[5:8] == bytes(3)):
        return True
    names = members(path)
    program = any("/code/" in name or name.endswith("archive_format") for name in names)
    return not program and any(name.endswith("/data.pkl") for name in names)


def load(
    path: Path,
    *,
    space: Space | None = None,
    size: str = "",
    activation: str = "",
    head: str = "",
    units: str = "env",
    scaling: str = "",
    part: str = "",
    prefix: str = "",
) -> Model:
    """Return the acting network of a state dict.

    ``size`` names the layers (mlp:64/64) where they are not CleanRL's, ``activation`` what stands
    between them, ``head`` what the numbers mean; ``part`` chooses one of several state dicts in a
    file, ``prefix`` the layers that act; ``units`` of continuous actions: env or range; ``scaling``
    of observations: unit (x / 255, usual for images) or none. Raises UserError for layers that are
    not those of the size, or that nothing names.
    """
    data, files = read_bytes(path)
    tensors = checked_weights(_state_dict(data, part, str(path)), str(path))
    given = _Given(space, activation, head, units, scaling)
    weights = Weights(_plain_names(tensors, prefix), str(path))
    with assembling(str(path)):
        if size:
            policy, layout = _sized(weights, size, given), f"size {size}"
        else:
            policy, layout = _known(weights, given)
    weights.done()
    # The frames that baby-a3c cuts out of Atari's are of 80 pixels.
    return Model(
        policy,
        name=str(path),
        format="state-dict",
        obs_shape=(4, 80, 80) if layout == "baby-a3c" else None,
        card={"layers": layout},
        parameters=count_parameters(policy),
        files=files,
        path=path,
    )


def _state_dict(data: bytes, part: str, where: str) -> Mapping[str, Any]:
    """Return the state dict in a file, the one called ``part`` of several."""
    if data[8:9] == b"{":
        try:
            # Safetensors keeps no order of layers: that of their numbers is theirs.
            read = load_safetensors(data)
            saved: Mapping[str, Any] = {name: read[name] for name in sorted(read, key=_numbered)}
        except (SafetensorError, ValueError) as error:
            raise UserError(
                f"{where} is damaged or no safetensors file ({line_of(error)})"
            ) from error
    else:
        saved = read_tensors(data, where)
    if isinstance(several := saved.get(""), tuple | list):
        saved = {str(i): one for i, one in enumerate(several)}
        # CleanRL's TD3 and DDPG write the actor first, its critics behind it.
        part = part or "0"
    if not part and any(isinstance(value, Tensor) for value in saved.values()):
        return saved
    parts = {
        str(name): value
        for name, value in saved.items()
        if isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values())
    }
    if not parts:
        said = f" called {part}" if part else ""
        raise UserError(f"{where} holds no state dict{said}")
    if not part and len(parts) > 1:
        raise UserError(
            f"{where} holds several state dicts: name one, as in +part:{next(iter(parts))}; "
            f"choose from {', '.join(parts)}"
        )
    if part and part not in parts:
        raise choose_from("part", part, parts)
    return parts[part or next(iter(parts))]


def _numbered(name: str) -> list[tuple[bool, int, str]]:
    """Return what sorts ``layers.10`` behind ``layers.2``."""
    words = name.split(".")
    return [(w.isdecimal(), int(w) if w.isdecimal() else 0, w) for w in words]


def _plain_names(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return tensors without what compiling and distributing a module put before their names."""
    names = {name: name.replace("_orig_mod.", "").removeprefix("module.") for name in tensors}
    return {plain: tensors[name] for name, plain in names.items() if plain.startswith(prefix)}


@dataclass(frozen=True)
class _Given:
    """What the file does not say, as far as it is named."""

    space: Space | None
    activation: str
    head: str
    units: str
    scaling: str

    def between(
        self, where: str, widths: Sequence[int], known: Sequence[int], usual: str
    ) -> Callable[[], nn.Module]:
        """Return the activation: the one named, else CleanRL's own for its own ``known`` widths."""
        if not self.activation and list(widths) != list(known):
            raise UserError(
                f"{where} has layers of {_slashed(widths)}, CleanRL's are {_slashed(known)}: what "
                f"stands between them is not known, name it, as in +activation:{usual}"
            )
        return activation_named(self.activation or usual)

    def image(self, usual: bool) -> bool:
        """Return whether observations are divided by 255."""
        if self.scaling not in ("", "unit", "none"):
            raise choose_from("scaling", self.scaling, ["unit", "none"])
        return self.scaling == "unit" if self.scaling else usual

    def in_range(self, head: Head) -> list[nn.Module]:
        """Return what takes actions from the environment's units into those of their range."""
        layer = to_range(head, self.space, self.units)
        return [] if layer is None else [layer]


def _slashed(widths: Sequence[int]) -> str:
    return "/".join(map(str, widths))


def _widths(weights: Weights, prefix: str) -> list[int]:
    """Return the width of each layer of a Sequential."""
    return [weights.side(f"{prefix}.{i}.weight", 0) for i in weights.indices(f"{prefix}.")]


def _known(weights: Weights, given: _Given) -> tuple[Layers, str]:
    """Return the network that names and shapes show, and what it is called."""
    for name, needs, build in (
        ("CleanRL PPO, continuous", {"actor_mean.0.weight", "actor_logstd"}, _ppo_continuous),
        ("CleanRL SAC", {"fc_mean.weight", "fc_logstd.weight"}, _sac),
        ("CleanRL TD3 or DDPG", {"fc_mu.weight", "fc2.weight"}, _td3),
        ("CleanRL Rainbow", {"support", "advantage_head.0.weight_mu"}, _rainbow),
        ("CleanRL C51", {"atoms", "network.0.weight"}, _c51),
        ("CleanRL PPO, Atari", {"actor.weight", "network.7.weight"}, _ppo_atari),
        ("CleanRL PPO", {"actor.0.weight", "critic.0.weight"}, _ppo),
        ("CleanRL DQN", {"network.0.weight"}, _dqn),
        ("baby-a3c", {"conv4.weight"}, _baby_a3c),
    ):
        if needs <= set(weights.names()):
            return build(weights, given), name
    raise UserError(
        f"the layers of {weights.where} are not known ({', '.join(weights.names()[:3])}, …): name "
        "their size and activation, as in +size:mlp:64/64+activation:relu"
    )


def _vector(weights: Weights, first: str) -> Frames:
    return Frames((weights.side(first, 1),))


def _q_body(weights: Weights, given: _Given) -> tuple[nn.Module, nn.Sequential, int]:
    """Return encoder, layers and last width of ``network``, CleanRL's for DQN and C51."""
    if len(weights.shape("network.0.weight")) == 4:
        encoder: nn.Module = _nature(weights, given)
        body = nn.Sequential(weights.linear("network.9"))
    else:
        widths = _widths(weights, "network")[:-1]
        activation = given.between(weights.where, widths, (120, 84), "relu")
        encoder = _vector(weights, "network.0.weight")
        body = weights.mlp("network", activation)
    return encoder, body, last_width(body)


def _nature(weights: Weights, given: _Given, *, linear: bool = True) -> nn.Sequential:
    """Return the convolutions of Mnih et al. 2015, with or without their hidden layer."""
    widths = [weights.side(f"network.{i}.weight", 0) for i in (0, 2, 4)]
    activation = given.between(weights.where, widths, (32, 64, 64), "relu")
    frames = Frames((weights.side("network.0.weight", 1), None, None), image=given.image(True))
    parts: list[nn.Module] = [frames]
    for i, stride in zip((0, 2, 4), STRIDES, strict=True):
        parts += [weights.convolution(f"network.{i}", stride), activation()]
    parts.append(nn.Flatten())
    return nn.Sequential(*parts, *([weights.linear("network.7"), activation()] if linear else []))


def _dqn(weights: Weights, given: _Given) -> Layers:
    encoder, body, n = _q_body(weights, given)
    return _discrete(encoder, body, QValues(n), given)


def _c51(weights: Weights, given: _Given) -> Layers:
    """Say q = sum_i p_i z_i of the atoms z (Bellemare et al. 2017)."""
    atoms = weights.take("atoms")
    encoder, body, n = _q_body(weights, given)
    head = QValues(n // len(atoms))
    return _discrete(encoder, nn.Sequential(body, Expectation(atoms)), head, given)


def _rainbow(weights: Weights, given: _Given) -> Layers:
    """Say q of the dueling, distributional network, its noise left out (Hessel et al. 2018)."""
    atoms = weights.take("support")
    weights.without_noise()
    encoder = _nature(weights, given, linear=False)
    value, advantage = (weights.mlp(f"{name}_head", nn.ReLU) for name in ("value", "advantage"))
    body = nn.Sequential(Dueling(value, advantage, len(atoms)), Expectation(atoms))
    return _discrete(encoder, body, QValues(last_width(advantage) // len(atoms)), given)


def _ppo(weights: Weights, given: _Given) -> Layers:
    weights.drop("critic.")
    widths = _widths(weights, "actor")[:-1]
    activation = given.between(weights.where, widths, (64, 64), "tanh")
    encoder = _vector(weights, "actor.0.weight")
    body = weights.mlp("actor", activation)
    return _discrete(encoder, body, Categorical(last_width(body)), given)


def _ppo_atari(weights: Weights, given: _Given) -> Layers:
    weights.drop("critic.")
    encoder = _nature(weights, given)
    memory = weights.recurrent("lstm") if weights.names("lstm.") else None
    body = weights.linear("actor")
    return _discrete(encoder, body, Categorical(body.out_features), given, memory)


def _ppo_continuous(weights: Weights, given: _Given) -> Layers:
    weights.drop("critic.")
    widths = _widths(weights, "actor_mean")[:-1]
    activation = given.between(weights.where, widths, (64, 64), "tanh")
    encoder = _vector(weights, "actor_mean.0.weight")
    log_sd = weights.take("actor_logstd").ravel()
    said = Several([weights.mlp("actor_mean", activation), Constant(log_sd)])
    bounded = not isinstance(given.space, spaces.Box) or given.space.is_bounded()
    head = Gaussian(len(log_sd), bounded=bounded)
    return Layers(encoder, nn.Sequential(said, *given.in_range(head)), head)


def _sac(weights: Weights, given: _Given) -> Layers:
    """Say mean and log sd before tanh; log sd = -5 + 3.5 (tanh(x) + 1)."""
    encoder, hidden = _two_layers(weights, given)
    log_sd = nn.Sequential(
        weights.linear("fc_logstd"), Mapped(lambda x: -5.0 + 3.5 * (x.tanh() + 1.0))
    )
    mean = weights.linear("fc_mean")
    body = nn.Sequential(hidden, Several([mean, log_sd]))
    return Layers(encoder, body, Gaussian(mean.out_features, squashed=True))


def _td3(weights: Weights, given: _Given) -> Layers:
    encoder, hidden = _two_layers(weights, given)
    last = weights.linear("fc_mu")
    return Layers(encoder, nn.Sequential(hidden, last, nn.Tanh()), Point(last.out_features))


def _two_layers(weights: Weights, given: _Given) -> tuple[nn.Module, nn.Module]:
    """Return the hidden layers of CleanRL's actors, whose range has to be the environment's."""
    scale, bias = weights.find("action_scale"), weights.find("action_bias")
    if scale is not None and bias is not None and isinstance(given.space, spaces.Box):
        low, high = (torch.from_numpy(side.ravel()) for side in (given.space.low, given.space.high))
        mine = ((bias - scale).ravel(), (bias + scale).ravel())
        for ours, theirs in zip(mine, (low, high), strict=True):
            if ours.shape == theirs.shape and not torch.allclose(ours, theirs.float(), rtol=1e-5):
                raise UserError(
                    f"{weights.where} acts from {few(mine[0].tolist())} to "
                    f"{few(mine[1].tolist())}, this environment is from {few(low.tolist())} to "
                    f"{few(high.tolist())}"
                )
    widths = [weights.side(f"fc{i}.weight", 0) for i in (1, 2)]
    activation = given.between(weights.where, widths, (256, 256), "relu")
    encoder = _vector(weights, "fc1.weight")
    layers = [weights.linear("fc1"), activation(), weights.linear("fc2"), activation()]
    return encoder, nn.Sequential(*layers)


def _baby_a3c(weights: Weights, given: _Given) -> Layers:
    """Return greydanus/baby-a3c: four convolutions, a GRU or LSTM, of the newest frame."""
    weights.drop("critic_linear.", "val_func.")
    channels = weights.side("conv1.weight", 1)
    activation = activation_named(given.activation or "elu")
    parts: list[nn.Module] = [Newest(channels, stretched=given.image(True))]
    for i in range(1, 5):
        parts += [weights.convolution(f"conv{i}", stride=2, padding=1), activation()]
    gated = bool(weights.names("gru."))
    memory = _cell(weights, "gru" if gated else "lstm", nn.GRUCell if gated else nn.LSTMCell)
    last = "actor_linear" if "actor_linear.weight" in weights else "pol_func"
    body = weights.linear(last)
    encoder = nn.Sequential(*parts, nn.Flatten())
    return _discrete(encoder, body, Categorical(body.out_features), given, memory)


def _cell(weights: Weights, name: str, kind: Callable[..., Any]) -> Cell:
    state = {
        side: weights.take(f"{name}.{side}")
        for side in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    with torch.device("meta"):
        cell = kind(state["weight_ih"].shape[1], state["weight_hh"].shape[1])
    return Cell(filled(cell, state))


def _discrete(
    encoder: nn.Module,
    body: nn.Module,
    head: Head,
    given: _Given,
    memory: Recurrent | Cell | None = None,
) -> Layers:
    """Return a network of its usual head, or of the one that a person named."""
    head = named_head(given.head, head.size) if given.head else head
    return Layers(encoder, body, head, memory)


def _sized(weights: Weights, text: str, given: _Given) -> Layers:
    """Return a network of a named size, its layers in the order in which they are saved.

    Where two layers stand at its end, ``value`` and ``advantage``, q = V + A - mean(A) (Wang et al.
    2016).
    """
    size = parse_size(text)
    if not given.activation:
        raise UserError(
            f"what stands between the layers of {weights.where} is not known: name it, as in "
            "+activation:relu"
        )
    activation = activation_named(given.activation)
    layers = [name.removesuffix(".weight") for name in weights.names() if name.endswith(".weight")]
    dueling = [name for word in ("val", "adv") for name in layers if word in name.lower()]
    plain = [name for name in layers if name not in dueling]
    found = [weights.side(f"{name}.weight", 0) for name in plain]
    wanted = [*size.channels, *size.hidden]
    if found[: len(wanted)] != wanted or len(found) - len(wanted) != (0 if dueling else 1):
        raise UserError(
            f"{weights.where} has layers of {quoted(_slashed(found))} "
            f"({quoted(', '.join(plain))}), size {text} "
            f"has {_slashed(wanted)} and one for the actions; +prefix:NAME chooses those that act"
        )
    inputs = weights.side(f"{plain[0]}.weight", 1)
    image = given.image(bool(size.channels))
    parts: list[nn.Module] = [
        Frames((inputs, None, None) if size.channels else (inputs,), image=image)
    ]
    for name, stride, padded in zip(plain, STRIDES, (0, 1, 1), strict=False):
        if len(parts) // 2 < len(size.channels):
            padding = padded if size.padded else 0
            parts += [weights.convolution(name, stride, padding), activation()]
    parts.append(nn.Flatten())
    for name in plain[len(size.channels) : len(wanted)]:
        parts += [weights.linear(name), activation()]
    if dueling:
        value, advantage = (weights.linear(name) for name in dueling)
        last: nn.Module = Dueling(value, advantage)
        n = advantage.out_features
    else:
        last = weights.linear(plain[-1])
        n = last.out_features
    head = chosen_head(given.head, given.space, n, hint="q" if dueling else "")
    return Layers(nn.Sequential(*parts), nn.Sequential(last, *given.in_range(head)), head)


def last_width(layers: nn.Sequential) -> int:
    """Return how many numbers the last layer says."""
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    return last.out_features


class Newest(nn.Module):
    """The newest frame of a stack, ``obs[N,stack,H,W] -> [N,C,H,W]``, stretched to [0, 1] or not.

    baby-a3c resizes its frames by SciPy's imresize of old, which makes the darkest pixel of each 0
    and the brightest 255.
    """

    def __init__(self, channels: int, *, stretched: bool) -> None:
        super().__init__()
        self.channels = channels
        self.stretched = stretched

    def forward(self, obs: Observation) -> Tensor:
        x = shaped(one_tensor(obs), (None, None, None))[:, -self.channels :].float()
        if not self.stretched:
            return x
        low, high = (side(x, dim=(1, 2, 3), keepdim=True) for side in (torch.amin, torch.amax))
        return (x - low) / (high - low).clamp(min=1.0)


class Expectation(nn.Module):
    """The mean of a distribution over atoms: ``logits[N,A*atoms] -> q[N,A]``."""

    atoms: Tensor

    def __init__(self, atoms: Tensor) -> None:
        super().__init__()
        self.register_buffer("atoms", atoms)

    def forward(self, logits: Tensor) -> Tensor:
        return (logits.view(logits.shape[0], -1, len(self.atoms)).softmax(dim=2) * self.atoms).sum(
            2
        )


class Dueling(nn.Module):
    """V + A - mean(A) over actions, for each of ``atoms``: ``x[N,F] -> [N,A*atoms]``."""

    def __init__(self, value: nn.Module, advantage: nn.Module, atoms: int = 1) -> None:
        super().__init__()
        self.value = value
        self.advantage = advantage
        self.atoms = atoms

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x).view(x.shape[0], 1, self.atoms)
        advantage = self.advantage(x).view(x.shape[0], -1, self.atoms)
        q: Tensor = value + advantage - advantage.mean(dim=1, keepdim=True)
        return q.flatten(1)
