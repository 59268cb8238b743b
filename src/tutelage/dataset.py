"""A recorded data set on disk: single frames, compressed, with a teacher's label beside each state.

A folder with ``dataset.json`` and chunks. A chunk is a safetensors file of fragments; a fragment is
up to FRAGMENT consecutive env steps of one environment and the few frames before them, compressed
on its own, so that any of them can be read alone: a data set may be larger than memory.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from safetensors import safe_open

from tutelage.errors import UserError, choose_from
from tutelage.files import check_free, digest, load_tensors, save_tensors, write_json
from tutelage.types import Array, State, Transitions

FORMATS = {"tutelage-dataset-1": "teacher_q", "tutelage-dataset-2": "label"}
"""Format -> the name of its column of labels; the last is written, all are read."""
FORMAT = "tutelage-dataset-2"
FRAGMENT = 64
FRAGMENTS_PER_CHUNK = 128
COLUMNS = ("age", "action", "reward", "terminated", "truncated", "label")


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
        """Start a data set; raise UserError if ``folder`` holds anything and this is no resume.

        ``about`` is what a reader should know: the environment, the teacher, who acted.
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
        if not manifest.is_file():
            raise UserError(f"{folder} is no data set: it has no dataset.json")
        try:
            self.about: dict[str, Any] = json.loads(manifest.read_text())
            if self.about["format"] not in FORMATS:
                raise choose_from(f"format of {folder}", str(self.about["format"]), FORMATS)
            self._label = FORMATS[self.about["format"]]
            self.obs_shape = tuple(int(side) for side in self.about["obs_shape"])
            self._dtype = np.dtype(self.about["obs_dtype"])
            chunks = len(self.about["chunks"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{manifest} is damaged: {error!r}") from error
        self._where: list[tuple[Path, slice, slice]] = []
        self._checksums: list[str] = []
        for index in range(chunks):
            path = folder / _chunk_name(index)
            stored = ("lengths", "packed", *self._stored)
            tensors, about = load_tensors(path, only=stored)
            if about.get("format") != self.about["format"]:
                raise UserError(
                    f"{path} is no chunk of a data set of format {self.about['format']!r}"
                )
            if "checksum" in about and about["checksum"] != _checksum(tensors, stored):
                raise UserError(f"{path} is damaged: its labels are not those that were recorded")
            self._checksums.append(about.get("checksum", ""))
            rows, blobs = (_slices(tensors[name].tolist()) for name in ("lengths", "packed"))
            self._where += [(path, r, b) for r, b in zip(rows, blobs, strict=True)]
        if not self._where:
            raise UserError(f"{folder} holds no env steps")

    @property
    def _stored(self) -> tuple[str, ...]:
        """The columns as the files name them."""
        return tuple(self._label if name == "label" else name for name in COLUMNS)

    @property
    def env(self) -> str:
        """The environment it was recorded on."""
        return str(self.about["env"])

    @property
    def head(self) -> Mapping[str, Any]:
        """What its labels mean (see ``heads.parse_head``)."""
        head = self.about.get("head") or {"kind": "q", "n": self.about["num_actions"]}
        return dict(head)

    @property
    def digest(self) -> str:
        """A digest of what was recorded: of the manifest and of every chunk's labels."""
        return digest(json.dumps([self.about, self._checksums], sort_keys=True).encode())

    @property
    def env_steps(self) -> int:
        """Number of recorded states."""
        return int(self.about["env_steps"])

    def __len__(self) -> int:
        """Return the number of fragments."""
        return len(self._where)

    def __getitem__(self, index: int) -> Fragment:
        """Read and decompress one fragment; raise UserError if its frames are damaged."""
        path, rows, blob = self._where[index]
        with safe_open(path, framework="pt") as file:
            packed = file.get_slice("frames")[blob].numpy()
            columns = {
                name: file.get_slice(stored)[rows].numpy()
                for name, stored in zip(COLUMNS, self._stored, strict=True)
            }
        try:
            raw = zstandard.ZstdDecompressor().decompress(packed.tobytes())
        except zstandard.ZstdError as error:
            raise UserError(f"{path} is damaged: {error}") from error
        return Fragment(np.frombuffer(raw, self._dtype).reshape(-1, *self.obs_shape[1:]), columns)


def _chunk_name(index: int) -> str:
    return f"chunk-{index:06d}.safetensors"


def _checksum(tensors: Mapping[str, torch.Tensor], stored: Sequence[str]) -> str:
    """Return the checksum of all but the frames, which have one of their own each."""
    names = [name for name in stored if name in tensors]
    return digest(b"".join(tensors[name].numpy().tobytes() for name in names))


def _slices(lengths: list[int]) -> list[slice]:
    ends = np.cumsum(lengths).tolist()
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
