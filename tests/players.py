"""Players made by hand, in files, for runs that take seconds; and what the command line refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage import Network, QValues, Size, models
from tutelage.cli import main
from tutelage.heads import Head

QUICK = ["--threads", "1", "--num-envs", "2", "--env-steps", "512", "--round-steps", "128"]
QUICK += ["--precision", "fp32"]
SMALL: dict[str, Any] = {
    "threads": 1,
    "num_envs": 2,
    "env_steps": 512,
    "round_steps": 128,
    "precision": "fp32",
}
"""A run of CartPole that takes a second, as flags and as keywords."""


def cartpole_model(path: Path, *, head: Head | None = None, seed: int = 1) -> str:
    """Write an untrained network for CartPole."""
    generator = torch.Generator().manual_seed(seed)
    network = Network(Size((), (4,)), (1, 4), head or QValues(2), generator=generator)
    models.save(path, network, env="CartPole-v1", card={})
    return str(path)


def controller(path: Path, *, env: str = "CartPole-v1") -> str:
    """Write a network that pushes towards where the pole falls: it balances all 500 steps."""
    network = Network(Size((), (2,)), (1, 4), QValues(2))
    lean = torch.tensor([0.05, 0.2, 1.0, 0.6])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.body[1].weight.copy_(torch.stack([-lean, lean]))  # type: ignore[operator]
        network.output.weight.copy_(torch.eye(2))
    models.save(path, network, env=env, card={})
    return str(path)


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; return its one line."""
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("tutelage: ")
    return lines[0]


def assert_same_bytes(one: Path, other: Path, *names: str) -> None:
    """Assert that files of two runs are equal to the last byte."""
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def assert_equal_arrays(one: Any, other: Any) -> None:
    """Assert that two things of the same kind hold the same arrays."""
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def still(obs: Tensor) -> Tensor:
    """Do nothing, whatever there is to see; ``[N,1]``, in the middle of the action's range."""
    return torch.zeros(len(obs), 1)
