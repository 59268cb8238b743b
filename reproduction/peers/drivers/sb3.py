"""What students of Stable-Baselines3's kind have in common."""

from typing import Any

import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
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


class Convolutions(BaseFeaturesExtractor):
    """Nature's layers with other widths; the last width is that of the linear layer."""

    def __init__(self, observation_space: Any, widths: tuple[int, ...]) -> None:
        *channels, features = widths
        super().__init__(observation_space, features)
        layers: list[nn.Module] = []
        before = observation_space.shape[0]
        for width, (kernel, stride) in zip(channels, ((8, 4), (4, 2), (3, 1)), strict=True):
            layers += [nn.Conv2d(before, width, kernel, stride), nn.ReLU()]
            before = width
        flat = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            size = flat(torch.zeros(1, *observation_space.shape)).shape[1]
        self.net = nn.Sequential(flat, nn.Linear(size, features), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """Return the features of images ``[N,C,H,W]`` from 0 to 1."""
        said: Tensor = self.net(observations)
        return said


def network_of(widths: tuple[int, ...], observation_space: Any) -> dict[str, Any]:
    """Return what a policy of these widths is told: of vectors, or of images ``[C,H,W]``."""
    if len(observation_space.shape) == 1:
        return {"net_arch": list(widths)}
    return {
        "net_arch": [],
        "features_extractor_class": Convolutions,
        "features_extractor_kwargs": {"widths": widths},
    }
