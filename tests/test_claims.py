"""Each claim's own judge on rows for the claim and on rows against it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from tests.test_verdicts import play, study
from tutelage.experiments import Row, find_experiments
from tutelage.experiments.verdicts import FAILS, HOLDS

FOUND = find_experiments()
Rows = Mapping[str, list[Row]]

QUICK, SLOW = study([10_000.0, 11_000.0, 12_000.0]), study([40_000.0, 42_000.0, 44_000.0])
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
            {"distilled": QUICK, "by itself": study([44_000.0] * 3, [20.0, 20.1, 20.2])},
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
    assert judge(case.holds).word == HOLDS
    assert [judge(rows).word for rows in case.fails] == [FAILS] * len(case.fails)
