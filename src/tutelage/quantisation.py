"""Networks that learn as they will act in bytes: fake quantisation of weights and activations.

Jacob et al. 2018, section 3: what a layer multiplies is rounded to the numbers that a few bits can
say, and gradients pass as if it were not, but where a number was cut off.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.convolution import FrameConv2d, frame_conv2d

BITS = {"int8": 8, "int4": 4}
"""Precision -> bits of a weight; activations have 8."""
LEAST, MOST = -128, 127
"""The bytes of an activation."""
MEMORY = 100
"""Batches that a range is the running average of."""
START = 8.0
"""Activations are from -START to START until the first batch has been learnt from."""
TINY = 1e-12
"""The least scale: a layer may be all zero."""

Module = TypeVar("Module", bound=nn.Module)


class _Rounded(torch.autograd.Function):
    """What ``torch.fake_quantize_per_tensor_affine`` does, in a third of its time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        least, most = LEAST - zero, MOST - zero
        rounded = (x * (1.0 / scale)).round_()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((rounded >= least) & (rounded <= most))
        return rounded.clamp_(least, most).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (within,) = ctx.saved_tensors
        return gradients[0] * within, None, None


class Range(nn.Module):
    """Rounds a tensor to 256 steps between two bounds, which follow what it is shown.

    The bounds are running averages of each batch's least and largest number, moved where the module
    learns: in training mode, with gradients. Zero is always one of the steps.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(-START))
        self.register_buffer("high", torch.tensor(START))
        self.register_buffer("seen", torch.zeros(()))

    def steps(self) -> tuple[Tensor, Tensor]:
        """Return scale and zero point: x is scale (byte - zero)."""
        scale = ((self.high - self.low) / (MOST - LEAST)).clamp(min=TINY)
        return scale, (LEAST - self.low / scale).round().clamp(LEAST, MOST).int()

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        if self.training and torch.is_grad_enabled():
            self._follow(x)
        rounded: Tensor = _Rounded.apply(x, *self.steps())  # type: ignore[no-untyped-call]
        return rounded

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        low, high = x.aminmax()
        rate = (1.0 / (self.seen + 1.0)).clamp(min=1.0 / MEMORY)
        self.low.lerp_(low.clamp(max=0.0), rate)
        self.high.lerp_(high.clamp(min=0.0), rate)
        self.seen.add_(1.0)


class QuantisedLayer(nn.Module):
    """A linear or convolutional layer whose weights and inputs are rounded before it multiplies.

    w is s k with whole k from -(2^(bits-1) - 1) to 2^(bits-1) - 1, and a scale s for each output:
    its largest weight is the last step. Biases are whole in units of both scales, as 32 bits hold
    them. Its parameters have the names of the layer's own.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, bits: int) -> None:
        """Take over the parameters of ``layer``."""
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.inputs = Range()
        self.bits = bits
        self._product: Callable[..., Tensor] = F.linear
        if isinstance(layer, FrameConv2d):
            self._product = partial(frame_conv2d, stride=layer.stride, padding=layer.padding)
        elif isinstance(layer, nn.Conv2d):
            named = ("stride", "padding", "dilation", "groups")
            self._product = partial(F.conv2d, **{name: getattr(layer, name) for name in named})

    @property
    def largest(self) -> int:
        """The largest k."""
        return int(2 ** (self.bits - 1)) - 1

    def scales(self) -> Tensor:
        """Return s of each output, ``[M]``."""
        largest = self.weight.detach().abs().flatten(1).amax(1)
        return (largest / self.largest).clamp(min=TINY)

    def rounded(self) -> Tensor:
        """Return the weights as they act."""
        scales = self.scales()
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            self.weight, scales, zeros, 0, -self.largest, self.largest
        )

    def whole(self) -> Tensor:
        """Return k, of type int8."""
        scales = self.scales().view(-1, *[1] * (self.weight.ndim - 1))
        return (self.weight.detach() / scales).round().to(torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        rounded = self.inputs(x)
        return self._product(rounded, self.rounded(), self._bias())

    def units(self) -> Tensor:
        """Return what each output's sum of bytes is counted in, ``[M]``: both scales."""
        return self.inputs.steps()[0] * self.scales()

    def counted(self) -> Tensor:
        """Return the bias in these units, ``[M]``; whole, but where 32 bits cannot say it."""
        units = self.units()
        counted = torch.zeros_like(units) if self.bias is None else self.bias.detach() / units
        return torch.where(counted.abs() < 2.0**31, counted.round(), counted)

    def _bias(self) -> Tensor | None:
        if self.bias is None:
            return None
        return self.bias + (self.counted() * self.units() - self.bias).detach()

    def frozen(self) -> nn.Module:
        """Return the layer with its rounded weights, its inputs left as they are."""
        return _Frozen(self._product, self.rounded().detach(), self._bias())


class _Frozen(nn.Module):
    def __init__(self, product: Callable[..., Tensor], weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._product = product
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        return self._product(x, self.weight, self.bias)


def quantise(network: Module, precision: str) -> Module:
    """Let a network's linear and convolutional layers round, in place, unless it is of fp32."""
    if precision in BITS:
        bits = BITS[precision]
        _replace(network, (nn.Linear, nn.Conv2d), lambda layer: QuantisedLayer(layer, bits))
    return network


def layers_of(network: object) -> list[QuantisedLayer]:
    """Return the layers that round, in the order in which they stand."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    return [module for module in modules if isinstance(module, QuantisedLayer)]


def frozen(network: Module) -> Module:
    """Return a copy that has the rounded weights and leaves activations as they are."""
    if not layers_of(network):
        return network
    made = copy.deepcopy(network)
    _replace(made, (QuantisedLayer,), lambda layer: layer.frozen())
    return made


def precision_of(network: object) -> str:
    """Return int8, int4 or fp32."""
    bits = {layer.bits for layer in layers_of(network)}
    return next((name for name, n in BITS.items() if n in bits), "fp32")


def rounded_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return what a network is made of, the weights that are rounded as they act."""
    made = dict(network.state_dict())
    for name, module in network.named_modules():
        if isinstance(module, QuantisedLayer):
            made[f"{name}.weight"] = module.rounded().detach()
    return made


def packed_bytes(network: object) -> int:
    """Return what the layers that round would take at least, weights packed to their bits.

    Biases and scales have four bytes each, zero points one.
    """
    layers = layers_of(network)
    bits = sum(layer.weight.numel() * layer.bits for layer in layers)
    return -(-bits // 8) + sum(4 * 2 * len(layer.weight) + 5 for layer in layers)


def _replace(
    network: nn.Module, kinds: tuple[type[nn.Module], ...], make: Callable[[Any], nn.Module]
) -> None:
    for name, child in list(network.named_children()):
        if isinstance(child, kinds):
            setattr(network, name, make(child))
        else:
            _replace(child, kinds, make)
