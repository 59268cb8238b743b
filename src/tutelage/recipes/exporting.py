"""A policy taken elsewhere: the file, its contract, and the proof that it is the same policy."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from tutelage import proof
from tutelage.domains import EnvironmentConfig, about, preprocessing, spaces_of
from tutelage.environments import Parts
from tutelage.errors import UserError
from tutelage.evaluation import Note
from tutelage.exporters import Exporter, Portable, Written, exporter_named
from tutelage.files import check_free, file_digest, refusing, write_json
from tutelage.heads import describe_head
from tutelage.policies import Model
from tutelage.quantisation import layers_of, packed_bytes, precision_of
from tutelage.runs import versions
from tutelage.types import Array
from tutelage.wrappers import parse_wrapper

SCHEMA = "tutelage-contract-1"
CONTRACT = "contract.json"
LEARN = "A student distilled with --student-precision int8 acts in bytes as it learnt to"
Contract = dict[str, Any]
"""What an exported file sees, does and was measured to do: ``docs/deploy.md`` has every key."""


Page = Callable[[Path, Contract], str | None]
"""Writes a page of a contract into a folder and returns its name; None where it cannot."""


@dataclass(frozen=True)
class Terms:
    """How much is proved of an exported file, and what it has to come to."""

    states: int
    """States, visited by the policy itself, over which actions are compared."""
    episodes: int
    """Episodes that both play from the same starts."""
    max_steps: int
    """Env steps after which an episode is cut."""
    min_agreement: float | None
    """The least share of equal actions; None: the format's own."""
    margin: float
    """The share of the policy's mean return that a file in eight bits may lose at most."""


def export(
    model: Model,
    wrappers: tuple[str, ...],
    config: EnvironmentConfig,
    to: str,
    folder: Path,
    terms: Terms,
    *,
    seed: int,
    page: Page,
    note: Note,
) -> Contract:
    """Write a policy into a new folder in the format ``to``, proved; return its contract.

    Raises UserError for a folder that is in use, a format that cannot say what the policy does, and
    a file that acts otherwise; nothing is left behind then.
    """
    exporter = exporter_named(to)
    check_free(folder)
    plays = spaces_of(config)
    assert plays.obs is not None
    regions = about(config).regions
    policy = Portable(
        model.policy, plays.actions, plays.obs, [parse_wrapper(text, regions) for text in wrappers]
    )
    with _unfinished(folder) as unfinished, _quiet():
        note(f"writing {to}")
        written = exporter.write(
            policy, unfinished, lambda n: proof.states_of(policy, config, n, seed)
        )
        contract = {
            "schema": SCHEMA,
            "file": written.file,
            "files": _files(unfinished),
            **dict(written.about),
            "read_back": written.read_back or None,
            "model": _origin(model, wrappers),
            "environment": _environment(config),
            **_interface(policy, plays.obs, plays.parts),
            "versions": versions(),
            "proof": _prove(policy, exporter, written, unfinished, config, terms, seed, note),
        }
        contract["page"] = page(unfinished, contract)
        write_json(unfinished / CONTRACT, contract)
    return contract


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Yield a folder beside ``folder`` that takes its place at the end, and only then."""
    with refusing("write", folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".exporting-"))
    try:
        with refusing("write", folder):
            yield made
            made.chmod(0o755)
            with suppress(FileNotFoundError):
                folder.rmdir()  # it is empty
            made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what PyTorch warns of that it does itself, as it traces."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings(
            "ignore", message="The tensor attributes? .* assigned during export"
        )
        yield


def _files(folder: Path) -> dict[str, Any]:
    return {
        path.name: {"bytes": os.path.getsize(path), "sha256": file_digest(path)}
        for path in sorted(folder.iterdir())
    }


def _origin(model: Model, wrappers: tuple[str, ...]) -> dict[str, Any]:
    """Return what is known of the policy that the file was made of."""
    return {
        "name": model.name,
        "wrappers": list(wrappers),
        "format": model.format,
        "digests": dict(model.files),
        "parameters": model.parameters or None,
        "precision": precision_of(model.policy) if layers_of(model.policy) else None,
        "packed_bytes": packed_bytes(model.policy) or None,
        "licence": model.card.get("licence", model.card.get("license")),
        "card": _plain(model.card),
    }


def _environment(config: EnvironmentConfig) -> dict[str, Any]:
    """Return where the policy acts, and all that is done to what it sees."""
    return {
        "env": config.env,
        "preprocessing": dict(preprocessing(config)),
        "only": config.only or None,
    }


def _interface(policy: Portable, obs: Array, parts: Parts) -> dict[str, Any]:
    """Return what goes into the file, with the parts of a Dict, and what comes out of it."""
    stack, *frame = obs.shape[1:]
    memory = [{"shape": ["batch", *sides], "dtype": "float32"} for sides in policy.memory]
    return {
        "observation": {
            "input": "obs",
            "shape": list(policy.shape),
            "dtype": str(policy.dtype).removeprefix("torch."),
            "environment_dtype": str(obs.dtype),
            "order": "frame" if policy.single else "stack, oldest frame first; then frame",
            "stack": stack,
            "frame": frame,
            "scaling": "none: the file scales by itself",
            **({"parts": _joined(parts)} if parts else {}),
        },
        "action": {
            "output": "action",
            "shape": list(policy.action_shape),
            "dtype": "float32" if isinstance(policy.space, spaces.Box) else "int64 (C: int32)",
            "space": described(policy.space),
            "means": "the environment's own numbers; reshape them to the space's shape",
        },
        "numbers": {
            "output": policy.output,
            "head": describe_head(policy.head),
            "size": policy.head.size,
        },
        "memory": [
            {"input": f"memory_{i}_in", "output": f"memory_{i}_out", "begins": "zeros", **one}
            for i, one in enumerate(memory)
        ],
    }


def _joined(parts: Parts) -> list[dict[str, Any]]:
    """Return where in the vector each part of a Dict lies; a Discrete one is one-hot."""
    joined: list[dict[str, Any]] = []
    offset = 0
    for key, part in parts.items():
        size = int(spaces.flatdim(part))
        joined.append({"key": key, "offset": offset, "size": size, "space": described(part)})
        offset += size
    return joined


def described(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """Return a space as plain data."""
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        start = np.asarray(space.start).tolist()
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": start}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Box):
        bounds = {
            name: [float(x) if np.isfinite(x) else None for x in side.ravel()]
            for name, side in (("low", space.low), ("high", space.high))
        }
        return {"kind": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    return {"kind": type(space).__name__, "text": str(space)}


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a card."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _prove(
    policy: Portable,
    exporter: Exporter,
    written: Written,
    folder: Path,
    config: EnvironmentConfig,
    terms: Terms,
    seed: int,
    note: Note,
) -> dict[str, Any]:
    """Return what was measured; raise UserError where it is less than was asked for."""
    least = exporter.min_agreement if terms.min_agreement is None else terms.min_agreement
    run = exporter.open(folder, written)
    same = proof.agreement(policy, run, config, states=terms.states, seed=seed, note=note)
    if same.share < least and not exporter.by_return:
        raise UserError(f"the file is not the policy: {_short(same, least)}; nothing is written")
    both = proof.returns(
        policy,
        run,
        config,
        episodes=terms.episodes,
        max_steps=terms.max_steps,
        seed=seed,
        note=note,
    )
    mean, low, high = both.difference
    lost = terms.margin * abs(both.original.mean)
    unpaid = not both.original.returns.any()
    if same.share < least and (unpaid or low < -lost):
        # What learnt in bytes already has nothing to gain.
        hint = "" if layers_of(policy) else f". {LEARN}"
        told = (
            "nothing is paid here that returns could be compared by"
            if unpaid
            else f"its return of {both.exported.mean:.4g} against {both.original.mean:.4g} may be "
            f"lower by {-low:.3g} (at most {lost:.3g})"
        )
        raise UserError(
            f"the file is not the policy: {_short(same, least)}, and {told}; "
            f"nothing is written{hint}"
        )
    note("timing")
    fast = proof.speed(policy, run, same.sample)
    return {
        "states": same.states,
        "agreement": same.share,
        "min_agreement": least,
        "largest_difference": same.largest,
        "largest_action_error": same.action_error,
        "episodes": terms.episodes,
        "cut_episodes": both.original.cut,
        "seed": seed,
        "return": both.original.mean,
        "return_exported": both.exported.mean,
        "return_difference": mean,
        "return_difference_ci95": [low, high],
        "margin": terms.margin,
        "passed_by": "agreement" if same.share >= least else "return",
        "us_per_action": fast.original,
        "us_per_action_exported": fast.exported,
        "threads": torch.get_num_threads(),
    }


def _short(same: proof.Agreement, least: float) -> str:
    if same.action_error is not None:
        return (
            f"an action is off by {same.action_error:.3g} of its range over {same.states:,} states "
            f"(at most {1.0 - least:.3g})"
        )
    return f"{same.share:.4f} of {same.states:,} actions are equal (at least {least:g})"
