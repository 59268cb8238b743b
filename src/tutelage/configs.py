"""What a person may ask for: each field is a flag, its docstring the flag's help."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from tyro.conf import arg

from tutelage.domains.atari import EnvironmentConfig
from tutelage.errors import UserError, choose_from
from tutelage.schedules import is_zero, parse_schedule

Config = TypeVar("Config")

CHOICES = {"choice_per": ("segment", "round"), "pay": ("led", "all")}
"""What a field may be, by its name."""

AT_MOST = {
    "learning_rate": math.inf,
    "epsilon": 1.0,
    "teacher_acts": 1.0,
    "distill_weight": math.inf,
    "reward_weight": math.inf,
}
"""The fields that are schedules, and the most that each may come to; the least is 0."""


@dataclass(frozen=True, kw_only=True)
class Training(EnvironmentConfig):
    """What every training run is asked."""

    seed: int = 1
    """Seed of everything random in the run."""
    env_steps: int = 50_000
    """Budget of agent steps over all environments (one Atari step is 4 frames)."""
    device: str = "auto"
    """auto, cpu, cuda, …: where the networks live."""
    precision: str = "bf16"
    """bf16 or fp32, of learning; acting, labelling and evaluating are always fp32."""
    threads: int = 2
    """Threads of PyTorch, and as many of the emulators."""
    batch_size: int = 128
    """Samples per update."""
    scaling: str = "standard"
    """Input: standard ((x - median) / deviation of the first frames) or unit (x / 255)."""
    samples_per_step: float = 8.0
    """Samples learnt from per env step (DQN's batch of 32 every 4 steps is 8)."""
    max_grad_norm: float = 10.0
    """Gradients are clipped to this global norm."""
    gamma: float = 0.99
    """Discount per env step."""
    n_step: int = 3
    """Steps of reward before bootstrapping."""
    target_every: int = 250
    """Updates between copies to the target network."""
    td_loss: str = "huber"
    """Of double Q-learning: huber, or mse where returns are much larger than 1."""
    learning_starts: int = 2_000
    """Env steps before the first update."""
    replay_size: int = 200_000
    """Env steps that are remembered."""
    round_steps: int = 1024
    """Env steps per row of metrics."""
    checkpoint_every: int = 50_000
    """Env steps between checkpoints."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        super().__post_init__()
        for name, high in AT_MOST.items():
            if name in vars(self):
                _check_schedule(name, vars(self)[name], high)


@dataclass(frozen=True, kw_only=True)
class Teach(Training):
    """Train a teacher by double Q-learning."""

    size: str = "teacher"
    """A named size (see 'tutelage sizes'), or widths such as 32/64/64/512 or mlp:64/64."""
    init: str = ""
    """Go on from this model (a bundled name, a file or a run's folder), of the size it has."""
    env_steps: int = 800_000
    """Budget of agent steps over all environments (one Atari step is 4 frames)."""
    learning_rate: str = "3e-4:1e-5"
    """Adam's: START:END over the whole run, or one number."""
    epsilon: str = "1:0.01:80000"
    """Exploration: START:END:ENV_STEPS, or one number."""
    milestones: tuple[float, ...] | None = None
    """Also keep the network when the mean return of the last 20 episodes first passes these; by
    default -15 0 15 in Pong."""
    record: str = ""
    """Also write the whole training, with the network's own Q-values, as a data set here."""


@dataclass(frozen=True, kw_only=True)
class Distill(Training):
    """Teach a small student what a teacher knows."""

    teachers: Annotated[tuple[str, ...], arg(aliases=["--teacher"])] = ("pong",)
    """Bundled names, model files or runs' folders, each perhaps with wrappers: pong+noise:1."""
    selector: str = "thompson-beta"
    """Chooses among several teachers: NAME or NAME:OPTION=VALUE,… (see docs/teachers.md)."""
    choice_per: str = "segment"
    """A teacher is chosen per segment or per round (of round_steps); contextual ones: per state."""
    pay: str = "led"
    """Which segments pay the selector: led (those in which the teachers acted) or all."""
    forget: bool = True
    """Learn no longer from the labels of teachers that have been found worse than others."""
    measure: str = "points"
    """What a round is paid: points (share won), return, improvement or evaluation."""
    return_range: tuple[float, ...] = ()
    """The least and the largest return there is: scales measures. By default known for pong."""
    measure_episodes: int = 2
    """Episodes of a measure by evaluation, and of best-first's trial of each teacher."""
    features: str = "ball-half"
    """A contextual selector's: ball-half, ball-position, ball, or hidden (the student's own)."""
    credit_decay: float = 0.95
    """Contextual: how fast the credit of a choice falls with each step before the point."""
    student: str = "student"
    """A named size (see 'tutelage sizes'), or widths such as 16/16/16/128 or mlp:64/64."""
    env: str = "auto"
    """auto: the teacher's; else an Atari ROM's name or a Gymnasium id."""
    dataset: str = ""
    """Distil offline from this recorded data set: no teacher, no emulator until evaluation."""
    loss: str = "kl"
    """kl, mse, nll, mse-prob, or a weighted sum such as mse:0.5+nll:0.5."""
    target: str = "divide"
    """What the loss sees of the teacher: raw (q), divide (q/tau) or softmax (of q/tau)."""
    tau: float = 0.1
    """Temperature of the target: below 1 sharpens, above 1 softens."""
    student_tau: float = 1.0
    """Of the student in the loss: for kl and mse-prob, tau keeps its q to the scale of returns."""
    explore: str = "greedy"
    """greedy, epsilon:E, boltzmann:TAU, dropout-q:P, mc-dropout:P: a number or START:END:STEPS."""
    teacher_acts: str = "1:0:8000"
    """Probability that the teacher acts instead (DAgger's beta): a number or START:END:STEPS."""
    distill_weight: str = "1"
    """Weight of distillation, over updates: a number or START:END:UPDATES."""
    reward_weight: str = "0"
    """Weight of double Q-learning beside it (kickstarting): a number or START:END:UPDATES."""
    learning_rate: str = "1e-3:1e-4:5000"
    """Adam's: START:END:UPDATES, START:END over the whole run, or one number."""
    average: float = 0.998
    """Decay of the running average of the weights that acts, is evaluated and kept; 0: none."""
    batch_size: int = 64
    """Samples per update."""
    learning_starts: int = 256
    """Env steps before the first update."""
    samples_per_step: float = 16.0
    """Samples learnt from per env step."""
    checkpoint_every: int = 5_000
    """Env steps between checkpoints."""
    target_return: float | None = None
    """Stop when an evaluation reaches this and further ones confirm it; by default 20 in Pong."""
    eval_episodes: int = 10
    """Held-out episodes per evaluation."""
    confirm_episodes: int = 30
    """Further episodes that must confirm it."""
    eval_from: int = 8_000
    """Env steps before the first evaluation."""
    eval_every: int = 2_000
    """Env steps between evaluations, at the least."""
    eval_readiness: float = 0.75
    """Evaluate from this fraction of the teacher's reward per step on, where known; 0: always."""
    eval_whole: bool = False
    """Play evaluations to the end even when the target is out of reach: slower, a finer curve."""

    def __post_init__(self) -> None:
        """Raise UserError for what makes no sense."""
        super().__post_init__()
        if not self.teachers:
            raise UserError("teachers: none given, expected at least one")
        if self.return_range and (
            len(self.return_range) != 2 or not self.return_range[0] < self.return_range[1]
        ):
            given = " ".join(f"{number:g}" for number in self.return_range)
            raise UserError(f"return_range must be LOW HIGH with LOW < HIGH, got {given}")
        for name, choices in CHOICES.items():
            if vars(self)[name] not in choices:
                raise choose_from(name, vars(self)[name], choices)
        if is_zero(self.distill_weight) and is_zero(self.reward_weight):
            raise UserError("distill_weight and reward_weight are both 0: nothing would be learnt")


@dataclass(frozen=True, kw_only=True)
class Record(EnvironmentConfig):
    """Write a data set while a teacher plays, its Q-values beside each state."""

    teacher: str = "pong"
    """A bundled name, a model file or a run's folder."""
    env: str = "auto"
    """auto: the teacher's; else an Atari ROM's name or a Gymnasium id."""
    env_steps: int = 50_000
    """Agent steps to record, over all environments."""
    explore: str = "epsilon:0.05"
    """How the teacher acts: greedy, epsilon:E (Rusu et al. 2015: 0.05) or boltzmann:TAU."""
    seed: int = 1
    """Seed of everything random."""
    device: str = "auto"
    """auto, cpu, cuda, …"""
    threads: int = 2
    """Threads of PyTorch, and as many of the emulators."""


SCALARS = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}
LISTS = {str: 'a list of strings, as ["pong"]', float: "a list of numbers, as [1.0]"}
"""What a file's key should be, by the type of its field."""


def _check_schedule(name: str, text: str, high: float) -> None:
    """Raise UserError for a schedule that makes no sense, before a run creates anything."""
    is_rate = name == "learning_rate"
    try:
        parse_schedule(text, over=1 if is_rate else None, low=0.0, high=high)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    if is_rate and is_zero(text):
        raise UserError(f"{name}: schedule {text!r}: expected a value above 0 at one end at least")


def from_mapping(config: type[Config], values: Mapping[str, Any], *, where: str) -> Config:
    """Build a configuration from a file's keys.

    Raises UserError, saying where, for a key that is not a field and a value that does not fit.
    """
    hints = get_type_hints(config)
    names = [f.name for f in fields(config)]  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            raise UserError(f"{where}: {choose_from('key', key, names)}")
        either = get_args(hints[key])
        hint = either[0] if NoneType in either else hints[key]
        items = get_args(hint)[:1]
        fitting = (int, float) if items == (float,) else items
        if isinstance(value, list) and all(type(item) in fitting for item in value):
            value = tuple(items[0](item) for item in value) if items else value
        if hint is float and type(value) is int:
            value = float(value)
        wanted = getattr(hint, "__origin__", hint)
        if type(value) is not wanted:
            expected = LISTS[items[0]] if items else SCALARS[wanted]
            raise UserError(f"{where}: {key} is {value!r}, expected {expected}")
        given[key] = value
    try:
        return config(**given)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raise UserError if there is none or it is damaged."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"no file {path}: expected a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is no readable TOML file: {error}") from error
