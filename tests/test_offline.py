"""Learning from a recorded data set: what is drawn from it, and how evenly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes import Fixed
from tests.streams import FRAME, NUM_ACTIONS, identify, index, invent, random_ends
from tutelage import dataset
from tutelage.dataset import Dataset, Fragment, Writer
from tutelage.files import pack_state, unpack_state
from tutelage.sources.offline import Offline
from tutelage.types import Array, Batch, Transitions

NUM_ENVS, STEPS, STACK = 3, 43, 3


@pytest.fixture
def steps() -> list[Transitions]:
    return invent(random_ends(steps=STEPS, num_envs=NUM_ENVS), stack=STACK)


@pytest.fixture
def data(steps: list[Transitions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Eighteen fragments: fifteen of eight steps and three of the last three."""
    monkeypatch.setattr(dataset, "FRAGMENT", 8)
    monkeypatch.setattr(dataset, "FRAGMENTS_PER_CHUNK", 5)
    writer = Writer(
        tmp_path / "data",
        num_envs=NUM_ENVS,
        obs_shape=(STACK, *FRAME),
        obs_dtype=np.dtype(np.int32),
        about={"env": "invented", "head": {"kind": "q", "n": NUM_ACTIONS}},
    )
    for step in steps:
        writer.add(step)
    writer.close()
    return Dataset(tmp_path / "data")


def offline(data: Dataset, *, seed: int = 0, **settings: Any) -> Offline:
    return Offline(
        data,
        **{
            "batch_size": 32,
            "batches_per_step": 0.25,
            "round_steps": 80,
            "rng": np.random.default_rng(seed),
            **settings,
        },
    )


def play(source: Offline, *, rounds: int = 1) -> list[Batch]:
    """Return the batches of so many rounds; nothing is played in them."""
    batches = []
    for _ in range(rounds):
        source.begin()
        source.act(Fixed([0]))
        batches += list(source.batches())
        source.receive()
    return batches


class Reference:
    """What an offline source draws, a state at a time."""

    def __init__(self, data: Dataset, *, pool_fragments: int, seed: int = 0) -> None:
        self._data = data
        self._rng = np.random.default_rng(seed)
        order = self._rng.permutation(len(data))[:pool_fragments]
        self._pool = [data[int(i)] for i in order]

    def batch(self) -> tuple[Array, Array]:
        lengths = np.array([len(fragment.columns["age"]) for fragment in self._pool])
        which = self._rng.choice(len(lengths), 32, p=lengths / lengths.sum())
        at = (self._rng.random(32) * lengths[which]).astype(np.int64)
        obs, label = [], []
        for w, t in zip(which, at, strict=True):
            fragment = self._pool[w]
            stack = fragment.frames[t : t + STACK].copy()
            stack[: max(STACK - 1 - fragment.columns["age"][t], 0)] = 0
            obs.append(stack)
            label.append(fragment.columns["label"][t])
        seen = 0
        while seen < 32 and len(self._pool) < len(self._data):
            slot, index = self._rng.integers([len(self._pool), len(self._data)])
            self._pool[slot] = self._data[int(index)]
            seen += len(self._pool[slot].columns["age"])
        return np.stack(obs), np.stack(label)


@pytest.mark.parametrize("pool_fragments", [4, 18, 512])
def test_batches_are_those_of_a_slow_reference_with_the_same_seed(
    pool_fragments: int, data: Dataset
) -> None:
    batches = play(offline(data, pool_fragments=pool_fragments), rounds=3)
    reference = Reference(data, pool_fragments=pool_fragments)
    assert len(batches) == 60
    for batch in batches:
        obs, label = reference.batch()
        np.testing.assert_array_equal(batch.obs, obs)
        np.testing.assert_array_equal(batch.label, label)


@pytest.mark.parametrize("pool_fragments", [4, 512])
def test_every_sample_is_a_recorded_state_with_its_label(
    pool_fragments: int, steps: list[Transitions], data: Dataset
) -> None:
    known = index(steps)
    for batch in play(offline(data, pool_fragments=pool_fragments)):
        drawn = identify(batch.obs, known)
        np.testing.assert_array_equal(batch.obs, [steps[t].obs[s] for t, s in drawn])
        np.testing.assert_array_equal(batch.label, [steps[t].label[s] for t, s in drawn])
        assert batch.obs.dtype == torch.int32
        assert batch.label.dtype == torch.float32


@pytest.mark.parametrize("pool_fragments", [5, 18, 512])
def test_every_recorded_state_is_drawn_and_equally_often(
    pool_fragments: int, steps: list[Transitions], data: Dataset
) -> None:
    known = index(steps)
    source = offline(data, pool_fragments=pool_fragments, round_steps=1600)
    counts = np.zeros((STEPS, NUM_ENVS))
    batches = play(source)
    for batch in batches:
        for at in identify(batch.obs, known):
            counts[at] += 1
    assert len(batches) == 400
    assert (counts > 0).all()
    by_fragment = np.add.reduceat(counts, np.arange(0, STEPS, 8))
    share = by_fragment / by_fragment.sum() * data.env_steps / np.array([[8]] * 5 + [[3]])
    # A small pool shows a fragment for a while; none may be shown much more than another.
    assert (np.abs(share - 1.0) < (0.5 if pool_fragments < 18 else 0.2)).all()


def test_a_pool_as_large_as_the_data_set_is_read_once(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = Dataset.__getitem__

    def reading(self: Dataset, index: int) -> Fragment:
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(Dataset, "__getitem__", reading)
    whole, part = offline(data, pool_fragments=18), offline(data, pool_fragments=3)
    assert set(read) == set(range(18))
    read.clear()
    play(whole)
    assert read == []
    play(part)
    # As many states as a batch learns from are read anew after each of the 20 batches.
    assert len(read) >= 20 * 32 / 8


def test_batches_are_those_that_as_many_env_steps_would_be_due_online(data: Dataset) -> None:
    source = offline(data, round_steps=10, batches_per_step=0.25)
    counts = [len(play(source)) for _ in range(4)]
    assert counts == [2, 3, 2, 3]
    assert source.env_steps == 40


@pytest.mark.parametrize("pool_fragments", [4, 512])
def test_a_restored_source_goes_on_identically(
    pool_fragments: int, data: Dataset, tmp_path: Path
) -> None:
    settings = {"pool_fragments": pool_fragments, "round_steps": 50}
    original, restored = (offline(data, seed=seed, **settings) for seed in (0, 1))
    play(original)
    play(restored)
    (tmp_path / "state").write_bytes(pack_state(original.state()))
    restored.restore(unpack_state(tmp_path / "state"))
    for _ in range(3):
        batches = [play(source) for source in (original, restored)]
        assert len(batches[0]) in (12, 13)
        for a, b in zip(*batches, strict=True):
            assert torch.equal(a.obs, b.obs)
            assert torch.equal(a.label, b.label)
        assert restored.env_steps == original.env_steps
