"""Experiments as data, and the engine that runs each of their methods and seeds just once."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.dying import die
from tests.test_cli import cartpole_model, refusal
from tutelage import bundled_names, cli, experiments
from tutelage.cli import main
from tutelage.configs import Distill
from tutelage.errors import UserError
from tutelage.experiments import Experiment, Row, engine, find_experiments
from tutelage.experiments.engine import BUDGETS, Job, jobs, run_grid
from tutelage.runs import read_rows
from tutelage.selectors import parse_selector
from tutelage.teachers import TeacherError, parse_teacher

FOUND = find_experiments()
METHODS = [(name, method) for name, e in FOUND.items() for method in e.methods]


def toy(**methods: dict[str, Any]) -> Experiment:
    """Return an experiment of these methods, of which the first is the reference."""
    first = next(iter(methods))
    return Experiment(
        title="Toy",
        claim="It is a toy.",
        methods=methods,
        reference=first,
        within=1.0,
        claimed=(first,),
    )


def test_every_module_with_an_experiment_is_found() -> None:
    assert {"four-experts", "half-experts", "twelve-teachers", "unequal-teachers"} <= set(FOUND)
    assert not {"teams", "engine", "document"} & set(FOUND)


def test_a_new_experiment_is_one_new_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from tests.test_experiments import toy\nEXPERIMENT = toy(plain={'tau': 0.5})\n"
    (tmp_path / "my_idea.py").write_text(text)
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(tmp_path)])
    found = find_experiments()
    del sys.modules["tutelage.experiments.my_idea"]
    assert found["my-idea"].methods == {"plain": {"tau": 0.5}}
    assert found.keys() - {"my-idea"} == FOUND.keys()


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_the_settings_of_every_method_can_be_run(name: str, method: str, budget: str) -> None:
    settings = FOUND[name].methods[method]
    (job,) = [
        job for job in jobs(name, FOUND[name], seeds=1, budget=budget) if job.method == method
    ]
    assert job.config == Distill(**{**settings, **BUDGETS[budget], "seed": 1, "threads": 1})
    for teacher in job.config.teachers:
        model, _ = parse_teacher(teacher)
        assert model in bundled_names()
    parse_selector(job.config.selector)


@pytest.mark.parametrize("name", FOUND)
def test_a_claim_is_about_methods_that_there_are(name: str) -> None:
    it = FOUND[name]
    assert {it.reference, *it.claimed} <= set(it.methods)


def test_all_methods_have_their_first_seed_before_any_has_its_second() -> None:
    grid = jobs("toy", toy(a={"tau": 1.0}, b={"tau": 2.0}), seeds=3, budget="short")
    order = [(job.method, job.config.seed) for job in grid]
    assert order == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3)]
    assert {job.config.threads for job in grid} == {1}
    assert [job.config.tau for job in grid] == [1.0, 2.0] * 3


@pytest.mark.parametrize(
    ("budget", "env_steps"), [("smoke", 1_024), ("short", 50_000), ("paper", 250_000)]
)
def test_a_budget_overrides_what_a_method_asks_for(budget: str, env_steps: int) -> None:
    asks = {"seed": 7, "threads": 4, **({} if budget == "short" else {"env_steps": 9})}
    (job,) = jobs("toy", toy(a=asks), seeds=1, budget=budget)
    assert (job.config.env_steps, job.config.seed, job.config.threads) == (env_steps, 1, 1)


def test_a_method_of_a_setting_that_there_is_not_is_named() -> None:
    with pytest.raises(UserError, match="toy, a: unknown key 'tauu'"):
        jobs("toy", toy(a={"tauu": 1.0}), seeds=1, budget="short")


def test_a_run_is_told_from_others_by_its_settings_and_seed_alone() -> None:
    grid = [job for name, e in FOUND.items() for job in jobs(name, e, seeds=2, budget="short")]
    for one in grid:
        for other in grid:
            assert (one.key == other.key) == (one.config == other.config)
    first, second = jobs("toy", toy(a={"teachers": ("pong",)}, b={}), seeds=1, budget="short")
    assert first.key == second.key != replace(first, config=replace(first.config, seed=2)).key


def test_a_row_read_back_is_known_for_its_run() -> None:
    for name, e in FOUND.items():
        for job in jobs(name, e, seeds=2, budget="paper"):
            row = json.loads(json.dumps(row_of(job)))
            assert engine.key(row["settings"], row["seed"]) == job.key


def test_the_key_of_a_run_is_what_it_was_when_the_first_rows_were_kept() -> None:
    (job, *_) = jobs("unequal-teachers", FOUND["unequal-teachers"], seeds=1, budget="short")
    assert engine.different(job.config) == {"threads": 1}
    assert job.key == engine.key({"threads": 1}, 1) == "0a45179f501d27e5"


# The engine, with jobs that need no time.


def row_of(job: Job, steps: int | None = 1_000) -> Row:
    return {
        "seed": job.config.seed,
        "settings": engine.different(job.config),
        "env_steps": steps or 2_000,
        "target_return": 20.0,
        "env_steps_to_target": steps,
        "mean_return": 20.5,
        "seconds": 1.0,
    }


class Crew:
    """Runs jobs at once, noting which; those of a method in ``fails`` raise what is there."""

    def __init__(self, **fails: Exception) -> None:
        self.ran: list[tuple[str, int]] = []
        self.fails = fails

    def __call__(self, job: Job, runs: Path) -> Row:
        self.ran.append((job.method, job.config.seed))
        if job.method in self.fails:
            raise self.fails[job.method]
        return row_of(job)


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    it = Crew()
    monkeypatch.setattr(engine, "in_a_process", it)
    return it


GRID = jobs("toy", toy(a={"tau": 1.0}, b={"tau": 2.0}), seeds=2, budget="short")
EVERY = [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def go(
    folder: Path, grid: list[Job] = GRID, *, workers: int = 1
) -> list[tuple[str, int, Row | Exception]]:
    outcomes = run_grid(grid, results=folder / "results", runs=folder / "runs", workers=workers)
    return [(job.method, job.config.seed, outcome) for job, outcome in outcomes]


def kept(folder: Path) -> list[tuple[float, int]]:
    """Return tau and seed of each row."""
    lines = (folder / "results/rows.jsonl").read_text().splitlines()
    return [(row["settings"]["tau"], row["seed"]) for row in map(json.loads, lines)]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_run_leaves_a_row_and_is_never_run_again(
    workers: int, tmp_path: Path, crew: Crew
) -> None:
    outcomes = go(tmp_path, workers=workers)
    assert sorted(crew.ran) == sorted(EVERY)
    rows = {(job.method, job.config.seed): row_of(job) for job in GRID}
    assert {(method, seed): outcome for method, seed, outcome in outcomes} == rows
    assert sorted(kept(tmp_path)) == [(1.0, 1), (1.0, 2), (2.0, 1), (2.0, 2)]
    assert go(tmp_path, workers=workers) == []
    more = jobs("other", toy(c={"tau": 2.0}, d={"tau": 3.0}), seeds=3, budget="short")
    assert [(m, s) for m, s, _ in go(tmp_path, more)] == [("d", 1), ("d", 2), ("c", 3), ("d", 3)]


def test_runs_come_in_the_order_of_the_grid(tmp_path: Path, crew: Crew) -> None:
    go(tmp_path)
    assert crew.ran == EVERY


def test_methods_of_the_same_settings_are_run_once(tmp_path: Path, crew: Crew) -> None:
    grid = jobs("toy", toy(a={"tau": 1.0}, twin={"tau": 1.0}), seeds=1, budget="short")
    go(tmp_path, grid)
    assert crew.ran == [("a", 1)]
    rows = engine.by_method(grid, engine.finished(tmp_path / "results"))
    assert [len(of) for of in rows.values()] == [1, 1]


def test_a_run_that_fails_loses_no_other_and_is_tried_again(tmp_path: Path, crew: Crew) -> None:
    crew.fails = {"a": UserError("no such teacher")}
    outcomes = go(tmp_path)
    assert [(m, s) for m, s, _ in outcomes] == EVERY
    assert [str(outcome) for m, _, outcome in outcomes if m == "a"] == ["no such teacher"] * 2
    assert kept(tmp_path) == [(2.0, 1), (2.0, 2)]
    crew.fails = {}
    assert [(m, s) for m, s, _ in go(tmp_path)] == [("a", 1), ("a", 2)]
    assert len(kept(tmp_path)) == 4


def test_an_interrupted_grid_goes_on_with_what_has_no_row(tmp_path: Path, crew: Crew) -> None:
    outcomes = run_grid(GRID, results=tmp_path / "results", runs=tmp_path / "runs", workers=1)
    next(outcomes)
    outcomes.close()
    ran = list(crew.ran)
    assert ran == EVERY[: len(ran)]
    assert len(kept(tmp_path)) == len(ran)
    go(tmp_path)
    assert crew.ran == EVERY


def test_what_finishes_after_an_interrupt_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, told = threading.Event(), threading.Event()

    def slow(job: Job, runs: Path) -> Row:
        if job.method == "b":
            under_way.set()
            assert told.wait(30.0)
        return row_of(job)

    monkeypatch.setattr(engine, "in_a_process", slow)
    outcomes = run_grid(GRID, results=tmp_path / "results", runs=tmp_path / "runs", workers=1)
    next(outcomes)
    assert under_way.wait(30.0)
    threading.Timer(0.2, told.set).start()
    outcomes.close()
    assert kept(tmp_path) == [(1.0, 1), (2.0, 1)]


def test_sigterm_interrupts_a_grid_as_ctrl_c_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(job: Job, runs: Path) -> Row:
        if (job.method, job.config.seed) == ("b", 1):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        return row_of(job)

    monkeypatch.setattr(engine, "in_a_process", terminated)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert kept(tmp_path) == [(1.0, 1), (2.0, 1)]


def test_a_row_is_written_once_even_if_interrupted_just_then(
    tmp_path: Path, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, GRID[:1])
    assert kept(tmp_path) == [(1.0, 1)]


def test_a_row_cut_short_by_a_crash_costs_that_row_alone(tmp_path: Path, crew: Crew) -> None:
    go(tmp_path)
    path = tmp_path / "results/rows.jsonl"
    path.write_text(path.read_text()[:-30])
    assert [(m, s) for m, s, _ in go(tmp_path)] == [EVERY[-1]]
    assert len(kept(tmp_path)) == 4
    assert go(tmp_path) == []


def test_results_that_cannot_be_written_are_named(tmp_path: Path, crew: Crew) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*rows\.jsonl"):
        go(tmp_path)
    assert crew.ran == []


def test_the_overview_has_a_line_for_each_method_with_rows() -> None:
    it = toy(a={"tau": 1.0}, b={"tau": 2.0}, c={"tau": 3.0})
    grid = jobs("toy", it, seeds=3, budget="short")
    steps = {("a", 1): 9_000, ("a", 2): 1_000, ("a", 3): None, ("b", 1): None, ("b", 3): None}
    rows = [
        row_of(job, steps[at])
        for job in grid[::-1]
        if (at := (job.method, job.config.seed)) in steps
    ]
    assert engine.overview(grid, rows) == [
        {
            "method": "a",
            "seeds": "9,000 1,000 -",
            "median": "9,000",
            "mean return": "20.5 20.5 20.5",
        },
        {"method": "b", "seeds": "- -", "median": "-", "mean return": "20.5 20.5"},
    ]


# Real runs, of CartPole.


def cartpole(folder: Path, **settings: Any) -> Job:
    teacher = cartpole_model(folder / "teacher.safetensors")
    quick = {
        "teachers": (teacher,),
        "student": "mlp:4",
        "env_steps": 256,
        "num_envs": 2,
        "round_steps": 128,
        "threads": 1,
        "precision": "fp32",
        "eval_from": 0,
        "eval_every": 128,
        "eval_episodes": 2,
        "confirm_episodes": 3,
    }
    return Job("four-experts", "a b", Distill(**{**quick, **settings}))


def folder_of(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def test_the_row_of_a_run_that_passes(tmp_path: Path) -> None:
    job = cartpole(tmp_path, target_return=1.0)
    row = engine.run_job(job, tmp_path / "runs")
    assert (row["env_steps"], row["env_steps_to_target"], row["target_return"]) == (128, 128, 1.0)
    assert (row["episodes"], row["seed"]) == (3, 1)
    assert row["settings"]["student"] == "mlp:4"
    assert "picks" not in row
    folder = folder_of(tmp_path)
    assert folder.name == f"four-experts-a-b-1-{job.key}"
    again = engine.run_job(job, tmp_path / "runs")  # it is over: resumed, not run again
    assert {**row, "seconds": 0.0} == {**again, "seconds": 0.0}
    assert len(read_rows(folder)) == 1


def test_the_row_of_a_run_that_misses_is_of_further_episodes_of_its_best(tmp_path: Path) -> None:
    row = engine.run_job(cartpole(tmp_path, target_return=501.0), tmp_path / "runs")
    assert (row["env_steps"], row["env_steps_to_target"]) == (256, None)
    assert row["episodes"] == 3


def test_a_row_has_what_its_experiment_scores_and_who_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cartpole(tmp_path, target_return=501.0)
    teacher = job.config.teachers[0]
    job = replace(job, config=replace(job.config, teachers=(teacher, teacher + "+negate")))
    scored = replace(FOUND["four-experts"], score=lambda folder: {"rows": len(read_rows(folder))})
    monkeypatch.setattr(engine, "find_experiments", lambda: {"four-experts": scored})
    row = engine.run_job(job, tmp_path / "runs")
    assert row["rows"] == 2
    assert len(row["picks"]) == 2
    # Every step of CartPole gives a reward, and so is a rally; the teachers led most of them.
    assert 200 < sum(row["picks"]) == len(read_rows(folder_of(tmp_path), "selections.jsonl")) < 256


def test_runs_in_processes_of_their_own_fail_alone(tmp_path: Path) -> None:
    good = cartpole(tmp_path, target_return=1.0)
    bad = replace(good, config=replace(good.config, teachers=("nobody",)))
    (_, _, failure), (_, _, row) = go(tmp_path, [bad, good])
    assert isinstance(failure, UserError)
    assert "no model 'nobody'" in str(failure)
    assert not isinstance(row, Exception)
    assert row["env_steps_to_target"] == 128


def test_a_process_that_is_killed_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_job", die)
    with pytest.raises(UserError, match="process was killed"):
        engine.in_a_process(None, tmp_path)  # type: ignore[arg-type]


def test_the_failure_of_a_teacher_comes_back_from_another_process() -> None:
    failure = pickle.loads(pickle.dumps(TeacherError(3, "it is ill")))
    assert (failure.arm, failure.reason, str(failure)) == (3, "it is ill", "it is ill")


# The command.


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"toy": toy(a={"tau": 1.0}, b={"tau": 2.0}), "other": toy(c={"tau": 3.0})}
    monkeypatch.setattr(cli, "find_experiments", lambda: found)


def reproduce(folder: Path, *words: str) -> None:
    main(["reproduce", *words, "--results", str(folder / "results"), "--runs", str(folder)])


def test_reproduce_lists_the_experiments_and_what_they_claim(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["reproduce"])
    shown = capsys.readouterr().out
    for name, e in FOUND.items():
        assert name in shown
        # Flush left: a line of the table begins with the claim's first words.
        assert f"│ {e.claim[:40]}" in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["toys"], ["experiment 'toys'", "choose from other, toy"]),
        (["toy", "others"], ["experiment 'others'", "choose from other, toy"]),
        (["toy", "--budget", "huge"], ["budget 'huge'", "choose from paper, short, smoke"]),
        (["toy", "--methods", "c"], ["method of toy 'c'", "choose from a, b"]),
        (["toy", "other", "--methods", "a"], ["method of other 'a'", "choose from c"]),
        (["toy", "--seeds", "0"], ["seeds 0", "expected 1"]),
        (["toy", "--workers", "-1"], ["workers -1", "0 or more"]),
    ],
)
@pytest.mark.usefixtures("toys")
def test_reproduce_refuses_in_one_line_and_runs_nothing(
    words: list[str],
    expected: list[str],
    crew: Crew,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refusal(["reproduce", *words, "--results", str(tmp_path)], capsys)
    assert all(word in line for word in expected), line
    assert crew.ran == []


@pytest.mark.usefixtures("toys")
def test_reproduce_runs_the_methods_asked_for_and_shows_all_their_rows(
    crew: Crew, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce(tmp_path, "toy", "--methods", "b", "--seeds", "2", "--workers", "1")
    assert crew.ran == [("b", 1), ("b", 2)]
    captured = capsys.readouterr()
    assert "toy: b, seed 2: 1,000 env steps to 20 (1 s)" in captured.err
    reproduce(tmp_path, "toy", "other", "--seeds", "2", "--workers", "1")
    assert crew.ran[2:] == [("a", 1), ("a", 2), ("c", 1), ("c", 2)]
    tables = capsys.readouterr().out.split("env steps to the target")
    assert [table.count("1,000 1,000") for table in tables] == [0, 2, 1]


@pytest.mark.usefixtures("toys")
def test_reproduce_reports_at_its_end_what_failed(
    crew: Crew, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crew.fails = {"a": UserError("no such teacher"), "c": ZeroDivisionError("by nothing")}
    with pytest.raises(SystemExit) as exit_:
        reproduce(tmp_path, "toy", "other", "--seeds", "1", "--workers", "1")
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert "1,000" in captured.out  # b was run, and is shown
    *before, last = captured.err.splitlines()
    assert "2 of the runs failed" in last
    assert "toy: a, seed 1: failed: no such teacher" in last
    assert "other: c, seed 1: failed: ZeroDivisionError('by nothing')" in last
    assert before.count("Traceback (most recent call last):") == 1  # of what is no bad input


def test_a_look_at_real_pong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "in_a_process", engine.run_job)
    words = ["--methods", "random", "--seeds", "1", "--workers", "1", "--budget", "smoke"]
    reproduce(tmp_path, "four-experts", *words)
    (row,) = read_rows(tmp_path / "results", "rows.jsonl")
    assert (row["env_steps"], row["episodes"]) == (1_024, 1)
    assert row["env_steps_to_target"] is None
    assert "random" in capsys.readouterr().out


INTERRUPTED = """
import sys
from tests.test_experiments import toy
from tutelage import cli
cli.find_experiments = lambda: {"toy": toy(a={
    "teachers": (sys.argv[1],), "student": "mlp:4", "num_envs": 2, "round_steps": 128,
    "precision": "fp32", "eval_from": 10**9})}
cli.main(["reproduce", "toy", "--budget", "paper", "--seeds", "1", "--workers", "1",
          "--results", sys.argv[2], "--runs", sys.argv[3]])
"""


@pytest.fixture
def grid_under_way(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    model = cartpole_model(tmp_path / "teacher.safetensors")
    words = [model, str(tmp_path / "results"), str(tmp_path / "runs")]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_saves_the_runs_under_way_and_says_how_to_go_on(
    grid_under_way: subprocess.Popen[str], tmp_path: Path
) -> None:
    for _ in range(3000):
        if list((tmp_path / "runs").glob("*/metrics.jsonl")):
            break
        time.sleep(0.1)
    os.killpg(grid_under_way.pid, signal.SIGINT)  # as a terminal does: every process of it
    _, errors = grid_under_way.communicate(timeout=60)
    assert grid_under_way.returncode == 2
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "tutelage: stopped; the same command goes on from there"
    assert len(list((tmp_path / "runs").glob("*/checkpoints/*.safetensors"))) == 1
