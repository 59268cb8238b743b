"""The last few steps of all environments, learnt from together and then forgotten."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
import zstandard
from torch import Tensor

from tutelage.files import unpack
from tutelage.types import Array, Batch, State, Transitions, generator_state

Numbers = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def lambda_returns(
    reward: Numbers, next_value: Numbers, terminated: Mask, cut: Mask, *, gamma: float, decay: float
) -> Numbers:
    """Return what each action came to, ``[T,N]``, from arguments ``[T,N]``.

    G_t = r_t + gamma ((1 - lambda) V(s_{t+1}) + lambda G_{t+1}), lambda being ``decay`` (Gallici et
    al. 2024, section 3; Sutton & Barto, eq. 12.18). V is ``next_value``, the value of the best
    action; nothing but V is known of what follows where it is ``cut``, as the last step is, and
    nothing is worth anything where the episode ``terminated``.
    """
    returns = np.empty_like(reward)
    later = next_value[-1]
    for t in range(len(reward) - 1, -1, -1):
        later = np.where(cut[t], next_value[t], later)
        beyond = (1.0 - decay) * next_value[t] + decay * later
        later = returns[t] = reward[t] + gamma * np.where(terminated[t], 0.0, beyond)
    return returns


class Rollout:
    """``steps`` steps of N environments, given out as shuffled batches once they are whole.

    PQN's memory (Gallici et al. 2024, algorithm 1): ``epochs`` times all of it, in ``minibatches``
    batches each, with lambda-returns of what the acting network said. Labels are its Q-values.
    """

    def __init__(
        self,
        *,
        steps: int,
        num_envs: int,
        obs_shape: tuple[int, ...],
        obs_dtype: npt.DTypeLike,
        label_size: int,
        value: Callable[[Array], Numbers],
        epochs: int,
        minibatches: int,
        gamma: float,
        decay: float,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        """``value`` says what observations ``[N,*O]`` are worth to the acting network now, ``[N]``.

        A whole rollout goes to ``device`` at once: there its batches are picked.
        Raises ValueError for more minibatches than there are states.
        """
        if not 1 <= minibatches <= steps * num_envs:
            raise ValueError(f"{minibatches} minibatches of {steps} steps of {num_envs} envs")
        self._value = value
        self._epochs = epochs
        self._minibatches = minibatches
        self._gamma = gamma
        self._decay = decay
        self._rng = rng
        self._device = device
        self._steps = steps
        self._written = 0
        shape = (steps, num_envs)
        self._columns: dict[str, Array] = {
            "obs": np.zeros((*shape, *obs_shape), obs_dtype),
            "label": np.zeros((*shape, label_size), np.float32),
            "action": np.zeros(shape, np.int64),
            "reward": np.zeros(shape, np.float32),
            "terminated": np.zeros(shape, np.bool_),
            "truncated": np.zeros(shape, np.bool_),
            "beyond": np.zeros(shape, np.float32),
        }

    def add(self, step: Transitions) -> None:
        """Store one step of every environment; raise ValueError where there is no room."""
        t = self._written
        if t == self._steps:
            raise ValueError("a whole rollout is to be learnt from before the next begins")
        for name in ("obs", "label", "action", "reward", "truncated"):
            self._columns[name][t] = getattr(step, name)
        self._columns["terminated"][t] = step.worthless
        # Any other state is acted in next, and its label says what it is worth.
        if t + 1 == self._steps or step.truncated.any():
            self._columns["beyond"][t] = self._value(step.next_obs)
        self._written += 1

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of a whole rollout and forget it; of one that is not, none."""
        if self._written < self._steps:
            return
        returns = torch.from_numpy(self._returns().reshape(-1)).to(self._device)
        obs, label, action = (self._flat(name) for name in ("obs", "label", "action"))
        for _ in range(self._epochs):
            order = torch.from_numpy(self._rng.permutation(len(returns))).to(self._device)
            for chosen in order.tensor_split(self._minibatches):
                yield Batch(
                    obs=obs[chosen],
                    label=label[chosen],
                    action=action[chosen],
                    returns=returns[chosen],
                )
        self._written = 0

    def _flat(self, name: str) -> Tensor:
        return torch.from_numpy(self._columns[name]).flatten(0, 1).to(self._device)

    def _returns(self) -> Numbers:
        columns = self._columns
        cut = columns["truncated"].copy()
        cut[-1] = True
        next_value = columns["beyond"].copy()
        next_value[:-1] = np.where(cut[:-1], next_value[:-1], columns["label"][1:].max(axis=2))
        return lambda_returns(
            columns["reward"],
            next_value,
            columns["terminated"],
            cut,
            gamma=self._gamma,
            decay=self._decay,
        )

    def state(self) -> State:
        """Return what is stored, compressed."""
        compress = zstandard.ZstdCompressor(level=1).compress
        return {
            "rng": generator_state(self._rng),
            "written": self._written,
            "columns": {
                name: np.frombuffer(compress(column[: self._written].tobytes()), np.uint8)
                for name, column in self._columns.items()
            },
        }

    def restore(self, state: State) -> None:
        """Restore what ``state`` returned; raise ValueError for what does not fit."""
        self._rng.bit_generator.state = state["rng"]
        written = state["written"]
        if type(written) is not int or not 0 <= written <= self._steps:
            raise ValueError(f"{written!r} steps of a rollout of {self._steps}")
        self._written = written
        for name, column in self._columns.items():
            held = column[:written]
            raw = unpack(np.asarray(state["columns"][name]).tobytes(), held.nbytes)
            held[:] = np.frombuffer(raw, column.dtype).reshape(held.shape)
        actions, labels = self._columns["action"], self._columns["label"]
        if not ((actions >= 0) & (actions < labels.shape[-1])).all():
            raise ValueError(f"an action is none of {labels.shape[-1]}")
