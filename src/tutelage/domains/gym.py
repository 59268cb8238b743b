"""Gymnasium's environments, and those of packages that register theirs with it."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec, load_env_creator, parse_env_id
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import AddRenderObservation, FrameStackObservation
from msgspec import Meta

from tutelage import specs
from tutelage.domains.base import About
from tutelage.domains.views import View, parts_of, view_of
from tutelage.environments import Environments, VectorEnv
from tutelage.errors import FaultyEnvironmentError, UserError
from tutelage.heads import head_for


@dataclass(frozen=True, kw_only=True)
class GymSettings:
    """How Gymnasium's environments are run and seen."""

    vector: Literal["sync", "async"] = "sync"
    """Gymnasium: environments step one after the other (sync) or in processes of their own."""
    stack: Annotated[int, Meta(ge=1, le=64)] = 1
    """Gymnasium: so many last observations are seen at once, zeros before an episode began."""
    env_wrappers: tuple[str, ...] = ()
    """Gymnasium: wrappers of each environment, as TimeLimit:max_episode_steps=200 of Gymnasium's
    own, or your own as MODULE:NAME."""
    student_view: str = ""
    """Gymnasium: what the student sees of a Dict observation: its keys, as pixels or state,goal,
    or a function of all observations as MODULE:NAME; all of it by default."""
    teacher_view: str = ""
    """Gymnasium: the same of the teacher."""


class GymDomain:
    """Any environment that Gymnasium can make."""

    def knows(self, env: str) -> bool:
        """Return True: whatever no other domain knows is tried."""
        return True

    def about(self, env: str) -> About:
        known = gymnasium.registry.get(env.rpartition(":")[2])
        threshold = None if known is None else known.reward_threshold
        return About(target=None if threshold is None else float(threshold))

    def make(
        self,
        env: str,
        *,
        num_envs: int,
        settings: Any,
        seed: int,
        stream: str,
        threads: int,
        episodes: npt.NDArray[np.int64] | float,
    ) -> Environments:
        """Return observations ``[N,stack,*frame]``; several parts of one are joined to a vector."""
        given: GymSettings = settings
        vector = _vector(env, num_envs, given)
        space = vector.single_observation_space

        @cache
        def shown() -> View:
            """Return the teachers' view; where there are none it need not be one."""
            try:
                return view_of(given.teacher_view, space, stack=given.stack)
            except UserError as error:
                raise UserError(f"env {env!r}: {error}") from None

        try:
            head_for(vector.single_action_space)
            view = view_of(given.student_view, space, stack=given.stack)
            parts, their_parts = (
                {} if given.stack > 1 else parts_of(text, space)
                for text in (given.student_view, given.teacher_view)
            )
        except UserError as error:
            vector.close()
            raise UserError(f"env {env!r}: {error}") from None
        same = given.teacher_view == given.student_view
        return Environments(
            vector,
            seed=seed,
            stream=stream,
            view=view,
            teacher_view=None if same else lambda obs: shown()(obs),
            parts=parts,
            teacher_parts=their_parts,
            episodes=episodes,
        )

    def preprocessing(self, env: str, *, settings: Any) -> dict[str, Any]:
        given: GymSettings = settings
        return {
            "env_wrappers": list(given.env_wrappers),
            "view": given.student_view
            or "all; several parts as one vector, as Gymnasium's flatten",
            "stack": given.stack,
            "stack_begins": "zeros",
        }

    def camera(self, env: str, *, settings: Any, seed: int, stream: str) -> Environments:
        given: GymSettings = settings

        spec = _spec(env)

        def build() -> gymnasium.Env[Any, Any]:
            return AddRenderObservation(_made(spec.id, given.env_wrappers, render_mode="rgb_array"))

        try:
            with _quietly(spec):
                warnings.simplefilter("ignore")  # what a window's library lacks, an error says too
                vector = SyncVectorEnv([build], autoreset_mode=AutoresetMode.NEXT_STEP)
                return Environments(vector, seed=seed, stream=stream)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"filming env {env!r} needs a package: {error}") from error
        # There is no one error for what cannot render: Gymnasium asserts, or complains of types.
        except (
            gymnasium.error.Error,
            AssertionError,
            NotImplementedError,
            TypeError,
            ValueError,
        ) as error:
            raise UserError(f"env {env!r} cannot be filmed: it renders no rgb_array") from error


MakesEnv = Callable[..., gymnasium.Env[Any, Any]]

IN_PYTHON = "tutelage-"
"""What the ids begin with under which functions are registered."""


@dataclass(frozen=True)
class _Creator:
    """What Gymnasium calls where an environment is made by a function of a person's own."""

    make: MakesEnv

    def __call__(self, **options: Any) -> gymnasium.Env[Any, Any]:
        return self.make(**options)


def registered(make: MakesEnv) -> str:
    """Register a function that makes an environment with Gymnasium; return the id it has there.

    The id is made of the function's name, and numbered where another has that already, so that a
    script that is run again finds its runs. Raises UserError for what is no function.
    """
    if not callable(make):
        raise UserError(f"env is {make}: expected a name, or a function that makes an environment")
    label = "".join(c for c in getattr(make, "__name__", "") if c.isalnum()) or "env"
    creator, name, others = _Creator(make), f"{IN_PYTHON}{label}-v0", 1
    while name in gymnasium.registry and gymnasium.registry[name].entry_point != creator:
        others += 1
        name = f"{IN_PYTHON}{label}-{others}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=creator)
    return name


class _Numbered(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Says which environment raised what, and when."""

    def __init__(self, env: gymnasium.Env[Any, Any], number: int) -> None:
        super().__init__(env)
        self._number = number
        self._steps = 0

    def reset(self, **options: Any) -> Any:
        self._steps = 0
        return self._guarded(lambda: self.env.reset(**options))

    def step(self, action: Any) -> Any:
        self._steps += 1
        return self._guarded(lambda: self.env.step(action))

    def close(self) -> None:
        with suppress(Exception):  # what fails in that costs no result
            self.env.close()

    def _guarded(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as error:
            raise FaultyEnvironmentError(
                f"environment {self._number} raised {error!r} at step {self._steps} of its episode"
            ) from error


def _vector(env: str, num_envs: int, settings: GymSettings) -> VectorEnv:
    spec = _spec(env)
    name = spec.id

    def build(number: int) -> gymnasium.Env[Any, Any]:
        made = _made(name, settings.env_wrappers)
        if settings.stack > 1:
            made = FrameStackObservation(made, settings.stack, padding_type="zero")
        return _Numbered(made, number)

    vector = SyncVectorEnv if settings.vector == "sync" else AsyncVectorEnv
    try:
        with _quietly(spec):
            made: VectorEnv = vector(
                [partial(build, number) for number in range(num_envs)],
                autoreset_mode=AutoresetMode.NEXT_STEP,
            )
    except gymnasium.error.DependencyNotInstalled as error:
        if (newest := _newest(name)) != name:
            raise UserError(f"env {env!r} is of an old version: name {newest}") from error
        raise UserError(f"env {env!r} needs a package: {error}") from error
    except UserError:
        raise
    except Exception as error:
        if (newest := _newest(name)) != name:
            raise UserError(f"env {env!r} cannot be made any more: name {newest}") from error
        said = str(error).strip().splitlines()
        raise UserError(f"env {env!r} cannot be made: {said[0] if said else error!r}") from error
    return made


def _spec(env: str) -> EnvSpec:
    """Return what Gymnasium knows of ``ID``, ``MODULE:ID`` or a function ``MODULE:FUNCTION``.

    Raises UserError where there is no such environment, and for a game of Atari's.
    """
    module, _, name = env.rpartition(":")
    try:
        if module:
            name = _import(module, name)
        spec = gymnasium.spec(name)
    except gymnasium.error.Error as error:
        if name.startswith(IN_PYTHON):
            raise UserError(
                "this was taught in an environment that Python code gave as a function: name the "
                "function by `env` as MODULE:FUNCTION, or use tutelage.evaluate(student, function)"
            ) from error
        if newest := _newest(name):
            raise UserError(f"there is no env {env!r}: name {newest}") from error
        raise UserError(
            f"unknown env {env!r}: expected the name of an Atari ROM (breakout, …), a Gymnasium id "
            f"(CartPole-v1, …), MODULE:ID or MODULE:FUNCTION; Gymnasium says: {error}"
        ) from error
    except Exception as error:
        raise UserError(f"env {env!r}: importing {module} failed: {error!r}") from error
    if game := _game(spec):
        raise UserError(f"env {env!r} is an Atari game: name it by its ROM, {game}")
    return spec


def _import(module: str, name: str) -> str:
    """Import a module, a program that the user names as one; return the id that ``name`` has.

    It may register ``name``, or hold a function of that name. Some packages do not register on
    import, but by what their metadata say for Gymnasium.
    """
    found = import_module(module)
    if name not in gymnasium.registry and callable(make := getattr(found, name, None)):
        return registered(make)
    package = module.partition(".")[0]
    for entry in entry_points(group="gymnasium.envs"):
        if name not in gymnasium.registry and entry.module.partition(".")[0] == package:
            entry.load()()
    return name


def _newest(name: str) -> str:
    """Return the newest version of an environment, a game's by its ROM; empty if there is none."""
    try:
        namespace, plain, _ = parse_env_id(name)
    except gymnasium.error.Error:
        return ""
    versions = [
        one
        for one in gymnasium.registry.values()
        if (one.namespace, one.name) == (namespace, plain)
    ]
    if not versions:
        return ""
    newest = max(versions, key=lambda one: one.version or 0)
    return _game(newest) or newest.id


def _game(spec: EnvSpec) -> str:
    """Return the ROM's name of a game of Atari's; empty for any other environment."""
    return str(spec.kwargs.get("game")) if str(spec.entry_point).startswith("ale_py") else ""


@contextmanager
def _quietly(spec: EnvSpec) -> Iterator[None]:
    """Keep from the terminal what libraries say of their own ways as environments are made.

    These are deprecations, of models that come with Gymnasium too, and its advice on modes of
    rendering: nothing that a person who distils could change.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=r"\x1b\[33mWARN")
        if isinstance(spec.entry_point, str):
            with suppress(Exception):  # it is said where the environment is made
                load_env_creator(spec.entry_point)
        mujoco: Any = sys.modules.get("mujoco")
        if not hasattr(mujoco, "set_mju_user_warning"):
            yield
            return
        before = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(lambda text: None)
        try:
            yield
        finally:
            mujoco.set_mju_user_warning(before)


def _made(env: str, wrappers: Sequence[str], **options: Any) -> gymnasium.Env[Any, Any]:
    made = gymnasium.make(env, **options)
    for text in wrappers:
        made = specs.build("wrapper of an environment", text, _wrappers(), env=made)
    return made


def _wrappers() -> dict[str, Callable[..., gymnasium.Env[Any, Any]]]:
    """Return Gymnasium's own wrappers by name."""
    named = vars(gymnasium.wrappers)
    return {
        name: wrapper
        for name, wrapper in named.items()
        if isinstance(wrapper, type) and issubclass(wrapper, gymnasium.Wrapper)
    }
