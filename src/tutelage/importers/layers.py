"""Networks put together of the tensors of a file, without the code that made it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from tutelage.errors import UserError, look_up
from tutelage.heads import Head
from tutelage.importers.base import Observation, line_of, one_tensor, shaped
from tutelage.policies import Carry

Layer = TypeVar("Layer", bound=nn.Module)

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    kind.__name__.lower(): kind
    for kind in (
        *(nn.CELU, nn.ELU, nn.GELU, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.Mish, nn.ReLU),
        *(nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh, nn.Identity),
        *(nn.Hardsigmoid, nn.LogSigmoid),
    )
}
"""Name -> the function that stands between layers, with PyTorch's own constants."""


def activation_named(name: str) -> Callable[[], nn.Module]:
    """Return the activation of that name; raise UserError with the choices if there is none."""
    return look_up("activation", name.lower(), ACTIVATIONS)


class Weights:
    """The tensors of a state dict; what no layer takes is left."""

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self._left = dict(tensors)
        self.where = where

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def names(self, prefix: str = "") -> list[str]:
        """Return what is left under ``prefix``, without it."""
        return [name[len(prefix) :] for name in self._left if name.startswith(prefix)]

    def indices(self, prefix: str) -> list[int]:
        """Return the numbers of what is left of an ``nn.Sequential``, in order."""
        found = {match[1] for name in self.names(prefix) if (match := re.match(r"(\d+)\.", name))}
        return sorted(int(number) for number in found)

    def take(self, name: str) -> Tensor:
        """Return the tensor of that name; raise UserError if there is none."""
        self.shape(name)
        return self._left.pop(name)

    def shape(self, name: str) -> list[int]:
        """Return a tensor's shape; raise UserError if there is none."""
        if name not in self._left:
            raise UserError(f"{self.where} has no tensor {name!r}, which its layers need")
        return list(self._left[name].shape)

    def side(self, name: str, i: int) -> int:
        """Return side ``i`` of a tensor's shape; raise UserError if it has not so many."""
        shape = self.shape(name)
        if i >= len(shape):
            raise UserError(
                f"{self.where} has a tensor {name} of shape {shape}, expected at least "
                f"{i + 1} side{'s' * (i > 0)}"
            )
        return shape[i]

    def without_noise(self) -> None:
        """Make plain layers of noisy ones (Fortunato et al. 2018), as they are when acting."""
        self._left = {
            name.removesuffix("_mu"): value
            for name, value in self._left.items()
            if not name.endswith(("_sigma", "_epsilon"))
        }

    def find(self, name: str) -> Tensor | None:
        """Return the tensor of that name, if there is one."""
        return self._left.pop(name, None)

    def drop(self, *prefixes: str) -> None:
        """Leave out what does not act: critics, targets."""
        self._left = {
            name: value for name, value in self._left.items() if not name.startswith(prefixes)
        }

    def linear(self, prefix: str) -> nn.Linear:
        """Return the fully connected layer ``prefix.weight``, perhaps with its bias."""
        state, (after, before) = self._layer(prefix, 2)
        with torch.device("meta"):
            layer = nn.Linear(before, after, bias="bias" in state)
        return filled(layer, state)

    def convolution(self, prefix: str, stride: int, padding: int = 0) -> nn.Conv2d:
        """Return the convolution ``prefix.weight``, perhaps with its bias."""
        state, (after, before, height, width) = self._layer(prefix, 4)
        with torch.device("meta"):
            layer = nn.Conv2d(before, after, (height, width), stride, padding, bias="bias" in state)
        return filled(layer, state)

    def _layer(self, prefix: str, sides: int) -> tuple[dict[str, Tensor], list[int]]:
        weight, bias = self.take(f"{prefix}.weight"), self.find(f"{prefix}.bias")
        if weight.ndim != sides or (bias is not None and bias.shape != weight.shape[:1]):
            raise UserError(
                f"{self.where} has a tensor {prefix}.weight of shape {list(weight.shape)}, "
                f"expected {sides} sides and as many biases as the first"
            )
        state = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        return state, list(weight.shape)

    def mlp(
        self, prefix: str, activation: Callable[[], nn.Module], *, last: bool = False
    ) -> nn.Sequential:
        """Return ``prefix.0``, ``prefix.2``, …, an activation after each, the last if ``last``.

        Raises UserError for layers that stand elsewhere or do not follow from one another.
        """
        indices = self.indices(f"{prefix}.")
        if indices != list(range(0, 2 * len(indices), 2)):
            raise UserError(f"{self.where} has layers of its own under {prefix}: {indices}")
        layers = [self.linear(f"{prefix}.{i}") for i in indices]
        self._check_chain(prefix, layers)
        parts: list[nn.Module] = []
        for layer in layers:
            parts += [layer, activation()]
        return nn.Sequential(*(parts if last else parts[:-1]))

    def _check_chain(self, prefix: str, layers: Sequence[nn.Linear]) -> None:
        for before, after in pairwise(layers):
            if before.out_features != after.in_features:
                raise UserError(
                    f"{self.where}: under {prefix}, {before.out_features} numbers meet a layer "
                    f"of {after.in_features}"
                )

    def recurrent(self, prefix: str) -> "Recurrent":
        """Return the LSTM ``prefix.weight_ih_l0``, …, all its layers."""
        if extra := [
            name for name in self.names(f"{prefix}.") if "reverse" in name or "hr" in name
        ]:
            raise UserError(f"{self.where}: {prefix}.{extra[0]} belongs to no plain LSTM")
        depth = sum("weight_hh" in name for name in self.names(f"{prefix}."))
        state = {name: self.take(f"{prefix}.{name}") for name in self.names(f"{prefix}.")}
        if depth == 0:
            raise UserError(f"{self.where} has no layers {prefix}.weight_hh_l0")
        with torch.device("meta"):
            lstm = nn.LSTM(
                state["weight_ih_l0"].shape[1],
                state["weight_hh_l0"].shape[1],
                num_layers=depth,
                bias="bias_ih_l0" in state,
            )
        return Recurrent(filled(lstm, state))

    def done(self) -> None:
        """Raise UserError if a tensor is left that no layer has taken."""
        if self._left:
            raise UserError(
                f"{self.where} has layers of its own that only its code knows: "
                f"{next(iter(self._left))}"
            )


def filled(layer: Layer, state: Mapping[str, Tensor]) -> Layer:
    """Give a layer that was built without memory its tensors, and make it ready to act."""
    layer.load_state_dict(dict(state), assign=True)
    return layer.requires_grad_(False).eval()


class Recurrent(nn.Module):
    """An LSTM of one step: ``(x[N,F], (h, c)) -> (x[N,H], (h, c))``, each ``[N,layers,H]``."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def initial(self, n: int) -> Carry:
        """Return zeros."""
        weight = next(self.lstm.parameters())
        zero = weight.new_zeros(n, self.lstm.num_layers, self.lstm.hidden_size)
        return zero, zero.clone()

    def forward(self, x: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        before = tuple(part.transpose(0, 1).contiguous() for part in carry)
        out, after = self.lstm(x[None], before)
        return out[0], tuple(part.transpose(0, 1) for part in after)


class Cell(nn.Module):
    """A GRU or LSTM cell: ``(x[N,F], (h, …)) -> (h[N,H], (h, …))``."""

    def __init__(self, cell: nn.GRUCell | nn.LSTMCell) -> None:
        super().__init__()
        self.cell = cell

    def initial(self, n: int) -> Carry:
        """Return zeros."""
        zero = self.cell.weight_hh.new_zeros(n, self.cell.hidden_size)
        return (zero,) if isinstance(self.cell, nn.GRUCell) else (zero, zero.clone())

    def forward(self, x: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        if isinstance(self.cell, nn.GRUCell):
            h = self.cell(x, carry[0])
            return h, (h,)
        h, c = self.cell(x, (carry[0], carry[1]))
        return h, (h, c)


class Frames(nn.Module):
    """``obs[N,stack,*frame] -> [N,*shape]`` in fp32, divided by 255 where it is an image's."""

    def __init__(self, shape: Sequence[int | None], *, image: bool = False) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.image = image

    def forward(self, obs: Observation) -> Tensor:
        x = shaped(one_tensor(obs), self.shape).float()
        return x / 255.0 if self.image else x


class Parts(nn.Module):
    """What encodes each part of a Dict, joined in the order of its keys.

    Without an image, observations may come flattened, as Gymnasium's own ``flatten`` has them:
    ``flat`` numbers.
    """

    def __init__(self, parts: Mapping[str, nn.Module], flat: int) -> None:
        super().__init__()
        self.flat = flat
        self.keys = tuple(parts)
        self.parts = nn.ModuleList(parts.values())

    def forward(self, obs: Observation) -> Tensor:
        if isinstance(obs, Tensor) and obs[0].numel() == self.flat:
            return obs.flatten(1).float()
        if isinstance(obs, Tensor) or not set(self.keys) <= set(obs):
            given = list(obs.shape[1:]) if isinstance(obs, Tensor) else ", ".join(obs)
            raise UserError(
                f"the policy takes a Dict of {', '.join(self.keys)}, this environment gives {given}"
            )
        return torch.cat(
            [part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)], 1
        )


class Layers(nn.Module):
    """A policy: what encodes the observation, perhaps a memory, what says the head's numbers."""

    def __init__(
        self,
        encoder: nn.Module,
        body: nn.Module,
        head: Head,
        memory: Recurrent | Cell | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.memory = memory
        self.body = body
        self.head = head
        self.eval().requires_grad_(False)

    @property
    def takes_parts(self) -> bool:
        """Whether observations are to come as a Dict's parts, not joined to one vector."""
        return isinstance(self.encoder, Parts)

    def initial(self, n: int) -> Carry:
        """Return what there is before the first step: nothing, or zeros."""
        return self.memory.initial(n) if self.memory is not None else ()

    def step(self, obs: Observation, carry: Carry) -> tuple[Tensor, Carry]:
        """Return ``out[N,L]`` and the memory after."""
        try:
            x = self.encoder(obs)
            if self.memory is not None:
                x, carry = self.memory(x, carry)
            out: Tensor = self.body(x)
        except RuntimeError as error:  # layers that do not meet: frames of another size
            first = obs if isinstance(obs, Tensor) else next(iter(obs.values()))
            raise UserError(
                f"the policy cannot take observations {list(first.shape[1:])}: {line_of(error)}"
            ) from error
        if out.shape[1] != self.head.size:
            raise UserError(
                f"the policy says {out.shape[1]} numbers a state, its actions need {self.head.size}"
            )
        return out, carry

    def forward(self, obs: Observation) -> Tensor:
        """Return ``out[N,L]`` as at the beginning of an episode."""
        first = obs if isinstance(obs, Tensor) else next(iter(obs.values()))
        return self.step(obs, self.initial(len(first)))[0]


class Several(nn.Module):
    """Layers side by side, what they say joined: ``x[N,F] -> [N,sum]``."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], dim=1)


class Constant(nn.Module):
    """The same numbers in every state, as PPO's log sd: ``x[N,F] -> [N,n]``."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.reshape(1, -1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(x.shape[0], -1)


class Mapped(nn.Module):
    """A function without weights of its own, as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
