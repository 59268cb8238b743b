"""A recorded data set on disk: single frames, compressed, with a teacher's label beside each state.

A folder with ``dataset.json`` and chunks. A chunk is a safetensors file of fragments; a fragment is
up to FRAGMENT consecutive env steps of one environment and the few frames before them, compressed
on its own, so that any of them can be read alone: a data set may be larger than memory.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
import zstandard
from msgspec import Meta
from safetensors import SafetensorError, safe_open

from tutelage.errors import UserError, choose_from
from tutelage.files import check_free, digest, load_tensors, save_tensors, write_json
from tutelage.heads import Head, parse_head
from tutelage.types import Array, State, Transitions

FORMATS = {"tutelage-dataset-1": "teacher_q", "tutelage-dataset-2": "label"}
"""Format -> the name of its column of labels; the last is written, all are read."""
FORMAT = "tutelage-dataset-2"
FRAGMENT = 64
FRAGMENTS_PER_CHUNK = 128
COLUMNS = ("age", "action", "reward", "terminated", "truncated", "label")
COUNTS = ("lengths", "packed")
"""Of each fragment of a chunk: its env steps, and the bytes of its compressed frames."""


class Manifest(msgspec.Struct):
    """What ``dataset.json`` must say; a format-1 one has ``num_actions`` instead of ``head``."""

    format: str
    env: str
    obs_shape: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1, max_length=5)]
    obs_dtype: str
    env_steps: Annotated[int, Meta(ge=0)]
    chunks: Annotated[list[Annotated[int, Meta(ge=1)]], Meta(max_length=10**6)]
    head: dict[str, Any] = {}
    num_actions: int = 0
    frame: int = 84


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

        ``about`` is what a reader should know: ``env``, the ``head`` of the labels as
        ``describe_head`` has it, who acted.
        """
        if not resume:
            check_free(folder)
        self._folder = folder
        self._about = {
            "format": FORMAT,
            "obs_shape": list(obs_shape),
            "obs_dtype": str(obs_dtype),
            **about,
        }
        _check_manifest(folder / "dataset.json", {**self._about, "env_steps": 0, "chunks": []})
        self._age = np.zeros(num_envs, np.int32)
        self._history = np.zeros((num_envs, obs_shape[0] - 1, *obs_shape[1:]), obs_dtype)
        self._steps: list[dict[str, Array]] = []
        self._fragments: list[dict[str, Array]] = []
        self._chunks: list[int] = []

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
        write_json(
            self._folder / "dataset.json",
            {**self._about, "env_steps": len(self), "chunks": self._chunks},
        )

    def state(self) -> State:
        """Write everything to disk and return where the writing stands."""
        self.close()
        return {"chunks": list(self._chunks), "age": self._age, "history": self._history.copy()}

    def restore(self, state: State) -> None:
        """Go on behind what was on disk then; what came later is dropped.

        Raises UserError if what was on disk is no longer there.
        """
        self._chunks = [int(n) for n in state["chunks"]]
        self._age = np.asarray(state["age"]).copy()
        self._history = np.asarray(state["history"]).copy()
        self._steps, self._fragments = [], []
        kept = [self._folder / _chunk_name(index) for index in range(len(self._chunks))]
        for path in kept:
            if not path.is_file():
                raise UserError(f"cannot go on with the data set: {path} is missing")
        self._write_manifest()
        for path in set(self._folder.glob("chunk-*.safetensors")).difference(kept):
            path.unlink()


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
        path = folder / "dataset.json"
        self.about: dict[str, Any] = _read(path)
        manifest, head = _check_manifest(path, self.about)
        self.env = manifest.env
        """The environment it was recorded on."""
        self.obs_shape = manifest.obs_shape
        self.env_steps = manifest.env_steps
        """Number of recorded states."""
        self._dtype = np.dtype(manifest.obs_dtype)
        label = FORMATS[manifest.format]
        self._stored = tuple(label if name == "label" else name for name in COLUMNS)
        self._where: list[tuple[Path, slice, slice]] = []
        self._checksums: list[str] = []
        for index in range(len(manifest.chunks)):
            path = folder / _chunk_name(index)
            stored = (*COUNTS, *self._stored)
            tensors, about = load_tensors(path, only=stored)
            if not isinstance(about, dict) or about.get("format") != manifest.format:
                raise UserError(f"{path} is no chunk of a data set of format {manifest.format!r}")
            checksum = _checksum(tensors, stored)
            if about.get("checksum", checksum) != checksum or not _is_whole(
                tensors, stored, head.size
            ):
                raise UserError(f"{path} is damaged: its labels are not those that were recorded")
            self._checksums.append(checksum)
            rows, blobs = (_slices(tensors[name].tolist()) for name in COUNTS)
            self._where += [(path, r, b) for r, b in zip(rows, blobs, strict=True)]
        if not self._where:
            raise UserError(f"{folder} holds no env steps")

    @property
    def head(self) -> Mapping[str, Any]:
        """What its labels mean (see ``heads.parse_head``)."""
        return _head(self.about)

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
        try:
            with safe_open(path, framework="pt") as file:
                packed = file.get_slice("frames")[blob].numpy()
                columns = {
                    name: file.get_slice(stored)[rows].numpy()
                    for name, stored in zip(COLUMNS, self._stored, strict=True)
                }
            raw = zstandard.ZstdDecompressor().decompress(packed.tobytes())
            shape = (self.obs_shape[0] - 1 + rows.stop - rows.start, *self.obs_shape[1:])
            return Fragment(np.frombuffer(raw, self._dtype).reshape(shape), columns)
        except (zstandard.ZstdError, SafetensorError, ValueError) as error:
            raise UserError(f"{path} is damaged: {error}") from error


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path.parent} is no data set: it has no {path.name}")
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error!r}") from error


def _check_manifest(path: Path, about: Any) -> tuple[Manifest, Head]:
    """Return what a manifest says and the head of its labels; raise UserError if it is damaged."""
    if isinstance(about, dict) and (given := str(about.get("format"))) not in FORMATS:
        raise choose_from(f"format of {path.parent}", given, FORMATS)
    try:
        manifest = msgspec.convert(about, Manifest)
        if np.dtype(manifest.obs_dtype).kind not in "iufb":
            raise TypeError(f"obs_dtype {manifest.obs_dtype}")
        return manifest, parse_head(_head(about))
    except (UserError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _head(about: Mapping[str, Any]) -> dict[str, Any]:
    return dict(about.get("head") or {"kind": "q", "n": about.get("num_actions")})


def _is_whole(tensors: Mapping[str, torch.Tensor], stored: Sequence[str], label_size: int) -> bool:
    """Return whether a chunk has all its columns, of one length and of the types they have."""
    if not set(stored) <= set(tensors):
        return False
    *counts, age, action, reward, terminated, truncated, label = (tensors[name] for name in stored)
    kinds = [t.dtype for t in (*counts, age, reward, terminated, truncated, label)]
    steps = len(age) if age.ndim else -1
    return (
        kinds == [*[torch.int64] * 2, torch.int32, torch.float32, *[torch.bool] * 2, torch.float32]
        and all(count.ndim == 1 and bool((count > 0).all()) for count in counts)
        and len(counts[0]) == len(counts[1])
        and int(counts[0].sum()) == steps
        and all(t.shape == (steps,) for t in (reward, terminated, truncated))
        and action.shape[:1] == (steps,)
        and label.shape == (steps, label_size)
    )


def _chunk_name(index: int) -> str:
    return f"chunk-{index:06d}.safetensors"


def _checksum(tensors: Mapping[str, torch.Tensor], stored: Sequence[str]) -> str:
    """Return the checksum of all but the frames, which have one of their own each."""
    names = [name for name in stored if name in tensors]
    return digest(b"".join(tensors[name].numpy().tobytes() for name in names))


def _slices(lengths: list[int]) -> list[slice]:
    ends = np.cumsum(lengths).tolist()
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
