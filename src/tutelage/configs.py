"""What a person may ask for: each field is a setting and a flag, its docstring the flag's help.

Settings come in groups, and every setting's name is unique among all groups: so a flag, a keyword
of ``tutelage.distill`` and a key of a TOML file need no prefix. Choices and bounds are in the
types; ``schema.build`` is the one place that reads and checks them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from msgspec import Meta
from tyro.conf import OmitArgPrefixes, arg

from tutelage.domains import EnvironmentConfig
from tutelage.errors import UserError, look_up
from tutelage.schedules import is_zero
from tutelage.schema import Scheduled, settings_of
from tutelage.targets import TARGETS

Count = Annotated[int, Meta(ge=1, le=10**6)]
Steps = Annotated[int, Meta(ge=1, le=10**12)]
StepsOr0 = Annotated[int, Meta(ge=0, le=10**12)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
Seed = Annotated[int, Meta(ge=0, lt=2**63)]
Threads = Annotated[int, Meta(ge=0, le=1024)]


Weight = Annotated[str, Scheduled()]
Chance = Annotated[str, Scheduled(high=1.0)]
Rate = Annotated[str, Scheduled(over_run=True)]


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a network learns."""

    batch_size: Count = 128
    """Samples per update."""
    samples_per_step: Annotated[float, Meta(gt=0.0, le=10_000.0)] = 8.0
    """Samples learnt from per env step (DQN's batch of 32 every 4 steps is 8)."""
    learning_rate: Rate = "3e-4:1e-5"
    """START:END:UPDATES, START:END over the whole run, or one number."""
    optimizer: Literal["adam", "radam"] = "adam"
    """Adam (Kingma & Ba 2015), or RAdam (Liu et al. 2020), which warms itself up."""
    learning_starts: StepsOr0 = 2_000
    """Env steps before the first update."""
    replay_size: Annotated[int, Meta(ge=1, le=10**9)] = 200_000
    """Env steps that are remembered."""
    max_grad_norm: Positive = 10.0
    """Gradients are clipped to this global norm."""
    scaling: Literal["standard", "unit"] = "standard"
    """Input: standard ((x - median) / deviation of the first frames) or unit (x / 255)."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto (bf16 where the machine multiplies it natively), bf16 or fp32, of learning; acting,
    labelling and evaluating are always fp32."""
    gamma: Share = 0.99
    """Discount per env step."""
    n_step: Annotated[int, Meta(ge=1, le=1_000)] = 3
    """Steps of reward before bootstrapping."""
    target_every: Count = 250
    """Updates between copies to the target network."""
    td_loss: Literal["huber", "mse"] = "huber"
    """Of learning from reward: huber, or mse where returns are much larger than 1."""


@dataclass(frozen=True, kw_only=True)
class Pqn:
    """How PQN learns: parallel Q-learning without a replay or a target network."""

    rollout_steps: Annotated[int, Meta(ge=1, le=10**5)] = 32
    """PQN: steps of each environment between two times of learning."""
    epochs: Annotated[int, Meta(ge=1, le=1_000)] = 2
    """PQN: how often each step is learnt from."""
    minibatches: Annotated[int, Meta(ge=1, le=10**5)] = 8
    """PQN: updates per epoch; the steps of all environments are shared among them."""
    return_lambda: Share = 0.65
    """PQN: lambda of its returns; 0 is one step of reward, 1 all of the rollout."""


ALGORITHM_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "double-q": {},
    "pqn": {
        "size": "nature:norm",
        "num_envs": 32,
        "epsilon": "1:0.01:200000",
        "learning_rate": "2.5e-4:0",
        "optimizer": "radam",
        "td_loss": "mse",
    },
}
"""How a teacher may be trained -> its own defaults, where they are not those of ``Teach``."""

PERCEPTRON_DEFAULTS: Mapping[str, Any] = {
    "batch_size": 64,
    "learning_rate": "1e-3:1e-4",
    "precision": "fp32",
}
"""How a student of no convolutions is distilled where nothing else is said.

Smaller batches at a lower rate; half precision gains it nothing.
"""


PERCEPTRON = "mlp:64/64"
"""The student of vectors where none is named."""
LED = 8_000
"""Env steps in which the teacher hands over to its student."""
FEW_ENVS = 4
"""Environments of a budget of fewer env steps than that."""


def _in_a_short_run(env_steps: str) -> Mapping[str, Any]:
    """Return what a short budget brings: until when the teacher acts, and no evaluation is.

    Both end with the first half of it: what is left is the student's. In a very short one few
    environments play, so that each comes further into an episode: with the PPO of DistillBench a
    student of 2,000 env steps returned 242 by 4 environments and 104 by 16.
    """
    budget = int(env_steps[:20]) if env_steps.isdecimal() else 2 * LED
    half = budget // 2
    led = {"teacher_acts": f"1:0:{max(half, 1)}", "eval_from": half} if half < LED else {}
    return {**led, **({"num_envs": FEW_ENVS} if budget < LED else {})}


REPLAYED = (
    *("batch_size", "samples_per_step", "learning_starts", "replay_size", "n_step"),
    "target_every",
)
"""Settings of learning from a replay with a target network."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How one of several teachers is chosen, and what a choice is paid."""

    selector: str = "thompson-beta"
    """Chooses among several teachers: NAME, NAME:OPTION=VALUE,… (see docs/teachers.md), or your own
    as MODULE:NAME."""
    choice_per: Literal["segment", "round"] = "segment"
    """A teacher is chosen per segment (a stretch of play up to a point, or an episode) or per round
    (of round_steps); contextual selectors choose per state."""
    segment_steps: StepsOr0 = 0
    """Where an episode is the segment, one also ends after so many env steps of its environment;
    0: never. For long episodes that are paid all along, such as a robot's."""
    pay: Literal["led", "all"] = "led"
    """Which segments pay the selector: led (those in which the teachers acted) or all."""
    forget: bool = True
    """Learn no longer from the labels of teachers that have been found worse than others."""
    measure: str = "points"
    """What a round is paid; points are the share of them that was won."""
    return_range: tuple[float, ...] = ()
    """The least and the largest return there is: scales measures. By default the domain knows."""
    measure_episodes: Count = 2
    """Episodes of a measure by evaluation, and of best-first's trial of each teacher."""
    features: str = "auto"
    """A contextual selector's: a name that the domain offers, hidden (the student's own units),
    your own as MODULE:NAME, or auto: the domain's first, else hidden."""
    credit_decay: Share = 0.95
    """Contextual: how fast the credit of a choice falls with each step before its segment's end."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """When the student is evaluated, and when it has learnt enough."""

    target_return: float | Literal["usual", "none"] = "usual"
    """Stop when an evaluation reaches this and further ones confirm it. usual: the reward threshold
    that is known of the environment, if any; none: use the whole budget."""
    eval_episodes: Count = 10
    """Held-out episodes per evaluation."""
    confirm_episodes: Count = 30
    """Further episodes that must confirm it, and those of the closing evaluation."""
    eval_from: StepsOr0 = LED
    """Env steps before the first evaluation; by default half of a budget below 16,000."""
    eval_every: Steps = 2_000
    """Env steps between evaluations, at the least."""
    eval_readiness: Annotated[float, Meta(ge=0.0)] = 0.75
    """Evaluate from this fraction of the teacher's reward per step on, where known; 0: always."""
    eval_whole: bool = False
    """Play evaluations to the end even when the target is out of reach: slower, a finer curve."""
    eval_max_steps: Annotated[int, Meta(ge=1, le=10**9)] = 10_000
    """Env steps after which an episode of an evaluation is cut."""

    @property
    def target(self) -> float | None:
        """The mean return to reach, once it is known which is usual; None without one."""
        return None if isinstance(self.target_return, str) else self.target_return


@dataclass(frozen=True, kw_only=True)
class Teach:
    """Train a teacher from reward."""

    algorithm: Literal["double-q", "pqn"] = "double-q"
    """double-q (double Q-learning from a replay), or pqn (parallel Q-learning with lambda-returns,
    without a replay or a target network), which has defaults of its own."""
    seed: Seed = 1
    """Seed of everything random in the run."""
    env_steps: Steps = 800_000
    """Budget of agent steps over all environments (one Atari step is 4 frames)."""
    size: str = "teacher"
    """A named size (see 'tutelage sizes'), or widths such as 32/64/64/512 or mlp:64/64; with :norm
    after it, layers are normalised."""
    init: str = ""
    """Go on from this model (a bundled name, a file or a run's folder), of the size it has."""
    epsilon: Chance = "1:0.01:80000"
    """Exploration: START:END:ENV_STEPS, or one number."""
    milestones: tuple[float, ...] | None = None
    """Also keep the network when the mean return of the last 20 episodes first passes these; by
    default those that are known of the environment."""
    record: str = ""
    """Also write the whole training, with the network's own Q-values, as a data set here."""
    device: str = "auto"
    """auto, cpu, cuda, …: where the networks live."""
    threads: Threads = 0
    """Threads of PyTorch, and as many of the emulators; 0: chosen, and said."""
    round_steps: Annotated[int, Meta(ge=1, le=10**7)] = 1024
    """Env steps per row of metrics."""
    checkpoint_every: Steps = 50_000
    """Env steps between checkpoints."""
    track: tuple[str, ...] = ()
    """Trackers of metrics beside TensorBoard: wandb (offline), trackio, or your own as
    MODULE:NAME; options behind it, as in wandb:project=mine."""
    environment: Annotated[EnvironmentConfig, OmitArgPrefixes] = field(
        default_factory=EnvironmentConfig
    )
    learning: Annotated[Learning, OmitArgPrefixes] = field(default_factory=Learning)
    pqn: Annotated[Pqn, OmitArgPrefixes] = field(default_factory=Pqn)

    @classmethod
    def brings(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the defaults that some of the ``values`` bring with them, by name."""
        return ALGORITHM_DEFAULTS.get(str(values.get("algorithm")), {})

    def __post_init__(self) -> None:
        """Raise UserError for what does not go together."""
        replays = self.algorithm == "double-q"
        idle, names = (self.pqn, settings_of(Pqn)) if replays else (self.learning, REPLAYED)
        usual = type(idle)()
        if given := [name for name in names if getattr(idle, name) != getattr(usual, name)]:
            raise UserError(
                f"{given[0]} is a setting of algorithm {'pqn' if replays else 'double-q'}, "
                f"this is {self.algorithm}"
            )
        if not replays and self.environment.only:
            raise UserError("only is for algorithm double-q, this is pqn")
        states = self.pqn.rollout_steps * self.environment.num_envs
        if not replays and self.pqn.minibatches > states:
            raise UserError(
                f"minibatches is {self.pqn.minibatches:,}, expected no more than the {states:,} "
                "steps of a rollout"
            )


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Teach a small student what a teacher knows."""

    teachers: Annotated[tuple[str, ...], arg(aliases=["--teacher"])] = ("pong-sticky",)
    """Bundled names, model files or runs' folders, each perhaps with wrappers: ppo.zip+noise:1."""
    student: str = "student"
    """A named size (see 'tutelage sizes'), widths such as 16/16/16/128 or mlp:64/64 (with :norm
    after it, layers are normalised), or what makes a torch.nn.Module of yours, as MODULE:NAME; by
    default mlp:64/64 where observations are vectors."""
    student_precision: Literal["fp32", "int8", "int4"] = "fp32"
    """Precision that the student is trained to act in (quantisation-aware distillation). With int8
    and int4 activations have 8 bits, and its exported int8 file acts as it was trained."""
    seed: Seed = 1
    """Seed of everything random in the run."""
    env_steps: Steps = 50_000
    """Budget of agent steps over all environments (one Atari step is 4 frames)."""
    dataset: str = ""
    """Distil offline from this recorded data set: no teacher, no emulator until evaluation."""
    loss: str = "auto"
    """What is minimised: a loss, a weighted sum such as mse:0.5+nll:0.5, or your own as
    MODULE:NAME; auto: kl for discrete actions, mse for others."""
    target: str = "auto"
    """What the loss sees of the teacher's q: itself, q/tau, or the softmax of that; auto: divide
    for discrete actions, raw for others."""
    tau: Annotated[float | None, Meta(gt=0.0)] = None
    """Temperature of the target: below 1 sharpens, above 1 softens; by default 0.1 for Q-values, 1
    for others."""
    student_tau: Positive = 1.0
    """Of the student in the loss: for kl and mse-prob, tau keeps its q to the scale of returns."""
    explore: str = "greedy"
    """How the student acts as it learns, or your own as MODULE:NAME; a number may be
    START:END:STEPS."""
    teacher_acts: Chance = f"1:0:{LED}"
    """Probability that the teacher acts instead (DAgger's beta): a number or START:END:STEPS; by
    default it falls within half of a budget below 16,000."""
    distill_weight: Weight = "1"
    """Weight of distillation, over updates: a number or START:END:UPDATES."""
    reward_weight: Weight = "0"
    """Weight of double Q-learning beside it (kickstarting): a number or START:END:UPDATES."""
    average: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.998
    """Decay of the running average of the weights that acts, is evaluated and kept; 0: none."""
    device: str = "auto"
    """auto, cpu, cuda, …: where the networks live."""
    threads: Threads = 0
    """Threads of PyTorch, and as many of the emulators; 0: chosen, and said."""
    round_steps: Annotated[int, Meta(ge=1, le=10**7)] = 1024
    """Env steps per row of metrics."""
    checkpoint_every: Steps = 5_000
    """Env steps between checkpoints."""
    track: tuple[str, ...] = ()
    """Trackers of metrics beside TensorBoard: wandb (offline), trackio, or your own as
    MODULE:NAME; options behind it, as in wandb:project=mine."""
    environment: Annotated[EnvironmentConfig, OmitArgPrefixes] = field(
        default_factory=lambda: EnvironmentConfig(env="auto")
    )
    learning: Annotated[Learning, OmitArgPrefixes] = field(
        default_factory=lambda: Learning(
            samples_per_step=64.0, learning_rate="2e-3:1e-4:10000", learning_starts=256
        )
    )
    selection: Annotated[Selection, OmitArgPrefixes] = field(default_factory=Selection)
    examination: Annotated[Examination, OmitArgPrefixes] = field(default_factory=Examination)

    @classmethod
    def brings(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the defaults that some of the ``values`` bring with them, by name."""
        perceptron = str(values.get("student")).startswith("mlp")
        return {
            **(PERCEPTRON_DEFAULTS if perceptron else {}),
            **_in_a_short_run(str(values.get("env_steps", ""))),
        }

    def __post_init__(self) -> None:
        """Raise UserError for what does not go together."""
        if not self.teachers:
            raise UserError("teachers: none given, expected at least one")
        if self.target != "auto":
            look_up("target", self.target, TARGETS)
        given = self.selection.return_range
        if given and (len(given) != 2 or not given[0] < given[1]):
            shown = " ".join(f"{number:g}" for number in given)
            raise UserError(f"return_range must be LOW HIGH with LOW < HIGH, got {shown}")
        if is_zero(self.distill_weight) and is_zero(self.reward_weight):
            raise UserError("distill_weight and reward_weight are both 0: nothing would be learnt")


def _of_several_tasks() -> Distill:
    """Return the usual settings of distilling for several tasks."""
    return Distill(
        env_steps=200_000,
        learning=replace(Distill().learning, learning_rate="2e-3:1e-5"),
        examination=Examination(eval_from=20_000, eval_every=20_000),
    )


@dataclass(frozen=True, kw_only=True)
class Multitask:
    """Teach one small student what several teachers know, each of a task of its own."""

    envs: tuple[str, ...] = ()
    """The environment of each teacher, in their order; by default what its file says."""
    outputs: Literal["own", "shared"] = "own"
    """Of the student: own for each task, or shared by actions that are the same (of Atari's 18)."""
    batches: Literal["together", "in-turn"] = "together"
    """What a batch is of: states of all tasks together, or one task's, in turn."""
    practise: str = "in-turn"
    """Which task is played for the next round: in-turn, or a selector, which is paid by what was
    learnt (see docs/games.md)."""
    distill: Annotated[Distill, OmitArgPrefixes] = field(default_factory=_of_several_tasks)

    @classmethod
    def brings(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the defaults that some of the ``values`` bring with them, by name."""
        perceptron = str(values.get("student")).startswith("mlp")
        return PERCEPTRON_DEFAULTS if perceptron else {}

    def __post_init__(self) -> None:
        """Raise UserError for what does not go together."""
        asked, usual = self.distill, Distill()
        if self.envs and len(self.envs) != len(asked.teachers):
            raise UserError(
                f"envs: {len(self.envs)} given, expected one for each of the "
                f"{len(asked.teachers)} teachers, in their order"
            )
        alone = {
            "env": (asked.environment.env, "auto"),
            "only": (asked.environment.only, ""),
            "dataset": (asked.dataset, usual.dataset),
            "student_precision": (asked.student_precision, usual.student_precision),
            "distill_weight": (asked.distill_weight, usual.distill_weight),
            "reward_weight": (asked.reward_weight, usual.reward_weight),
            "target_return": (asked.examination.target_return, "usual"),
            **{
                name: (getattr(asked.selection, name), getattr(usual.selection, name))
                for name in settings_of(Selection)
            },
        }
        if given := [name for name, (value, known) in alone.items() if value != known]:
            raise UserError(
                f"{given[0]} is a setting of distilling for one task, not for several"
                + ": name environments by `envs`" * (given[0] == "env")
            )


@dataclass(frozen=True, kw_only=True)
class Record:
    """Write a data set while a teacher plays, its labels beside each state."""

    teacher: str = "pong"
    """A bundled name, a model file or a run's folder."""
    seed: Seed = 1
    """Seed of everything random."""
    env_steps: Steps = 50_000
    """Agent steps to record, over all environments."""
    explore: str = "epsilon:0.05"
    """How the teacher acts (Rusu et al. 2015: epsilon:0.05), or your own as MODULE:NAME."""
    keep_above: float | None = None
    """Keep only the episodes that return this or more."""
    device: str = "auto"
    """auto, cpu, cuda, …"""
    threads: Threads = 0
    """Threads of PyTorch, and as many of the emulators; 0: chosen, and said."""
    environment: Annotated[EnvironmentConfig, OmitArgPrefixes] = field(
        default_factory=lambda: EnvironmentConfig(env="auto")
    )
