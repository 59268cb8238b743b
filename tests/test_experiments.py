"""The claims as data, and the command that runs them: all of them, for a look, of real Pong."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import refusal
from tests.toys import Crew, toy
from tutelage import bundled_names, experiments
from tutelage.cli import main
from tutelage.commands import reproduce as command
from tutelage.configs import Distill, Teach
from tutelage.domains.pong import REGIONS
from tutelage.errors import UserError
from tutelage.experiments import (
    ByMethod,
    Row,
    document,
    find_experiments,
    local,
    verdicts,
)
from tutelage.experiments.grid import by_method, methods_of
from tutelage.experiments.jobs import BUDGETS, jobs
from tutelage.experiments.rows import finished
from tutelage.experiments.tasks import DATA, Play, Study, Training
from tutelage.exploration import parse_exploration
from tutelage.losses import parse_loss
from tutelage.networks import parse_size
from tutelage.selectors.parsing import parse_selector
from tutelage.targets import parse_target
from tutelage.teachers import parse_teacher

FOUND = find_experiments()
METHODS = [(name, method) for name, e in FOUND.items() for method in e.methods]


def test_every_module_with_an_experiment_is_found() -> None:
    assert {"four-experts", "half-experts", "twelve-teachers", "unequal-teachers"} <= set(FOUND)
    assert not {"teams", "grid", "document"} & set(FOUND)


def test_a_new_experiment_is_one_new_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from tests.toys import toy\nEXPERIMENT = toy(plain={'tau': 0.5})\n"
    (tmp_path / "my_idea.py").write_text(text)
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(tmp_path)])
    found = find_experiments()
    del sys.modules["tutelage.experiments.my_idea"]
    assert found["my-idea"].methods == {"plain": {"tau": 0.5}}
    assert found.keys() - {"my-idea"} == FOUND.keys()


def test_the_numbers_of_the_claims_are_theirs_alone_and_in_order() -> None:
    numbers = [e.number for e in FOUND.values()]
    assert len(set(numbers)) == len(numbers)
    # The paper's own, then what is beside each.
    assert [n for n in numbers if n.isdigit()] == [str(i) for i in range(1, 13)]
    at = [numbers.index(n) for n in ("3", "4", "4b", "4c", "5", "9", "9b", "10", "12")]
    assert at == sorted(at)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_the_settings_of_every_method_can_be_run(name: str, method: str, budget: str) -> None:
    asked = FOUND[name].methods[method]
    (job,) = [
        job for job in jobs(name, FOUND[name], seeds=1, budget=budget) if job.method == method
    ]
    if isinstance(job.task, Play):
        assert asked == Play(job.task.model, only=job.task.only)
        assert parse_teacher(job.task.model)[0] in bundled_names()
        assert job.task.only.partition(":")[0] in ("", *REGIONS)
        return
    changed = BUDGETS[budget]
    if isinstance(job.task, Training):
        assert isinstance(asked, Teach)
        assert job.task.config == replace(asked, **changed.data.get("train", {}), threads=1)
        return
    assert isinstance(job.task, Study)
    assert isinstance(asked, Mapping)
    settings = {**asked, **changed.study, "seed": 1, "threads": 1}
    data = {name: settings.pop(name) for name in DATA if name in settings}
    assert job.task.config == Distill(**settings)
    if not data:
        assert job.task.data is None
    for how, made in data.items():
        values = {**made, **changed.data.get(how, {}), "threads": 1}
        assert job.task.data == DATA[how](**values)
    config = job.task.config
    for teacher in config.teachers:
        assert parse_teacher(teacher)[0] in bundled_names()
    parse_selector(config.selector)
    parse_exploration(config.explore)
    parse_loss(config.loss)
    parse_target(config.target, config.tau)
    parse_size(config.student)


class Asked(dict[str, list[Row]]):
    """Rows that note for which methods they are asked."""

    def __init__(self, rows: ByMethod) -> None:
        super().__init__({method: list(of) for method, of in rows.items()})
        self.names: set[object] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> list[Row]:
        self.names.add(name)
        return super().__getitem__(name)


def some_rows(name: str, budget: str = "short") -> dict[str, list[Row]]:
    """Return three rows for each method of a claim, or one where a model plays."""
    rows: dict[str, list[Row]] = {method: [] for method in FOUND[name].methods}
    for job in jobs(name, FOUND[name], seeds=3, budget=budget):
        steps = {} if isinstance(job.task, Play) else {"env_steps_to_target": 10_000 + job.seed}
        of = {"settings": job.task.settings, "seed": job.seed, "env_steps": 50_000, **steps}
        of |= {"mean_return": 20.0 + job.seed, "returns": [20.0, 21.0], "ci95": [20.0, 21.0]}
        rows[job.method].append({**of, "target_return": 20.0, "commit": "0123456789"})
    return rows


@pytest.mark.parametrize("name", FOUND)
def test_a_judge_asks_for_methods_that_there_are(name: str) -> None:
    judge = FOUND[name].judge
    nothing, everything = Asked({}), Asked(some_rows(name))
    assert judge(nothing).word == verdicts.OPEN
    assert judge(nothing).ours.split("; ")[0] == "not run"
    assert "not run" not in judge(everything).ours
    assert nothing.names
    assert nothing.names | everything.names <= FOUND[name].methods.keys()


@pytest.mark.parametrize("name", FOUND)
def test_a_section_has_a_line_for_every_method(name: str) -> None:
    rows = some_rows(name)
    lines = document.section(name, FOUND[name], rows).splitlines()
    tables = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert [line.split(" | ")[0] for line in tables] == ["| method", *(f"| {m}" for m in rows)]
    assert len({line.count("|") for line in tables}) == 1


def test_a_claim_is_shown_with_the_budget_of_which_there_are_more_runs() -> None:
    short, paper = some_rows("boltzmann"), some_rows("boltzmann", "paper")
    few = short["greedy"][:2]
    everything = [*few, *(row for of in paper.values() for row in of)]
    assert methods_of("boltzmann", FOUND["boltzmann"], everything) == paper
    assert methods_of("boltzmann", FOUND["boltzmann"], few) == {"greedy": few}


# The command.


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    it = Crew()
    monkeypatch.setattr(local, "in_a_process", it)
    return it


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"toy": toy(a={"tau": 1.0}, b={"tau": 2.0}), "other": toy(c={"tau": 3.0})}
    monkeypatch.setattr(command, "find_experiments", lambda: found)


def reproduce(folder: Path, *words: str) -> None:
    main(["reproduce", *words, "--results", str(folder / "results"), "--runs", str(folder / "r")])


def test_reproduce_lists_the_experiments_and_what_they_claim(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["reproduce"])
    shown = capsys.readouterr().out
    for name, e in FOUND.items():
        assert name in shown
        # Flush left: a line of the table begins with the claim's first words.
        assert f"│ {e.claim[:12]}" in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["toys"], ["claim 'toys'", "choose from", "other", "toy"]),
        (["toy", "others"], ["claim 'others'", "choose from", "all"]),
        (["toy", "--budget", "huge"], ["budget 'huge'", "choose from paper, short, smoke"]),
        (["toy", "--engine", "steam"], ["engine 'steam'", "choose from", "local"]),
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
    reproduce(tmp_path, "all", "--seeds", "2", "--workers", "1")
    assert crew.ran[2:] == [("a", 1), ("a", 2), ("c", 1), ("c", 2)]
    assert capsys.readouterr().out.count("1,000 1,000") == 3


@pytest.mark.usefixtures("toys", "crew")
def test_a_look_leaves_the_rows_of_whole_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["reproduce", "other", "--seeds", "1", "--workers", "1", "--budget", "smoke"])
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["smoke"]
    main(["reproduce", "other", "--seeds", "1", "--workers", "1"])
    assert len(finished(tmp_path / "results" / "reproduce")) == 1


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


def test_a_look_at_every_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = tmp_path / "docs"
    reproduce(tmp_path, "all", "--seeds", "1", "--budget", "smoke", "--docs", str(docs))
    rows = finished(tmp_path / "results")
    shown = capsys.readouterr().out
    for name, e in FOUND.items():
        grid = jobs(name, e, seeds=1, budget="smoke")
        methods = by_method(grid, rows)
        assert {method: len(of) for method, of in methods.items()} == dict.fromkeys(e.methods, 1)
        for job in grid:
            (row,) = methods[job.method]
            assert row["episodes"] == 1
            if isinstance(job.task, Study | Training):
                assert row["env_steps_to_target"] is None
                assert row["env_steps"] >= 256
        assert name in shown
        assert f"\n| {next(iter(e.methods))} |" in document.section(name, e, methods)
        e.plot(methods, tmp_path / "figure.png", e.title)
    assert (docs / "reproduction.md").read_text() == document.page(rows)
