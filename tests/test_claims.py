"""The claims: each settled by rows for it and against it, all of them run for a look, one added."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import reproduction
from reproduction import BUDGETS, Claim, evidence, find_claims
from reproduction.__main__ import main
from tests.rows import Crew, play, refusal, row_of_job, study
from tutelage.sweeps import local
from tutelage.sweeps.figures import returns
from tutelage.sweeps.grid import by_method
from tutelage.sweeps.judges import FAILS, HOLDS, OPEN, reaches
from tutelage.sweeps.rows import Row, finished
from tutelage.sweeps.tables import lines_of

FOUND = find_claims()
Rows = Mapping[str, list[Row]]
MINE = Claim(
    number="13",
    title="Sharp targets",
    claim="A student of sharper targets reaches 20 as well.",
    paper="-",
    methods={"usual": {}, "sharp": {"tau": 0.05}},
    judge=reaches("sharp"),
    plot=returns,
)


# Each claim.


def test_the_numbers_of_the_claims_are_theirs_alone_and_in_order() -> None:
    numbers = [claim.number for claim in FOUND.values()]
    assert len(set(numbers)) == len(numbers)
    # The paper's own, then what is beside each.
    assert [n for n in numbers if n.isdigit()] == [str(i) for i in range(1, 13)]
    at = [numbers.index(n) for n in ("3", "4", "4b", "4c", "5", "9", "9b", "10", "12")]
    assert at == sorted(at)


def test_every_method_can_be_run_within_every_budget() -> None:
    jobs = {
        budget: {
            (name, job.method): job
            for name, claim in FOUND.items()
            for job in claim.jobs(name, seeds=1, budget=budget)
        }
        for budget in BUDGETS
    }
    methods = {(name, method) for name, claim in FOUND.items() for method in claim.methods}
    assert all(of.keys() == methods for of in jobs.values())
    usual = jobs["short"]["offline", "online"].settings
    assert (usual["env_steps"], usual["precision"], usual["env"]) == (50_000, "bf16", "pong")
    assert jobs["paper"]["offline", "online"].settings == {**usual, "env_steps": 250_000}
    assert all(job.task.most_env_steps <= 256 for job in jobs["smoke"].values())
    played = jobs["smoke"]["offline", "offline, the teacher plays"].settings
    assert (played["data.env_steps"], played["data.teacher"]) == (256, usual["teachers"][0])
    # Claims that ask for the same share its runs.
    assert len({job.key for job in jobs["short"].values()}) < len(methods)


QUICK, SLOW = study([10_000, 11_000, 12_000]), study([40_000, 42_000, 44_000])
MISSED = study([None] * 3, [-9.0, -10.0, -11.0])
HIGH, MIDDLE, LOW = ([mean - 0.5, mean, mean + 0.5] for mean in (20.0, 15.0, -10.0))


def every(rows: list[Row], *methods: str) -> dict[str, list[Row]]:
    return dict.fromkeys(methods, rows)


@dataclass(frozen=True)
class Case:
    """Rows by which a claim holds, and some by each of which it does not."""

    holds: Rows
    fails: Sequence[Rows]


def whole_and_half(half: Sequence[float], whole: Sequence[float]) -> dict[str, list[Row]]:
    return {
        f"{which} expert, {where}": play(*returns)
        for which in ("top", "bottom")
        for where, returns in ((f"{which} half", half), ("whole court", whole))
    }


LOSSES = ("mse", "nll", "mse + nll")
TAUS = ("0.1", "0.001", "1", "2", "10")
EXPLORING = ("greedy", "boltzmann", "dropout of Q")
READINGS = ("softmax of both", "softmax of the teacher's")
OTHERS = ("thompson-beta", "random", "ucb1", "top alone", "bottom alone")
SELECTORS = ("thompson-beta", "ucb1", "epsilon-greedy")

CASES: dict[str, Case] = {
    "same-return": Case(
        {"student": play(20.0, 20.0, 20.2), "teacher": play(20.0, 20.2, 20.2)},
        [{"student": play(*MIDDLE), "teacher": play(*HIGH)}],
    ),
    "losses": Case(
        {"kl": QUICK, **every(SLOW, *LOSSES)},
        [{"kl": SLOW, **every(QUICK, *LOSSES)}, {"kl": SLOW, **every(SLOW, *LOSSES), "nll": QUICK}],
    ),
    "second-loss": Case(
        {"mse": study([None] * 3, HIGH), "nll": study([None] * 3, LOW)},
        [{"mse": study([None] * 3, LOW), "nll": study([None] * 3, HIGH)}],
    ),
    "temperature": Case(
        {"kl, tau 0.01": QUICK, **every(SLOW, *(f"kl, tau {tau}" for tau in TAUS))},
        [
            {
                "kl, tau 0.01": SLOW,
                **every(MISSED, *(f"kl, tau {tau}" for tau in TAUS[1:])),
                "kl, tau 0.1": QUICK,
            }
        ],
    ),
    "exploration": Case(
        {**every(QUICK, *EXPLORING), "epsilon-greedy": MISSED},
        [
            {**every(QUICK, *EXPLORING), "epsilon-greedy": SLOW},
            {**every(MISSED, *EXPLORING), "epsilon-greedy": MISSED},
        ],
    ),
    "boltzmann": Case(
        {"greedy": QUICK, "dropout of Q": QUICK, "boltzmann": SLOW},
        [{"greedy": SLOW, "dropout of Q": SLOW, "boltzmann": QUICK}],
    ),
    "exploration-as-published": Case(
        {
            **every(QUICK, f"greedy, {READINGS[0]}", f"dropout of Q, {READINGS[0]}"),
            **every(MISSED, f"greedy, {READINGS[1]}", f"dropout of Q, {READINGS[1]}"),
        },
        [every(MISSED, *(f"{s}, {of}" for s in ("greedy", "dropout of Q") for of in READINGS))],
    ),
    "input-scaling": Case(
        {"standard": QUICK, "unit": MISSED}, [{"standard": MISSED, "unit": QUICK}]
    ),
    "alone": Case(
        {"distilled": QUICK, "by itself": MISSED},
        [
            {"distilled": QUICK, "by itself": study([44_000] * 3, [20.0, 20.1, 20.2])},
            {"distilled": MISSED, "by itself": MISSED},
        ],
    ),
    "beyond": Case(
        {"kickstarted, longer": study([None] * 3, HIGH), "teacher": play(*MIDDLE)},
        [{"kickstarted, longer": study([None] * 3, LOW), "teacher": play(*MIDDLE)}],
    ),
    "sizes": Case(every(QUICK, "6.4 %", "3.7 %"), [{"6.4 %": QUICK, "3.7 %": MISSED}]),
    "four-experts": Case(
        every(QUICK, "random", "epsilon-greedy", "ucb1"),
        [
            {"random": SLOW, **every(QUICK, "epsilon-greedy", "ucb1")},
            {"random": QUICK, "epsilon-greedy": QUICK, "ucb1": SLOW},
        ],
    ),
    "twelve-teachers": Case(
        every(QUICK, "experts only", "ucb1"), [{"experts only": QUICK, "ucb1": MISSED}]
    ),
    "twelve-best": Case(
        {"experts only": QUICK, "thompson-beta": SLOW, "thompson-beta, longer lead": QUICK},
        [{"experts only": QUICK, **every(SLOW, "thompson-beta", "thompson-beta, longer lead")}],
    ),
    "unequal-teachers": Case(
        {"best alone": QUICK, **every(SLOW, *SELECTORS), "ucb1": QUICK},
        [{"best alone": QUICK, **every(SLOW, *SELECTORS)}],
    ),
    "half-courts": Case(whole_and_half(MIDDLE, LOW), [whole_and_half(LOW, MIDDLE)]),
    "half-courts-as-published": Case(whole_and_half(MIDDLE, LOW), [whole_and_half(LOW, MIDDLE)]),
    "half-experts": Case(
        {"linear-thompson": QUICK, **every(MISSED, *OTHERS)},
        [
            {"linear-thompson": MISSED, **every(MISSED, *OTHERS)},
            {"linear-thompson": QUICK, **every(MISSED, *OTHERS), "random": SLOW},
        ],
    ),
    "offline": Case(
        every(QUICK, "online", "offline, the teacher plays", "offline, the teacher learns"),
        [every(MISSED, "online", "offline, the teacher plays", "offline, the teacher learns")],
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_claim_holds_by_rows_for_it_and_fails_by_rows_against_it(name: str) -> None:
    judge, case = FOUND[name].judge, CASES[name]
    for rows in (case.holds, *case.fails):
        assert rows.keys() <= FOUND[name].methods.keys()
    assert judge({}).word == OPEN
    assert judge(case.holds).word == HOLDS
    assert [judge(rows).word for rows in case.fails] == [FAILS] * len(case.fails)


# What a claim is told by.


def rows_of(name: str, **given: Any) -> list[Row]:
    """Return a row for every run of a claim."""
    return [row_of_job(job, **given) for job in FOUND[name].jobs(name, seeds=3)]


def test_rows_of_other_settings_still_speak_for_a_claim_and_are_said_to_be_older(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = rows_of("boltzmann", commit="c" * 40)
    code = evidence.Code("1234567", frozenset())
    now = evidence.evidence("boltzmann", FOUND["boltzmann"], rows)
    assert {method: len(of) for method, of in now.methods.items()} == dict.fromkeys(now.methods, 3)
    assert now.age(code) == ""
    other = evidence.Code("1234567", frozenset({"c" * 40}))
    assert now.age(other) == "Older than the code: 9 of 9 runs, by code (9)."
    # Another default.
    changed = {**reproduction.USUAL["distill"], "precision": "fp32", "tau": 0.2}
    usual = {**reproduction.USUAL, "distill": changed}
    monkeypatch.setattr(reproduction, "USUAL", usual)
    then = evidence.evidence("boltzmann", FOUND["boltzmann"], rows)
    assert then.methods == now.methods
    assert then.age(code) == "Older than the code: 9 of 9 runs, by precision (9), tau (9)."
    # What is run now counts alone once there is as much of it.
    new = [row for row in rows_of("boltzmann") if row.seed < 3]
    assert evidence.evidence("boltzmann", FOUND["boltzmann"], [*rows, *new]).methods == now.methods
    new = rows_of("boltzmann")
    found = evidence.evidence("boltzmann", FOUND["boltzmann"], [*rows, *new])
    assert found.age(other) == ""
    # Without its name a run speaks for whoever would run it.
    nameless = rows_of("boltzmann", methods=(("other", "x"),))
    assert evidence.evidence("boltzmann", FOUND["boltzmann"], nameless).methods.keys() == {
        *FOUND["boltzmann"].methods
    }


def test_a_claim_from_outside_is_run_and_judged_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "in_a_process", Crew())
    places = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    main(["tests.test_claims:MINE", "--workers", "1", *places])
    assert "1,000 1,000 1,000" in capsys.readouterr().out
    methods = evidence.evidence(
        "tests.test_claims:MINE", MINE, finished(tmp_path / "results")
    ).methods
    assert MINE.judge(methods).word == HOLDS


# The command.


def test_without_a_claim_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    shown = capsys.readouterr().out
    assert all(name in shown for name in FOUND)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["toys"], ["claim 'toys'", "choose from", "losses", "all"]),
        (["losses", "--methods", "greedy"], ["method of losses 'greedy'", "choose from", "kl"]),
        (["losses", "--seeds", "0"], ["seeds"]),
        (["no.module:MINE"], ["claim 'no.module:MINE'"]),
        (["--report", "page.html", "--results", "nowhere"], ["no run has a row yet"]),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(
    words: list[str],
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(lambda: main(words), capsys)
    assert all(word in line for word in expected), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("same-return", "offline"), id="every kind"),
        pytest.param(tuple(FOUND), id="all", marks=pytest.mark.slow),
    ],
)
def test_a_look_at_claims(
    names: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # models are found from any folder
    words = ["--seeds", "1", "--budget", "smoke", "--docs", "docs", "--report", "page.html"]
    main([*names, *words])
    rows = finished(tmp_path / "results" / "smoke")
    shown = capsys.readouterr().out
    for name in names:
        claim = FOUND[name]
        methods = by_method(claim.jobs(name, seeds=1, budget="smoke"), rows)
        assert {m: len(of) for m, of in methods.items()} == dict.fromkeys(claim.methods, 1)
        assert name in shown
        assert len({tuple(line) for line in lines_of(methods, columns=claim.columns)}) == 1
        claim.plot(methods, tmp_path / "figure.png", claim.title)
    for row in rows:
        assert row.episodes == 1 or row.command.name == "teach"
        assert row.env_steps_to_target is None
        assert not any(file.startswith("/") for file in row.files)
    page = (tmp_path / "docs" / "reproduction.md").read_text()
    assert page.count("\n## ") >= len(names)
    assert (tmp_path / "page.html").stat().st_size > 10**5
