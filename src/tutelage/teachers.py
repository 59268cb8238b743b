"""Several policies as teachers: each labels the states of its own environments only."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.domains import Region, Spaces
from tutelage.domains.views import apart
from tutelage.errors import MisfitError, UserError, did_you_mean
from tutelage.heads import Gaussian, Head, check_actions, common_head, translate
from tutelage.importers import OPTIONS, import_model, policy_of
from tutelage.models import label_head
from tutelage.policies import Carry, Model, Policy, begin_again, unlike
from tutelage.specs import is_place
from tutelage.text import words_of
from tutelage.types import Array, State, seeded, torch_generator
from tutelage.wrappers import WRAPPERS, Wrapper, parse_wrapper

Q_TAU = 0.1
"""The temperature at which Q-values become logits beside teachers that say logits."""


@dataclass(frozen=True)
class Teacher:
    """One arm: a policy, and what is done to it."""

    name: str
    policy: Policy
    wrappers: tuple[Wrapper, ...] = ()


class TeacherError(UserError):
    """A teacher raised an exception or said what is no label."""

    def __init__(self, arm: int, reason: str, name: str = "") -> None:
        """``name`` is the teacher's, where nobody else says it."""
        super().__init__(arm, reason, name)  # with all of them it can be pickled
        self.arm = arm
        self.reason = reason
        self.name = name

    def __str__(self) -> str:
        return self.reason if self.name in self.reason else f"{self.name}: {self.reason}"


class Ensemble:
    """K teachers; only those asked for do anything, and copies of one policy share its pass.

    A policy with a memory sees every state of every environment, asked or not, so that what it
    remembers is never stale.
    """

    def __init__(
        self, teachers: Sequence[Teacher], *, seed: int = 0, head: Head | None = None
    ) -> None:
        """``seed`` seeds the noise of wrappers, anew for each teacher and env step.

        What they say is translated to ``head``, by default to one that all can be: of Q-values and
        logits, logits; of continuous actions, the action meant. Raises UserError for no teachers,
        and for teachers who have no head in common.
        """
        if not teachers:
            raise UserError("no teachers, expected at least one")
        self.teachers = tuple(teachers)
        self._seed = seed
        self._spoken = [label_head(teacher.policy.head) for teacher in teachers]
        if (common := head or common_head(self._spoken)) is None:
            said = ", ".join(f"{t.name}: {h}" for t, h in zip(teachers, self._spoken, strict=True))
            raise UserError(f"these teachers choose among different actions: {said}")
        self._head = common
        policies = {id(teacher.policy): teacher.policy for teacher in teachers}
        place = {which: i for i, which in enumerate(policies)}
        self._policies = list(policies.values())
        self._policy_of = np.array([place[id(teacher.policy)] for teacher in teachers])
        self._remembers = [k for k, t in enumerate(teachers) if t.policy.initial(1)]
        self._carry: dict[int, Carry] = {}
        self._failed: dict[int, str] = {}
        """Why a teacher with a memory says nothing any more."""
        self._said: tuple[int, dict[int, Tensor]] = (-1, {})

    @property
    def head(self) -> Head:
        """What a label means."""
        return self._head

    def __call__(self, obs: Tensor, arm: npt.NDArray[np.int64], env_steps: int) -> Tensor:
        """Return what each row's own teacher says, ``label[N,L]``; raise TeacherError.

        With a memory among the teachers, ``obs`` are all environments' at every env step.
        """
        self._remember(obs, env_steps)
        parts: list[Tensor] = []
        order: list[npt.NDArray[np.int64]] = []
        asked = {int(k): np.flatnonzero(arm == k) for k in np.unique(arm)}
        for policy in np.unique(self._policy_of[arm]):
            rows = {k: at for k, at in asked.items() if self._policy_of[k] == policy}
            seen = {k: obs[torch.from_numpy(at)] for k, at in rows.items()}
            said = self._ask(policy, rows, seen)
            for (k, at), out in zip(rows.items(), said, strict=True):
                parts.append(self._say(k, out, seen[k], env_steps))
                order.append(at)
        label = torch.cat(parts)
        return label[torch.from_numpy(np.concatenate(order).argsort()).to(label.device)]

    def _ask(
        self, policy: int, rows: Mapping[int, npt.NDArray[np.int64]], seen: Mapping[int, Tensor]
    ) -> Sequence[Tensor]:
        """Return what one policy says of the rows of each of its teachers, in one pass."""
        first = next(iter(rows))
        if first in self._remembers:
            return [self._recall(k)[torch.from_numpy(at)] for k, at in rows.items()]
        shown = torch.cat([self._see(k, seen[k]) for k in rows])
        out, _ = _think(first, self._policies[policy], shown, ())
        return out.split([len(at) for at in rows.values()])  # type: ignore[no-untyped-call, no-any-return]

    def _recall(self, k: int) -> Tensor:
        """Return what a teacher with a memory says of all environments at this env step."""
        if k in self._failed:
            raise TeacherError(k, self._failed[k])
        return self._said[1][k]

    def _remember(self, obs: Tensor, env_steps: int) -> None:
        """Let the teachers with a memory see this env step, once; a failure counts when asked."""
        if not self._remembers or self._said[0] == env_steps:
            return
        said = {}
        for k in (k for k in self._remembers if k not in self._failed):
            policy = self.teachers[k].policy
            carry = self._carry.get(k) or policy.initial(len(obs))
            there = tuple(tensor.to(obs.device) for tensor in carry)
            try:
                said[k], self._carry[k] = _think(k, policy, self._see(k, obs), there)
            except TeacherError as failure:
                self._failed[k] = failure.reason
        self._said = (env_steps, said)

    def ended(self, which: npt.NDArray[np.bool_]) -> None:
        """Forget what is remembered of environments ``which[N]``, whose episodes ended."""
        for k, carry in self._carry.items():
            self._carry[k] = begin_again(self.teachers[k].policy, carry, which)

    def check(self, obs: Tensor) -> None:
        """Raise UserError if a wrapper does not fit ``obs``, or the only teacher fails.

        One of several may: the run goes on without it.
        """
        passes = nullcontext() if len(self.teachers) == 1 else suppress(TeacherError)
        for k in range(len(self.teachers)):
            with passes, torch.inference_mode():
                self(obs[:1], np.array([k]), 0)
        self._carry, self._failed, self._said = {}, {}, (-1, {})

    def _see(self, k: int, obs: Tensor) -> Tensor:
        wrappers = self.teachers[k].wrappers
        return reduce(lambda seen, w: w.see(seen) if w.see else seen, wrappers, obs)

    def _say(self, k: int, out: Tensor, obs: Tensor, env_steps: int) -> Tensor:
        spoken, wanted = self._spoken[k], self._head
        label = self.teachers[k].policy.head.values(out)
        if not spoken.discrete:
            label = translate(label, spoken, wanted)
        ruled_out = label == -torch.inf
        # Of a distribution over actions a wrapper changes the mean.
        numbers = label.shape[1] // 2 if isinstance(wanted, Gaussian) else label.shape[1]
        changed, kept = label[:, :numbers], label[:, numbers:]
        generator = torch_generator(seeded(self._seed, "teacher", int(k), env_steps))
        for wrapper in self.teachers[k].wrappers:
            if wrapper.say is not None:
                changed = wrapper.say(changed, obs, generator)
        label = torch.cat([changed, kept], dim=1) if kept.shape[1] else changed
        if bool(ruled_out.any()):
            # An action that is not to be had stays so, whatever is done to the others.
            label = label.masked_fill(ruled_out, -torch.inf)
        if not bool((torch.isfinite(label) | ruled_out).all()) or bool(ruled_out.all(dim=1).any()):
            raise TeacherError(int(k), f"NaN or infinite numbers at env step {env_steps}")
        return translate(label, spoken, wanted, tau=Q_TAU) if spoken.discrete else label

    def saying(self, head: Head) -> "Ensemble":
        """Return the same teachers, what they say translated to another head."""
        return Ensemble(self.teachers, seed=self._seed, head=head)

    def alone(self, k: int) -> Policy:
        """Return teacher ``k`` as one plays it; its noise is another in each call."""
        return _Alone(self, k)

    def state(self) -> State:
        return {
            "carry": {str(k): dict(enumerate(carry)) for k, carry in self._carry.items()},
            "failed": {str(k): reason for k, reason in self._failed.items()},
        }

    def restore(self, state: State) -> None:
        self._carry = {int(k): tuple(c.values()) for k, c in state["carry"].items()}
        self._failed = {int(k): reason for k, reason in state["failed"].items()}
        self._said = (-1, {})


class _Alone:
    """One teacher of an ensemble, as a policy."""

    def __init__(self, ensemble: Ensemble, k: int) -> None:
        self._ensemble = ensemble
        self._k = k
        self._asked = 0
        self.head = ensemble.head

    def initial(self, n: int) -> Carry:
        return self._ensemble.teachers[self._k].policy.initial(n)

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        self._asked += len(obs)
        ensemble, k = self._ensemble, self._k
        shown = ensemble._see(k, obs)
        try:
            out, after = _think(k, ensemble.teachers[k].policy, shown, carry)
            return ensemble._say(k, out, obs, self._asked), after
        except TeacherError as failure:
            raise TeacherError(k, failure.reason, ensemble.teachers[k].name) from failure


def _think(k: int, policy: Policy, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
    """Return what teacher ``k`` says and remembers; whatever it does wrong is a TeacherError."""
    expected = (len(obs), policy.head.size)
    try:
        out, after = policy.step(obs, carry)
        if out.shape != expected:
            raise TeacherError(k, f"what it says has shape {tuple(out.shape)}, expected {expected}")
    except TeacherError:
        raise
    except UserError as error:
        raise TeacherError(k, str(error)) from error
    except Exception as error:  # the run goes on without it
        raise TeacherError(k, repr(error)) from error
    return out, after


def parse_teacher(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the model and the wrappers that ``text``, as ``ppo.zip+noise:1``, names.

    What is no wrapper is an option of the model's file, and stays with it; MODULE:NAME is a wrapper
    of one's own where no importer has an option MODULE, and there is such a module.
    """
    model, *words = words_of(text)

    def is_wrapper(word: str) -> bool:
        name = word.partition(":")[0]
        own = name not in OPTIONS and is_place(word) and find_spec(name.partition(".")[0])
        return name in WRAPPERS or bool(own)

    wrappers = [word for word in words if is_wrapper(word)]
    options = [word for word in words if word not in wrappers]
    for name in (word.partition(":")[0] for word in options):
        if name not in OPTIONS and (hint := did_you_mean(name, WRAPPERS)):
            raise UserError(f"{model}: unknown wrapper {name!r}: {hint}")
    if not model:
        raise UserError(f"teacher {text!r} names no model, expected one as in ppo.zip+noise:1")
    return "+".join([model, *options]), tuple(wrappers)


class ByParts(torch.nn.Module):
    """A policy of the parts of a Dict, which are joined to one vector on the way to it."""

    def __init__(self, policy: Policy, parts: Mapping[str, gymnasium.Space[Any]]) -> None:
        super().__init__()
        self.head = policy.head
        self.policy = policy
        self._apart = apart(parts)

    def initial(self, n: int) -> Carry:
        """Return the policy's own memory."""
        return self.policy.initial(n)

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Show the policy its parts."""
        return self.policy.step(self._apart(obs), carry)  # type: ignore[arg-type]


def fitted(policy: Policy, plays: Spaces | None) -> Policy:
    """Return a policy that is shown the parts of a Dict, where it takes these."""
    if plays is None or not plays.parts or not getattr(policy, "takes_parts", False):
        return policy
    return ByParts(policy, plays.parts)


AnyPolicy = str | Path | Model | Policy | Callable[[Tensor], Tensor]
"""A name or file; what ``load`` returned; a policy; or a function whose numbers a head explains."""


def model_of(given: AnyPolicy, plays: Spaces, *, head: Head | None = None) -> Model:
    """Return what is given as a model that is to play an environment of such spaces.

    The numbers of a function mean what ``head`` says, by default what the environment's actions
    are. Raises UserError for what is no policy, for a function of which nothing says what its
    numbers mean, and for a policy whose observations or actions are not those of ``plays``.
    """
    model = as_model(given, plays, head=head)
    model = replace(model, policy=fitted(model.policy, plays))
    check_plays(model, plays)
    return model


def as_model(given: Any, plays: Spaces | None = None, *, head: Head | None = None) -> Model:
    """Return what is given as a model, for an environment with the actions of ``plays`` if any."""
    space = None if plays is None else plays.actions
    if isinstance(given, Model):
        return given
    if isinstance(given, str | Path):
        try:
            return import_model(given, space=space)
        except MisfitError as error:
            raise error.of(str(given), "the environment" if plays is None else plays.env) from None
    if head is None and space is None and callable(given) and not isinstance(given, Policy):
        raise UserError("a function says numbers: name what they mean by `head`, as QValues(6)")
    policy = policy_of(given, head=head or "", space=space)
    counted = given.parameters() if isinstance(given, torch.nn.Module) else []
    return Model(
        policy,
        name=getattr(given, "__name__", type(given).__name__).strip("<>"),
        format="python",
        obs_shape=getattr(given, "obs_shape", None),
        parameters=sum(parameter.numel() for parameter in counted),
    )


def played_by(model: Model) -> str:
    """Return the environment that a model was made for; raise UserError where nothing says."""
    if not model.env:
        raise UserError(f"{model.name} does not say what it plays: name it by `env`")
    return model.env


def check_plays(model: Model, plays: Spaces) -> None:
    """Raise UserError, both named, for other observations or actions than those of ``plays``."""
    try:
        if plays.obs is not None:
            _check_seen(model, plays.obs)
        check_actions(model.policy.head, plays.actions)
    except MisfitError as error:
        raise error.of(model.name, plays.env) from None


def _check_seen(model: Model, obs: Array) -> None:
    """Raise MisfitError if the model takes no observations such as ``obs[1,*O]``."""
    shape, known = obs.shape[1:], model.obs_shape
    if known is not None:
        # A vector may have been saved without the axis of its one frame.
        if shape not in (known, (1, *known)):
            raise unlike(known, shape)
        return
    with torch.inference_mode():
        try:
            model.policy.step(torch.from_numpy(obs), model.policy.initial(1))
        except MisfitError:
            raise
        except Exception:  # what else it does wrong is said where it is asked
            return


def load_teachers(
    names: Sequence[str],
    *,
    device: torch.device,
    seed: int,
    regions: Callable[[Model], Mapping[str, Region]],
    given: Mapping[str, Model] = MappingProxyType({}),
    plays: Spaces | None = None,
) -> tuple[Ensemble, dict[str, Model]]:
    """Load the teachers that ``names`` spell, each model once; return them and the models.

    ``regions`` are those that the domain of a model's environment knows; models that are ``given``
    by name need no file; ``plays`` are the spaces of the environment, where it is known.
    """
    models: dict[str, Model] = {}
    teachers = []
    for text in names:
        name, wrappers = parse_teacher(text)
        if name not in models:
            one = given.get(name, name)
            models[name] = as_model(one) if plays is None else model_of(one, plays)
        model = models[name]
        if isinstance(model.policy, torch.nn.Module):
            model.policy.to(device)
        made = tuple(parse_wrapper(wrapper, regions(model)) for wrapper in wrappers)
        teachers.append(Teacher(text, model.policy, made))
    return Ensemble(teachers, seed=seed), models
