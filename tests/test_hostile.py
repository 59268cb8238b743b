"""Bad input of every kind ends in one line, at once, and costs nothing that was there before."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import numpy as np
import pytest
import torch

from tests.fuzzing import COMMANDS, STUDY, HangError, make_home, run_case, undrawn, watchdog
from tutelage import cli, models, recipes
from tutelage.configs import Distill
from tutelage.dataset import Dataset
from tutelage.errors import UserError
from tutelage.evaluation import Evaluation
from tutelage.files import UNFINISHED, check_free, decode, save_tensors, sweep, write_atomic
from tutelage.heads import QValues
from tutelage.importers import import_model
from tutelage.logs import read_metrics
from tutelage.networks import Network, parse_size
from tutelage.runs import Run
from tutelage.schema import build
from tutelage.types import Row, restored

BLOCK = 25


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "home"
    folder.mkdir()
    with undrawn():
        make_home(folder)
    return folder


@pytest.fixture
def at_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a copy of the home that may be harmed."""
    for path in home.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(home)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; return its last line."""
    with undrawn(), watchdog(60), pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    line = printed.splitlines()[-1]
    assert line.startswith("tutelage: ")
    return line


# --- the fuzzer ---------------------------------------------------------------------------------


def fuzz(block: int, home: Path) -> None:
    numbers = range(block * BLOCK, (block + 1) * BLOCK)
    assert [wrong for number in numbers if (wrong := run_case(number, home))] == []


@pytest.mark.parametrize("block", range(12))
def test_no_lie_of_a_file_or_a_flag_is_a_traceback_or_a_hang(block: int, home: Path) -> None:
    fuzz(block, home)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(12, 132))
def test_nor_are_three_thousand_others(block: int, home: Path) -> None:
    fuzz(block, home)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_undamaged_the_cases_of_the_fuzzer_end_well(
    command: str, at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "watch":
        pytest.skip("no films are made here")
    with undrawn(), watchdog(60):
        cli.main(COMMANDS[command])


# --- what JSON may hold -------------------------------------------------------------------------


class Card(msgspec.Struct):
    number: float
    names: list[str]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'{"number": "1", "names": []}',
        b'{"number": true, "names": []}',
        b'{"number": NaN, "names": []}',
        b'{"number": 1e999, "names": []}',
        b'{"number": ' + b"9" * 5_000 + b', "names": []}',
        b'{"number": 1, "names": [1]}',
        b'{"names": []}',
        b'{"number": 1, "names": ["\xff"]}',
        b'{"number": 1, "names": []',
        b'{"number": 1, "names": [], "more": ' + b"[" * 100_000,
    ],
    ids=lambda data: data[:40].decode("latin1"),
)
def test_json_that_is_not_what_it_should_be_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(UserError, match=r"^card\.json is damaged: ") as error:
        decode(data, Card, "card.json")
    assert "\n" not in str(error.value)


def test_json_that_is_what_it_should_be_is_read() -> None:
    assert decode(b'{"number": 1, "names": ["a"]}', Card, "") == Card(1.0, ["a"])


def test_a_header_alone_takes_no_memory(tmp_path: Path) -> None:
    """Its tensors are compared with what it says before anything of that size is made."""
    about = {
        "format": models.FORMAT,
        "size": "mlp:65536/65536",
        "obs_shape": [2**20, 2**20],
        "head": {"kind": "q", "n": 2},
        "env": "CartPole-v1",
        "card": {},
    }
    save_tensors(tmp_path / "m.safetensors", {"output.bias": torch.zeros(2)}, about)
    with pytest.raises(UserError, match="its tensors differ"):
        import_model(tmp_path / "m.safetensors")


def test_constants_that_do_not_fit_the_observations_are_refused(tmp_path: Path) -> None:
    network = Network(parse_size("mlp:4"), (1, 4), QValues(2))
    for shape in ((3,), (2, 4), (1, 1, 4)):
        network.register_buffer("scale", torch.ones(shape))
        models.save(tmp_path / "m.safetensors", network, env="CartPole-v1", card={})
        with pytest.raises(UserError, match="scale"):
            import_model(tmp_path / "m.safetensors")
    network.register_buffer("scale", torch.arange(4.0))
    models.save(tmp_path / "m.safetensors", network, env="CartPole-v1", card={})
    obs = torch.ones(1, 1, 4)
    loaded: Any = import_model(tmp_path / "m.safetensors").policy
    assert torch.equal(loaded(obs), network(obs))


def test_what_a_checkpoint_holds_of_an_array_is_of_its_type_and_shape() -> None:
    like = np.zeros((2, 3), np.int32)
    saved = torch.ones((2, 3), dtype=torch.int32)
    assert restored(saved, like).sum() == 6
    for other in (saved[:1], saved.long(), saved.float(), saved.flatten(), "x", None):
        with pytest.raises(ValueError, match="expected int32"):
            restored(other, like)


def test_a_fragment_that_claims_to_be_large_is_not_made(home: Path, at_home: Path) -> None:
    dataset = Dataset("data")
    fragment = dataset[0]
    dataset.obs_shape = (2, *dataset.obs_shape[1:])  # as if there were more frames
    with pytest.raises(UserError, match="is damaged: what is compressed comes to"):
        dataset[0]
    assert len(fragment.frames) == len(fragment.columns["age"])


# --- names, and a system that refuses -----------------------------------------------------------


def put(command: str, flag: str, value: str) -> list[str]:
    """Return a command of the fuzzer with a flag's value, in the place of what it has."""
    words = COMMANDS[command]
    at = words.index(flag) if flag in words else len(words)
    return [*words[:at], flag, value, *words[at + 2 :]]


PATHS = {
    "--out of distill": put("distill", "--out", "@"),
    "--out of teach": put("teach", "--out", "@"),
    "--out of record": put("record", "--out", "@"),
    "--record": put("teach", "--record", "@"),
    "--teacher": put("distill", "--teacher", "@"),
    "--dataset": put("offline", "--dataset", "@"),
    "--init": put("init", "--init", "@"),
    "--config": put("config", "--config", "@"),
    **{name: [name, "@"] for name in ("resume", "report", "offpolicy", "evaluate", "inspect")},
    "watch": ["watch", "@"],
}


@pytest.mark.parametrize("where", PATHS)
@pytest.mark.parametrize(
    "name",
    ["x" * 5_000, "x/" * 3_000, "a\0b", "model.safetensors/x", "/dev/zero"],
    ids=["long", "deep", "zero byte", "below a file", "a device"],
)
def test_a_name_that_is_no_place_is_refused_in_one_line(
    where: str, name: str, at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal([name if word == "@" else word for word in PATHS[where]], capsys)
    assert len(line) < 2_100


@pytest.fixture
def full() -> Iterator[Callable[[int], None]]:
    """Return what lets no file grow beyond so many bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 1_500])
@pytest.mark.parametrize("command", ["distill", "teach", "record", "resume", "resume taught"])
def test_a_full_disk_ends_a_command_in_one_line(
    command: str,
    size: int,
    at_home: Path,
    capsys: pytest.CaptureFixture[str],
    full: Callable[[int], None],
) -> None:
    full(size)
    line = refusal(COMMANDS[command], capsys)
    assert "File too large" in line
    assert not list(at_home.rglob(f"{UNFINISHED}*"))


def test_rows_for_tensorboard_do_not_wait_for_a_full_disk(
    at_home: Path, full: Callable[[int], None]
) -> None:
    """tensorboardX's own writer has a thread that dies of it, and a queue that then fills up."""
    run = Run(Path("run"))
    metrics = {f"train/{i}": 1.0 for i in range(100)}
    (at_home / "run" / "metrics.jsonl").unlink()
    (at_home / "run" / "metrics.jsonl").symlink_to("/dev/null")
    full(500)

    def write_rows() -> None:
        for steps in range(50):
            run.write(Row(steps, 0, metrics))

    with watchdog(30), pytest.raises(UserError, match="cannot write run: File too large"):
        write_rows()


def test_a_folder_that_may_not_be_written_is_refused(
    at_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.open

    def open_(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if set(mode) & set("wa+"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return whole(path, mode, *more, **options)

    (at_home / "run" / "metrics.jsonl").open("a").write('{"env_steps": 99}\n')
    monkeypatch.setattr(Path, "open", open_)
    assert "Permission denied" in refusal(["resume", "run"], capsys)


def test_whatever_else_the_system_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, said in (
        (OSError(errno.EIO, "Input/output error", "a file"), "a file: Input/output error"),
        (MemoryError("unable to allocate"), "not enough memory: unable to allocate"),
    ):

        def refuse(*words: str, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(cli, "_parse", refuse)
        assert refusal(["sizes"], capsys) == f"tutelage: {said}"


def test_what_an_interrupted_write_left_is_swept_but_not_what_is_being_written(
    tmp_path: Path,
) -> None:
    left, live, other = (tmp_path / name for name in (f"{UNFINISHED}a", f"{UNFINISHED}b", "c"))
    for path in (left, live, other):
        path.write_bytes(b"half")
    with live.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == [live, other]
    other.unlink()
    check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_write_holds_what_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[list[Path]] = []

    def look(descriptor: int) -> None:
        sweep(tmp_path)
        swept.append(list(tmp_path.glob(f"{UNFINISHED}*")))

    monkeypatch.setattr(os, "fsync", look)
    write_atomic(tmp_path / "file", b"whole")
    assert len(swept[0]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_sweeps_its_folder_as_it_is_opened(at_home: Path) -> None:
    for folder in ("run", "run/checkpoints"):
        (at_home / folder / f"{UNFINISHED}x").write_bytes(b"half")
    Run(Path("run"))
    assert not list(at_home.rglob(f"{UNFINISHED}*"))


# --- a run's own logs ---------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["gone", "empty", "no UTF-8", "a folder", "short"])
def test_timing_never_stops_a_resume(harm: str, at_home: Path) -> None:
    path = at_home / "run" / "timing.jsonl"
    data = path.read_bytes()
    path.unlink()
    if harm == "a folder":
        path.mkdir()
    elif harm != "gone":
        path.write_bytes({"empty": b"", "no UTF-8": b"\xff" * len(data), "short": data[:9]}[harm])
    with undrawn():
        cli.main(["resume", "run"])
    assert b"\0" not in (b"" if path.is_dir() else path.read_bytes())


def test_a_damaged_row_is_named_before_a_run_goes_on(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = at_home / "run" / "metrics.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"env_steps": 32', b'"env_steps": ""'))
    before = {p: p.read_bytes() for p in at_home.rglob("*.safetensors")}
    assert "metrics.jsonl, line 1, is damaged" in refusal(["resume", "run"], capsys)
    assert before == {p: p.read_bytes() for p in at_home.rglob("*.safetensors")}


def test_what_is_no_finite_number_is_left_out_of_a_row(at_home: Path) -> None:
    run = Run(Path("run"))
    run.write(Row(64, 1, {"train/loss": 0.5, "train/grad_norm": float("inf")}))
    run.close()
    assert read_metrics(at_home / "run")[-1] == {"env_steps": 64, "updates": 1, "train/loss": 0.5}


# --- bounds that make no sense together ---------------------------------------------------------


def test_no_round_is_longer_than_the_run(at_home: Path) -> None:
    config = build(Distill, STUDY | {"teachers": ["model.safetensors"], "round_steps": 10**7})
    with watchdog(60):
        outcome = recipes.distill(config, "new")
    assert outcome.env_steps == config.env_steps
    assert outcome.config.round_steps == config.env_steps


def test_a_million_episodes_have_an_interval() -> None:
    returns = np.tile([0.0, 1.0], 500_000)
    low, high = Evaluation(returns, np.ones(len(returns), np.int64)).interval(resamples=100)
    assert low < 0.5 < high


def test_a_second_interrupt_ends_a_long_evaluation(at_home: Path) -> None:
    words = put("distill", "--eval-episodes", "1000000")
    process = subprocess.Popen(
        [sys.executable, "-m", "tutelage", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
    reader.start()
    folder = at_home / "new"
    deadline = time.monotonic() + 120
    while not folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2.0)
    for sent in range(2):
        process.send_signal(signal.SIGINT)
        while sent == 0 and not any("once more" in line for line in lines):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert process.wait(timeout=60) == 130
    reader.join()
    assert lines[-1] == "tutelage: interrupted\n"


def test_sigterm_leaves_nothing_half_written(at_home: Path) -> None:
    words = ["export", "model.safetensors", "--to", "torch", "--out", "out/exported"]
    Path("out").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tutelage", *words, "--states", "10000000"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not any(Path("out").iterdir()):
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "tutelage: interrupted"
    assert list(Path("out").iterdir()) == []


# --- environments at fault ----------------------------------------------------------------------


class Faulty(gymnasium.Env[Any, Any]):
    """Does something wrong in its 40th step, or at a later reset."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (4,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if self.fault == "raises at reset" and self.steps:
            raise RuntimeError("no reset")
        self.age = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.age += 1
        over = self.age == 10 and self.fault != "never ends"
        good: Any = (np.zeros(4, np.float32), 1.0, over, False, {})
        if self.steps < 40:
            return good
        obs, reward, _, _, info = good
        if self.fault == "raises":
            raise RuntimeError("a cable\nis loose")
        return {
            "a reward of NaN": (obs, np.nan, over, False, info),
            "a huge reward": (obs, 1e300, over, False, info),
            "no reward": (obs, None, over, False, info),
            "an observation of NaN": (obs * np.nan, reward, over, False, info),
            "a huge observation": (obs + 1e38 * 10, reward, over, False, info),
            "another shape": (np.zeros(5, np.float32), reward, over, False, info),
            "no numbers": (np.array(["x"] * 4), reward, over, False, info),
            "ends of two at once": (obs, reward, np.array([True, False]), False, info),
        }.get(self.fault, good)


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Return what registers an environment with a fault, and gives the settings of its run."""

    def settings(fault: str) -> dict[str, Any]:
        gymnasium.register(
            "Faulty-v0", entry_point=lambda **_: Faulty(fault), disable_env_checker=True
        )
        network = Network(parse_size("mlp:4"), (1, 4), QValues(2))
        models.save(tmp_path / "teacher.safetensors", network, env="Faulty-v0", card={})
        study = {**STUDY, "env": "Faulty-v0", "env_steps": 192, "target_return": 1e6}
        return {**study, "teachers": [str(tmp_path / "teacher.safetensors")], "eval_from": 10**6}

    yield settings
    gymnasium.registry.pop("Faulty-v0", None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raises", "environment 0 raised RuntimeError"),
        ("raises at reset", "environment 0 raised RuntimeError"),
        ("a reward of NaN", "gave the reward nan at step"),
        ("a huge reward", "gave the reward 1e\\+300 at step"),
        ("no reward", "gave the reward nan at step"),
        ("an observation of NaN", "gave an observation that is not finite at step"),
        ("a huge observation", "gave an observation that is not finite at step"),
        ("another shape", "the environments raised ValueError"),
        ("no numbers", "the environments raised"),
        ("ends of two at once", "the environments raised ValueError"),
    ],
)
def test_an_environment_at_fault_is_named_and_the_run_is_kept(
    fault: str, said: str, faulty: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    config = build(Distill, faulty(fault))
    with pytest.raises(UserError, match=said) as error:
        recipes.distill(config, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert "tutelage resume" in str(error.value)
    assert "Traceback" in (tmp_path / "run" / "faults.log").read_text()
    gymnasium.registry.pop("Faulty-v0")
    recipes.distill(build(Distill, faulty("none")), tmp_path / "run", resume=True)
    assert read_metrics(tmp_path / "run")[-1]["env_steps"] == 192


@pytest.mark.filterwarnings("ignore")
def test_an_environment_that_never_ends_is_cut(
    faulty: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    settings = {**faulty("never ends"), "eval_from": 0, "eval_max_steps": 30}
    with watchdog(60):
        outcome = recipes.distill(build(Distill, settings), tmp_path / "run")
    assert outcome.evaluation is not None
    assert outcome.evaluation.lengths.tolist() == [30]


# --- the command itself -------------------------------------------------------------------------


def imported_by(code: str) -> set[str]:
    said = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(said.stderr.split())


@pytest.mark.parametrize("words", [["--version"], ["--help"], []])
def test_what_can_be_answered_at_once_waits_for_no_library(words: list[str]) -> None:
    run = f"from contextlib import suppress\nwith suppress(SystemExit): main({words})"
    modules = imported_by(f"from tutelage.cli import main\n{run}")
    assert "tutelage.cli" in modules
    assert not modules & {"torch", "numpy", "gymnasium", "tyro"}


def test_a_program_waits_only_for_what_it_uses() -> None:
    modules = imported_by("from tutelage import *; distill")
    assert "torch" in modules
    heavy = {"matplotlib", "ale_py", "tensorboardX", "av", "PIL", "scipy.stats", "rich"}
    assert not modules & heavy


def test_the_package_offers_what_it_says() -> None:
    import tutelage
    from tutelage import public

    assert set(public.__all__) <= set(dir(tutelage))
    assert tutelage.distill is public.distill
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = tutelage.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_all_commands_is_that_of_each(name: str) -> None:
    place, about = cli.COMMANDS[name]
    first, *_ = (cli.load(place).__doc__ or "").split("\n\n")
    assert " ".join(first.split()) == about


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distil"], ["unknown command 'distil'", "distill"]),
        (["distill", "--sead", "1"], ["--sead", "--seed"]),
        (["distill", "--seed", "x"], ["--seed", "'x'"]),
        (["distill", "--frame", "83"], ["83", "84"]),
        (["evaluate"], ["MODEL"]),
        (["evaluate", "pong", "--episodes", "0"], ["episodes", "[1"]),
        (["distill", "--env-steps", "9" * 24], ["env_steps"]),
        (["distill", "--env-steps", "9" * 5_000], ["--env-steps"]),
        (["distill", "--round-steps", "9" * 24], ["round_steps"]),
        (["distill", "--samples-per-step", "1e308"], ["samples_per_step"]),
        (["distill", "--threads", "9" * 24], ["threads"]),
        (["record", "--config", "x", "--out", "x"], ["--config", "distill"]),
    ],
)
def test_words_that_are_no_command_are_refused_in_one_line(
    words: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(words, capsys)
    assert all(word in line for word in said), line
    assert "\x1b" not in line


def test_the_watchdog_bites() -> None:
    with pytest.raises(HangError), watchdog(0.05):
        time.sleep(5)


def test_a_fuzzed_traceback_is_a_failure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: str) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli, "_parse", fail)
    assert "ZeroDivisionError: a bug" in run_case(0, home)
