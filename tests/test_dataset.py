import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.streams import FRAME, NUM_ACTIONS, invent, random_ends
from tutelage import dataset
from tutelage.dataset import Dataset, Fragment, Writer
from tutelage.domains import EnvironmentConfig, make
from tutelage.errors import UserError
from tutelage.files import pack_state, unpack_state
from tutelage.types import Transitions

NUM_ENVS = 3
HEAD = {"kind": "q", "n": NUM_ACTIONS}


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fragments of 8 steps, at least 5 of them in a chunk."""
    monkeypatch.setattr(dataset, "FRAGMENT", 8)
    monkeypatch.setattr(dataset, "FRAGMENTS_PER_CHUNK", 5)


def experience(*, steps: int, stack: int = 4) -> list[Transitions]:
    return invent(random_ends(steps=steps, num_envs=NUM_ENVS), stack=stack)


def writer(
    folder: Path, *, stack: int = 4, resume: bool = False, head: dict[str, Any] = HEAD
) -> Writer:
    return Writer(
        folder,
        num_envs=NUM_ENVS,
        obs_shape=(stack, *FRAME),
        obs_dtype=np.dtype(np.int32),
        about={"env": "invented", "head": head},
        resume=resume,
    )


def write(folder: Path, steps: list[Transitions], *, stack: int = 4) -> Path:
    to = writer(folder, stack=stack)
    for step in steps:
        to.add(step)
    to.close()
    assert len(to) == len(steps) * NUM_ENVS
    return folder


@pytest.mark.parametrize("kind", ["uint16", "uint32", "float16"])
def test_frames_of_any_type_that_students_can_see_are_held(kind: str, tmp_path: Path) -> None:
    step = experience(steps=1)[0]
    to = Writer(
        tmp_path / "data",
        num_envs=NUM_ENVS,
        obs_shape=(4, *FRAME),
        obs_dtype=np.dtype(kind),
        about={"env": "invented", "head": HEAD},
    )
    to.add(replace(step, obs=step.obs.astype(kind)))
    to.close()
    frames = Dataset(tmp_path / "data")[0].frames
    assert str(frames.dtype) == kind
    np.testing.assert_array_equal(frames[-1], step.obs[0, -1].astype(kind))


def test_frames_of_another_type_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="type complex64: a data set holds bool, uint8"):
        Writer(
            tmp_path / "data",
            num_envs=NUM_ENVS,
            obs_shape=(1, 2),
            obs_dtype=np.dtype(np.complex64),
            about={"env": "invented", "head": HEAD},
        )
    assert not (tmp_path / "data").exists()


def by_stream(folder: Path) -> list[list[Fragment]]:
    """Return the fragments of each environment in the order of time."""
    data = Dataset(folder)
    fragments = [data[i] for i in range(len(data))]
    return [fragments[i::NUM_ENVS] for i in range(NUM_ENVS)]


def assert_holds(folder: Path, steps: list[Transitions], *, stack: int = 4) -> None:
    """Compare every column of every step, and rebuild every observation the slow way."""
    assert Dataset(folder).env_steps == len(steps) * NUM_ENVS
    for stream, fragments in enumerate(by_stream(folder)):
        for name in ("action", "reward", "terminated", "truncated", "label"):
            np.testing.assert_array_equal(
                np.concatenate([s.columns[name] for s in fragments]),
                [getattr(step, name)[stream] for step in steps],
                err_msg=name,
            )
        time = 0
        for fragment in fragments:
            assert len(fragment.frames) == stack - 1 + len(fragment.columns["age"])
            for at, age in enumerate(fragment.columns["age"]):
                obs = fragment.frames[at : at + stack].copy()
                obs[: max(stack - 1 - age, 0)] = 0
                np.testing.assert_array_equal(obs, steps[time].obs[stream])
                time += 1
        ends = [step.terminated[stream] or step.truncated[stream] for step in steps]
        ages = np.concatenate([s.columns["age"] for s in fragments])
        expected = [0]
        for end in ends[:-1]:
            expected.append(0 if end else expected[-1] + 1)
        np.testing.assert_array_equal(ages, expected)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("stack", [1, 2, 4])
@pytest.mark.parametrize("steps", [1, 7, 8, 61])
def test_what_is_read_equals_what_was_written(steps: int, stack: int, tmp_path: Path) -> None:
    added = experience(steps=steps, stack=stack)
    assert_holds(write(tmp_path / "data", added, stack=stack), added, stack=stack)


@pytest.mark.usefixtures("_small")
def test_fragments_and_chunks_are_cut_and_the_rest_comes_last(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", experience(steps=61))
    lengths = [[len(s.columns["age"]) for s in fragments] for fragments in by_stream(folder)]
    assert lengths == [[8] * 7 + [5]] * NUM_ENVS
    # Two cuts of three fragments fill a chunk of at least five.
    assert json.loads((folder / "dataset.json").read_text())["chunks"] == [48, 48, 48, 39]
    assert len(list(folder.glob("chunk-*.safetensors"))) == 4
    data = Dataset(folder)
    assert (data.env, data.head, data.obs_shape) == ("invented", HEAD, (4, *FRAME))


def test_an_environment_may_reuse_what_it_gave_after_a_fragment_is_cut(tmp_path: Path) -> None:
    added, kept = experience(steps=2), experience(steps=2)
    to = writer(tmp_path)
    to.add(added[0])
    to.close()
    for array in vars(added[0]).values():
        if array is not None:
            array[:] = 1
    to.add(added[1])
    to.close()
    assert_holds(tmp_path, kept)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("fresh", [True, False], ids=["another process", "the same writer"])
@pytest.mark.parametrize("at", [0, 3, 32, 45])
def test_a_resumed_data_set_equals_an_uninterrupted_one(
    at: int, fresh: bool, tmp_path: Path
) -> None:
    steps = experience(steps=75)
    whole = tmp_path / "whole"
    uninterrupted = writer(whole)
    for step in steps[:at]:
        uninterrupted.add(step)
    uninterrupted.state()
    for step in steps[at:]:
        uninterrupted.add(step)
    uninterrupted.close()

    folder = tmp_path / "resumed"
    first = writer(folder)
    for step in steps[:at]:
        first.add(step)
    (tmp_path / "state").write_bytes(pack_state(first.state()))
    for step in steps[::-1][:50]:  # lost: what came after the checkpoint
        first.add(step)
    second = writer(folder, resume=True) if fresh else first
    second.restore(unpack_state(tmp_path / "state"))
    for step in steps[at:]:
        second.add(step)
    second.close()
    assert_holds(folder, steps)
    files = sorted(path.name for path in whole.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == files
    for name in files:
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.usefixtures("_small")
def test_a_data_set_is_readable_as_soon_as_it_is_put_back(tmp_path: Path) -> None:
    steps = experience(steps=75)
    first = writer(tmp_path)
    for step in steps[:30]:
        first.add(step)
    state = first.state()
    for step in steps[30:]:
        first.add(step)
    first.close()
    writer(tmp_path, resume=True).restore(state)
    assert_holds(tmp_path, steps[:30])


@pytest.mark.usefixtures("_small")
def test_a_data_set_whose_chunks_are_gone_is_not_gone_on_with(tmp_path: Path) -> None:
    first = writer(tmp_path / "data")
    for step in experience(steps=40):
        first.add(step)
    state = first.state()
    with pytest.raises(UserError, match=r"elsewhere.*chunk-000000.*missing"):
        writer(tmp_path / "elsewhere", resume=True).restore(state)


def test_a_folder_that_holds_anything_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear")
    with pytest.raises(UserError, match=str(tmp_path)):
        writer(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def as_format_1(folder: Path, *, checksum: bool = True) -> Path:
    """Make of a data set what the first version wrote: Q-values in ``teacher_q``, no head."""
    path = folder / "dataset.json"
    about = json.loads(path.read_text())
    about = {**about, "format": "tutelage-dataset-1", "num_actions": about.pop("head")["n"]}
    path.write_text(json.dumps(about))
    for chunk in folder.glob("chunk-*.safetensors"):
        with rewritten(chunk) as (tensors, header):
            tensors["teacher_q"] = tensors.pop("label")
            header["format"] = "tutelage-dataset-1"
            if not checksum:
                del header["checksum"]
    return folder


@contextmanager
def rewritten(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield a file's tensors and its header, and write what became of them."""
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["about"])
    tensors = load_file(path)
    yield tensors, header
    save_file(tensors, path, {"about": json.dumps(header)})


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("checksum", [True, False])
def test_what_the_first_version_wrote_is_still_read(checksum: bool, tmp_path: Path) -> None:
    added = experience(steps=61)
    folder = as_format_1(write(tmp_path / "data", added), checksum=checksum)
    assert_holds(folder, added)
    assert Dataset(folder).head == HEAD


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("first_version", [True, False])
def test_another_label_makes_another_digest(first_version: bool, tmp_path: Path) -> None:
    added, other = experience(steps=20), experience(steps=20)
    other[13].label[2, 1] += 1.0
    folders = [
        write(tmp_path / str(i), steps)
        for i, steps in enumerate((added, experience(steps=20), other))
    ]
    if first_version:
        folders = [as_format_1(folder, checksum=False) for folder in folders]
    same, again, different = (Dataset(folder).digest for folder in folders)
    assert same == again != different


def test_actions_and_labels_may_be_vectors_of_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    added = [
        replace(
            step,
            action=rng.normal(size=(NUM_ENVS, 2)).astype(np.float32),
            label=rng.normal(size=(NUM_ENVS, 4)).astype(np.float32),
        )
        for step in experience(steps=70)
    ]
    head = {"kind": "gaussian", "n": 2, "squashed": True}
    to = writer(tmp_path, head=head)
    for step in added:
        to.add(step)
    to.close()
    assert_holds(tmp_path, added)
    assert Dataset(tmp_path).head == head


def test_what_a_reader_must_know_is_asked_for_when_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="head"):
        writer(tmp_path, head={})


def _says(**about: Any) -> Callable[[Path], object]:
    """Let the manifest say something else; what is None is left out."""

    def change(folder: Path) -> None:
        path = folder / "dataset.json"
        given = {**json.loads(path.read_text()), **about}
        path.write_text(json.dumps({k: v for k, v in given.items() if v is not None}))

    return change


def _manifest(text: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "dataset.json").write_bytes(text)


def _chunk(*, checksum: bool = False, **change: Callable[[Any], Any]) -> Callable[[Path], object]:
    """Change tensors of the first chunk, without its checksum unless it is to be kept."""

    def rewrite(folder: Path) -> None:
        with rewritten(folder / CHUNK) as (tensors, header):
            for name, of in change.items():
                if (tensor := of(tensors.pop(name))) is not None:
                    tensors[name] = tensor
            if not checksum:
                del header["checksum"]

    return rewrite


def _one_more(tensor: Any) -> Any:
    return np.concatenate([tensor, tensor[:1]])


def _other(tensor: Any) -> Any:
    """Make one number another, and leave the rest."""
    tensor.view(np.uint8).flat[tensor.nbytes // 2] ^= 1
    return tensor


def _gone(tensor: Any) -> None:
    return None


CHUNK = "chunk-000000.safetensors"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / "dataset.json").unlink(), "dataset.json"),
    "cut manifest": (_manifest(b'{"format": "tut'), "dataset.json"),
    "binary manifest": (_manifest(b"\x80\xff"), "dataset.json"),
    "deep manifest": (_manifest(b"[" * 100_000), "dataset.json"),
    "a list as manifest": (_manifest(b"[]"), "dataset.json"),
    "another format": (_says(format="arff"), f"'arff'.*{dataset.FORMAT}"),
    "a list as format": (_says(format=["x"]), "dataset.json.*format"),
    "no environment": (_says(env=None), "dataset.json.*env"),
    "no shape": (_says(obs_shape=None), "dataset.json.*obs_shape"),
    "an empty shape": (_says(obs_shape=[]), "dataset.json.*obs_shape"),
    "a shape of words": (_says(obs_shape=["x"]), "dataset.json.*obs_shape"),
    "another shape": (_says(obs_shape=[4, 3]), CHUNK),
    "no such dtype": (_says(obs_dtype="int33"), "dataset.json"),
    "objects": (_says(obs_dtype="O"), "dataset.json"),
    "another dtype": (_says(obs_dtype="int64"), CHUNK),
    "chunks of words": (_says(chunks="many"), "dataset.json.*chunks"),
    "no head": (_says(head=None), "dataset.json.*head"),
    "a list as head": (_says(head=[1]), "dataset.json.*head"),
    "a head of another size": (_says(head={"kind": "q", "n": 6}), CHUNK),
    "more chunks": (_says(chunks=[120, 1], env_steps=121), "chunk-000001"),
    "other steps": (_says(chunks=[120, 1]), "dataset.json.*120 steps"),
    "no chunk": (lambda folder: (folder / CHUNK).unlink(), CHUNK),
    "empty chunk": (lambda folder: (folder / CHUNK).write_bytes(b""), CHUNK),
    "cut chunk": (lambda f: (f / CHUNK).write_bytes((f / CHUNK).read_bytes()[:-100]), CHUNK),
    "pickled chunk": (lambda f: (f / CHUNK).write_bytes(b"\x80\x04."), "pickle"),
    "another file as chunk": (
        lambda folder: save_file({"weights": np.zeros(3)}, folder / CHUNK),
        CHUNK,
    ),
    "a list as header": (
        lambda folder: save_file({"w": np.zeros(3)}, folder / CHUNK, {"about": "[]"}),
        CHUNK,
    ),
    "another label": (_chunk(checksum=True, label=_other), CHUNK),
    "another action": (_chunk(checksum=True, action=_other), CHUNK),
    "a column is gone": (_chunk(checksum=True, reward=_gone), CHUNK),
    "the counts are gone": (_chunk(lengths=_gone), CHUNK),
    "whole numbers as labels": (_chunk(label=lambda t: t.astype(np.int32)), CHUNK),
    "a column is longer": (_chunk(reward=_one_more), CHUNK),
    "counts below 0": (_chunk(lengths=lambda t: -t), CHUNK),
    "counts that do not add up": (_chunk(packed=lambda t: t + 1), CHUNK),
    "frames are gone": (_chunk(frames=_gone), CHUNK),
    "a flipped bit": (_chunk(checksum=True, frames=_other), CHUNK),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_told_with_the_file_it_is_in(
    damage: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "data", experience(steps=40))
    damage(folder)
    with pytest.raises(UserError, match=says):
        by_stream(folder)


def test_a_data_set_without_steps_is_an_error(tmp_path: Path) -> None:
    writer(tmp_path, resume=True).restore(writer(tmp_path).state())
    with pytest.raises(UserError, match="no env steps"):
        Dataset(tmp_path)


def test_a_step_of_pong_takes_at_most_200_bytes_on_disk(tmp_path: Path) -> None:
    envs = make(EnvironmentConfig(num_envs=4), seed=1, threads=1)
    to = Writer(
        tmp_path,
        num_envs=4,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        about={"env": "pong", "head": {"kind": "q", "n": 6}},
    )
    rng = np.random.default_rng(0)
    for _ in range(256):
        action = rng.integers(6, size=4)
        to.add(envs.play(action, rng.normal(size=(4, 6)).astype(np.float32)))
    to.close()
    envs.close()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size / len(to) <= 200
    assert Dataset(tmp_path)[3].frames.shape == (3 + 64, 84, 84)
