"""Microseconds per action of exported files, batch 1, on one thread, against the policy in PyTorch.

Two students of Pong: the paper's, and the smallest that has held 20 (docs/reproduction.md, Sizes),
with weights drawn at random, as speed does not depend on them.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from gymnasium import spaces

from tutelage import EXPORTERS, Network, QValues, load
from tutelage.exporters import Portable
from tutelage.networks import parse_size
from tutelage.proof import speed
from tutelage.types import Array

OBS = (4, 84, 84)
STATES = 16
SMALLEST = "8/8/8/64"


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Return both medians and their ratio, policy and file in turn, of each format."""
    torch.set_num_threads(1)
    frames = np.random.default_rng(1).integers(0, 256, (STATES, *OBS), np.uint8)
    small = Network(parse_size(SMALLEST), OBS, QValues(6)).eval().requires_grad_(False)
    policies = {"pong-small-1": load("pong-small-1").policy, SMALLEST: small}
    return {
        name: _formats(Portable(policy, spaces.Discrete(6), frames[:1]), frames)
        for name, policy in policies.items()
    }


def _formats(policy: Portable, frames: Array) -> dict[str, dict[str, float]]:
    states: list[tuple[Array, ...]] = [(frames[i : i + 1],) for i in range(len(frames))]
    found = {}
    for to, exporter in EXPORTERS.items():
        with TemporaryDirectory() as folder:
            written = exporter.write(policy, Path(folder), lambda n: states[:n])
            fast = speed(policy, exporter.open(Path(folder), written), states)
        ratio = fast.exported / fast.original
        found[to] = {"torch_us": fast.original, "us": fast.exported, "ratio": ratio}
    return found
