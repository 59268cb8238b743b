"""Networks of other libraries taken over: layer by layer, or not at all."""

import pytest
import torch
from torch import Tensor, nn

from tutelage import SIZES, QNetwork, UserError, parse_size


class Extractor(nn.Module):
    """Stable-Baselines3's NatureCNN, by its names."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            *(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten()),
        )
        self.linear = nn.Sequential(nn.Linear(64 * 7 * 7, 512), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(self.cnn(x))
        return found


class Theirs(nn.Module):
    """Its QNetwork."""

    def __init__(self) -> None:
        super().__init__()
        self.features_extractor = Extractor()
        self.q_net = nn.Sequential(nn.Linear(512, 6))

    def forward(self, obs: Tensor) -> Tensor:
        q: Tensor = self.q_net(self.features_extractor(obs.float() / 255.0))
        return q


def test_a_network_of_pixels_says_what_it_said() -> None:
    theirs, ours = Theirs(), QNetwork(SIZES["nature"], (4, 84, 84), 6)
    ours.scale.fill_(1 / 255)
    ours.copy_layers(theirs.state_dict().values())
    obs = torch.randint(0, 256, (5, 4, 84, 84), dtype=torch.uint8)
    torch.testing.assert_close(ours(obs), theirs(obs))


def test_a_perceptron_says_what_it_said() -> None:
    theirs = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 2))
    ours = QNetwork(parse_size("mlp:9/8"), (1, 4), 2)
    ours.copy_layers(theirs.state_dict().values())
    obs = torch.randn(5, 1, 4)
    torch.testing.assert_close(ours(obs), theirs(obs[:, 0]))


def test_other_layers_are_refused_and_nothing_is_copied() -> None:
    ours = QNetwork(parse_size("mlp:9/8"), (1, 4), 2)
    before = [parameter.clone() for parameter in ours.parameters()]
    theirs = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 2))
    with pytest.raises(UserError, match=r"size mlp:9/8.*\[7, 9\].*expected.*\[8, 9\]"):
        ours.copy_layers(theirs.state_dict().values())
    with pytest.raises(UserError, match="expected"):
        ours.copy_layers([])
    assert all(map(torch.equal, before, ours.parameters()))
