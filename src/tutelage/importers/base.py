"""What importers share: reading a file, the shapes of observations, the meaning of numbers."""

import io
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from tutelage import files
from tutelage.errors import MisfitError, UserError, choose_from, counted, shortened
from tutelage.heads import (
    Bernoulli,
    Categorical,
    Gaussian,
    Head,
    MultiCategorical,
    Point,
    QValues,
    check_actions,
    head_for,
)
from tutelage.policies import Model, unlike
from tutelage.types import Array

Observation = Tensor | Mapping[str, Tensor]
"""``obs[N,stack,*frame]``, or one such tensor by each key of a Dict space."""
Space = gymnasium.Space[Any]

CERTAIN = 20.0
"""The logit between an action that is known to be meant and any other."""


@dataclass(frozen=True)
class Importer:
    """A format of policies that others trained."""

    recognises: Callable[[Path], bool]
    """Whether a file's content is of this format; its name says nothing."""
    load: Callable[..., Model]
    """``(path, *, space=None, option="…")``: its keywords are the options that may be named.

    ``space`` holds the actions of the environment, where that is known.
    """
    program: bool = False
    """Whether loading it executes what is in it: only when a person names it as such."""


def quoted(value: object) -> str:
    """Return what a file says as it is repeated in an error: on one line, and not all of more."""
    plain = isinstance(value, str) and value.isprintable()
    return shortened(str(value) if plain else repr(value), 100)


def few(numbers: Sequence[float]) -> str:
    """Return numbers as a list in an error: the first of many."""
    return f"[{', '.join(f'{x:g}' for x in numbers[:6])}{', …' * (len(numbers) > 6)}]"


def line_of(error: Exception) -> str:
    """Return what an error of another library says, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def read_bytes(path: Path) -> tuple[bytes, dict[str, str]]:
    """Return a file's content and its digest by its name; raise UserError where it cannot be."""
    data = files.read_bytes(path, "a regular file")
    return data, {path.name: files.digest(data)}


def beginning(path: Path, size: int) -> bytes:
    """Return the first ``size`` bytes of a file, or none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def members(path: Path) -> list[str]:
    """Return what a zip archive holds; nothing of any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # a damaged archive fails in more ways than zipfile says
        return []


def check_archive(data: bytes, where: str, kind: str) -> None:
    """Raise UserError unless every part of a zip archive is whole."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            broken = archive.testzip()
    except Exception as error:  # as above
        raise UserError(f"{where} is damaged or no {kind} ({line_of(error)})") from error
    if broken:
        raise UserError(f"{where} is damaged: its part {broken}")


def read_tensors(data: bytes, where: str) -> dict[str, Any]:
    """Return what ``torch.save`` wrote of tensors and plain data; nothing is executed.

    Raises UserError for anything else, and for what holds other objects.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, of what is refused in a line of our own
            saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        if other := re.search(r"GLOBAL ([\w.]{1,100})", str(error)):
            raise UserError(
                f"{where} holds objects of {other[1]}, which are never loaded: expected tensors "
                "and plain numbers, as in torch.save(model.state_dict(), …)"
            ) from error
        raise UserError(
            f"{where} is damaged, or looks like a pickle or zip archive, which is never loaded but "
            f"for tensors and numbers ({type(error).__name__})"
        ) from error
    return saved if isinstance(saved, dict) else {"": saved}


WEIGHTS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What weights may be saved in."""
SHARED = 10
"""How often a file may hold the same weights: actors and critics share layers, bombs do more."""


def checked_weights(tensors: Mapping[Any, Any], where: str) -> dict[str, Tensor]:
    """Return the tensors of a state dict: weights in fp32, and counters, each one whole number.

    Everything that a file says of weights is checked here. Raises UserError for a name that is no
    line of text, for what is not plain numbers in memory, and for NaN and infinite weights.
    """
    weights: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            continue
        if not isinstance(name, str) or not name.isprintable() or len(name) > 200:
            raise UserError(f"{where} has a tensor by {quoted(name)}, expected a layer's name")
        if odd := _odd(value):
            raise UserError(f"{where} holds {odd} ({name}), expected plain floating-point weights")
        weights[name] = value
    memory = [value.untyped_storage() for value in weights.values()]
    held = sum({part.data_ptr(): part.nbytes() for part in memory}.values())
    if sum(value.nbytes for value in weights.values()) > SHARED * held:
        raise UserError(f"{where} holds the same weights more than {SHARED} times")
    for name, value in weights.items():
        if value.dtype in WEIGHTS:
            weights[name] = value.float()
            if not bool(torch.isfinite(weights[name]).all()):
                raise UserError(f"{where} holds NaN or infinite weights ({name})")
    return weights


def _odd(tensor: Tensor) -> str:
    """Return what a tensor is that is neither weights nor a counter; empty for these."""
    if tensor.layout != torch.strided or tensor.is_nested:
        return "a sparse or nested tensor"
    if tensor.device.type != "cpu":
        return "a tensor without its numbers"
    counter = tensor.ndim == 0 and tensor.dtype in (torch.int64, torch.int32)
    if tensor.dtype not in WEIGHTS and not counter:
        return f"a tensor of {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.numel() == 0:
        return "an empty tensor"
    # A stride of 0 lets a file of bytes claim gigabytes, which the first sum over it would take.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"a tensor of {tensor.numel():,} numbers, most of which are not in the file"
    return ""


@contextmanager
def assembling(where: str) -> Iterator[None]:
    """Raise UserError where the tensors of a file, each sound in itself, make no network.

    Their shapes may be at odds in more ways than could be checked one by one.
    """
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{where} holds layers that do not go together ({line_of(error)})"
        ) from error


def shaped(obs: Tensor, shape: Sequence[int | None]) -> Tensor:
    """Return ``obs[N,stack,*frame]`` as ``[N,*shape]``, None standing for any size.

    A stack is joined with the frames' channels, oldest frame first, and images whose channels come
    last get them first, as Stable-Baselines3's VecFrameStack and VecTransposeImage do it. Raises
    MisfitError if no reading of the observations has that shape.
    """
    n, stack, *frame = obs.shape
    readings: list[Callable[[], Tensor]] = [lambda: obs]
    if frame:
        readings.append(lambda: obs.flatten(1, 2))
    if len(frame) == 3:
        readings.append(lambda: obs.movedim(-1, 2).flatten(1, 2))
    if len(frame) >= 2:
        readings.append(lambda: obs.movedim(1, -2).flatten(-2))
    readings.append(lambda: obs.reshape(n, -1))
    for read in readings:
        x = read()
        if len(x.shape) - 1 == len(shape) and all(
            want in (None, got) for got, want in zip(x.shape[1:], shape, strict=True)
        ):
            return x
    raise unlike(shape, (stack, *frame))


def one_tensor(obs: Observation) -> Tensor:
    """Return the observation, which has to be one tensor; raise UserError for several parts."""
    if isinstance(obs, Tensor):
        return obs
    raise UserError(
        f"the policy takes one observation, this environment gives parts: {', '.join(obs)}"
    )


HEADS: Mapping[str, Callable[[int], Head]] = {
    "q": QValues,
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "gaussian": lambda size: Gaussian(size // 2),
    "squashed-gaussian": lambda size: Gaussian(size // 2, squashed=True),
    "point": Point,
}
"""What ``head:NAME`` may say -> the head of L numbers; beside them ``multi-categorical:3/2``."""


def named_head(text: str, size: int | None) -> Head:
    """Return the head that ``text`` names, for ``size`` numbers a state unless it says how many.

    ``q``, ``categorical``, …, or ``categorical:4`` of four actions. Raises UserError for an unknown
    one, and where nothing says how many actions there are.
    """
    kind, _, given = text.partition(":")
    widths = given.split("/") if given else []
    if not all(w.isdecimal() and len(w) < 9 and int(w) > 0 for w in widths):
        raise UserError(f"head {text!r}: expected a number as in {kind}:4")
    if kind == "multi-categorical" and widths:
        return MultiCategorical(tuple(int(w) for w in widths))
    if kind not in HEADS:
        raise choose_from("head", text, [*HEADS, "multi-categorical:3/2"])
    if len(widths) == 1:
        return HEADS[kind](int(widths[0]) * (2 if "gaussian" in kind else 1))
    if size is None or widths:
        raise UserError(f"head {text!r}: how many actions is not known, name it as in {kind}:4")
    return HEADS[kind](size)


def spelled_head(head: Head) -> str:
    """Return how ``head:NAME`` names a head; empty for one that it cannot name."""
    if isinstance(head, MultiCategorical):
        return f"multi-categorical:{'/'.join(map(str, head.sizes))}"
    kinds = {QValues: "q", Categorical: "categorical", Bernoulli: "bernoulli", Point: "point"}
    if isinstance(head, Gaussian):
        return f"{'squashed-' * head.squashed}gaussian:{head.n}"
    return f"{kinds[type(head)]}:{head.size}" if type(head) in kinds else ""


def chosen_head(text: str, space: Space | None, size: int | None, *, hint: str = "") -> Head:
    """Return the head that a person names, else the one that fits the environment's actions.

    ``size``: how many numbers a state are said, where that is known. ``hint``, such as an output's
    name, tells values from logits. Raises UserError where nothing says what the numbers mean, and
    if they are not ``size``.
    """
    usual = None if space is None else head_for(space)
    word = hint.lower()
    if text:
        fitting = size
        if fitting is None and usual is not None:
            fitting = usual.size * (2 if "gaussian" in text else 1)
        head = named_head(text, fitting)
    elif isinstance(usual, Categorical) and word.startswith("q"):
        head = QValues(usual.n)
    elif isinstance(usual, Point) and size == 2 * usual.n:
        head = Gaussian(usual.n)
    elif usual is not None:
        head = usual
    elif size is not None and word.startswith("q"):
        head = QValues(size)
    elif size is not None and "logit" in word:
        head = Categorical(size)
    elif size is not None and "action" in word:
        head = Point(size)
    else:
        raise UserError(
            "what the policy's numbers mean is not known: name it, as in +head:q; choose from "
            f"{', '.join(HEADS)}, multi-categorical:3/2"
        )
    if isinstance(head, Gaussian | Point) and isinstance(usual, Point):
        head = replace(head, bounded=usual.bounded)
    if size is not None and head.size != size:
        if text:
            raise UserError(f"the policy says {size} numbers a state, {text} needs {head.size}")
        raise MisfitError(f"says {counted(size, 'number')} a state", f"needs {head.size:,}")
    return head


class ToRange(nn.Module):
    """From the units of the action into those of its range: -1 is its lower bound, 1 its upper.

    ``[action] -> [action]`` and ``[mean, log sd] -> [mean, log sd]``: x -> (x - middle) / spread.
    """

    spread: Tensor
    middle: Tensor

    def __init__(self, low: Array, high: Array) -> None:
        """An action without bounds is from -1 to 1: its numbers stay as they are."""
        super().__init__()
        bounded = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(bounded, low, -1.0).ravel(), np.where(bounded, high, 1.0).ravel()
        spread = np.where(low < high, (high - low) / 2.0, 1.0)  # one that is fixed has no range
        self.register_buffer("spread", torch.from_numpy(spread).float())
        self.register_buffer("middle", torch.from_numpy((high + low) / 2.0).float())

    def forward(self, out: Tensor) -> Tensor:
        n = len(self.spread)
        action = (out[:, :n] - self.middle) / self.spread
        return (
            torch.cat([action, out[:, n:] - self.spread.log()], 1) if out.shape[1] > n else action
        )


def to_range(head: Head, space: Space | None, units: str) -> ToRange | None:
    """Return what takes actions in ``units`` (env or range) into those of their range.

    None where they are so already, and where the bounds are not known. Raises UserError for as many
    numbers as the environment's actions have not.
    """
    if units not in ("env", "range"):
        raise choose_from("units", units, ["env", "range"])
    if not isinstance(head, Gaussian | Point) or not isinstance(space, spaces.Box):
        return None
    if head.n != space.low.size:
        check_actions(head, space)
    squashed = isinstance(head, Gaussian) and head.squashed
    return None if squashed or units == "range" else ToRange(space.low, space.high)


def found(fault: Tensor) -> bool:
    """Return whether there is a fault anywhere; a program that is being traced holds no numbers."""
    return not torch.compiler.is_exporting() and bool(fault.any())


class Reading:
    """Checks what a program says and makes the numbers ``out[N,L]`` of a head of it.

    Whole numbers are actions themselves: the one meant gets the logit 0, others ``-CERTAIN``.
    """

    def __init__(self, head: Head, space: Space | None, units: str = "env") -> None:
        """``units`` of a Box's actions: the environment's own (env), or those of its range."""
        self.head = head
        self._start = np.asarray(getattr(space, "start", 0)).ravel()
        self._to_range = to_range(head, space, units)

    def __call__(self, said: Any, n: int) -> Tensor:
        """Return ``out[N,L]``; raise UserError for another shape or type, and for NaN."""
        out: Tensor = said if isinstance(said, Tensor) else torch.as_tensor(np.asarray(said))
        out = out.detach()
        if not out.is_floating_point():
            return self._of_actions(out, n)
        if out.ndim == 1 and self.head.size == 1:
            out = out[:, None]
        if out.shape != (n, self.head.size):
            raise UserError(
                f"the policy says numbers {list(out.shape)} of {n} states, expected "
                f"{[n, self.head.size]} ({type(self.head).__name__})"
            )
        if found(torch.isnan(out) | (out == math.inf)):
            raise UserError("the policy says NaN or infinity")
        if self._to_range is None:
            return out.float()
        moved: Tensor = self._to_range.to(out.device)(out.float())
        return moved

    def _of_actions(self, action: Tensor, n: int) -> Tensor:
        head = self.head
        if isinstance(head, QValues | Categorical):
            sizes: tuple[int, ...] = (head.n,)
            action = action.reshape(n, -1) if action.shape[0] == n else action
        elif isinstance(head, MultiCategorical):
            sizes = head.sizes
        elif isinstance(head, Bernoulli):
            sizes = (2,) * head.n
        else:
            raise UserError(f"the policy says {action.dtype}, expected floating-point actions")
        if action.shape != (n, len(sizes)):
            raise UserError(
                f"the policy says actions {list(action.shape)} of {n} states, "
                f"expected {[n, len(sizes)]}"
            )
        action = action.long() - torch.from_numpy(self._start.astype(np.int64)).to(action.device)
        if found((action < 0) | (action >= action.new_tensor(sizes))):
            raise UserError(f"the policy says an action that is not one of {list(sizes)}")
        if isinstance(head, Bernoulli):
            return (2.0 * action - 1.0) * CERTAIN
        parts = [nn.functional.one_hot(action[:, i], k).float() - 1.0 for i, k in enumerate(sizes)]
        return torch.cat(parts, dim=1) * CERTAIN


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a network has learnt."""
    return sum(parameter.numel() for parameter in module.parameters())
