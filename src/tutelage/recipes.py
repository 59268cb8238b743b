"""The ways through the house: each assembles parts and runs the one loop over them."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage import teachers
from tutelage.bandits import Only, Selector
from tutelage.environments import EnvironmentConfig, Environments, make
from tutelage.errors import UserError, choose_from
from tutelage.exploration import epsilon_greedy
from tutelage.learners import DoubleQ, Learner, Term
from tutelage.loop import run as run_loop
from tutelage.networks import QNetwork, parse_size
from tutelage.replay import Replay
from tutelage.runs import Run
from tutelage.schedules import constant, linear, parse_schedule
from tutelage.sources import Online, Source
from tutelage.types import Row, State, seeded, torch_generator

PRECISIONS = {"bf16": torch.bfloat16, "fp32": None}


@dataclass(frozen=True, kw_only=True)
class Common(EnvironmentConfig):
    """What every training run is asked."""

    seed: int = 1
    """Seed of everything random in the run."""
    env_steps: int = 50_000
    """Budget of agent steps over all environments (one Atari step is 4 frames)."""
    device: str = "auto"
    """auto, cpu, cuda, …: where the networks live."""
    precision: str = "bf16"
    """bf16 or fp32, of learning; acting and labelling are always fp32."""
    threads: int = 2
    """Threads for PyTorch and for the emulators."""
    batch_size: int = 128
    """Samples per update."""
    samples_per_step: float = 8.0
    """Samples learnt from per env step (DQN's batch 32 every 4 steps is 8)."""
    max_grad_norm: float = 10.0
    """Gradients are clipped to this global norm."""
    replay_size: int = 200_000
    """Env steps that are remembered."""
    round_steps: int = 1024
    """Env steps per row of metrics."""
    checkpoint_every: int = 50_000
    """Env steps between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Teach(Common):
    """Train a teacher by double Q-learning."""

    size: str = "teacher"
    """A named size, or widths such as 32/64/64/512 or mlp:64/64."""
    env_steps: int = 800_000
    learning_rate: str = "3e-4:1e-5"
    """Adam's, START:END over the whole run, or one number."""
    epsilon: str = "1:0.01:80000"
    """Exploration, START:END:ENV_STEPS or one number."""
    gamma: float = 0.99
    """Discount per env step."""
    n_step: int = 3
    """Steps of reward before bootstrapping."""
    target_every: int = 250
    """Updates between copies to the target network."""
    learning_starts: int = 2_000
    """Env steps before the first update."""
    milestones: tuple[float, ...] = (-15.0, 0.0, 15.0)
    """Also keep the network when the mean return of the last 20 episodes first passes these."""


@dataclass(frozen=True)
class Parts:
    """What a run is made of."""

    source: Source
    learner: Learner
    selector: Selector

    def state(self) -> State:
        return {
            "source": self.source.state(),
            "learner": self.learner.state(),
            "selector": self.selector.state(),
        }

    def restore(self, state: State) -> None:
        self.source.restore(state["source"])
        self.learner.restore(state["learner"])
        self.selector.restore(state["selector"])


def teach(config: Teach, folder: Path, *, resume: bool = False, watch: Callable[[Row], None] = lambda row: None) -> QNetwork:
    """Train a teacher; return it and leave it in ``folder/last.safetensors``."""
    device = prepare_torch(config)
    envs = make(config, seed=config.seed, threads=config.threads)
    network = new_network(config, config.size, envs, device)
    replay = new_replay(config, envs, n_step=config.n_step, gamma=config.gamma)
    source = Online(
        envs,
        student=network,
        teachers=(),
        explore=epsilon_greedy(parse_schedule(config.epsilon)),
        replay=replay,
        sample=lambda: replay.sample_transitions(config.batch_size),
        samples_per_step=config.samples_per_step,
        batch_size=config.batch_size,
        learning_starts=config.learning_starts,
        round_steps=config.round_steps,
        rng=np.random.default_rng(seeded(config.seed, "exploration")),
        device=device,
    )
    learner = Learner(
        network,
        {"double_q": Term(DoubleQ(network, target_every=config.target_every), constant(1.0))},
        learning_rate=over_run(config.learning_rate, config),
        max_grad_norm=config.max_grad_norm,
        autocast=PRECISIONS[config.precision],
    )
    parts = Parts(source, learner, Only())
    run = open_run(folder, config, parts, resume=resume)
    about = {"command": "teach", "seed": config.seed}
    for row in conduct(run, parts, env_steps=config.env_steps, checkpoint_every=config.checkpoint_every):
        watch(row)
        mean = row.metrics.get("rollout/ep_rew_mean", -np.inf)
        for milestone in config.milestones:
            path = folder / f"return{milestone:+.0f}.safetensors"
            if mean >= milestone and row.metrics["rollout/episodes"] >= 20 and not path.exists():
                card = {**about, "env_steps": row.env_steps, "training_return": mean}
                teachers.save(path, network, env=config.env, card=card)
    teachers.save(folder / "last.safetensors", network, env=config.env, card={**about, "env_steps": source.env_steps})
    envs.close()
    return network


def open_run(folder: Path, config: Common, parts: Parts, *, resume: bool) -> Run:
    """Create the run's folder, or open it and bring the parts to where it stopped."""
    if not resume:
        return Run.create(folder, {"command": type(config).__name__.lower(), **asdict(config)})
    run = Run(folder)
    if (state := run.resume()) is not None:
        parts.restore(state)
    return run


def conduct(run: Run, parts: Parts, *, env_steps: int, checkpoint_every: int) -> Iterator[Row]:
    """Run the loop up to ``env_steps``, writing rows and checkpoints; leave safely on a signal."""
    due = parts.source.env_steps + checkpoint_every
    with interruptible() as interrupted:
        if parts.source.env_steps >= env_steps:
            return
        for row in run_loop(parts.source, parts.learner, parts.selector):
            run.write(row)
            yield row
            done = row.env_steps >= env_steps
            if done or interrupted() or row.env_steps >= due:
                run.checkpoint(row.env_steps, parts.state())
                due = row.env_steps + checkpoint_every
            if done:
                return
            if interrupted():
                run.close()
                raise UserError(f"interrupted at {row.env_steps:,} env steps; go on by 'tutelage resume {run.folder}'")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question that is asked between rounds."""
    received: list[int] = []
    before = {s: signal.signal(s, lambda number, frame: received.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def prepare_torch(config: Common) -> torch.device:
    """Pin the threads and return the device."""
    if config.precision not in PRECISIONS:
        raise choose_from("precision", config.precision, PRECISIONS)
    torch.set_num_threads(config.threads)
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def new_network(config: Common, size: str, envs: Environments, device: torch.device) -> QNetwork:
    """Return a fresh network for these environments, its input standardised on their first frames."""
    generator = torch_generator(seeded(config.seed, "network"))
    network = QNetwork(parse_size(size), envs.obs_shape, envs.num_actions, generator=generator)
    network.calibrate(envs.obs[:, -1])
    return network.to(device)


def new_replay(config: Common, envs: Environments, *, n_step: int = 1, gamma: float = 0.99) -> Replay:
    """Return an empty replay for these environments."""
    return Replay(
        capacity=min(config.replay_size, config.env_steps + config.round_steps),
        num_envs=envs.num_envs,
        obs_shape=envs.obs_shape,
        obs_dtype=envs.obs.dtype,
        num_actions=envs.num_actions,
        rng=np.random.default_rng(seeded(config.seed, "replay")),
        n_step=n_step,
        gamma=gamma,
    )


def over_run(text: str, config: Common) -> Callable[[int], float]:
    """Return a schedule over all the updates of a run: ``START:END``, or a constant."""
    if text.count(":") != 1:
        return parse_schedule(text)
    updates = max(1, int(config.env_steps * config.samples_per_step / config.batch_size))
    start, end = (parse_schedule(word)(0) for word in text.split(":"))
    return linear(start, end, updates)
