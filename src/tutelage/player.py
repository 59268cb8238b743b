"""A policy at play in an environment of one's own, one observation at a time."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from tutelage.domains import Spaces
from tutelage.domains.views import parts_of, view_of
from tutelage.heads import to_space
from tutelage.policies import allowed
from tutelage.teachers import AnyPolicy, check_plays, model_of


class Player:
    """Acts greedily by a policy: takes what ``env`` gives and returns what ``env`` takes.

    ``policy`` is a bundled name, a file, a run's folder, what ``load`` returned, a policy such as a
    student, or a function ``obs[N,*O] -> out[N,L]``. It sees the keys of a Dict that ``view``
    names, as ``student_view`` does; frames are stacked by ``env``, as Gymnasium's
    FrameStackObservation does. Raises UserError for a policy whose observations or actions are not
    those of ``env``.
    """

    def __init__(self, policy: AnyPolicy, env: gymnasium.Env[Any, Any], *, view: str = "") -> None:
        self._seen, self._actions = env.observation_space, env.action_space
        spec = getattr(env, "spec", None)
        plays = Spaces(
            self._actions, parts_of(view, self._seen), env=spec.id if spec else "the environment"
        )
        model = model_of(policy, plays)
        stacked = isinstance(self._seen, spaces.Box) and self._seen.shape == model.obs_shape
        self._policy = model.policy
        self._view = view_of(view, self._seen, stack=2 if stacked else 1)
        check_plays(model, replace(plays, obs=self._see(create_empty_array(self._seen, 1)).numpy()))
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
