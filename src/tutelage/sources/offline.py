"""Experience from a recorded data set."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from tutelage.assignment.round import Assignment
from tutelage.dataset import Dataset
from tutelage.types import Batch, State, generator_state


class Offline:
    """Draw from a recorded data set; no teacher and no emulator are needed.

    A pool of decompressed fragments is held in memory. As many states as a batch learns from are
    replaced in it by fragments drawn at random, so that a data set of any size is gone through
    evenly. ``env_steps`` counts what would have been played online for as much learning.
    """

    num_envs = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        batches_per_step: float,
        round_steps: int,
        rng: np.random.Generator,
        pool_fragments: int = 512,
    ) -> None:
        self.env_steps = 0
        self._dataset = dataset
        self._batch_size = batch_size
        self._batches_per_step = batches_per_step
        self._round_steps = round_steps
        self._rng = rng
        self._owed = 0.0
        self._fill(rng.permutation(len(dataset))[:pool_fragments])

    def _fill(self, indices: npt.NDArray[np.int64]) -> None:
        self._indices = np.array(indices)
        self._pool = [self._dataset[int(i)] for i in indices]

    def collect(self, assignment: Assignment) -> Iterator[Batch]:
        """Yield as many batches as a round of this length is due online."""
        self.env_steps += self._round_steps
        self._owed += self._round_steps * self._batches_per_step
        while self._owed >= 1.0:
            self._owed -= 1.0
            yield self._sample()
            self._refresh()

    def _sample(self) -> Batch:
        lengths = np.array([len(fragment.columns["age"]) for fragment in self._pool])
        stack = self._dataset.obs_shape[0]
        which = self._rng.choice(len(lengths), self._batch_size, p=lengths / lengths.sum())
        at = (self._rng.random(self._batch_size) * lengths[which]).astype(np.int64)
        obs = np.stack(
            [self._pool[w].frames[t : t + stack] for w, t in zip(which, at, strict=True)]
        )
        age = np.array([self._pool[w].columns["age"][t] for w, t in zip(which, at, strict=True)])
        obs[np.arange(stack - 1, -1, -1) > age[:, None]] = 0
        q = [self._pool[w].columns["label"][t] for w, t in zip(which, at, strict=True)]
        return Batch(obs=torch.from_numpy(obs), label=torch.from_numpy(np.stack(q)))

    def _refresh(self) -> None:
        if len(self._pool) == len(self._dataset):
            return
        seen = 0
        while seen < self._batch_size:
            slot, index = self._rng.integers([len(self._pool), len(self._dataset)])
            self._indices[slot] = index
            self._pool[slot] = self._dataset[int(index)]
            seen += len(self._pool[slot].columns["age"])

    def metrics(self) -> dict[str, float]:
        """Nothing is played."""
        return {}

    def state(self) -> State:
        return {
            "env_steps": self.env_steps,
            "owed": self._owed,
            "rng": generator_state(self._rng),
            "indices": self._indices.copy(),
        }

    def restore(self, state: State) -> None:
        self.env_steps = int(state["env_steps"])
        self._owed = float(state["owed"])
        self._rng.bit_generator.state = state["rng"]
        self._fill(np.asarray(state["indices"]))
