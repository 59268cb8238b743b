"""Microseconds per action of exported files, batch 1, on one thread, against the policy in PyTorch.

Students of Pong: the paper's; the smallest of its claims that has held 20 (docs/reproduction.md,
Sizes), and a still smaller one, with weights drawn at random, as speed does not depend on them. C
is compiled as the proof does, and without a word about the processor as well. Processor time is
measured, so that other programs count for little.
"""

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from gymnasium import spaces

from tutelage import EXPORTERS, Network, QValues, load
from tutelage.exporters import Portable, c
from tutelage.networks import parse_size
from tutelage.proof import speed
from tutelage.types import Array

OBS = (4, 84, 84)
STATES = 16
SMALL = ("8/8/8/64", "4/4/4/13")
PLAIN = "-std=c99 -O3"


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Return both medians and their ratio, policy and file in turn, of each format."""
    torch.set_num_threads(1)
    frames = np.random.default_rng(1).integers(0, 256, (STATES, *OBS), np.uint8)
    policies = {
        "pong-small-1": load("pong-small-1").policy,
        **{size: Network(parse_size(size), OBS, QValues(6)).eval() for size in SMALL},
    }
    return {
        name: _formats(Portable(policy, spaces.Discrete(6), frames[:1]), frames)
        for name, policy in policies.items()
    }


def _formats(policy: Portable, frames: Array) -> dict[str, dict[str, float]]:
    states: list[tuple[Array, ...]] = [(frames[i : i + 1],) for i in range(len(frames))]
    found = {}
    for to, exporter in EXPORTERS.items():
        opened = {to: exporter.open}
        if exporter.open is c.open_file:
            opened[f"{to}, {PLAIN}"] = partial(c.open_file, flags=PLAIN)
        with TemporaryDirectory() as folder:
            written = exporter.write(policy, Path(folder), lambda n: states[:n])
            for name, open_file in opened.items():
                fast = speed(policy, open_file(Path(folder), written), states, time.thread_time)
                ratio = fast.exported / fast.original
                found[name] = {"torch_us": fast.original, "us": fast.exported, "ratio": ratio}
    return found
