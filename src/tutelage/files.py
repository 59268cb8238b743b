"""Files that matter: written atomically, read without executing anything, checked as they enter."""

import fcntl
import hashlib
import json
import math
import os
import tempfile
import tomllib
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
import zstandard
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tutelage.errors import UserError
from tutelage.types import State

Value = TypeVar("Value")

UNFINISHED = ".writing-"
"""Begins the name of a file that is being written, or whose writing was interrupted."""


@contextmanager
def refusing(what: str, path: Path) -> Iterator[None]:
    """Raise UserError, ``cannot WHAT PATH: REASON``, where the system refuses."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot {what} {path}: {reason}") from error


def check_free(folder: Path) -> None:
    """Raise UserError unless nothing is there: no file, and no folder that holds anything."""
    with refusing("use", folder):
        sweep(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} exists and is not empty: name another folder")


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either all of it or what it held before.

    Raises UserError where the system refuses (a full disk, no permission); nothing is left behind
    but by a process that is killed, whose leavings ``sweep`` takes away.
    """
    temporary = None
    try:
        with refusing("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=path.parent, prefix=UNFINISHED, delete=False
            ) as file:
                temporary = Path(file.name)
                with suppress(OSError):  # not every file system has locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)
                temporary.replace(path)
            sync(path.parent)
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete what interrupted writes left in ``folder``, but not what is being written now."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever writes holds it
            path.unlink()


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep a file, and what it stands for, to oneself; raise UserError where another has it.

    The claim ends with its process, however that ends.
    """
    with refusing("open", path):
        file = path.open("r+b")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path.parent} is in use: wait until what is at work on it is done, or end that"
            ) from None
        except OSError:
            pass  # not every file system has locks
        yield


def sync(path: Path) -> None:
    """Wait until the disk itself holds a file's content, or a folder's list of files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(path: Path, expected: str) -> bytes:
    """Return a file's content; raise UserError, saying what was ``expected``, if there is none."""
    with refusing("read", path):
        if not path.is_file():  # not what only looks like one: a pipe would be waited for
            raise UserError(f"no file {path}: expected {expected}")
        return path.read_bytes()


def decode(data: bytes | str, kind: type[Value], where: object) -> Value:
    """Return what JSON says, of the type ``kind`` as msgspec checks it.

    Raises UserError, naming ``where``, for anything else: another type, a key that is missing, a
    number out of bounds or not finite, what is no UTF-8 or too deep.
    """
    with _damaged(where):
        return msgspec.json.decode(data, type=kind)


def convert(value: Any, kind: type[Value], where: object) -> Value:
    """Return plain data as the type ``kind``; raise UserError as ``decode``."""
    with _damaged(where):
        return msgspec.convert(value, kind)


@contextmanager
def _damaged(where: object) -> Iterator[None]:
    try:
        yield
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{where} is damaged: {error}") from error


def read_json(path: Path, kind: type[Value]) -> Value:
    """Read a JSON file of the type ``kind``; raise UserError if there is none, or as ``decode``."""
    return decode(read_bytes(path, "a JSON file"), kind, path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object atomically."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write a safetensors file with its metadata, atomically.

    The same content gives the same bytes: the metadata is one JSON object under one key, since
    safetensors writes several keys in no fixed order.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, {"about": json.dumps(dict(about), sort_keys=True)}))


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file, as ``safe_open`` does.

    Raises UserError for anything else than a whole one; a pickle is never opened.
    """
    with refusing("read", path):
        if not path.is_file():
            raise UserError(f"no file {path}: expected a .safetensors file")
        with path.open("rb") as raw:
            head = raw.read(9)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        # The first 8 bytes of a safetensors file are a length, which may look like anything.
        kind = (
            "looks like a pickle or zip archive, which is never loaded (docs/your-teacher.md "
            "shows how to take over the weights of another library's network)"
            if head.startswith((b"\x80", b"PK")) and head[8:] != b"{"
            else "is damaged or no safetensors file"
        )
        raise UserError(f"{path} {kind}: expected a .safetensors file ({error})") from error


def load_tensors(
    path: Path, *, only: Container[str] | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a safetensors file and its metadata; with ``only``, just the tensors it contains.

    Raises UserError as ``open_tensors``, and for metadata that is no JSON object.
    """
    with open_tensors(path) as file:
        about = decode((file.metadata() or {}).get("about", "{}"), dict[str, Any], path)
        names = [name for name in file.keys() if only is None or name in only]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}, about


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raise UserError if there is none or it is damaged."""
    data = read_bytes(path, "a TOML file")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no readable TOML file: {error}") from error


def pack_state(state: State) -> bytes:
    """Return a state as the bytes of a safetensors file: arrays as tensors, the rest as JSON."""
    tensors: dict[str, torch.Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"$number": str(value)}  # JSON has none of these
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.array(value))
        if isinstance(value, torch.Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous().clone()
            return {"$tensor": name}
        return value

    return save(tensors, {"about": json.dumps({"state": plain(state)})})


def unpack_state(path: Path) -> State:
    """Read what ``pack_state`` wrote; arrays come back as tensors.

    Raises UserError for anything else.
    """
    tensors, about = load_tensors(path)

    def full(value: Any) -> Any:
        if isinstance(value, list):
            return [full(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        if "$tensor" in value:
            return tensors[value["$tensor"]]
        if "$number" in value:
            return float(value["$number"])
        return {key: full(inner) for key, inner in value.items()}

    try:
        state: State = full(about["state"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error!r}") from error
    return convert(state, dict[str, Any], path)


def unpack(packed: bytes, size: int) -> bytes:
    """Decompress what must come to ``size`` bytes; raise ValueError for anything else."""
    try:
        claimed = zstandard.get_frame_parameters(packed).content_size
        if claimed == size:  # before anything is made of it: a few bytes may claim to be many
            return zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError as error:
        raise ValueError(f"what is compressed is damaged: {error}") from error
    raise ValueError(f"what is compressed comes to {claimed} bytes, expected {size}")


def file_digest(path: Path) -> str:
    """Return the digest of a file's content; raise UserError where it cannot be read."""
    with refusing("read", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def digest(data: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()[:16]
