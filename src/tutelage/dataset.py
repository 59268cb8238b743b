"""A recorded data set on disk: single frames, compressed, with a teacher's label beside each state.

A folder with ``dataset.json`` and chunks. A chunk is a safetensors file of fragments; a fragment is
up to FRAGMENT consecutive env steps of one environment and the few frames before them, compressed
on its own, so that any of them can be read alone: a data set may be larger than memory.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import numpy as np
import torch
import zstandard

from tutelage.errors import UserError, choose_from
from tutelage.files import (
    check_free,
    convert,
    digest,
    load_tensors,
    open_tensors,
    read_json,
    refusing,
    save_tensors,
    sweep,
    unpack,
    write_json,
)
from tutelage.heads import Head, parse_head
from tutelage.types import Array, Counted, State, Transitions, restored

FORMATS = {"tutelage-dataset-1": "teacher_q", "tutelage-dataset-2": "label"}
"""Format -> the name of its column of labels; the last is written, all are read."""
FORMAT = "tutelage-dataset-2"
FRAGMENT = 64
FRAGMENTS_PER_CHUNK = 128
COLUMNS = ("age", "action", "reward", "terminated", "truncated", "label")
TYPES = {
    "lengths": torch.int64,
    "packed": torch.int64,
    "age": torch.int32,
    "action": None,
    "reward": torch.float32,
    "terminated": torch.bool,
    "truncated": torch.bool,
    "label": torch.float32,
}
"""What the columns of a chunk are made of; an action is what the environment takes."""

Frames = Literal[
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
]
"""What frames may be made of."""
Side = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
Steps = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]


class Manifest(msgspec.Struct):
    """What ``dataset.json`` must hold."""

    format: str
    obs_shape: Annotated[tuple[Side, ...], msgspec.Meta(min_length=1, max_length=5)]
    obs_dtype: Frames
    env_steps: Counted
    chunks: list[Steps]
    env: str
    head: dict[str, Any] | None = None
    num_actions: Side | None = None
    frame: Literal[84, 80] = 84


class Header(msgspec.Struct):
    """What a chunk says of itself."""

    format: str
    checksum: str = ""


def _check(about: Mapping[str, Any], manifest: Path) -> tuple[Manifest, Head]:
    """Return what a manifest says; raise UserError where it is none."""
    known = convert(about, Manifest, manifest)
    if known.format not in FORMATS:
        raise choose_from(f"format of {manifest}", known.format, FORMATS)
    if known.env_steps != sum(known.chunks):
        raise UserError(f"{manifest} is damaged: its chunks are not of {known.env_steps} steps")
    try:
        return known, parse_head(_head_of(about))
    except UserError as error:
        raise UserError(f"{manifest} is damaged: {error}") from None


def _head_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what labels mean; those of early data sets are Q-values."""
    return dict(about.get("head") or {"kind": "q", "n": about.get("num_actions")})


class Writer:
    """Writes a data set step by step; whole chunks appear atomically."""

    def __init__(
        self,
        folder: Path,
        *,
        num_envs: int,
        obs_shape: tuple[int, ...],
        obs_dtype: np.dtype[Any],
        about: Mapping[str, Any],
        resume: bool = False,
    ) -> None:
        """Start a data set; raise UserError if ``folder`` holds anything, unless it is a resume.

        And for observations of a type that a data set cannot hold.

        ``about`` is what a reader should know: ``env``, the ``head`` of the labels as
        ``describe_head`` has it, who acted.
        """
        if str(obs_dtype) not in get_args(Frames):
            raise UserError(
                f"observations are of type {obs_dtype}: a data set holds "
                f"{', '.join(get_args(Frames))}"
            )
        if not resume:
            check_free(folder)
        sweep(folder)
        self._folder = folder
        self._about = {
            "format": FORMAT,
            "obs_shape": list(obs_shape),
            "obs_dtype": str(obs_dtype),
            **about,
        }
        self._chunks: list[int] = []
        _check(self._manifest(), folder / "dataset.json")
        self._age = np.zeros(num_envs, np.int32)
        self._history = np.zeros((num_envs, obs_shape[0] - 1, *obs_shape[1:]), obs_dtype)
        self._steps: list[dict[str, Array]] = []
        self._fragments: list[dict[str, Array]] = []

    def __len__(self) -> int:
        """Return the number of env steps on disk."""
        return sum(self._chunks)

    def add(self, step: Transitions) -> None:
        """Record one step of every environment."""
        self._steps.append(
            {
                "frame": step.obs[:, -1],
                "age": self._age,
                "action": step.action.astype(np.int16)
                if step.action.dtype.kind == "i"
                else step.action,
                "reward": step.reward,
                "terminated": step.terminated,
                "truncated": step.truncated,
                "label": step.label,
            }
        )
        ended = step.terminated | step.truncated
        self._age = np.where(ended, 0, self._age + 1).astype(np.int32)
        if len(self._steps) == FRAGMENT:
            self._cut()
            if len(self._fragments) >= FRAGMENTS_PER_CHUNK:
                self._flush()

    def close(self) -> None:
        """Write what is still in memory."""
        self._cut()
        self._flush()

    def _cut(self) -> None:
        """Turn the steps in memory into one fragment per environment."""
        if not self._steps:
            return
        columns = {
            name: np.stack([step[name] for step in self._steps], axis=1) for name in self._steps[0]
        }
        frames = np.concatenate([self._history, columns.pop("frame")], axis=1)
        self._history = frames[:, frames.shape[1] - self._history.shape[1] :]
        compress = zstandard.ZstdCompressor(level=3, write_checksum=True).compress
        for i, frames_of_one in enumerate(frames):
            packed = np.frombuffer(compress(np.ascontiguousarray(frames_of_one).data), np.uint8)
            self._fragments.append({"frames": packed, **{n: c[i] for n, c in columns.items()}})
        self._steps = []

    def _flush(self) -> None:
        """Write the finished fragments as one chunk, then the manifest that counts it."""
        if not self._fragments:
            return
        tensors = {
            name: torch.from_numpy(np.concatenate([s[name] for s in self._fragments]))
            for name in self._fragments[0]
        }
        for name, of in (("packed", "frames"), ("lengths", "age")):
            tensors[name] = torch.tensor([len(s[of]) for s in self._fragments])
        about = {
            "format": FORMAT,
            "checksum": _checksum(tensors, ("lengths", "packed", *COLUMNS)),
        }
        save_tensors(self._folder / _chunk_name(len(self._chunks)), tensors, about)
        self._chunks.append(int(tensors["lengths"].sum()))
        self._fragments = []
        self._write_manifest()

    def _write_manifest(self) -> None:
        write_json(self._folder / "dataset.json", self._manifest())

    def _manifest(self) -> dict[str, Any]:
        return {**self._about, "env_steps": len(self), "chunks": self._chunks}

    def state(self) -> State:
        """Write everything to disk and return where the writing stands."""
        self.close()
        return {"chunks": list(self._chunks), "age": self._age, "history": self._history.copy()}

    def restore(self, state: State) -> None:
        """Go on behind what was on disk then; what came later is dropped.

        Raises UserError if what was on disk is no longer there.
        """
        self._chunks = msgspec.convert(state["chunks"], list[Steps])
        self._age = restored(state["age"], self._age)
        self._history = restored(state["history"], self._history)
        self._steps, self._fragments = [], []
        kept = [self._folder / _chunk_name(index) for index in range(len(self._chunks))]
        for path in kept:
            if not path.is_file():
                raise UserError(f"cannot go on with the data set: {path} is missing")
        self._write_manifest()
        for path in set(self._folder.glob("chunk-*.safetensors")).difference(kept):
            path.unlink()


class WholeEpisodes:
    """Writes the episodes that returned enough, one after the other; forgets the others.

    Of an episode that is under way the frames are held in memory.
    """

    def __init__(self, writer: Writer, num_envs: int, least: float) -> None:
        """``writer`` is of one environment; ``least`` is the return from which on to keep."""
        self._writer = writer
        self._least = least
        self._open: list[list[Transitions]] = [[] for _ in range(num_envs)]

    def add(self, step: Transitions) -> None:
        """Take in one step of every environment."""
        for i, episode in enumerate(self._open):
            episode.append(_row(step, i))
            if step.terminated[i] or step.truncated[i]:
                if sum(float(one.reward[0]) for one in episode) >= self._least:
                    for one in episode:
                        self._writer.add(one)
                self._open[i] = []

    def state(self) -> State:
        """Raise AssertionError: a recording has no checkpoints."""
        raise AssertionError("a recording has no checkpoints")

    def restore(self, state: State) -> None:
        """Raise AssertionError: a recording has no checkpoints."""
        raise AssertionError("a recording has no checkpoints")


def _row(step: Transitions, i: int) -> Transitions:
    """Return what one environment gave in a step, of its frames only the newest."""
    row = slice(i, i + 1)
    values = {field.name: getattr(step, field.name)[row] for field in fields(step)}
    values |= {name: values[name][:, -1:] for name in ("obs", "next_obs")}
    return Transitions(**{name: np.array(value) for name, value in values.items()})


@dataclass(frozen=True)
class Fragment:
    """Consecutive env steps of one environment, in memory."""

    frames: Array
    """``[stack - 1 + T, *frame]``: those before the fragment, then its own."""
    columns: Mapping[str, Array]
    """``age, action, reward, terminated, truncated [T]`` and ``label [T,L]``."""


class Dataset:
    """Reads a recorded data set, a fragment at a time."""

    def __init__(self, folder: str | Path) -> None:
        """Open the data set; raise UserError if ``folder`` holds none or it is damaged."""
        folder = Path(folder)
        manifest = folder / "dataset.json"
        with refusing("read", manifest):
            if not manifest.is_file():
                raise UserError(f"{folder} is no data set: it has no dataset.json")
        self.about = read_json(manifest, dict[str, Any])
        known, head = _check(self.about, manifest)
        self.env = known.env
        """The environment it was recorded on."""
        self.env_steps = known.env_steps
        """Number of recorded states."""
        self.obs_shape = known.obs_shape
        self._label = FORMATS[known.format]
        self._stored = tuple(self._label if name == "label" else name for name in COLUMNS)
        self._dtype = np.dtype(known.obs_dtype)
        self._where: list[tuple[Path, slice, slice]] = []
        self._checksums: list[str] = []
        labels = head.size
        for index, steps in enumerate(known.chunks):
            path = folder / _chunk_name(index)
            stored = ("lengths", "packed", *self._stored)
            tensors, given = load_tensors(path, only=stored)
            about = convert(given, Header, path)
            if about.format != known.format:
                raise UserError(f"{path} is no chunk of a data set of format {known.format!r}")
            _check_chunk(path, {n.replace(self._label, "label"): t for n, t in tensors.items()})
            with open_tensors(path) as file:
                frames = file.get_slice("frames")
                of = frames.get_dtype(), frames.get_shape()
            if of != ("U8", [int(tensors["packed"].sum())]):
                raise UserError(f"{path} is damaged: its frames are {of[0]} {of[1]}")
            rows, label = tensors["lengths"].sum().item(), tensors[self._label]
            if rows != steps or label.shape[1] != labels:
                raise UserError(
                    f"{path} holds {rows} steps with {label.shape[1]} numbers each, {manifest} "
                    f"counts {steps} with {labels}"
                )
            if about.checksum and about.checksum != _checksum(tensors, stored):
                raise UserError(f"{path} is damaged: its labels are not those that were recorded")
            self._checksums.append(about.checksum or _checksum(tensors, stored))
            pairs = zip(*(_slices(tensors[n].tolist()) for n in ("lengths", "packed")), strict=True)
            self._where += [(path, row, blob) for row, blob in pairs]
        if not self._where:
            raise UserError(f"{folder} holds no env steps")

    @property
    def head(self) -> Mapping[str, Any]:
        """What its labels mean (see ``heads.parse_head``)."""
        return _head_of(self.about)

    @property
    def digest(self) -> str:
        """A digest of what was recorded: of the manifest and of every chunk but its frames."""
        return digest(json.dumps([self.about, self._checksums], sort_keys=True).encode())

    def __len__(self) -> int:
        """Return the number of fragments."""
        return len(self._where)

    def __getitem__(self, index: int) -> Fragment:
        """Read and decompress one fragment; raise UserError if its frames are damaged."""
        path, rows, blob = self._where[index]
        with open_tensors(path) as file:
            packed = file.get_slice("frames")[blob].numpy()
            columns = {
                name: file.get_slice(stored)[rows].numpy()
                for name, stored in zip(COLUMNS, self._stored, strict=True)
            }
        stack, *frame = self.obs_shape
        shape = (stack - 1 + len(columns["age"]), *frame)
        try:
            raw = unpack(packed.tobytes(), math.prod(shape) * self._dtype.itemsize)
        except ValueError as error:
            raise UserError(f"{path} is damaged: {error}") from error
        return Fragment(np.frombuffer(raw, self._dtype).reshape(shape), columns)


def _check_chunk(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise UserError unless the columns are of their types and of one length."""
    for name, dtype in TYPES.items():
        if name not in tensors:
            raise UserError(f"{path} is damaged: it lacks {name}")
        if dtype not in (None, tensors[name].dtype):
            raise UserError(f"{path} is damaged: {name} is {tensors[name].dtype}, expected {dtype}")
    lengths, packed = tensors["lengths"], tensors["packed"]
    if (
        not lengths.ndim == packed.ndim == tensors["label"].ndim - 1 == 1
        or len(lengths) != len(packed)
        or not bool(((lengths >= 1) & (lengths <= FRAGMENT)).all())
        or not bool((packed >= 1).all())
        or any(tensors[name].shape[:1] != (int(lengths.sum()),) for name in COLUMNS)
    ):
        raise UserError(f"{path} is damaged: its columns are of lengths that do not go together")


def _chunk_name(index: int) -> str:
    return f"chunk-{index:06d}.safetensors"


def _checksum(tensors: Mapping[str, torch.Tensor], stored: Sequence[str]) -> str:
    """Return the checksum of all but the frames, which have one of their own each."""
    names = [name for name in stored if name in tensors]
    return digest(b"".join(tensors[name].numpy().tobytes() for name in names))


def _slices(lengths: list[int]) -> list[slice]:
    ends = np.cumsum(lengths).tolist()
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
