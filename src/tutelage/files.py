"""Files that matter: written atomically, read without executing anything."""

import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tutelage.errors import UserError
from tutelage.types import State

WRITING = ".writing-"
"""What a file's name begins with until it is whole."""


def check_free(folder: Path) -> None:
    """Raise UserError unless nothing is there: no file, and no folder that holds anything."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty: name another folder")


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either all of it or what it held before.

    Raises UserError where the system refuses (a full disk, no permission); nothing is left behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=WRITING, delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        sync(path.parent)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def sync(path: Path) -> None:
    """Wait until the disk itself holds a file's content, or a folder's list of files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def load_tensors(
    path: Path, *, only: Container[str] | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a safetensors file and its metadata; with ``only``, just the tensors it contains.

    Raises UserError for anything else than a whole safetensors file; a pickle is never opened.
    """
    if not path.is_file():
        raise UserError(f"no file {path}: expected a .safetensors file")
    try:
        with path.open("rb") as raw:
            head = raw.read(9)
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if only is None or name in only]  # noqa: SIM118
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if not isinstance(about, dict):
                raise ValueError("its header is no JSON object")
            return {name: file.get_tensor(name) for name in names}, about
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        # The first 8 bytes of a safetensors file are a length, which may look like anything.
        kind = (
            "looks like a pickle or zip archive, which is never loaded (docs/your-teacher.md "
            "shows how to take over the weights of another library's network)"
            if head.startswith((b"\x80", b"PK")) and head[8:] != b"{"
            else "is damaged or no safetensors file"
        )
        raise UserError(f"{path} {kind}: expected a .safetensors file ({error})") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raise UserError if there is none or it is damaged."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no file {path}: expected a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path} is no readable TOML file: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def pack_state(state: State) -> bytes:
    """Return a state as the bytes of a safetensors file: arrays as tensors, the rest as JSON."""
    tensors: dict[str, torch.Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.array(value))
        if isinstance(value, torch.Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous().clone()
            return {"$tensor": name}
        return value

    return save(tensors, {"about": json.dumps({"state": plain(state)})})


def unpack_state(path: Path) -> State:
    """Read what ``pack_state`` wrote; arrays come back as tensors."""
    tensors, about = load_tensors(path)

    def full(value: Any) -> Any:
        if isinstance(value, dict):
            if "$tensor" in value:
                return tensors[value["$tensor"]]
            return {key: full(inner) for key, inner in value.items()}
        return value

    if not isinstance(about.get("state"), dict):
        raise UserError(f"{path} holds no state: it is another kind of safetensors file")
    state: State = full(about["state"])
    return state


def file_digest(path: Path) -> str:
    """Return the digest of a file's content; raise UserError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def digest(data: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()[:16]
