"""Experience from a recorded data set."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import torch

from tutelage.assignment.protocol import Assignment
from tutelage.dataset import FRAGMENT, Dataset
from tutelage.environments import Step
from tutelage.replay import without_earlier
from tutelage.types import Array, Batch, Counted, Owed, State, generator_state, restored

UNSEEN = 1024
"""States by which it is told how well what was held out is imitated."""


class Offline:
    """Draw from a recorded data set; no teacher and no emulator are needed.

    A pool of decompressed fragments is held in memory. As many states as a batch learns from are
    replaced in it by fragments drawn at random, so that a data set of any size is gone through
    evenly. ``env_steps`` counts what would have been played online for as much learning.
    """

    num_envs = 1
    steps_per_round = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        batches_per_step: float,
        round_steps: int,
        rng: np.random.Generator,
        pool_fragments: int = 512,
        held_out: float = 0.0,
        examine: Callable[[Batch], Mapping[str, float]] = lambda batch: {},
    ) -> None:
        """Learn from all fragments but a share, ``held_out``, taken evenly.

        Of those, ``examine(batch)`` says after each round how well they are imitated.
        """
        self.env_steps = 0
        self._dataset = dataset
        self._examine = examine
        every = round(1.0 / held_out) if held_out else len(dataset) + 1
        self._learnt = np.array([i for i in range(len(dataset)) if (i + 1) % every])
        self._held_out = np.setdiff1d(np.arange(len(dataset)), self._learnt)
        self._batch_size = batch_size
        self._batches_per_step = batches_per_step
        self._round_steps = round_steps
        self._rng = rng
        self._owed = 0.0
        first = dataset[0]
        size = min(pool_fragments, len(self._learnt))
        stack, *frame = dataset.obs_shape
        self._stack = stack
        self._frames = np.zeros((size, stack - 1 + FRAGMENT, *frame), first.frames.dtype)
        self._age = np.zeros((size, FRAGMENT), np.int64)
        self._label = np.zeros((size, FRAGMENT, first.columns["label"].shape[1]), np.float32)
        self._length = np.zeros(size, np.int64)
        self._indices = np.zeros(size, np.int64)
        self._fill(self._learnt[rng.permutation(len(self._learnt))[:size]])
        self._unseen = self._draw_unseen()

    def _fill(self, indices: Array) -> None:
        for slot, index in enumerate(indices.tolist()):
            self._put(slot, index)

    def _put(self, slot: int, index: int) -> None:
        """Hold a fragment of the data set in a slot of the pool."""
        fragment = self._dataset[index]
        length = len(fragment.columns["age"])
        self._frames[slot, : len(fragment.frames)] = fragment.frames
        self._age[slot, :length] = fragment.columns["age"]
        self._label[slot, :length] = fragment.columns["label"]
        self._length[slot] = length
        self._indices[slot] = index

    def begin(self) -> None:
        """Nothing is to be done."""

    def act(self, assignment: Assignment) -> None:
        """Count what a round would have played."""
        self.env_steps += self._round_steps

    def batches(self) -> Iterator[Batch]:
        """Yield as many batches as a round of this length is due online."""
        self._owed += self._round_steps * self._batches_per_step
        while self._owed >= 1.0:
            self._owed -= 1.0
            yield self._sample()
            self._refresh()

    def receive(self) -> None:
        """Nothing was done that could come to anything."""

    def store(self, step: Step) -> None:
        """Nothing is new."""

    def _sample(self) -> Batch:
        which = self._rng.choice(
            len(self._length), self._batch_size, p=self._length / self._length.sum()
        )
        at = (self._rng.random(self._batch_size) * self._length[which]).astype(np.int64)
        stacks = self._frames[which[:, None], at[:, None] + np.arange(self._stack)]
        obs = without_earlier(stacks, self._age[which, at])
        return Batch(obs=torch.from_numpy(obs), label=torch.from_numpy(self._label[which, at]))

    def _refresh(self) -> None:
        if len(self._length) == len(self._learnt):
            return
        seen = 0
        while seen < self._batch_size:
            slot, index = self._rng.integers([len(self._length), len(self._learnt)])
            self._put(int(slot), int(self._learnt[index]))
            seen += int(self._length[slot])

    def metrics(self) -> dict[str, float]:
        """Return how well what was held out is imitated; nothing is played."""
        if self._unseen is None:
            return {}
        return {f"heldout/{name}": value for name, value in self._examine(self._unseen).items()}

    def _draw_unseen(self) -> Batch | None:
        """Return up to ``UNSEEN`` states that nothing is learnt from, evenly over the data set."""
        if not len(self._held_out):
            return None
        several = -(-len(self._held_out) * FRAGMENT // UNSEEN)
        obs, label = [], []
        for index in self._held_out[::several].tolist():
            fragment = self._dataset[index]
            at = np.arange(len(fragment.columns["age"]))
            stacks = fragment.frames[at[:, None] + np.arange(self._stack)]
            obs.append(without_earlier(stacks, fragment.columns["age"]))
            label.append(fragment.columns["label"])
        return Batch(
            obs=torch.from_numpy(np.concatenate(obs)),
            label=torch.from_numpy(np.concatenate(label)),
        )

    def state(self) -> State:
        return {
            "env_steps": self.env_steps,
            "owed": self._owed,
            "rng": generator_state(self._rng),
            "indices": self._indices.copy(),
        }

    def restore(self, state: State) -> None:
        saved = msgspec.convert(state, Drawn)
        self.env_steps, self._owed = saved.env_steps, saved.owed
        self._rng.bit_generator.state = saved.rng
        self._fill(restored(saved.indices, self._indices))


class Drawn(msgspec.Struct):
    """What a checkpoint holds of what was drawn."""

    env_steps: Counted
    owed: Owed
    rng: State
    indices: Any
