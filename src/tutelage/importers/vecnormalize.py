"""What VecNormalize of Stable-Baselines3 keeps in a pickle: means and variances of observations.

The pickle is read by an allow-list that builds arrays and numbers only. Whatever else it names
becomes an empty stand-in, so that nothing of it is imported or executed.
"""

import pickle
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.errors import UserError
from tutelage.heads import Head
from tutelage.importers.base import Observation, read_bytes, shaped
from tutelage.policies import Carry, Model, Policy
from tutelage.types import Array


@dataclass(frozen=True)
class Moments:
    """The mean and variance of each number of an observation."""

    mean: Array
    var: Array


@dataclass(frozen=True)
class Statistics:
    """How observations are normalised: clip((obs - mean) / sqrt(var + epsilon), -clip, clip)."""

    moments: Moments | Mapping[str, Moments]
    """Those of the observation, or of some keys of a Dict."""
    epsilon: float
    clip: float


class Normalised(nn.Module):
    """A policy that sees its observations as VecNormalize gave them in training."""

    def __init__(self, policy: Policy, statistics: Statistics) -> None:
        super().__init__()
        self.policy = policy
        self.statistics = statistics

    @property
    def head(self) -> Head:
        """The policy's own."""
        return self.policy.head

    @property
    def takes_parts(self) -> bool:
        """As the policy does."""
        return bool(getattr(self.policy, "takes_parts", False))

    def initial(self, n: int) -> Carry:
        """Return the policy's own memory."""
        return self.policy.initial(n)

    def step(self, obs: Observation, carry: Carry) -> tuple[Tensor, Carry]:
        """Ask the policy about normalised observations."""
        return self.policy.step(self._seen(obs), carry)  # type: ignore[arg-type]

    def _seen(self, obs: Observation) -> Observation:
        moments = self.statistics.moments
        if isinstance(obs, Tensor):
            if not isinstance(moments, Moments):
                raise UserError(f"the statistics are of the keys {', '.join(moments)} of a Dict")
            return self._normalise(obs, moments)
        if isinstance(moments, Moments):
            raise UserError(f"the statistics are of one observation, not of {', '.join(obs)}")
        return {
            key: self._normalise(part, moments[key]) if key in moments else part
            for key, part in obs.items()
        }

    def _normalise(self, obs: Tensor, moments: Moments) -> Tensor:
        """Normalise ``obs[N,stack,*frame]``: each frame, or the whole stack where so many are."""
        if tuple(obs.shape[2:]) != moments.mean.shape:
            obs = shaped(obs, moments.mean.shape)[:, None]
        mean, var = (torch.from_numpy(side).to(obs.device) for side in (moments.mean, moments.var))
        x = (obs.double() - mean) / (var + self.statistics.epsilon).sqrt()
        return x.clamp(-self.statistics.clip, self.statistics.clip).float()


def read(path: Path) -> tuple[Statistics | None, dict[str, str]]:
    """Return the statistics in a pickle of VecNormalize, and the file's digest.

    None where it normalised rewards only. Raises UserError for anything else.
    """
    data, files = read_bytes(path)
    try:
        _check(data)
        saved = _Reader(BytesIO(data)).load()
        about = saved.about
        if not about.get("norm_obs", True):
            return None, files
        given = about["obs_rms"]
        moments = (
            {str(key): _moments(one) for key, one in given.items()}
            if isinstance(given, dict)
            else _moments(given)
        )
        return Statistics(moments, float(about["epsilon"]), float(about["clip_obs"])), files
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # bytes from outside can make a pickle fail in any way
        raise UserError(
            f"{path} holds no statistics of VecNormalize: expected the pickle that its save() "
            f"writes ({type(error).__name__})"
        ) from error


def _check(data: bytes) -> None:
    """Raise an error for a pickle that says it is longer than it is, or remembers at far places.

    Reading it would take the memory that it says it needs.
    """
    for operation, value, _ in pickletools.genops(data):
        if operation.name.endswith("PUT") and isinstance(value, int) and value > len(data):
            raise ValueError(f"{operation.name} {value}")


def normalised(model: Model, path: Path) -> Model:
    """Return a model whose policy sees what ``path`` normalises; raise UserError as ``read``."""
    statistics, files = read(path)
    if statistics is None:
        return model
    return replace(
        model,
        policy=Normalised(model.policy, statistics),
        card={**model.card, "vecnormalize": str(path)},
        files={**model.files, **files},
    )


def _moments(given: Any) -> Moments:
    mean, var = (np.asarray(given.about[name], np.float64) for name in ("mean", "var"))
    if mean.shape != var.shape or not np.isfinite([mean, var]).all() or (var < 0).any():
        raise UserError("the mean and variance are no finite numbers of one shape")
    return Moments(mean, var)


class _Inert:
    """Stands in for an object of any class, and keeps its attributes; none of its code runs."""

    about: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *args: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.about = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Forget an item of a list."""

    def extend(self, items: Any) -> None:
        """Forget the items of a list."""

    def add(self, item: Any) -> None:
        """Forget an item of a set."""


class _DType:
    """A NumPy type of numbers."""

    def __init__(self, text: Any = "", *flags: Any) -> None:
        if not isinstance(text, str) or text[:1] not in "biuf":
            raise ValueError(f"dtype {text!r}")
        self.value = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if state[1] in "<>":
            self.value = self.value.newbyteorder(state[1])


class _Array:
    """An array of numbers, built of its bytes."""

    def __init__(self, *how: Any) -> None:
        self.value: Array = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_column, raw = state
        flat = _flat(raw, dtype)
        self.value = flat.reshape(shape, order="F" if by_column else "C").astype(np.float64)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.value


def _flat(raw: Any, dtype: _DType) -> Array:
    if not isinstance(raw, bytes | bytearray):
        raise ValueError(f"{type(raw).__name__} instead of bytes")
    return np.frombuffer(bytes(raw), dtype.value)


def _scalar(dtype: _DType, raw: bytes) -> float:
    return float(_flat(raw, dtype)[0])


def _frombuffer(raw: Any, dtype: _DType, shape: Any, order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.multiarray", name): build
        for core in ("core", "_core")
        for name, build in (("_reconstruct", _Array), ("scalar", _scalar))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), _Inert)
