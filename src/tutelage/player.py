"""A policy at play in an environment of one's own, one observation at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from tutelage.domains import Spaces
from tutelage.domains.views import parts_of, view_of
from tutelage.errors import UserError
from tutelage.heads import to_space
from tutelage.policies import Model, Policy, allowed
from tutelage.teachers import fitted, load_model


class Player:
    """Acts greedily by a policy: takes what ``env`` gives and returns what ``env`` takes.

    ``policy`` is a bundled name, a file, a run's folder, what ``load`` returned, or a policy such
    as a student. It sees the keys of a Dict that ``view`` names, as ``student_view`` does; frames
    are stacked by ``env``, as Gymnasium's FrameStackObservation does. Raises UserError for a policy
    whose observations or actions are not those of ``env``.
    """

    def __init__(
        self, policy: str | Path | Model | Policy, env: gymnasium.Env[Any, Any], *, view: str = ""
    ) -> None:
        self._seen, self._actions = env.observation_space, env.action_space
        model = _model(policy, Spaces(self._actions, parts_of(view, self._seen)))
        if not model.policy.head.fits(self._actions):
            raise UserError(
                f"{model.name} says {model.policy.head}, which does not fit actions {self._actions}"
            )
        stacked = isinstance(self._seen, spaces.Box) and self._seen.shape == model.obs_shape
        self._policy = model.policy
        self._view = view_of(view, self._seen, stack=2 if stacked else 1)
        given = tuple(self._see(create_empty_array(self._seen, 1)).shape[1:])
        if model.obs_shape not in (None, given):
            raise UserError(
                f"{model.name} takes observations {model.obs_shape}, the environment gives {given}"
            )
        self.reset()

    def reset(self) -> None:
        """Forget the episode so far; only a policy with a memory needs it."""
        self._carry = self._policy.initial(1)

    def act(self, obs: Any, *, action_mask: npt.NDArray[np.bool_] | None = None) -> Any:
        """Return the action in ``obs``, an element of the environment's action space.

        ``action_mask[A]`` says which actions of a Discrete space may be taken.
        """
        fresh: Any = create_empty_array(self._seen, 1)
        one = concatenate(self._seen, [obs], fresh)
        mask = None if action_mask is None else np.asarray(action_mask, np.bool_)[None]
        with torch.inference_mode():
            out, self._carry = self._policy.step(self._see(one), self._carry)
            action = self._policy.head.mode(allowed(out, mask)).cpu().numpy()
        return to_space(action, self._actions)[0]

    def _see(self, obs: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._view(obs)))


def _model(given: str | Path | Model | Policy, plays: Spaces) -> Model:
    if isinstance(given, str | Path):
        return load_model(str(given), plays)
    if isinstance(given, Model):
        model = given
    elif isinstance(given, Policy):
        shape = getattr(given, "obs_shape", None)
        model = Model(given, name=type(given).__name__, format="python", obs_shape=shape)
    else:
        raise UserError(f"{given!r} is no policy: expected a name, a file, a Model or a Policy")
    return replace(model, policy=fitted(model.policy, plays))
