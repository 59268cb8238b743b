"""What students of Stable-Baselines3's kind have in common."""

from typing import Any

import torch
from torch import Tensor, nn


class Acting(nn.Module):
    """What of an actor-critic policy acts: logits, or the mean action within its bounds."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.features = policy.pi_features_extractor
        self.hidden = policy.mlp_extractor.policy_net
        self.out = policy.action_net
        self.image = policy.observation_space.dtype.kind == "u"
        self.box = hasattr(policy.action_space, "high")

    def forward(self, obs: Tensor) -> Tensor:
        """Return ``[N,L]`` of ``obs[N,*O]``."""
        seen = obs.float() / 255.0 if self.image else obs.float()
        said: Tensor = self.out(self.hidden(self.features(seen)))
        return said.clamp(-1.0, 1.0) if self.box else said


def example_of(env: Any) -> Tensor:
    """Return an observation ``[1,*O]`` of the kind that an environment gives."""
    return torch.as_tensor(env.observation_space.sample()[None])
