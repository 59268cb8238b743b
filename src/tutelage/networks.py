"""The network family: one class, named sizes, free sizes, parameter counts.

A convolutional size is written ``c1/c2/c3/hidden`` (kernels 8, 4, 3; strides 4, 2, 1), with
``:valid`` for unpadded convolutions; a multi-layer perceptron is written ``mlp:h1/h2``. ``:norm``
after either, or after a name, is for layer normalisation.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.convolution import FrameConv2d
from tutelage.errors import UserError, look_up
from tutelage.heads import Head
from tutelage.policies import Memoryless
from tutelage.types import Array

KERNELS = ((8, 4), (4, 2), (3, 1))
"""(kernel, stride) of the three convolutions, as in Mnih et al. 2015, Methods."""

WIDEST = 2**16
"""The most units, or kernels, of a layer."""


@dataclass(frozen=True)
class Size:
    """The widths of one network."""

    channels: tuple[int, ...]
    """Kernels per convolution; empty for a multi-layer perceptron."""
    hidden: tuple[int, ...]
    """Units per fully connected hidden layer."""
    padded: bool = True
    """Pad so that an 84x84 (or 80x80) frame ends in a 10x10 map, as in the paper's own code."""
    norm: bool = False
    """Normalise each hidden layer before its ReLU."""

    def __str__(self) -> str:
        kind = "" if self.channels else "mlp:"
        widths = "/".join(map(str, self.channels + self.hidden))
        return f"{kind}{widths}{'' if self.padded else ':valid'}{':norm' if self.norm else ''}"


SIZES = {
    "teacher": Size((32, 64, 64), (512,)),
    "student": Size((16, 16, 16), (128,)),
    "net1": Size((16, 32, 32), (256,), padded=False),
    "net2": Size((16, 16, 16), (128,), padded=False),
    "net3": Size((16, 16, 16), (64,), padded=False),
    "nature": Size((32, 64, 64), (512,), padded=False),
    "mlp": Size((), (128, 128)),
}
"""The paper's two networks (section 4.1), Rusu et al.'s students, SB3's NatureCNN, and a small
multi-layer perceptron for environments without frames."""


def parse_size(text: str) -> Size:
    """Return the size that ``text`` names or spells out; raise UserError otherwise."""
    widths, norm = text.removesuffix(":norm"), text.endswith(":norm")
    if widths in SIZES:
        return replace(SIZES[widths], norm=norm)
    if match := re.fullmatch(r"mlp:(\d{1,5}(?:/\d{1,5}){0,63})", widths):
        units = tuple(int(w) for w in match[1].split("/"))
        if all(0 < w <= WIDEST for w in units):
            return Size((), units, norm=norm)
    if match := re.fullmatch(r"(\d{1,5})/(\d{1,5})/(\d{1,5})/(\d{1,5})(:valid)?", widths):
        *channels, hidden = (int(match[i]) for i in range(1, 5))
        if all(0 < w <= WIDEST for w in (*channels, hidden)):
            return Size(tuple(channels), (hidden,), padded=match[5] is None, norm=norm)
    meant = re.fullmatch(r"\d{1,5}(/\d{1,5}){0,2}", widths)
    raise UserError(
        f"unknown network size {text!r}: "
        + f"did you mean mlp:{text}? " * bool(meant)
        + f"choose from {', '.join(SIZES)}, "
        "or spell one out as 16/16/16/128, 16/16/16/128:valid or mlp:64/64, no width above "
        f"{WIDEST:,}; with :norm after any for layer normalisation"
    )


def standard(obs: Array) -> tuple[float, float]:
    """Return median and 1 / standard deviation: the background is 0, contrasts are about 1."""
    deviation = float(obs.std())
    return float(np.rint(np.median(obs))), 1.0 / deviation if deviation > 0.0 else 1.0


def unit(obs: Array) -> tuple[float, float]:
    """Return 0 and 1 / 255: pixels from 0 to 1, as in Mnih et al. 2015 and the paper's code."""
    return 0.0, 1.0 / 255.0


SCALINGS: dict[str, Callable[[Array], tuple[float, float]]] = {"standard": standard, "unit": unit}
"""Name -> (shift, scale) of the input, read off some frames."""


class Network(nn.Module, Memoryless):
    """What a head makes actions of, from a stack of frames or a vector: ``obs[B,*O] -> out[B,L]``.

    The input is standardised as ``(obs - shift) * scale`` by constants that ``calibrate`` reads off
    observations. Frames are mostly background, so pixels / 255 leave a small network blind to what
    moves (see docs/input-scaling.md); the constants fold into the first layer without changing the
    function, and are no parameters.

    A size with ``norm`` has layer normalisation (Ba et al. 2016, eq. 3 and 4) before each ReLU:
    y = g (x - mean) / sqrt(variance + 1e-5) + b over all units of a layer of one state. A
    convolution's gains and biases are one per channel, so that it adds two parameters for each.
    """

    shift: Tensor
    scale: Tensor

    # torch's layers draw from the global generator as they are built; leave it as it was.
    @torch.random.fork_rng(devices=[])
    def __init__(
        self,
        size: Size,
        obs_shape: tuple[int, ...],
        head: Head,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build and initialise: He normal for hidden layers, a tenth of that for the last one.

        Raises UserError if the size does not fit ``obs_shape`` (``[stack, height, width]`` for
        convolutions, or ``[1, height, width, channels]``, channels first or last).
        """
        super().__init__()
        self.size = size
        self.obs_shape = obs_shape
        self.head = head
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        layers: list[nn.Module] = []
        features = math.prod(obs_shape)
        if size.channels:
            if len(obs_shape) not in (3, 4):
                raise UserError(
                    f"size {size} is of convolutions, for frames; this environment gives "
                    f"observations {list(obs_shape)}: choose a size such as mlp:64/64"
                )
            planes = Planes(obs_shape)
            before, height, width = planes.shape
            if len(obs_shape) == 4:
                layers.append(planes)
            paddings = ((84 - min(height, 84)) // 2, 1, 1) if size.padded else (0, 0, 0)
            kinds = (FrameConv2d, nn.Conv2d, nn.Conv2d)
            for kind, channels, (kernel, stride), padding in zip(
                kinds, size.channels, KERNELS, paddings, strict=True
            ):
                layers.append(kind(before, channels, kernel, stride, padding))
                layers += [nn.GroupNorm(1, channels), nn.ReLU()] if size.norm else [nn.ReLU()]
                height, width = (
                    (side + 2 * padding - kernel) // stride + 1 for side in (height, width)
                )
                before = channels
            if min(height, width) < 1:
                raise UserError(
                    f"size {size} needs larger frames than this environment gives "
                    f"({list(obs_shape)}): choose a size such as mlp:64/64"
                )
            features = before * height * width
        layers.append(nn.Flatten())
        for hidden in size.hidden:
            layers.append(nn.Linear(features, hidden))
            layers += [nn.LayerNorm(hidden), nn.ReLU()] if size.norm else [nn.ReLU()]
            features = hidden
        self.body = nn.Sequential(*layers)
        self.output = nn.Linear(features, head.size)
        if self.output.weight.is_meta:  # only counted; torch would load 800 modules to draw these
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()

    def hidden(self, obs: Tensor) -> Tensor:
        """Return the last hidden layer, ``[B,H]``."""
        device = obs.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else torch.float32
        # Grey levels and their differences are integers below 256: exact even in bf16.
        # In place on a copy of its own: fresh memory would cost more than the arithmetic.
        x = obs.to(dtype, copy=True).sub_(self.shift.to(dtype)).mul_(self.scale.to(dtype))
        hidden: Tensor = self.body(x)
        return hidden

    def forward(self, obs: Tensor) -> Tensor:
        out: Tensor = self.output(self.hidden(obs))
        return out.float()

    def dropped(self, obs: Tensor, probability: float, generator: torch.Generator) -> Tensor:
        """Return ``out`` with hidden units dropped with ``probability``, the others scaled up."""
        hidden = self.hidden(obs)
        if probability > 0.0:
            draw = torch.rand(hidden.shape, generator=generator).to(hidden.device)
            hidden = hidden * (draw >= probability) / (1.0 - probability)
        out: Tensor = self.output(hidden)
        return out.float()

    def calibrate(self, obs: Array, scaling: str = "standard") -> None:
        """Set the input's shift and scale as ``SCALINGS`` has it, from frames ``[…,H,W]``.

        Observations that are no frames (not uint8) come in units of their own and are left alone.
        """
        read = look_up("input scaling", scaling, SCALINGS)
        if obs.dtype == np.uint8:
            shift, scale = read(obs)
            self.shift.fill_(shift)
            self.scale.fill_(scale)

    def num_parameters(self) -> int:
        """Return the number of trainable parameters."""
        return sum(p.numel() for p in self.parameters())


class Planes(nn.Module):
    """Makes ``[B,stack*C,H,W]`` of frames with channels, ``[B,stack,H,W,C]`` or ``[…,C,H,W]``."""

    def __init__(self, obs_shape: tuple[int, ...]) -> None:
        """The side that is least of first and last is taken for the channels."""
        super().__init__()
        stack, *frame = obs_shape
        self._last = len(frame) == 3 and frame[2] < frame[0]
        channels, height, width = (frame[2], *frame[:2]) if self._last else (1, *frame)[-3:]
        self.shape = (stack * channels, height, width)

    def forward(self, x: Tensor) -> Tensor:
        if self._last:
            x = x.movedim(-1, 2)
        return x.flatten(1, 2)


def count_parameters(size: Size, obs_shape: tuple[int, ...], head: Head) -> int:
    """Return how many trainable parameters a network of this size has, without building it."""
    with torch.device("meta"):
        return Network(size, obs_shape, head).num_parameters()
