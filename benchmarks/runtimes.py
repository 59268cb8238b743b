"""ONNX Runtime against PyTorch where a network only acts: a pass, and an evaluation with emulators.

Pong's bundled teacher and the paper's student, in fp32 and on one thread. All is processor time,
which other programs on the machine disturb little; emulators are counted in an evaluation.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from gymnasium import spaces

from tutelage import EnvironmentConfig, evaluate, load
from tutelage.exporters import Portable, onnx
from tutelage.policies import Function, Policy
from tutelage.threads import owning

MODELS = {"teacher": "pong", "student": "pong-small-1"}
BATCHES = (1, 5, 8, 10, 15, 16, 30)
REPEATS = 60
EPISODES = (10, 30)


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Return what PyTorch takes of each and how many times as long as ONNX Runtime that is."""
    found = {}
    for name, model in MODELS.items():
        policy = load(model).policy
        with owning(1):
            found[name] = _measure(policy, _exported(policy))
    return found


def _exported(policy: Policy) -> Policy:
    obs = np.zeros((1, 4, 84, 84), np.uint8)
    portable = Portable(policy, spaces.Discrete(6), obs)
    session = onnx.session(onnx.model_of(portable).SerializeToString())

    def said(seen: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run([portable.output], {"obs": seen.numpy()})[0])

    return Function(said, portable.head)


def _measure(torch_policy: Policy, onnx_policy: Policy) -> dict[str, dict[str, float]]:
    frames = np.random.default_rng(1).integers(0, 256, (max(BATCHES), 4, 84, 84), np.uint8)
    found = {}
    for batch in BATCHES:
        seen = torch.from_numpy(frames[:batch])
        ours, theirs = [
            statistics.median(times)
            for times in _in_turn(
                lambda seen=seen: torch_policy.step(seen, ()),  # type: ignore[misc]
                lambda seen=seen: onnx_policy.step(seen, ()),  # type: ignore[misc]
            )
        ]
        found[f"batch_{batch}"] = {"torch_us": ours * 1e6, "ratio": ours / theirs}
    for episodes in EPISODES:
        ours, theirs = (_evaluating(policy, episodes) for policy in (torch_policy, onnx_policy))
        found[f"evaluate_{episodes}"] = {"torch_s": ours, "ratio": ours / theirs}
    return found


def _in_turn(*passes: Callable[[], object]) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in passes]
    with torch.inference_mode():
        for _ in range(REPEATS):
            for one, taken in zip(passes, times, strict=True):
                began = time.thread_time()
                one()
                taken.append(time.thread_time() - began)
    return times


def _evaluating(policy: Policy, episodes: int) -> float:
    began = time.process_time()
    evaluate(policy, EnvironmentConfig(env="pong"), episodes=episodes, threads=1)
    return time.process_time() - began
