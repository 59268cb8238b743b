"""The command line: results on stdout, progress on stderr, bad input ends with exit code 2."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional

from tutelage import display, recipes, teachers
from tutelage.assembly import open_device
from tutelage.configs import Distill, Record, Teach, check_numbers, from_mapping, read_toml
from tutelage.environments import EnvironmentConfig, is_atari, make
from tutelage.errors import UserError, choose_from
from tutelage.evaluation import evaluate
from tutelage.experiments.overview import write_overview
from tutelage.experiments.rows import finished
from tutelage.hindsight import OffPolicyCommand
from tutelage.networks import SIZES, count_parameters
from tutelage.report import summary
from tutelage.reproduce import ReproduceCommand
from tutelage.runs import read_config

CONFIGS: dict[str, Any] = {"teach": Teach, "distill": Distill}


@dataclass(frozen=True, kw_only=True)
class TeachCommand:
    """Train a teacher by double Q-learning."""

    config: Annotated[Teach, OmitArgPrefixes] = field(default_factory=Teach)
    out: str = ""
    """The run's folder; by default runs/teach__ENV__SEED__TIME."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        folder = _folder(self.out, "teach", self.config.env, self.config.seed)
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
        # Without its wrappers: a folder's name with "+" could not be named as a teacher.
        first, *_ = self.config.teachers[0].split("+")
        folder = _folder(self.out, "distill", Path(first).stem, self.config.seed)
        _distill(self.config, folder, resume=False, as_json=self.json)


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
        env_steps = recipes.record(self.config, folder)
        size = sum(path.stat().st_size for path in folder.iterdir())
        result = {"folder": str(folder), "env_steps": env_steps, "bytes": size}
        _say(
            result,
            f"{env_steps:,} env steps in {folder}, {size / env_steps:.0f} bytes each",
            as_json=self.json,
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Play whole episodes greedily on held-out seeds, without and with sticky actions."""

    model: Positional[str]
    """A bundled name, a model file or a run's folder; perhaps with wrappers: pong+noise:1."""
    episodes: int = 30
    """Episodes per column."""
    sticky: float = 0.25
    """Sticky actions of the second column; 0 for none (Atari only)."""
    only: str = ""
    """Pong: ball-top or ball-bottom; elsewhere the last action is repeated and nothing counts, or
    by ball-top:2 only in every other step, as in the authors' code."""
    seed: int = 0
    """Seed of the episodes' starts."""
    device: str = "cpu"
    """cpu, cuda, …"""
    threads: int = 2
    """Threads of PyTorch, and as many of the emulators."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        check_numbers(self)
        device = open_device(self.device, self.threads)
        staff, models = teachers.hire([self.model], device=device, seed=self.seed)
        (model,) = models.values()
        columns = {}
        for sticky in (0.0, self.sticky) if is_atari(model.env) and self.sticky else (0.0,):
            columns[sticky] = evaluate(
                staff.alone(0),
                replace(teachers.environment_of(model, sticky=sticky), only=self.only),
                episodes=self.episodes,
                seed=self.seed,
                device=device,
                threads=self.threads,
            ).summary()
        result: dict[str, Any] = {"model": self.model, "env": model.env, **columns[0.0]}
        if self.sticky in columns and self.sticky:
            result["sticky"] = {"probability": self.sticky, **columns[self.sticky]}
        if self.json:
            print(json.dumps(result))
            return
        display.table(
            f"{self.model} on {model.env}",
            [
                {"sticky actions": f"{sticky:g}", **summary.cells(figures)}
                for sticky, figures in columns.items()
            ],
        )


@dataclass(frozen=True, kw_only=True)
class ResumeCommand:
    """Go on with a run that was interrupted, to the very result it would have had."""

    folder: Positional[str]
    """The run's folder."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        folder = Path(self.folder)
        values = read_config(folder)
        command = values.pop("command", None)
        where = f"{folder / 'config.toml'}"
        if command == "teach":
            teacher = from_mapping(Teach, values, where=where)
            _teach(teacher, folder, resume=True, as_json=self.json)
        elif command == "distill":
            student = from_mapping(Distill, values, where=where)
            _distill(student, folder, resume=True, as_json=self.json)
        else:
            raise UserError(f"{where}: {choose_from('command', str(command), CONFIGS)}")


@dataclass(frozen=True, kw_only=True)
class WatchCommand:
    """Film one or more models playing the same episode side by side."""

    models: Positional[tuple[str, ...]]
    """Bundled names, model files or runs' folders."""
    out: str = "watch.mp4"
    """The video."""
    seed: int = 0
    """Seed of the episode's start."""
    sticky: float = 0.0
    """Probability of a sticky action (Atari)."""

    def run(self) -> None:
        from tutelage.report.video import side_by_side

        check_numbers(self)
        loaded = {name: teachers.load(name) for name in self.models}
        if not loaded:
            raise UserError("watch needs at least one model")
        config, *others = {
            teachers.environment_of(model, sticky=self.sticky): None for model in loaded.values()
        }
        if others:
            games = ", ".join(f"{c.env} ({c.frame} pixels)" for c in (config, *others))
            raise UserError(f"these models play different games: {games}")
        side_by_side(
            {name: model.network for name, model in loaded.items()},
            config,
            Path(self.out),
            seed=self.seed,
        )
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write a run's report.html again, with curve and film; or, with --all, one of all claims."""

    folder: Positional[str] = ""
    """The run's folder."""
    all: Annotated[bool, FlagCreatePairsOff] = False
    """All claims: verdicts, figures, and every run that has a row."""
    video: Annotated[bool, FlagCreatePairsOff] = False
    """With --all: film one student for each claim."""
    no_video: Annotated[bool, FlagCreatePairsOff] = False
    """With a folder: do not film student and teacher side by side."""
    results: str = "results/reproduce"
    """With --all: where rows.jsonl.gz is."""
    runs: str = "runs/reproduce"
    """With --all: where the runs' folders are, as far as they still are."""
    out: str = ""
    """With --all: the page; by default report.html beside the rows."""

    def run(self) -> None:
        if bool(self.folder) == self.all:
            raise UserError("report needs either a run's folder or --all, and not both")
        if self.all and self.no_video:
            raise UserError("--no-video: only with a run's folder")
        for flag, given in (("--video", self.video), ("--out", self.out)):
            if given and not self.all:
                raise UserError(f"{flag}: only with --all")
        if not self.all:
            print(summary.write_report(Path(self.folder), video=not self.no_video))
            return
        page = Path(self.out) if self.out else Path(self.results) / "report.html"
        rows = finished(Path(self.results))
        write_overview(rows, page, runs=Path(self.runs), film=self.video)
        print(page)


@dataclass(frozen=True, kw_only=True)
class SizesCommand:
    """List the named network sizes with their parameter counts."""

    env: str = "pong"
    """The environment they are counted for."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        envs = make(EnvironmentConfig(env=self.env, num_envs=1), seed=0)
        counts: dict[str, int] = {}
        for name, size in SIZES.items():
            if bool(size.channels) == (len(envs.obs_shape) == 3):
                counts[name] = count_parameters(size, envs.obs_shape, envs.num_actions)
        envs.close()
        if self.json:
            print(json.dumps(counts))
            return
        display.table(
            f"Sizes on {self.env} (the paper counts a network and its target copy)",
            [
                {
                    "name": name,
                    "widths": str(SIZES[name]),
                    "parameters": f"{count:,}",
                    "with target copy": f"{2 * count:,}",
                }
                for name, count in counts.items()
            ],
        )


COMMANDS: dict[str, Any] = {
    "distill": DistillCommand,
    "teach": TeachCommand,
    "record": RecordCommand,
    "evaluate": EvaluateCommand,
    "resume": ResumeCommand,
    "watch": WatchCommand,
    "report": ReportCommand,
    "offpolicy": OffPolicyCommand,
    "sizes": SizesCommand,
    "reproduce": ReproduceCommand,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command that ``arguments`` (by default the process's own) spell."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _parse(words).run()
    except UserError as error:
        print(f"tutelage: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("tutelage: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


def _parse(words: list[str]) -> Any:
    """Return the command, its defaults taken from ``--config FILE.toml`` if that is given."""
    defaults: dict[str, Any] = {}
    words = [part for word in words for part in _apart(word)]
    if words and words[0] in CONFIGS and "--config" in words:
        at = words.index("--config")
        if at + 1 == len(words):
            raise UserError("--config needs the name of a TOML file")
        path = Path(words[at + 1])
        del words[at : at + 2]
        values = read_toml(path)
        values.pop("command", None)
        config = from_mapping(CONFIGS[words[0]], values, where=str(path))
        defaults[words[0]] = {"default": COMMANDS[words[0]](config=config)}
    subcommands: Any = Union[  # noqa: UP007 (built at run time)
        tuple(
            Annotated[kind, tyro.conf.subcommand(name, **defaults.get(name, {}))]
            for name, kind in COMMANDS.items()
        )
    ]
    return tyro.cli(
        subcommands,
        args=words,
        prog="tutelage",
        description="Distil large policies into small, fast ones. --config FILE.toml gives "
        "'teach' and 'distill' their defaults.",
    )


def _apart(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith("--config=") else [word]


def _folder(out: str, command: str, subject: str, seed: int) -> Path:
    if out:
        return Path(out)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{command}__{subject.replace('/', '-')}__{seed}__{stamp}"


def _say(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    print(json.dumps(result) if as_json else text)


def _teach(config: Teach, folder: Path, *, resume: bool, as_json: bool) -> None:
    with display.progress(config.env_steps) as watch:
        recipes.teach(config, folder, resume=resume, watch=watch)
    result = summary.close_teaching(config, folder)
    if as_json:
        print(json.dumps(result))
        return
    display.table("Teacher", [{"player": "teacher", **summary.cells(result)}])
    print(f"run: {folder}")


def _distill(config: Distill, folder: Path, *, resume: bool, as_json: bool) -> None:
    with display.progress(config.env_steps) as watch:
        outcome = recipes.distill(config, folder, resume=resume, watch=watch)
    result = summary.close_distillation(outcome.config, folder)
    if as_json:
        print(json.dumps(result))
        return
    display.table(summary.headline(result), summary.compare(result))
    print(f"run: {folder}")
