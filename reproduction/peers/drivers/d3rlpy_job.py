"""``d3rlpy``: behavioural cloning, BC of continuous actions and DiscreteBC of discrete ones.

Its own settings: batches of 100, Adam at 1e-3, beta 0.5, ReLU; 10,000 updates, as in its guide.
It learns from the teacher's greedy play.
"""

from collections.abc import Iterator
from typing import Any

import d3rlpy
import numpy as np
import torch
from torch import Tensor, nn

from .common import Clock, Predicts, Spec, make_env, student, teacher_of
from .sb3 import example_of


class Acting(nn.Module):
    """What of an imitator acts: logits, or actions from -1 to 1."""

    def __init__(self, imitator: Any, *, image: bool, box: bool) -> None:
        super().__init__()
        self.encoder, self.out = imitator._encoder, imitator._fc
        self.image, self.box = image, box

    def forward(self, obs: Tensor) -> Tensor:
        """Return ``[N,L]`` of ``obs[N,*O]``."""
        seen = obs.float() / 255.0 if self.image else obs.float()
        said: Tensor = self.out(self.encoder(seen))
        return said.tanh() if self.box else said


def played(teacher: Predicts, env: Any, budget: int, seed: int) -> dict[str, Any]:
    """Return so many env steps of the teacher's greedy play."""
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    obs, _ = env.reset(seed=10_000 * seed)
    for step in range(budget):
        action, _ = teacher.predict(obs, deterministic=True)
        led_to, reward, terminated, truncated, _ = env.step(action)
        cut = truncated or (step == budget - 1 and not terminated)
        for name, value in zip(names, (obs, action, reward, terminated, cut), strict=True):
            rows[name].append(np.asarray(value))
        obs = env.reset()[0] if terminated or truncated else led_to
    return {name: np.stack(values) for name, values in rows.items()}


def clone(spec: Spec) -> Iterator[dict[str, Any]]:
    """Learn from the teacher's greedy play, anew for each budget."""
    for budget in spec.budgets:
        torch.manual_seed(spec.seed)
        d3rlpy.seed(spec.seed)
        env = make_env(spec.env)
        box, image = hasattr(env.action_space, "high"), len(env.observation_space.shape) == 3
        teacher = teacher_of(spec, env.observation_space, env.action_space)
        clock = Clock()
        rows = played(teacher, env, budget, spec.seed)
        if not box:
            rows["actions"] = rows["actions"].reshape(-1, 1)
        given = dict(spec.settings)
        updates = given.pop("n_steps", 10_000)
        kind: Any = d3rlpy.algos.BCConfig if box else d3rlpy.algos.DiscreteBCConfig
        pupil = kind(
            encoder_factory=encoder_of(spec, image),
            observation_scaler=d3rlpy.preprocessing.PixelObservationScaler() if image else None,
            **given,
        ).create()
        pupil.fit(
            d3rlpy.dataset.MDPDataset(**rows),
            n_steps=updates,
            n_steps_per_epoch=updates,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
            show_progress=False,
        )
        yield student(
            spec,
            budget,
            acting=Acting(pupil.impl.modules.imitator, image=image, box=box),
            obs=example_of(env),
            env_steps=budget,
            clock=clock,
        )


def encoder_of(spec: Spec, image: bool) -> Any:
    """Return the library's encoder of the widths asked for."""
    if not image:
        return d3rlpy.models.VectorEncoderFactory(hidden_units=list(spec.widths))
    *channels, features = spec.widths
    shapes = ((8, 4), (4, 2), (3, 1))
    filters = [[width, *shape] for width, shape in zip(channels, shapes, strict=True)]
    return d3rlpy.models.PixelEncoderFactory(filters=filters, feature_size=features)
