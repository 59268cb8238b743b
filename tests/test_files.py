"""Files that matter: written whole or not at all, read without executing anything."""

import errno
import os
import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tutelage.errors import UserError
from tutelage.files import (
    digest,
    file_digest,
    load_tensors,
    pack_state,
    read_toml,
    save_tensors,
    unpack_state,
    write_atomic,
    write_json,
)
from tutelage.models import load_network
from tutelage.types import State, generator_state

OLD, NEW = b"old" * 100, b"new" * 10_000

Reader = Callable[[Path], object]
READERS: dict[str, Reader] = {
    "load_tensors": load_tensors,
    "unpack_state": unpack_state,
    "load_network": load_network,
}

KEYS = st.text("ab/.$0", min_size=1, max_size=5)
TEXT = st.text('ab "\\\n\u00e9', max_size=5)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT)
DTYPES = st.sampled_from([np.bool_, np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
STATES = st.dictionaries(
    KEYS,
    st.recursive(
        PLAIN
        | st.lists(PLAIN, max_size=3)
        | ARRAYS
        | ARRAYS.map(lambda array: torch.tensor(array)),
        lambda inner: st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)


def assert_same(got: Any, given: Any) -> None:
    if isinstance(given, dict):
        assert list(got) == list(given)
        for key, value in given.items():
            assert_same(got[key], value)
    elif isinstance(given, np.ndarray | torch.Tensor):
        assert isinstance(got, torch.Tensor)
        np.testing.assert_array_equal(got.numpy(), np.asarray(given), strict=True)
    else:
        assert (got, type(got)) == (given, type(given))


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, where: str) -> Iterator[None]:
    """Let the system refuse a file: at its writing, its syncing or its renaming."""
    if where == "write":
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(OLD), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return
    with monkeypatch.context() as patch:
        patch.setattr({"fsync": "os.fsync", "replace": "pathlib.Path.replace"}[where], refuse)
        yield


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, OLD)
    with (
        failing(monkeypatch, where),
        pytest.raises(UserError, match=rf"{path}: (No space left|File too large)"),
    ):
        write_atomic(path, NEW)
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_whole_and_makes_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    for content in (NEW, OLD):
        write_atomic(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_folder_that_cannot_be_made_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(UserError, match="cannot write"):
        write_json(tmp_path / "file" / "below", {"a": 1})


class Bomb:
    """Whoever unpickles this makes a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.made,)


def write_pickle(path: Path, bomb: Bomb) -> None:
    path.write_bytes(pickle.dumps(bomb))


def write_torch_archive(path: Path, bomb: Bomb) -> None:
    torch.save({"weights": bomb}, path)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("write", [write_pickle, write_torch_archive])
def test_a_pickle_is_refused_and_never_opened(
    read: Reader, write: Callable[[Path, Bomb], None], tmp_path: Path
) -> None:
    path, made = tmp_path / "model.safetensors", tmp_path / "made"
    write(path, Bomb(made))
    with pytest.raises(UserError, match="pickle") as error:
        read(path)
    assert "\n" not in str(error.value)
    assert not made.exists()
    with suppress(Exception):
        torch.load(BytesIO(path.read_bytes()), weights_only=False)
    assert made.exists(), "the bomb was no bomb"


def truncated(whole: bytes) -> list[bytes]:
    return [whole[:at] for at in (0, 4, 8, 40, len(whole) - 1)]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_damaged_file_is_an_error_in_one_line(read: Reader, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    whole = pack_state({"weights": np.arange(5)})
    for damaged in (*truncated(whole), b"{}" * 50, b"\xff" * 200, whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged") as error:
            read(path)
        assert "\n" not in str(error.value)
        assert "pickle" not in str(error.value)


def test_a_header_whose_length_looks_like_a_pickle_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for length in (0x80, 0x4B50):
        path.write_bytes(length.to_bytes(8, "little") + b'{"cut short')
        with pytest.raises(UserError, match="damaged"):
            load_tensors(path)


@pytest.mark.parametrize("read", [*READERS.values(), read_toml, file_digest])
def test_a_file_that_is_not_there_or_may_not_be_read_is_named(
    read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=str(missing)):
            read(missing)
    path = tmp_path / "file"
    path.write_bytes(pack_state({}))

    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbid)
    with pytest.raises(UserError, match=f"{path}.*Permission denied"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"seed = = 1",
        b"\xff\xfe",
        b"seed = 1\nseed = 2",
        b"a = " + b"[" * 100_000,
        b"a = " + b"9" * 5_000,
    ],
    ids=lambda content: str(content[:9]),
)
def test_a_damaged_toml_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)) as error:
        read_toml(path)
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_write_that_is_interrupted_leaves_nothing_behind(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(file: int) -> None:
        raise error

    path = tmp_path / "file"
    write_atomic(path, OLD)
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(error):
        write_atomic(path, NEW)
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_tensors_asked_for_are_read(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3), "b": torch.arange(6.0).reshape(2, 3).T}
    save_tensors(tmp_path / "file", tensors, {"about": "both"})
    got, about = load_tensors(tmp_path / "file", only=["b"])
    assert_same(got, {"b": tensors["b"]})
    assert about == {"about": "both"}


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    about = {f"key {i}": str(i) for i in range(20)}
    for name, order in (("a", about), ("b", dict(reversed(about.items())))):
        save_tensors(tmp_path / name, {"x": torch.ones(1)}, order)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(state=STATES)
def test_a_state_comes_back_as_it_was(
    state: State, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "state"
    path.write_bytes(pack_state(state))
    assert_same(unpack_state(path), state)


def test_names_that_look_like_paths_are_kept_apart(tmp_path: Path) -> None:
    state = {"a/b": np.array([1]), "a": {"b": np.array([2])}}
    (tmp_path / "state").write_bytes(pack_state(state))
    assert_same(unpack_state(tmp_path / "state"), state)


def test_a_tensor_that_has_two_names_comes_back_under_both(tmp_path: Path) -> None:
    weights = torch.arange(4.0)
    state = {"network": {"weights": weights}, "averaged": {"weights": weights, "row": weights[2:]}}
    (tmp_path / "state").write_bytes(pack_state(state))
    assert_same(unpack_state(tmp_path / "state"), state)


def test_a_generator_goes_on_from_its_state(tmp_path: Path) -> None:
    rng, twin = np.random.default_rng(1), np.random.default_rng(2)
    rng.integers(10, size=5, dtype=np.int32)
    (tmp_path / "state").write_bytes(pack_state(generator_state(rng)))
    twin.bit_generator.state = unpack_state(tmp_path / "state")
    assert twin.integers(10**9, size=20).tolist() == rng.integers(10**9, size=20).tolist()


def test_a_packed_state_does_not_change_with_what_it_was_made_of() -> None:
    weights = torch.zeros(3)
    before = pack_state({"weights": weights})
    again = pack_state({"weights": weights})
    weights += 1.0
    assert again == before != pack_state({"weights": weights})


def test_a_digest_is_sixteen_digits_of_sha256() -> None:
    assert digest(b"") == "e3b0c44298fc1c14"
