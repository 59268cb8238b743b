"""``tutelage teach``, ``distill``, ``multitask``, ``resume``: what learns; and ``record``."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from tutelage import api, recipes, threads
from tutelage.commands import display
from tutelage.commands.report import report
from tutelage.configs import Distill, Multitask, Record, Teach
from tutelage.domains import make
from tutelage.errors import UserError, look_up
from tutelage.recipes.distilling import in_environment
from tutelage.report import several, summary
from tutelage.runs import read_config
from tutelage.schema import build
from tutelage.signals import interruptible


@dataclass(frozen=True, kw_only=True)
class TeachCommand:
    """Train a teacher from reward: by double Q-learning, or by PQN."""

    config: Annotated[Teach, OmitArgPrefixes] = field(default_factory=Teach)
    out: str = ""
    """The run's folder; by default runs/teach__ENV__SEED__TIME."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        folder = Path(self.out) if self.out else api.teaching_folder(self.config)
        _teach(self.config, folder, resume=False, as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class DistillCommand:
    """Teach a small student what a teacher knows, online or from a recorded data set."""

    config: Annotated[Distill, OmitArgPrefixes] = field(default_factory=Distill)
    out: str = ""
    """The run's folder; by default runs/distill__TEACHER__SEED__TIME."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        folder = Path(self.out) if self.out else api.distilling_folder(self.config)
        _distill(self.config, folder, resume=False, as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class MultitaskCommand:
    """Teach one small student several tasks, from a teacher of each."""

    config: Annotated[Multitask, OmitArgPrefixes] = field(default_factory=Multitask)
    out: str = ""
    """The run's folder; by default runs/multitask__TEACHER__SEED__TIME."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        folder = Path(self.out) if self.out else api.multitask_folder(self.config)
        _multitask(self.config, folder, resume=False, as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class RecordCommand:
    """Write a data set while a teacher plays ('tutelage teach --record' writes its training)."""

    config: Annotated[Record, OmitArgPrefixes] = field(default_factory=Record)
    out: str
    """The data set's folder."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        folder = Path(self.out)
        with threads.owning(self.config.threads or 1):
            env_steps = recipes.record(self.config, folder)
        size = sum(path.stat().st_size for path in folder.iterdir())
        result = {"folder": str(folder), "env_steps": env_steps, "bytes": size}
        if self.json:
            display.answer(result)
            return
        display.say(f"{env_steps:,} env steps in {folder}, {size / env_steps:.0f} bytes each")


@dataclass(frozen=True, kw_only=True)
class ResumeCommand:
    """Go on with a run that was interrupted, to the very result it would have had."""

    folder: Annotated[Positional[str], arg(metavar="RUN")]
    """The run's folder."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        folder = Path(self.folder)
        values = read_config(folder)
        values.pop("files", None)
        where = str(folder / "config.toml")
        command = str(values.pop("command", None))
        try:
            config, learn = look_up("command", command, LEARNING)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        learn(build(config, values, where=where), folder, resume=True, as_json=self.json)


def _settle(config: Any) -> Any:
    """Return the configuration with the number of threads chosen."""
    if config.threads:
        return config
    if isinstance(config, Distill) and config.environment.env == "auto":
        config = in_environment(config)
    envs = make(replace(config.environment, num_envs=1, only=""), seed=0)
    chosen = threads.usual(convolutions=len(envs.obs_shape) > 2)
    envs.close()
    return replace(config, threads=chosen)


def _teach(config: Teach, folder: Path, *, resume: bool, as_json: bool) -> None:
    config = _settle(config)
    with threads.owning(config.threads), interruptible() as interrupted:
        with display.progress(config.env_steps) as watch:
            hooks = recipes.Hooks(watch=watch, interrupted=interrupted, note=watch.note)
            recipes.teach(config, folder, resume=resume, hooks=hooks)
        with display.notes() as note:
            result = recipes.close_teaching(config, folder, note=note)
    _write_report(folder, video=False)
    if as_json:
        display.answer(result)
        return
    display.table("Teacher", [{"player": "teacher", **summary.cells(result)}])
    display.say(f"run: {folder} (--threads {config.threads})")


def _distill(config: Distill, folder: Path, *, resume: bool, as_json: bool) -> None:
    config = _settle(config)
    with threads.owning(config.threads), interruptible() as interrupted:
        with display.progress(config.env_steps) as watch:
            hooks = recipes.Hooks(watch=watch, interrupted=interrupted, note=watch.note)
            outcome = recipes.distill(config, folder, resume=resume, hooks=hooks)
        with display.notes() as note:
            result = recipes.close_distillation(outcome, note=note)
    _write_report(folder, video=True)
    if as_json:
        display.answer(result)
        return
    display.table(summary.headline(result), summary.compare(result))
    for line in summary.remarks(result):
        display.say(line)
    display.say(f"run: {folder} (--threads {config.threads})")


def _multitask(config: Multitask, folder: Path, *, resume: bool, as_json: bool) -> None:
    asked = config.distill
    first = replace(asked.environment, env=next(iter(config.envs), "auto"))
    alone = _settle(replace(asked, teachers=asked.teachers[:1], environment=first))
    config = replace(config, distill=replace(asked, threads=alone.threads))
    with threads.owning(alone.threads), interruptible() as interrupted:
        with display.progress(asked.env_steps) as watch:
            hooks = recipes.Hooks(watch=watch, interrupted=interrupted, note=watch.note)
            outcome = recipes.multitask(config, folder, resume=resume, hooks=hooks)
        with display.notes() as note:
            result = recipes.close_multitask(outcome, note=note)
    _write_report(folder, video=False)
    if as_json:
        display.answer(result)
        return
    display.table(several.headline(result), several.compare(result))
    display.say(f"run: {folder} (--threads {alone.threads})")


def _write_report(folder: Path, *, video: bool) -> None:
    """Write the page of a run that is over; what is missing for it costs the run nothing."""
    try:
        with display.notes() as note:
            note("drawing the report")
            report(folder, video=video)
    except UserError as error:
        display.warn(f"tutelage: no report of {folder}: {error}")


LEARNING: dict[str, tuple[Any, Callable[..., None]]] = {
    "teach": (Teach, _teach),
    "distill": (Distill, _distill),
    "multitask": (Multitask, _multitask),
}
"""Command -> its configuration, and what does it or goes on with it."""
