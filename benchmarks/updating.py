"""An update of a student and of a teacher of Pong, 128 states: in fp32 as it is, and otherwise.

Otherwise is in fp32 with the first convolution in two dimensions, and in bf16. All is processor
time of one thread, which other programs on the machine disturb little.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from tutelage.convolution import FrameConv2d
from tutelage.heads import Categorical
from tutelage.networks import Network, parse_size
from tutelage.threads import owning

SIZES = {"student": "student", "small student": "8/8/8/28", "teacher": "teacher"}
BATCH = 128
REPEATS = 20
OTHERS = ("two_dimensions", "bf16")


def measure() -> dict[str, dict[str, float]]:
    """Return what an update takes as it is, and as many times as long it takes otherwise."""
    with owning(1):
        return {name: _measure(size) for name, size in SIZES.items()}


def _measure(size: str) -> dict[str, float]:
    updates = [_update(size), _update(size, flat=True), _update(size, dtype=torch.bfloat16)]
    times: list[list[float]] = [[] for _ in updates]
    for _ in range(REPEATS):
        for update, taken in zip(updates, times, strict=True):
            began = time.thread_time()
            update()
            taken.append(time.thread_time() - began)
    ours, *others = (statistics.median(taken) for taken in times)
    return {"ms": ours * 1e3, **{k: t / ours for k, t in zip(OTHERS, others, strict=True)}}


def _update(
    size: str, *, flat: bool = False, dtype: torch.dtype | None = None
) -> Callable[[], None]:
    network = Network(parse_size(size), (4, 84, 84), Categorical(6))
    if flat:
        first = network.body[0]
        assert isinstance(first, FrameConv2d)
        network.body[0] = nn.Conv2d(first.in_channels, first.out_channels, 8, 4)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    obs = torch.randint(256, (BATCH, 4, 84, 84), dtype=torch.uint8)

    def update() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = network(obs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return update
