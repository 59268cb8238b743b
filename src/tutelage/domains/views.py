"""What is seen of an observation: one array ``[N,stack,*frame]`` of what environments give."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from tutelage.errors import UserError
from tutelage.specs import load_object
from tutelage.types import Array

View = Callable[[Any], Array]
"""What a vector environment gives of N environments -> ``obs[N,stack,*frame]``."""


def view_of(text: str, space: gymnasium.Space[Any], *, stack: int = 1) -> View:
    """Return the view that ``text`` names of observations in ``space``: keys, or a function.

    An array alone (an image, a vector) stays as it is; anything else is made a vector, as
    Gymnasium's own ``flatten`` has it. Raises UserError for keys that there are not.
    """
    if ":" in text:
        function: View = load_object("view", text)
        return function
    names = [name.strip() for name in text.split(",")] if text else []
    if names:
        if not isinstance(space, spaces.Dict):
            raise UserError(f"view {text!r} names keys, but observations are {space}")
        if unknown := [name for name in names if name not in space.spaces]:
            raise UserError(
                f"view {text!r}: unknown key {unknown[0]!r}, choose from "
                + ", ".join(map(str, space.spaces))
            )
        if len(names) == 1:
            only = view_of("", space[names[0]], stack=stack)
            return lambda obs: only(obs[names[0]])
        space = spaces.Dict({name: space[name] for name in names})
    if isinstance(space, spaces.Box):
        return _stacked if stack > 1 else _single
    flatten = _flattener(space)
    return lambda obs: flatten(obs)[:, np.newaxis]


def parts_of(text: str, space: gymnasium.Space[Any]) -> Mapping[str, gymnasium.Space[Any]]:
    """Return the parts of a Dict that a view joins to one vector, by key.

    None of any other view, and where they cannot be joined.
    """
    if not isinstance(space, spaces.Dict) or ":" in text:
        return {}
    names = [name.strip() for name in text.split(",")] if text else list(space.spaces)
    if len(names) > 1 or not text:
        joined = all(_is_array(space[name]) for name in names)
        return {name: space[name] for name in names} if joined else {}
    return parts_of("", space[names[0]])


def apart(parts: Mapping[str, gymnasium.Space[Any]]) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return what takes a vector ``obs[N,1,d]`` apart again, ``[N,1,*frame]`` for each key.

    Numbers are of their space's type again; those of Discrete and MultiDiscrete parts are whole.
    """
    widths = [spaces.flatdim(part) for part in parts.values()]
    taken = {key: _taken(part) for key, part in parts.items()}

    def split(obs: Tensor) -> dict[str, Tensor]:
        pieces = zip(taken.items(), torch.split(obs.flatten(1), widths, dim=1), strict=True)
        return {key: take(piece)[:, None] for (key, take), piece in pieces}

    return split


def _taken(space: gymnasium.Space[Any]) -> Callable[[Tensor], Tensor]:
    """Return the inverse of ``_flattener``, ``[N,d] -> [N,*frame]``; Dict and Tuple stay as is."""
    if isinstance(space, spaces.Discrete):
        return lambda flat: flat.argmax(dim=1) + int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        sizes, start = space.nvec.ravel().tolist(), torch.from_numpy(np.ravel(space.start))
        shape = space.nvec.shape
        return lambda flat: (
            torch.stack([one.argmax(dim=1) for one in torch.split(flat, sizes, dim=1)], 1)
            .add(start.to(flat.device))
            .reshape(-1, *shape)
        )
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        dtype = torch.from_numpy(np.empty(0, space.dtype)).dtype
        kept = torch.float32 if dtype.is_floating_point else dtype
        return lambda flat: flat.reshape(-1, *space.shape).to(kept)
    return lambda flat: flat


def _single(obs: Array) -> Array:
    return obs[:, np.newaxis]


def _stacked(obs: Array) -> Array:
    return obs


def _is_array(space: gymnasium.Space[Any]) -> bool:
    try:
        _flattener(space)
    except UserError:
        return False
    return True


def _flattener(space: gymnasium.Space[Any]) -> View:
    """Return what makes vectors ``[N,d]`` of N observations, in the order of ``spaces.flatten``."""
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return lambda obs: np.asarray(obs, np.float32).reshape(len(obs), -1)
    if isinstance(space, spaces.Discrete):
        start, n = int(space.start), int(space.n)
        return lambda obs: np.eye(n, dtype=np.float32)[np.asarray(obs) - start]
    if isinstance(space, spaces.MultiDiscrete):
        sizes, begin = space.nvec.ravel(), np.asarray(space.start).ravel()

        def one_hot(obs: Any) -> Array:
            given = np.asarray(obs).reshape(len(obs), -1) - begin
            eyes = [np.eye(n, dtype=np.float32)[given[:, i]] for i, n in enumerate(sizes)]
            return np.concatenate(eyes, axis=1)

        return one_hot
    if isinstance(space, spaces.Dict):
        if left_out := [name for name, part in space.spaces.items() if not _is_array(part)]:
            others = ",".join(name for name in space.spaces if name not in left_out)
            raise UserError(
                f"observations have {left_out[0]}, a {type(space[left_out[0]]).__name__}, which "
                "cannot be made an array: name keys by `student_view` and `teacher_view`, as "
                f"{others}"
            )
        parts = {name: _flattener(part) for name, part in space.spaces.items()}
        return lambda obs: np.concatenate([of(obs[name]) for name, of in parts.items()], axis=1)
    if isinstance(space, spaces.Tuple):
        members = [_flattener(part) for part in space.spaces]
        return lambda obs: np.concatenate(
            [of(part) for of, part in zip(members, obs, strict=True)], axis=1
        )
    raise UserError(
        f"observations {space} cannot be made an array: name other keys by `student_view` and "
        "`teacher_view`"
    )
