"""A ring of single frames; stacks and n-step returns are rebuilt on sampling."""

import numpy as np
import numpy.typing as npt
import torch
import zstandard

from tutelage.files import unpack
from tutelage.types import Array, Batch, State, Transitions, generator_state, restored

Index = npt.NDArray[np.int64]


def without_earlier(stacks: Array, age: npt.NDArray[np.integer]) -> Array:
    """Return ``stacks[B,stack,*frame]``, zero where a frame is older than the episode.

    ``age[B]`` counts the env steps since the episode began.
    """
    back = np.arange(stacks.shape[1] - 1, -1, -1)
    stacks[back > age[:, None]] = 0
    return stacks


def _wide(action: Array) -> Array:
    """Return whole numbers as torch indexes by them."""
    return action.astype(np.int64) if np.issubdtype(action.dtype, np.integer) else action


class Replay:
    """The last ``capacity`` env steps of N streams, one frame each (an Atari step takes 7.1 KB).

    A stream is a row of slots in the order of time. A truncated episode takes one slot more, for
    its last observation; an episode's end is otherwise only a flag, since nothing is bootstrapped
    beyond termination.
    """

    def __init__(
        self,
        *,
        capacity: int,
        num_envs: int,
        obs_shape: tuple[int, ...],
        obs_dtype: npt.DTypeLike,
        label_size: int,
        rng: np.random.Generator,
        action_shape: tuple[int, ...] = (),
        action_dtype: npt.DTypeLike = np.int16,
        n_step: int = 1,
        gamma: float = 0.99,
    ) -> None:
        """Raise ValueError for sizes that hold nothing."""
        if min(capacity, num_envs, n_step) < 1:
            raise ValueError(
                f"capacity {capacity}, num_envs {num_envs}, n_step {n_step}: expected 1 or more"
            )
        slots = max(capacity // num_envs, obs_shape[0] + n_step + 1)
        self._rng = rng
        self._stack = obs_shape[0]
        self._n_step = n_step
        self._gamma = gamma
        self._slots = slots
        self._written = np.zeros(num_envs, np.int64)
        self._followed = np.zeros(num_envs, np.int64)
        """Up to here: what comes after the last state inside is not known to its end."""
        shape = (num_envs, slots)
        self._columns: dict[str, Array] = {
            "frame": np.zeros((*shape, *obs_shape[1:]), obs_dtype),
            "age": np.zeros(shape, np.int32),
            "action": np.zeros((*shape, *action_shape), action_dtype),
            "reward": np.zeros(shape, np.float32),
            "terminated": np.zeros(shape, np.bool_),
            "final": np.zeros(shape, np.bool_),
            "outside": np.zeros(shape, np.bool_),
            "arm": np.zeros(shape, np.int16),
            "label": np.zeros((*shape, label_size), np.float32),
        }
        self._age = np.zeros(num_envs, np.int32)

    def __len__(self) -> int:
        """Return the number of slots in use."""
        return int(np.minimum(self._written, self._slots).sum())

    @property
    def bytes_per_step(self) -> float:
        """Memory one env step takes."""
        return sum(c.nbytes for c in self._columns.values()) / self._columns["age"].size

    def add(self, step: Transitions) -> None:
        """Store one step of every environment."""
        everyone = np.arange(len(self._written))
        self._write(
            everyone,
            frame=step.obs[:, -1],
            age=self._age,
            action=step.action,
            reward=step.reward,
            terminated=step.worthless,
            final=False,
            outside=~step.inside,
            arm=step.arm,
            label=step.label,
        )
        self._age += 1
        if step.truncated.any():
            cut = np.flatnonzero(step.truncated)
            last = step.next_obs[cut, -1]
            self._write(cut, frame=last, age=self._age[cut], final=True, outside=False)
        self._age[step.terminated | step.truncated] = 0

    def _write(self, streams: Index, **values: Array | bool) -> None:
        at = self._written[streams] % self._slots
        for name, value in values.items():
            self._columns[name][streams, at] = value
        self._written[streams] += 1
        inside = streams[~self._columns["outside"][streams, at]]
        self._followed[inside] = self._written[inside]

    def sample(self, batch_size: int) -> Batch:
        """Return labelled states, drawn uniformly with replacement from inside the region."""
        stream, time = self._draw(batch_size, ahead=0)
        return Batch(
            obs=torch.from_numpy(self._stacks(stream, time)),
            label=torch.from_numpy(self._at("label", stream, time)),
            arm=torch.from_numpy(self._at("arm", stream, time).astype(np.int64)),
        )

    def sample_transitions(self, batch_size: int) -> Batch:
        """Return labelled n-step transitions, drawn uniformly with replacement.

        R = sum_{j<k} gamma^j r_{t+j} with k <= n cut at the episode's end (Sutton & Barto,
        eq. 7.1); ``bootstrap`` is gamma^k, or 0 where the episode terminated within. Outside of
        the region that training is restricted to nothing is decided, and k grows until it is
        entered again: a semi-Markov decision (Sutton, Precup & Singh 1999, section 3).
        """
        stream, time = self._draw(batch_size, ahead=self._n_step)
        total = np.zeros(batch_size, np.float32)
        bootstrap = np.ones(batch_size, np.float32)
        until = time.copy()
        going = np.ones(batch_size, np.bool_)
        steps = 0
        while going.any():
            total += going * bootstrap * self._at("reward", stream, until)
            bootstrap *= np.where(going, np.float32(self._gamma), np.float32(1.0))
            ended = going & self._at("terminated", stream, until)
            bootstrap[ended] = 0.0
            going &= ~ended
            until += going
            steps += 1
            going &= (steps < self._n_step) | self._at("outside", stream, until)
            going &= ~self._at("final", stream, until)
        until[bootstrap == 0.0] = time[bootstrap == 0.0]  # never shown across a reset
        return Batch(
            obs=torch.from_numpy(self._stacks(stream, time)),
            label=torch.from_numpy(self._at("label", stream, time)),
            arm=torch.from_numpy(self._at("arm", stream, time).astype(np.int64)),
            action=torch.from_numpy(_wide(self._at("action", stream, time))),
            n_step_reward=torch.from_numpy(total),
            bootstrap=torch.from_numpy(bootstrap),
            next_obs=torch.from_numpy(self._stacks(stream, until)),
        )

    def _draw(self, batch_size: int, *, ahead: int) -> tuple[Index, Index]:
        """Draw (stream, time) of states that ``_find`` says may be drawn."""
        slots = len(self)
        stream = np.zeros(batch_size, np.int64)
        time = np.zeros(batch_size, np.int64)
        missing = np.arange(batch_size)
        while missing.size and slots:
            s, t, good = self._find(self._rng.integers(slots, size=missing.size), ahead)
            if missing.size == batch_size and not good.any():
                break
            stream[missing], time[missing] = s, t
            missing = missing[~good]
        if not missing.size:
            return stream, time
        # Not one of a whole batch: there are few, or none at all.
        s, t, good = self._find(np.arange(slots), ahead)
        if not good.any():
            raise ValueError(
                f"cannot sample: no state in the replay ({slots} slots in use) is inside of the "
                f"region and has its next {ahead} steps known"
            )
        drawn = self._rng.choice(np.flatnonzero(good), batch_size)
        return s[drawn], t[drawn]

    def _find(self, slot: Index, ahead: int) -> tuple[Index, Index, npt.NDArray[np.bool_]]:
        """Return the stream and the time of slots in use, and whether they may be drawn.

        They may if the state is inside, its stack whole and its future known.
        """
        used: Index = np.minimum(self._written, self._slots)
        ends: Index = np.cumsum(used)
        s = np.searchsorted(ends, slot, side="right")
        t = self._written[s] - (ends[s] - slot)
        whole = np.minimum(self._at("age", s, t), self._stack - 1) <= t - (
            self._written[s] - used[s]
        )
        good = whole & ~self._at("final", s, t) & ~self._at("outside", s, t)
        return s, t, good & self._future_known(s, t, ahead)

    def _future_known(self, stream: Index, time: Index, ahead: int) -> npt.NDArray[np.bool_]:
        known = time + ahead < self._followed[stream]
        for k in range(ahead):
            later = np.minimum(time + k, self._written[stream] - 1)
            known |= self._at("terminated", stream, later) & (later == time + k)
            known |= self._at("final", stream, later) & (later == time + k)
        return known

    def _at(self, column: str, stream: Index, time: Index) -> Array:
        return self._columns[column][stream, time % self._slots]

    def _stacks(self, stream: Index, time: Index) -> Array:
        """Rebuild ``[B,*O]``: the frames of this episode so far, zeros before it began."""
        back = np.arange(self._stack - 1, -1, -1)
        age = self._at("age", stream, time)
        slots = (time[:, None] - np.minimum(back, age[:, None])) % self._slots
        return without_earlier(self._columns["frame"][stream[:, None], slots], age)

    def state(self) -> State:
        """Return all that is stored, compressed."""
        used = int(min(self._written.max(), self._slots))
        compress = zstandard.ZstdCompressor(level=1).compress
        return {
            "rng": generator_state(self._rng),
            "written": self._written.copy(),
            "followed": self._followed.copy(),
            "age": self._age.copy(),
            "columns": {
                name: np.frombuffer(compress(np.ascontiguousarray(column[:, :used]).data), np.uint8)
                for name, column in self._columns.items()
            },
        }

    def restore(self, state: State) -> None:
        """Restore what ``state`` returned."""
        self._rng.bit_generator.state = state["rng"]
        self._written = restored(state["written"], self._written)
        self._followed = restored(state["followed"], self._followed)
        self._age = restored(state["age"], self._age)
        if not ((self._followed >= 0) & (self._followed <= self._written)).all():
            raise ValueError(f"of {self._written} steps {self._followed} have a known future")
        used = int(min(self._written.max(), self._slots))
        for name, column in self._columns.items():
            held = column[:, :used]
            raw = unpack(np.asarray(state["columns"][name]).tobytes(), held.nbytes)
            held[:] = np.frombuffer(raw, column.dtype).reshape(held.shape)
