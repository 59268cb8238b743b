"""The data that flows between the rooms, and the legend of its shapes.

Legend: ``N`` environments in parallel, ``B`` samples in a batch, ``L`` numbers that a policy says
of a state (for Q-values ``A``, one per action), ``*A`` one action, ``K`` teachers, ``*O`` one
observation: ``[stack, *frame]``, oldest frame first. ``env_steps`` counts agent steps
over all environments (1 Atari step = 4 emulator frames); ``updates`` counts optimiser steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta
from torch import Tensor, nn

from tutelage.errors import UserError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
State = dict[str, Any]
"""What a part needs to go on: nested dicts of arrays, tensors, numbers, strings and lists."""

StepOut = Callable[[Tensor, int], Tensor]
"""What a network says at a point of its learning, ``(obs[B,*O], step) -> out[B,L]``."""

Schedule = Callable[[int], float]
"""A number that changes with ``env_steps`` or ``updates``."""


Counted = Annotated[int, Meta(ge=0, lt=2**53)]
Owed = Annotated[float, Meta(ge=0.0, lt=1.0)]
"""What a checkpoint may hold of a number of steps, and of batches that are due."""


class Stateful(Protocol):
    """A part of a run that a checkpoint saves and a resume restores."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


@dataclass(frozen=True)
class Transitions:
    """What the environments gave in one step, before it is stored."""

    obs: Array
    """``[N,*O]``; only its newest frame is stored."""
    action: Array
    """``[N,*A]``, as the head has it."""
    reward: npt.NDArray[np.float32]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    next_obs: Array
    """``[N,*O]``, before any reset."""
    label: npt.NDArray[np.float32]
    """``[N,L]``, what the assigned teacher says of ``obs``."""
    inside: npt.NDArray[np.bool_]
    """``[N]``, False where ``obs`` is outside of the region that training is restricted to."""
    arm: npt.NDArray[np.int64]
    """``[N]``, whose label it is."""
    lost: npt.NDArray[np.bool_] | None = None
    """``[N]``, where a life was lost that counts as an end, though the episode goes on."""

    @property
    def worthless(self) -> npt.NDArray[np.bool_]:
        """``[N]``, where no value lies beyond: the task ended, or a life was lost."""
        return self.terminated if self.lost is None else self.terminated | self.lost


@dataclass(frozen=True)
class Batch:
    """A sample of experience; the transition fields are None where nobody bootstraps."""

    obs: Tensor
    """``[B,*O]``, as the environment gave it."""
    label: Tensor
    """``[B,L]``, the labels stored when each state was first seen."""
    arm: Tensor | None = None
    """``[B]`` int64, whose labels they are."""
    weight: Tensor | None = None
    """``[B]``, how much each label is trusted; None: all alike."""
    action: Tensor | None = None
    """``[B]`` int64."""
    n_step_reward: Tensor | None = None
    """``[B]``, the discounted sum of up to n rewards from here on."""
    bootstrap: Tensor | None = None
    """``[B]``, gamma^k for the value of ``next_obs``, 0 after termination."""
    next_obs: Tensor | None = None
    """``[B,*O]``, the true observation k <= n steps later (never one from after a reset)."""
    returns: Tensor | None = None
    """``[B]``, what the action came to, worked out when the batch was made."""
    task: Tensor | None = None
    """``[B]`` int64, which of several tasks each state is of."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``; towards a GPU through pinned memory, without waiting."""
        if self.obs.device.type == device.type:
            return self

        def move(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.pin_memory().to(device, non_blocking=True)

        return Batch(**{f.name: move(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Choice:
    """What a selector decided: an arm for each environment."""

    arm: npt.NDArray[np.int64]
    """``[N]``, index of the teacher."""
    probability: npt.NDArray[np.float64]
    """``[N]``, in (0, 1]: how likely this arm was."""


@dataclass(frozen=True)
class Feedback:
    """What M settled choices came to: the rows (x, a, r, p) that every selector learns from.

    Raises UserError, naming the row and the value, where one is impossible.
    """

    context: Array
    """``[M,d]``, what was known when the choice was made."""
    arm: npt.NDArray[np.int64]
    """``[M]``, the teacher that was chosen."""
    reward: npt.NDArray[np.float64]
    """``[M]``, in [0, 1]."""
    probability: npt.NDArray[np.float64]
    """``[M]``, in (0, 1]: how likely that choice was when it was made."""

    def __post_init__(self) -> None:
        rows = self.arm.shape
        if len(rows) != 1 or self.context.ndim != 2 or len(self.context) != len(self.arm):
            raise UserError(
                f"context has shape {self.context.shape} and arm {rows}, expected (M, d) and (M,)"
            )
        if not self.reward.shape == self.probability.shape == rows:
            raise UserError(
                f"reward has shape {self.reward.shape} and probability {self.probability.shape}, "
                f"expected {rows} as arm has"
            )
        # Written so that a NaN, which compares as False with everything, is refused as well.
        possible = (
            ("context", np.isfinite(self.context).all(axis=1), "finite numbers"),
            ("arm", self.arm >= 0, "an index from 0 up"),
            ("reward", (self.reward >= 0.0) & (self.reward <= 1.0), "a number in [0, 1]"),
            ("probability", (self.probability > 0.0) & (self.probability <= 1.0), "one in (0, 1]"),
        )
        for name, good, expected in possible:
            if not good.all():
                row = int(good.argmin())
                value = getattr(self, name)[row].tolist()
                raise UserError(f"row {row}: {name} is {value}, expected {expected}")


class Selector(Protocol):
    """Chooses a teacher for each environment and learns from what came of it."""

    @property
    def left(self) -> npt.NDArray[np.int64]:
        """The arms that are not set aside."""

    @property
    def tried(self) -> bool:
        """Whether all of them have been tried and paid."""

    def choose(self, context: Array, draw: Array | None = None) -> Choice:
        """Return an arm for each row of ``context[N,d]`` and how likely it was.

        ``draw[N]``, uniform in [0, 1), decides; without it the selector draws for itself.
        """

    def exploit(self, context: Array) -> npt.NDArray[np.int64]:
        """Return the arm that looks best in each context, for choices that will not be paid."""

    def probabilities(self, context: Array) -> Array:
        """Return how likely each arm is to be chosen in each context, ``[N,K]``."""

    def update(self, feedback: Feedback) -> None:
        """Learn from choices whose rewards are now known."""

    def drop(self, arm: int) -> None:
        """Never choose ``arm`` again; what is known of it is kept."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


@dataclass(frozen=True)
class Row:
    """One line of ``metrics.jsonl``: what a round of the loop did."""

    env_steps: int
    updates: int
    metrics: Mapping[str, float]
    """Named as TensorBoard shows them: ``rollout/ep_rew_mean``, ``train/loss``, …"""
    settled: Mapping[int, Feedback] = field(default_factory=dict)
    """The choices of a teacher that were paid in this round, by their number."""


def check_shape(name: str, value: Tensor, expected: tuple[int | None, ...]) -> None:
    """Raise ValueError, showing both shapes, unless they agree (None stands for any size)."""
    if len(value.shape) != len(expected) or any(
        want is not None and got != want for got, want in zip(value.shape, expected, strict=True)
    ):
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {expected}")


def restored(saved: Any, like: Array) -> Array:
    """Return a copy of what a checkpoint holds of an array.

    Raises ValueError, showing both, unless it is of the type and shape of ``like``.
    """
    array = np.asarray(saved)
    if (array.dtype, array.shape) != (like.dtype, like.shape):
        raise ValueError(
            f"an array is {array.dtype} {array.shape}, expected {like.dtype} {like.shape}"
        )
    return array.copy()


def load_weights(network: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Give a network the weights that a checkpoint holds.

    Raises ValueError or RuntimeError unless they are of its own types and shapes.
    """
    for name, tensor in network.state_dict().items():
        if saved[name].dtype != tensor.dtype:
            raise ValueError(f"{name} is of type {saved[name].dtype}, expected {tensor.dtype}")
    network.load_state_dict(saved)


def seeded(seed: int, *names: int | str) -> np.random.SeedSequence:
    """Return the seed sequence of one component of a run, independent of every other's."""
    words = [int.from_bytes(n.encode(), "little") if isinstance(n, str) else n for n in names]
    return np.random.SeedSequence([seed, *words])


def generator_state(rng: np.random.Generator) -> State:
    """Return the state of a NumPy generator as plain data."""
    return dict(rng.bit_generator.state)


def torch_generator(seed: np.random.SeedSequence) -> torch.Generator:
    """Return a torch generator seeded from a NumPy seed sequence."""
    return torch.Generator().manual_seed(int(seed.generate_state(1, np.uint64)[0]))
