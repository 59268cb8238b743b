"""Sweeps: what a file asks for, what a run is known by, its row, and the command."""

import gzip
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.rows import (
    Crew,
    cartpole,
    cartpole_model,
    job_of,
    play,
    refusal,
    row,
    row_of_job,
    study,
    toy,
)
from tutelage.cli import main
from tutelage.errors import UserError
from tutelage.sweeps import local, page
from tutelage.sweeps.jobs import jobs
from tutelage.sweeps.rows import Row, finished
from tutelage.sweeps.sweep import Sweep, read_sweep
from tutelage.sweeps.tables import short


def scored(folder: Path) -> Mapping[str, float]:
    return {"files": float(len(list(folder.iterdir())))}


def sweep_of(folder: Path, text: str) -> Sweep:
    (folder / "losses.toml").write_text(text)
    return read_sweep(folder / "losses.toml")


# The file.


def test_settings_at_the_top_are_of_every_method(tmp_path: Path) -> None:
    text = """
        title = "Losses"
        score = "tests.test_sweeps:scored"
        reference = "kl"
        tau = 0.2
        env_steps = 9_000
        [methods.mse]
        loss = "mse"
        tau = 1.0
        [methods.kl]
        [methods.teacher]
        command = "evaluate"
        model = "pong"
    """
    it = sweep_of(tmp_path, text)
    assert it.methods == {
        "mse": {"loss": "mse", "tau": 1.0, "env_steps": 9_000},
        "kl": {"tau": 0.2, "env_steps": 9_000},
        "teacher": {"command": "evaluate", "model": "pong"},  # of which it has neither
    }
    assert (it.name, it.title, it.reference, it.score) == ("losses", "Losses", "kl", scored)


def test_every_combination_of_a_grid_is_a_method(tmp_path: Path) -> None:
    it = sweep_of(tmp_path, 'seed = 3\n[grid]\ntau = [0.1, 1.0]\nteachers = [["a", "b"], ["c"]]')
    assert it.methods == {
        f"tau {tau:g}, teachers {' '.join(names)}": {"seed": 3, "tau": tau, "teachers": names}
        for tau in (0.1, 1.0)
        for names in (["a", "b"], ["c"])
    }
    assert it.reference == "tau 0.1, teachers a b"
    it = sweep_of(tmp_path, "[methods.x]\n[methods.y]\npay = 'all'\n[grid]\ntau = [1]")
    assert it.methods == {"x, tau 1": {"tau": 1}, "y, tau 1": {"tau": 1, "pay": "all"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tau = 1.0", ["nothing to compare", "[methods.NAME]", "[grid]"]),
        ("methods = 1", ["methods is 1", "a table"]),
        ("[methods]\na = 1", ["a is 1", "a table"]),
        ("[grid]\ntau = 1.0", ["grid.tau is 1.0", "a list"]),
        ("[grid]\ntau = []", ["grid.tau", "a list"]),
        ("reference = 'b'\n[methods.a]", ["reference 'b'", "choose from a"]),
        ("[methods.a]\ncommand = 'fly'", ["a", "command 'fly'", "distill"]),
        ("score = 'nowhere:f'\n[methods.a]", ["score 'nowhere:f'"]),
        ("score = 3\n[methods.a]", ["score"]),
        ("reference = ['a']\n[methods.a]", ["reference"]),
        ("a = {", ["TOML"]),
    ],
)
def test_a_file_that_describes_no_sweep_is_refused(
    text: str, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        sweep_of(tmp_path, text)
    assert all(word in str(refused.value) for word in words), refused.value


# Jobs.


def test_all_methods_have_their_first_seed_before_any_has_its_second() -> None:
    teach = {"command": "teach", "seeds": 1}
    it = toy(a={"tau": 1.0}, b={"tau": 2.0}, plays={"command": "evaluate"}, taught=teach)
    assert [(job.method, job.seed) for job in jobs(it, seeds=3)] == [
        *(("a", 1), ("b", 1), ("plays", 1), ("taught", 1)),
        *(("a", 2), ("b", 2)),
        *(("a", 3), ("b", 3)),
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tauu": 1.0}, ["toy, a: ", "setting 'tauu'"]),
        ({"record": {"env_stepz": 1}}, ["toy, a: record: ", "setting 'env_stepz'"]),
        ({"train": {"sise": "teacher"}}, ["toy, a: train: ", "setting 'sise'"]),
        ({"record": {}, "train": {}}, ["toy, a: ", "setting 'train'"]),
        ({"command": "evaluate", "tau": 1.0}, ["toy, a: ", "setting 'tau'"]),
        ({"teachers": ["nobody"]}, ["toy, a: ", "no model 'nobody'"]),
        ({"seeds": "many"}, ["toy, a: ", "seeds is 'many'", "whole number"]),
    ],
)
def test_a_method_that_cannot_be_run_is_named(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        jobs(toy(a=settings), seeds=1)
    assert all(word in str(refused.value) for word in words), refused.value


def key(**settings: Any) -> str:
    return job_of(settings).key


def test_a_run_is_known_by_what_decides_its_result(tmp_path: Path) -> None:
    one = cartpole_model(tmp_path / "one.safetensors")
    usual = key(teachers=[one], tau=0.1)
    # What is asked for or usual, what is left open or named: all the same.
    same: list[dict[str, Any]] = [
        {},
        {"loss": "kl", "env": "CartPole-v1"},
        {"threads": 2},
        {"checkpoint_every": 9},
    ]
    assert {key(teachers=[one], **settings) for settings in same} == {usual}
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(one, tmp_path / "elsewhere" / "two.safetensors")
    assert key(teachers=[str(moved)]) == usual
    assert job_of({"teachers": [one]}, seed=2).key != usual
    others: list[dict[str, Any]] = [
        {"tau": 0.2},
        {"teachers": [f"{one}+noise:1"]},
        {"record": {"teacher": one}},
    ]
    for other in others:
        assert key(**{"teachers": [one], **other}) != usual
    other_model = cartpole_model(tmp_path / "three.safetensors", seed=2)
    assert key(teachers=[other_model]) != usual


EVERY_KIND = [
    {"tau": 1.0, "teachers": ("pong", "pong+noise:1")},
    {"record": {"env_steps": 9}},
    {"train": {"init": "pong"}},
    {"command": "teach"},
    {"command": "evaluate", "only": "ball-top"},
]


@pytest.mark.parametrize("settings", EVERY_KIND)
def test_a_row_read_back_is_known_for_its_run(settings: dict[str, Any]) -> None:
    job = job_of(settings, seed=1)
    row = msgspec.json.decode(msgspec.json.encode(row_of_job(job)), type=Row)
    assert (row.key, row.settings, row.seed) == (job.key, job.settings, 1)


def test_a_row_outlives_changes_of_the_settings_that_there_are() -> None:
    job = job_of({"tau": 0.3})
    row = row_of_job(job)
    config = dict(row.command.config)
    # A setting that is newer than the row: it had what is usual now.
    del config["examination"]
    older = msgspec.structs.replace(
        row, command=msgspec.structs.replace(row.command, config=config)
    )
    assert older.settings["eval_episodes"] == 10
    # One that there is no more: no run of today is the same, and nothing fails.
    gone = {**row.command.config, "patience": 3}
    older = msgspec.structs.replace(row, command=msgspec.structs.replace(row.command, config=gone))
    assert older.key != job.key


def test_a_row_names_files_whatever_the_machine(tmp_path: Path) -> None:
    model = cartpole_model(tmp_path / "models" / "one.safetensors")
    it = toy(a={"teachers": [model, f"{model}+noise:1"]})
    row = row_of_job(jobs(it, seeds=1, root=tmp_path)[0])
    name = "models/one.safetensors"
    assert row.command.config["teachers"] == [name, f"{name}+noise:1"]
    assert row.files.keys() == {name}
    assert str(tmp_path) not in msgspec.json.encode(row).decode()
    assert row.key == row_of_job(jobs(it, seeds=1)[0]).key


@pytest.mark.parametrize(
    ("commit", "shown"),
    [("0123456789", "0123456"), ("0123456789-dirty", "0123456-dirty"), ("unknown", "unknown")],
)
def test_a_commit_is_shortened_but_not_cleaned(commit: str, shown: str) -> None:
    assert short(commit) == shown


# The command.


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    it = Crew()
    monkeypatch.setattr(local, "in_a_process", it)
    return it


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a sweep of two methods."""
    (tmp_path / "two.toml").write_text("[methods.a]\ntau = 1.0\n[methods.b]\ntau = 2.0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sweep_is_run_shown_and_never_run_again(
    here: Path, crew: Crew, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "two.toml", "--seeds", "2", "--workers", "1"]
    main(words)
    assert crew.ran == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    captured = capsys.readouterr()
    assert "two: b, seed 2: 1,000 env steps to 20 (1 s)" in captured.err
    assert captured.out.count("1,000 1,000") == 2
    main([*words, "--report"])
    assert len(crew.ran) == 4
    assert capsys.readouterr().out.endswith("results/two/report.html\n")
    # Other settings are other runs: the page has those of the file alone.
    (here / "two.toml").write_text("[methods.a]\ntau = 1.0\n[methods.b]\ntau = 3.0\n")
    main([*words[:3], "1", "--workers", "1"])
    assert crew.ran[4:] == [("b", 1)]
    assert len(finished(here / "results" / "two")) == 5


def test_what_failed_is_told_at_the_end(
    here: Path, crew: Crew, capsys: pytest.CaptureFixture[str]
) -> None:
    crew.fails = {"a": UserError("no such teacher"), "b": ZeroDivisionError("by nothing")}
    with pytest.raises(SystemExit) as exit_:
        main(["sweep", "two.toml", "--seeds", "1", "--workers", "1", "--out", "elsewhere"])
    assert exit_.value.code == 2
    *before, last = capsys.readouterr().err.splitlines()
    assert "2 of the runs failed" in last
    assert "two: a, seed 1: failed: no such teacher" in last
    assert "two: b, seed 1: failed: ZeroDivisionError('by nothing')" in last
    assert before.count("Traceback (most recent call last):") == 1  # of what is no bad input
    assert (here / "elsewhere" / "rows.jsonl.gz").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["none.toml"], ["none.toml"]),
        (["two.toml", "--seeds", "0"], ["seeds"]),
        (["two.toml", "--workers", "-1"], ["workers"]),
    ],
)
def test_a_sweep_is_refused_in_one_line(
    words: list[str],
    expected: list[str],
    here: Path,
    crew: Crew,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refusal(lambda: main(["sweep", *words]), capsys)
    assert all(word in line for word in expected), line
    assert crew.ran == []


def test_a_sweep_names_keys_of_its_file_and_no_flags(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = 'teachers = ["tests.players:still+head:point:1"]\nenv = "Pendulum-v1"'
    (here / "none.toml").write_text(f"{asked}\n[methods.a]\n")
    line = refusal(lambda: main(["sweep", "none.toml"]), capsys)
    assert "name one by `target_return`, or none" in line


# The page.


def test_a_page_has_every_method_its_interval_its_test_and_its_settings(tmp_path: Path) -> None:
    methods = {"kl": study([1_000, 2_000, 1_500]), "mse": study([None] * 3, [1.0, 2.0, 3.0])}
    methods["model"] = play(19.0, 20.0, 21.0)
    it = Sweep(name="losses", methods={}, title="Losses & more", reference="mse")
    written = page.write(it, methods, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| kl | 1,000 2,000 1,500 | 1,500 | ≤ 0.03" in text
    assert "18.00 (15.52 … 20.48)" in text  # by Welch: 20 less 2, the one side does not vary
    assert "Log-rank test against mse, p: kl 0.1." in text
    html = written.read_text()
    assert "Losses &amp; more" in html
    assert html.count("<img") == text.count("![")
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"losses.png"}
    with pytest.raises(UserError, match="no run has a row"):
        page.write(it, {}, tmp_path)


def test_a_page_of_methods_without_a_target_compares_what_they_return(tmp_path: Path) -> None:
    none = {"target_return": None, "env_steps_to_target": None}
    methods = {
        name: [row(seed, None, mean_return=mean, **none) for seed, mean in enumerate(means, 1)]
        for name, means in {"kl": [5.0, 6.0, 7.0], "mse": [2.0, 3.0, 4.0]}.items()
    }
    page.write(Sweep(name="losses", methods={}, reference="mse"), methods, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| method | mean return | return - mse's |" in text
    assert "| kl | 5.0 6.0 7.0 | 3.00 (0.73 … 5.27) |" in text  # t of 4 degrees: 2.776 sqrt(2/3)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"losses.png"}


# Real runs, of CartPole.


def test_a_real_sweep_leaves_rows_that_stand_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = cartpole_model(tmp_path / "teacher.safetensors")
    shared = {k: v for k, v in cartpole(tmp_path).items() if k != "teachers"}
    text = "\n".join(f"{k} = {msgspec.json.encode(v).decode()}" for k, v in shared.items())
    (tmp_path / "real.toml").write_text(
        f"""score = "tests.test_sweeps:scored"
        {text}
        [methods.passes]
        teachers = ["{model}"]
        target_return = 1.0
        [methods.misses]
        teachers = ["teacher.safetensors", "teacher.safetensors+negate"]
        target_return = 501.0
        choice_per = "round"
        measure = "return"
        return_range = [0.0, 500.0]
        [methods.teacher]
        command = "evaluate"
        model = "teacher.safetensors+negate"
        episodes = 5
        """
    )
    main(["sweep", "real.toml", "--seeds", "1", "--report"])
    rows = {row.methods[0][1]: row for row in finished(tmp_path / "results/real")}
    passes, misses, teacher = rows["passes"], rows["misses"], rows["teacher"]
    assert (passes.env_steps, passes.env_steps_to_target, passes.target_return) == (128, 128, 1.0)
    assert passes.curve is not None
    assert (passes.curve.env_steps, passes.curve.reward_per_step) == ((128,), (1.0,))
    assert passes.command.config["teachers"] == ["teacher.safetensors"]
    assert passes.command.config["environment"]["env"] == "CartPole-v1"
    assert passes.command.config["tau"] == 0.1
    assert passes.versions.keys() >= {"python", "torch", "numpy", "gymnasium"}
    assert passes.scores["files"] > 5
    # Of further episodes of its best network.
    assert (misses.env_steps, misses.env_steps_to_target, misses.episodes) == (256, None, 3)
    assert sum(misses.picks) == 2
    # Every step of CartPole returns 1.
    assert teacher.env_steps == sum(teacher.returns) > 0
    assert (teacher.target_return, teacher.curve, teacher.episodes) == (None, None, 5)
    assert (tmp_path / "results/real/report.html").exists()
    with gzip.open(tmp_path / "results/real/rows.jsonl.gz") as lines:
        assert sum(1 for _ in lines) == 3


def test_a_teacher_is_trained_where_no_target_is_known(tmp_path: Path) -> None:
    known = {"command": "teach", "size": "mlp:8", "num_envs": 8, "round_steps": 64}
    job = job_of({**known, "env": "CliffWalking-v1", "env_steps": 64, "learning_starts": 32})
    taught = job.run(tmp_path)
    assert (taught.env_steps, taught.target_return, taught.env_steps_to_target) == (64, None, None)


def test_a_run_that_is_over_is_not_run_again(tmp_path: Path) -> None:
    job = job_of(cartpole(tmp_path, target_return=1.0))
    first = job.run(tmp_path)
    timing = job.folder(tmp_path) / "timing.jsonl"
    timing.write_text(timing.read_text() + '{"env_steps": 128, "time/seconds": 1000.0}\n')
    second = job.run(tmp_path)
    assert 1_000 <= second.seconds < 1_100  # what an earlier sweep spent is counted
    assert msgspec.structs.replace(first, seconds=0.0) == msgspec.structs.replace(second, seconds=0)
    assert replace(job, commit="an older one").run(tmp_path).commit == "an older one"
