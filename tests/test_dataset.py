import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.streams import FRAME, NUM_ACTIONS, invent, random_ends
from tutelage import dataset
from tutelage.dataset import Dataset, Fragment, Writer
from tutelage.domains.atari import EnvironmentConfig, make
from tutelage.errors import UserError
from tutelage.files import pack_state, unpack_state
from tutelage.types import Transitions

NUM_ENVS = 3


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 8 steps, at least 5 of them in a chunk."""
    monkeypatch.setattr(dataset, "FRAGMENT", 8)
    monkeypatch.setattr(dataset, "FRAGMENTS_PER_CHUNK", 5)


def experience(*, steps: int, stack: int = 4) -> list[Transitions]:
    return invent(random_ends(steps=steps, num_envs=NUM_ENVS), stack=stack)


def writer(folder: Path, *, stack: int = 4, resume: bool = False) -> Writer:
    return Writer(
        folder,
        num_envs=NUM_ENVS,
        obs_shape=(stack, *FRAME),
        obs_dtype=np.dtype(np.int32),
        about={"env": "invented", "num_actions": NUM_ACTIONS},
        resume=resume,
    )


def write(folder: Path, steps: list[Transitions], *, stack: int = 4) -> Path:
    to = writer(folder, stack=stack)
    for step in steps:
        to.add(step)
    to.close()
    assert len(to) == len(steps) * NUM_ENVS
    return folder


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
def test_segments_and_chunks_are_cut_and_the_rest_comes_last(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", experience(steps=61))
    lengths = [[len(s.columns["age"]) for s in fragments] for fragments in by_stream(folder)]
    assert lengths == [[8] * 7 + [5]] * NUM_ENVS
    # Two cuts of three fragments fill a chunk of at least five.
    assert json.loads((folder / "dataset.json").read_text())["chunks"] == [48, 48, 48, 39]
    assert len(list(folder.glob("chunk-*.safetensors"))) == 4
    about = Dataset(folder).about
    assert (about["env"], about["num_actions"]) == ("invented", NUM_ACTIONS)
    assert Dataset(folder).obs_shape == (4, *FRAME)


def test_an_environment_may_reuse_what_it_gave_after_a_segment_is_cut(tmp_path: Path) -> None:
    added, kept = experience(steps=2), experience(steps=2)
    to = writer(tmp_path)
    to.add(added[0])
    to.close()
    for array in vars(added[0]).values():
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
    with pytest.raises(UserError, match=f"{tmp_path} exists and is not empty"):
        writer(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def _manifest(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "dataset.json").write_text(text)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip_a_frame(path: Path) -> None:
    """Change one compressed byte and nothing else."""
    tensors = load_file(path)
    tensors["frames"][len(tensors["frames"]) // 2] ^= 1
    save_file(tensors, path, {"about": json.dumps({"format": dataset.FORMAT})})


def _change(path: Path, name: str) -> None:
    """Make one number of a column another, and leave the file whole; or take the column away."""
    with safe_open(path, framework="np") as file:
        about = file.metadata()
    tensors = load_file(path)
    if name.startswith("no "):
        del tensors[name.removeprefix("no ")]
    else:
        tensors[name].view(np.uint8).flat[0] ^= 1
    save_file(tensors, path, about)


CHUNK = "chunk-000000.safetensors"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / "dataset.json").unlink(), "dataset.json"),
    "cut manifest": (_manifest('{"format": "tut'), "dataset.json is damaged"),
    "binary manifest": (lambda f: (f / "dataset.json").write_bytes(b"\x80\xff"), "is damaged"),
    "manifest without keys": (_manifest(f'{{"format": "{dataset.FORMAT}"}}'), "obs_shape"),
    "manifest is a list": (_manifest("[]"), "is damaged"),
    "another format": (_manifest('{"format": "arff"}'), f"'arff'.*{dataset.FORMAT}"),
    "no chunk": (lambda folder: (folder / CHUNK).unlink(), CHUNK),
    "empty chunk": (lambda folder: (folder / CHUNK).write_bytes(b""), f"{CHUNK} is damaged"),
    "cut chunk": (lambda folder: _cut_short(folder / CHUNK), f"{CHUNK} is damaged"),
    "pickled chunk": (lambda f: (f / CHUNK).write_bytes(b"\x80\x04."), "pickle"),
    "another file as chunk": (
        lambda folder: save_file({"weights": np.zeros(3)}, folder / CHUNK),
        f"{CHUNK} is no chunk",
    ),
    "another label": (lambda f: _change(f / CHUNK, "label"), "labels are not those"),
    "another action": (lambda f: _change(f / CHUNK, "action"), "labels are not those"),
    "a column is gone": (lambda f: _change(f / CHUNK, "no reward"), "labels are not those"),
    "a flipped bit": (lambda folder: _flip_a_frame(folder / CHUNK), f"{CHUNK} is damaged"),
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
        about={"env": "pong"},
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
