"""What is to be known of a family of environments, and how one is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tutelage.environments import Environments, Step
from tutelage.types import Array, Floats

Mask = npt.NDArray[np.bool_]
Region = Callable[[Array], Mask]
"""A part of the states: ``obs[N,*O] -> mask[N]``."""
SegmentEnds = Callable[[Step], Mask]
"""Where a stretch of play ends in this step, ``[N]``: its last reward says who won it."""


@dataclass(frozen=True)
class Feature:
    """A context that is read from observations."""

    dim: int
    """d, the numbers per state."""
    of: Callable[[Array], Floats]
    """``obs[N,*O] -> context[N,d]``."""


@dataclass(frozen=True)
class About:
    """What is known of one environment; what is not is None or empty."""

    target: float | None = None
    """The mean return at which it counts as mastered."""
    return_range: tuple[float, float] | None = None
    """The least and the largest return there is."""
    most: float | None = None
    """What all positive rewards of one episode come to at most."""
    segment_ends: SegmentEnds | None = None
    """Where a segment ends that the sign of its last reward pays; None: with the episode."""
    features: Mapping[str, Feature] = field(default_factory=dict)
    """Contexts for a selector, by name."""
    regions: Mapping[str, Region] = field(default_factory=dict)
    """Parts of the states that training may be restricted to, by name."""
    milestones: tuple[float, ...] = ()
    """Mean returns in training that are worth keeping a network at."""


class Domain(Protocol):
    """A family of environments; all that is known of it is in one file."""

    def knows(self, env: str) -> bool:
        """Return whether ``env`` is one of its environments."""

    def about(self, env: str) -> About:
        """Return what is known of ``env``."""

    def make(
        self,
        env: str,
        *,
        num_envs: int,
        settings: Any,
        seed: int,
        stream: str,
        threads: int,
        episodes: npt.NDArray[np.int64] | float,
    ) -> Environments:
        """Build ``num_envs`` environments in step; raise UserError for what cannot be built.

        ``settings`` are the domain's own (None for one from outside of the package); ``stream``
        names a set of episode seeds; ``episodes`` or ``episodes[N]`` are all that is looked at.
        """

    def camera(self, env: str, *, settings: Any, seed: int, stream: str) -> Environments:
        """Build one environment that observes itself in colour, ``obs[1,height,width,3]`` uint8.

        Given the same actions it stays in step with the first of ``make`` with that seed and
        stream. Raises UserError if the environment cannot render.
        """

    def preprocessing(self, env: str, *, settings: Any) -> Mapping[str, Any]:
        """Return, as plain data, what is done to observations before a policy sees them."""
