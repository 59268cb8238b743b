"""A seeded fuzzer of what comes from outside: files that lie, flags and names.

A case damages one file of a small home (a model, a data set, two runs) or puts hostile words into
a command, and runs that command in this process. It must end by itself, well or with exit code 2
and one line, and leave alone whatever is not its own. ``python -m tests.fuzzing COUNT [FIRST]``
runs cases by their numbers and prints those that fail.
"""

import gzip
import io
import json
import re
import shutil
import signal
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import safetensors.torch
import tomli_w
import torch

from tests.rows import row_of_job
from tutelage import cli, models, recipes
from tutelage.configs import REPLAYED, Distill, Multitask, Record, Teach
from tutelage.errors import UserError
from tutelage.files import digest
from tutelage.heads import QValues
from tutelage.networks import Network, parse_size
from tutelage.schema import build, settings_of
from tutelage.sweeps.engines import ENGINES
from tutelage.sweeps.jobs import Job, jobs
from tutelage.sweeps.rows import keeper
from tutelage.sweeps.sweep import read_sweep

SECONDS = 60
"""After so long a case counts as one that never ends."""

TINY = {
    "env": "CartPole-v1",
    "num_envs": 2,
    "env_steps": 160,
    "round_steps": 32,
    "checkpoint_every": 32,
    "threads": 1,
    "learning_starts": 8,
    "batch_size": 8,
    "samples_per_step": 1.0,
    "precision": "fp32",
}
PQN = {
    **{k: v for k, v in TINY.items() if k not in REPLAYED},
    "algorithm": "pqn",
    "size": "mlp:4:norm",
    "rollout_steps": 12,
    "minibatches": 2,
}
STUDY = {
    **TINY,
    "student": "mlp:4",
    "eval_from": 0,
    "eval_every": 64,
    "eval_episodes": 1,
    "confirm_episodes": 1,
    "eval_max_steps": 20,
}
TASKS = {
    **{k: v for k, v in STUDY.items() if k != "env"},
    "teachers": ["model.safetensors", "other.safetensors"],
    "practise": "exp3",
}


def make_home(home: Path) -> None:
    """Put a model, a data set and two runs into ``home``, both stopped before their last round."""
    generator = torch.Generator().manual_seed(1)
    network = Network(parse_size("mlp:4"), (1, 4), QValues(2), generator=generator)
    models.save(
        home / "model.safetensors", network, env="CartPole-v1", card={"reward_per_step": 1.0}
    )
    models.save(home / "other.safetensors", network, env="CartPole-v0", card={})
    weights = {n: t for n, t in network.state_dict().items() if n not in ("shift", "scale")}
    torch.save(weights, home / "weights.pt")
    several = {
        "teachers": ["model.safetensors", "model.safetensors+noise:1"],
        "choice_per": "round",
        "selector": "ucb1",
        "measure": "return",
        "return_range": [0.0, 500.0],
    }
    by_state = {**several, "choice_per": "segment", "selector": "linear-thompson"}

    def stopped() -> recipes.Hooks:
        rounds = iter(range(4))
        return recipes.Hooks(interrupted=lambda: next(rounds) == 3)

    with chdir(home):
        given = {"teacher": "model.safetensors", "num_envs": 2, "env_steps": 128, "threads": 1}
        recipes.record(build(Record, given), "data")
        with suppress(UserError):
            recipes.distill(build(Distill, STUDY | several), "run", hooks=stopped())
        with suppress(UserError):
            recipes.distill(build(Distill, STUDY | by_state), "states", hooks=stopped())
        taught = build(Teach, {**TINY, "size": "mlp:4", "record": "taught-data"})
        with suppress(UserError):
            recipes.teach(taught, "taught", hooks=stopped())
        with suppress(UserError):
            recipes.teach(build(Teach, PQN), "pqn", hooks=stopped())
        with suppress(UserError):
            recipes.multitask(build(Multitask, TASKS), "tasks", hooks=stopped())
        grid = {**STUDY, "teachers": ["model.safetensors"]}
        Path("grid.toml").write_text(tomli_w.dumps({**grid, "grid": {"tau": [0.1, 1.0]}}))
        keep = keeper(Path("results/grid"))
        for job in jobs(read_sweep(Path("grid.toml")), seeds=2):
            keep(row_of_job(job))
    figures = {
        "mean_return": 9.0,
        "ci95": [9.0, 9.0],
        "min_return": 9.0,
        "max_return": 9.0,
        "episodes": 1,
        "parameters": 30,
        "file_bytes": 2000,
        "us_per_action": 60.0,
    }
    result = {
        "folder": "run",
        "env": "CartPole-v1",
        **figures,
        "env_steps": 128,
        "seconds": 1.0,
        "evaluation_seconds": 0.5,
        "env_steps_to_475": None,
        "teacher": {"name": "model.safetensors", **figures},
    }
    (home / "run" / "result.json").write_text(json.dumps(result))
    teacher = {"name": "model.safetensors", **figures}
    task = {**figures, "env": "CartPole-v1", "random_return": 8.0, "kept": 1.0, "teacher": teacher}
    together = {
        "tasks": {"CartPole-v1": task},
        "kept": 1.0,
        "parameters": 30,
        "teachers_parameters": 60,
        "env_steps": 128,
        "kept_at": 128,
        "seconds": 1.0,
        "evaluation_seconds": 0.5,
    }
    (home / "tasks" / "result.json").write_text(json.dumps(together))


# --- what is put in the place of what was there -------------------------------------------------

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 10**9, 10**30, -(2**63), 2**64, 0.5, -0.5, 1e308, 5e-324),
    *("", "x", "nan", "../..", "x" * 5000, "\0", "\x1b[31m", "[/b]", "\ud800", "mlp:9", "q"),
    *([], {}, [[]], [1, 2], ["x"], {"x": 1}, [None], {"$tensor": "0"}, {"$tensor": []}),
)
RAW = (
    *("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-0", "tru", "'x'", '"\\ud800"'),
    *("[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, ""),
)
"""As text, because no value spells it."""

WORDS = (
    *("", "x", "-1", "0", "1", "2", "0.5", "-0.5", "1e308", "-1e308", "5e-324", "nan", "inf"),
    *("-inf", "9" * 24, "9" * 5000, "-" + "9" * 24, "1e400", "None", "true", "False", "[]"),
    *("x" * 5000, "x/" * 3000, "\0", "a\0b", "\udcff", "\x1b[31mred", "[/b]", ":smile:", "é"),
    *(":", "::", "a:b", "a:b:c", "1:2", "1:2:3", "1:0:0", "1:nan:3", "nan:1:2", "1:1:1e308"),
    *("+", "x+y", "+noise", "pong+noise:nan", "x+noise:1", "=", ",", "k=v", "a=1,b=2", "*"),
    *(".", "..", "/", "/dev/null", "/dev/full", "/dev/zero", "/proc/self/mem", "~", "no/where"),
    *("mlp:0", "mlp:4", "mlp:", "mlp:99999", "1/1/1/1", "0/0/0/0", "mlp:" + "1/" * 200 + "1"),
    *("meta", "cuda:99", "cpu:7", "auto", "pong", "CartPole-v1", "student", "teacher", "kl"),
    *("mse:0.5+nll:0.5", "mse:nan", "epsilon:2", "epsilon:", "boltzmann:0", "boltzmann:1e308"),
    *("ucb1", "ucb1:exploration=nan", "exp3:x", "linear-thompson:scale=-1", "best-first:1e308"),
    *("json:loads", "os.path:join", "math:nan", "--", "-", "--seed", "-h "),
)


def lie(rng: Random, value: Any) -> Any:
    """Return plain data with one value of it replaced, removed or added."""
    places = list(_places(value))
    if not places:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    act = rng.random()
    if act < 0.15:
        del holder[key]
    elif act < 0.25 and isinstance(holder, dict):
        holder[rng.choice(["x", "", "x" * 300, "format", "kind"])] = rng.choice(VALUES)
    elif act < 0.35:
        holder[key] = [holder[key]]
    else:
        holder[key] = rng.choice(VALUES)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def lie_json(rng: Random, text: str) -> str:
    """Return JSON with one value replaced, perhaps by what is none."""
    value = json.loads(text)
    if rng.random() < 0.3 and (places := list(_places(value))):
        holder, key = rng.choice(places)
        holder[key] = "@RAW@"
        return json.dumps(value).replace('"@RAW@"', rng.choice(RAW))
    return json.dumps(lie(rng, value))


def lie_toml(rng: Random, data: bytes) -> bytes:
    while True:
        value = lie(rng, tomllib.loads(data.decode()))
        try:
            return tomli_w.dumps(value).encode()
        except (TypeError, AttributeError, ValueError):  # TOML has no null and no lone surrogates
            continue


def lie_lines(rng: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True) or [b'{"env_steps": 1}\n']
    at = rng.randrange(len(lines))
    act = rng.random()
    if act < 0.6:
        lines[at] = lie_json(rng, lines[at].decode()).encode("utf-8", "surrogatepass") + b"\n"
    elif act < 0.8:
        lines[at] = damage(rng, lines[at])
    elif act < 0.9:
        del lines[at]
    else:
        lines.insert(at, rng.choice([b"\n", b"null\n", b"{}\n", b"\0\0\0", b"\xff\n", lines[at]]))
    return b"".join(lines)


def lie_rows(rng: Random, data: bytes) -> bytes:
    return gzip.compress(lie_lines(rng, gzip.decompress(data)))


def damage(rng: Random, data: bytes) -> bytes:
    """Return bytes with a few of them changed, removed or added."""
    some = bytearray(data)
    at = rng.randrange(len(some) + 1)
    length = rng.choice([1, 2, 8, 64, 1000])
    act = rng.randrange(6)
    if act == 0:
        return bytes(some[:at])
    if act == 1:
        del some[at : at + length]
    elif act == 2:
        some[at:at] = rng.randbytes(length)
    elif act == 3:
        some[at:at] = some[at : at + length]
    elif act == 4:
        some[at : at + length] = bytes(len(some[at : at + length]))
    else:
        for _ in range(rng.choice([1, 3, 20])):
            if some:
                some[rng.randrange(len(some))] ^= 1 << rng.randrange(8)
    return bytes(some)


def lie_tensors(rng: Random, data: bytes) -> bytes:
    """Return a safetensors file whose header, metadata or tensors lie."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    about = header.get("__metadata__", {})
    act = rng.random()
    if act < 0.45:
        about["about"] = lie_json(rng, about["about"])
    elif act < 0.55:
        header = lie(rng, header)
    else:
        tensors = safetensors.torch.load(data)
        _lie_tensor(rng, tensors)
        if rng.random() < 0.5 and "checksum" in about["about"]:
            about["about"] = json.dumps({**json.loads(about["about"]), "checksum": ""})
        return safetensors.torch.save(tensors, about)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + body


def _lie_tensor(rng: Random, tensors: dict[str, torch.Tensor]) -> None:
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    dtypes = [
        *(torch.int32, torch.int64, torch.float64, torch.float16, torch.bfloat16, torch.bool),
        *(torch.uint8, torch.int16, torch.float32, torch.float8_e4m3fn, torch.complex64),
    ]
    changes: list[Callable[[], torch.Tensor]] = [
        lambda: tensor.to(rng.choice(dtypes)),
        lambda: tensor.flatten(),
        lambda: tensor[None],
        lambda: torch.cat([tensor.flatten(), tensor.flatten()]),
        lambda: tensor.flatten()[:-1],
        lambda: torch.zeros(0, dtype=tensor.dtype),
        lambda: torch.full_like(tensor, rng.choice([-1, 0, 1, 100])),
        lambda: torch.full(tensor.shape, rng.choice([torch.nan, torch.inf, 1e30])),
        lambda: torch.full(tensor.shape, rng.choice([-(2**63), 2**62, 2**31, -1])),
    ]
    act = rng.random()
    if act < 0.1:
        del tensors[name]
    elif act < 0.15:
        tensors["x"] = tensors.pop(name)
    elif act < 0.2:
        tensors["x"] = tensor.clone()
    else:
        tensors[name] = rng.choice(changes)().clone()


# --- cases --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A command in a home of which a file may be damaged."""

    words: list[str]
    damaged: str = ""
    own: tuple[str, ...] = ()
    """What of the home the command may change."""


def _flags(settings: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


DISTILL = ["distill", *_flags(STUDY), "--out", "new"]
COMMANDS: dict[str, list[str]] = {
    "distill": [*DISTILL, "--teacher", "model.safetensors"],
    "several": [
        *DISTILL,
        *("--teacher", "model.safetensors", "model.safetensors+noise:1", "--choice-per", "round"),
        *("--measure", "return", "--return-range", "0", "500"),
    ],
    "offline": [*DISTILL, "--dataset", "data"],
    "teach": ["teach", *_flags(TINY), "--size", "mlp:4", "--out", "new"],
    "record": [
        *("record", "--teacher", "model.safetensors", "--env-steps", "64", "--num-envs", "2"),
        *("--threads", "1", "--out", "new"),
    ],
    "evaluate": [
        *("evaluate", "model.safetensors", "--episodes", "1", "--threads", "1"),
        *("--max-steps", "20"),
    ],
    "inspect": ["inspect", "model.safetensors"],
    "resume": ["resume", "run"],
    "resume taught": ["resume", "taught"],
    "resume pqn": ["resume", "pqn"],
    "report": ["report", "run", "--no-video"],
    "offpolicy": ["offpolicy", "run"],
    "watch": ["watch", "model.safetensors", "--out", "new.mp4"],
    "zoo": ["zoo", "."],
    "sizes": ["sizes", "--env", "CartPole-v1"],
    "init": ["teach", *_flags(TINY), "--init", "model.safetensors", "--out", "new"],
    "config": ["distill", "--config", "run/config.toml", "--out", "new"],
    "resume states": ["resume", "states"],
    "offpolicy states": ["offpolicy", "states"],
    "multitask": [
        *("multitask", *_flags({k: v for k, v in TASKS.items() if k != "teachers"})),
        *("--teachers", "model.safetensors", "other.safetensors", "--out", "new"),
    ],
    "resume tasks": ["resume", "tasks"],
    "one task": [
        *("evaluate", "tasks+task:CartPole-v1", "--episodes", "1", "--threads", "1"),
        *("--max-steps", "20"),
    ],
    "report tasks": ["report", "tasks"],
    "sweep": ["sweep", "grid.toml", "--seeds", "2", "--workers", "1"],
    "weights": ["inspect", "weights.pt+size:mlp:4+activation:relu+head:q"],
    "weights play": [
        *(
            "evaluate",
            "weights.pt+size:mlp:4+activation:relu+head:q",
            "--env",
            "CartPole-v1",
            "--episodes",
            "1",
        ),
        *("--threads", "1", "--max-steps", "20"),
    ],
}

READ_BY = {
    "model.safetensors": ["inspect", "evaluate", "distill", "record", "init", "zoo"],
    "data/dataset.json": ["offline"],
    "data/chunk-000000.safetensors": ["offline"],
    "run/config.toml": ["resume", "report", "offpolicy", "config"],
    "run/metrics.jsonl": ["resume", "report"],
    "run/timing.jsonl": ["resume", "report"],
    "run/selections.jsonl": ["resume", "report", "offpolicy"],
    "run/result.json": ["report"],
    "run/versions.json": ["resume", "report"],
    "run/best.safetensors": ["resume", "report"],
    "run/checkpoints": ["resume"],
    "taught/config.toml": ["resume taught"],
    "taught/checkpoints": ["resume taught"],
    "taught/metrics.jsonl": ["resume taught"],
    "pqn/config.toml": ["resume pqn"],
    "pqn/checkpoints": ["resume pqn"],
    "states/checkpoints": ["resume states"],
    "states/selections.jsonl": ["resume states", "offpolicy states"],
    "tasks/config.toml": ["resume tasks", "report tasks"],
    "tasks/checkpoints": ["resume tasks"],
    "tasks/metrics.jsonl": ["resume tasks", "report tasks"],
    "tasks/result.json": ["report tasks"],
    "tasks/best.safetensors": ["one task", "resume tasks"],
    "grid.toml": ["sweep"],
    "results/grid/rows.jsonl.gz": ["sweep"],
    "weights.pt": ["weights", "weights play"],
    "taught-data/dataset.json": ["resume taught"],
    "taught-data/chunk-000000.safetensors": ["resume taught"],
}
"""File -> the commands that read it."""

OWN = {
    "resume": ("run", "states", "tasks", "taught", "taught-data", "pqn"),
    "report": ("run", "tasks"),
    "sweep": ("results", "runs"),
}
"""What of the home a command may change."""


def file_case(rng: Random, home: Path) -> Case:
    """Damage a file of ``home``, and return a command that reads it."""
    name = rng.choice(sorted(READ_BY))
    path = home / name
    if path.is_dir():
        path = rng.choice(sorted(path.iterdir()))
    elif not path.exists():
        path.write_bytes(b"")
    act = rng.random()
    if act < 0.03:
        path.unlink()
        path.mkdir()
    elif act < 0.06:
        path.unlink()
    else:
        data = path.read_bytes()
        lies = {
            ".safetensors": lie_tensors,
            ".jsonl": lie_lines,
            ".toml": lie_toml,
            ".json": lambda rng, data: lie_json(rng, data.decode()).encode("utf-8", "replace"),
            ".gz": lie_rows,
        }
        change = lies.get(path.suffix, damage) if rng.random() < 0.75 and data else damage
        lied = change(rng, data)
        path.write_bytes(lied)
        if path.parent.name == "checkpoints" and rng.random() < 0.85:
            path.rename(path.with_name(f"{path.name.split('-')[0]}-{digest(lied)}.safetensors"))
    command = rng.choice(READ_BY[name])
    return Case(COMMANDS[command], f"{name} ({path.name})", OWN.get(COMMANDS[command][0], ()))


def flag_case(rng: Random, home: Path) -> Case:
    """Return a command with hostile words in it."""
    name = rng.choice(sorted(COMMANDS))
    words = list(COMMANDS[name])
    place, _ = cli.COMMANDS[words[0]]
    kind = cli.load(place)
    flags = [f"--{name.replace('_', '-')}" for name in settings_of(kind)]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        act = rng.random()
        if act < 0.75:
            flag = rng.choice(flags)
            if flag in words:
                at = words.index(flag)
                words[at + 1 : at + 2] = [rng.choice(WORDS)]
            else:
                words += [flag, rng.choice(WORDS)]
        elif act < 0.9:
            at = rng.randrange(1, len(words) + 1)
            words[at : at + 1] = [rng.choice(WORDS)]
        elif act < 0.95 and len(words) > 1:
            del words[rng.randrange(1, len(words))]
        else:
            words.insert(rng.randrange(1, len(words) + 1), rng.choice(WORDS))
    return Case(words, own=OWN.get(words[0], ()))


class HangError(BaseException):
    """A case did not end."""


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    def bark(number: int, frame: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c6360f8cf00000202010068d7b4f80000000049454e44ae426082"
)
"""A picture in PNG."""


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave out the films and figures: most of the time, and nothing that a file could harm."""
    from tutelage.report import summary

    def figure(*given: object, **options: object) -> None:
        for path in given:
            if isinstance(path, Path):
                path.write_bytes(PIXEL)

    def idle(left: Sequence[Job], **_: object) -> Iterator[tuple[Job, Exception]]:
        yield from ((job, UserError("not in a test")) for job in left)

    nothing = mock.Mock(side_effect=UserError("not in a test"))
    with (
        mock.patch.object(summary, "learning_curve", figure),
        mock.patch("tutelage.report.video.side_by_side", nothing),
        mock.patch("tutelage.commands.report.side_by_side", nothing),
        mock.patch.dict(ENGINES, local=idle, ray=idle),
    ):
        yield


def content(home: Path, own: tuple[str, ...]) -> dict[str, bytes]:
    """Return what is in the files of a home, but those that a command may change."""
    found = {}
    for path in home.rglob("*"):
        name = path.relative_to(home)
        if path.is_file() and name.parts[0] not in own:
            found[str(name)] = path.read_bytes()
    return found


def verdict(case: Case, home: Path) -> str:
    """Run a case in ``home``; return what is wrong with how it ended, or nothing."""
    before = content(home, case.own)
    said, shown, code = io.StringIO(), io.StringIO(), 0
    try:
        with (
            chdir(home),
            undrawn(),
            watchdog(SECONDS),
            redirect_stderr(said),
            redirect_stdout(shown),
        ):
            cli.main(list(case.words))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except HangError:
        # Without its env_steps a run is one of the usual length, and says so as it goes on.
        long = re.search(r"/ [\d,]{6,} env steps", said.getvalue())
        return "" if long else f"no end after {SECONDS} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
        return f"{type(error).__name__}: {str(error)[:300]} at {where}"
    lines = said.getvalue().splitlines()
    if code not in (0, 2):
        return f"exit code {code}: {lines[-1:]}"
    if "Traceback" in said.getvalue():
        return f"a traceback on stderr: {lines[-1:]}"
    if code == 2 and not (lines and lines[-1].startswith("tutelage: ")):
        return f"no line of its own: {lines[-1:]}"
    after = content(home, case.own)
    if harmed := [name for name, data in before.items() if after.get(name) != data]:
        return f"harmed {harmed}"
    return ""


def run_case(number: int, home: Path) -> str:
    """Run case ``number`` in a copy of ``home``; return its failure, or nothing."""
    rng = Random(number)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "home"
        shutil.copytree(home, copy)
        case = (file_case if rng.random() < 0.6 else flag_case)(rng, copy)
        wrong = verdict(case, copy)
    words = " ".join(
        word if len(word) < 60 else f"{word[:20]}…({len(word)})" for word in case.words
    )
    return f"case {number}: {words!r} {case.damaged}: {wrong}" if wrong else ""


def main() -> None:
    count, first = (int(word) for word in (*sys.argv[1:], "0")[:2])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        with undrawn():
            make_home(home)
        failures = 0
        for number in range(first, first + count):
            if wrong := run_case(number, home):
                failures += 1
                print(wrong, flush=True)
        print(f"{failures} of {count} cases failed")


if __name__ == "__main__":
    main()
