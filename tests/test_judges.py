"""Each judge on rows worked out by hand: holds, fails, not settled; runs that missed, few seeds.

Three equal runs a side leave no interval but the ratio itself, and three that vary by a factor of e
around one, against three that do not vary, one of exp(-2.48) … exp(2.48) around theirs.
"""

import math
from collections.abc import Mapping, Sequence

import pytest

from tests.rows import play, study
from tutelage.sweeps.judges import (
    FAILS,
    HOLDS,
    OPEN,
    Judge,
    Verdict,
    alike,
    as_fast,
    both,
    either,
    faster,
    misses,
    reaches,
    returns_more,
)
from tutelage.sweeps.rows import Row
from tutelage.sweeps.statistics import difference
from tutelage.sweeps.tables import lines_of, log_ranks

Steps = Sequence[int | None]

FAST, SLOW, MISSED = [10_000] * 3, [20_000] * 3, [None] * 3
SPREAD = [round(10_000 * math.exp(x)) for x in (-1.0, 0.0, 1.0)]


def of(**steps: Steps) -> dict[str, list[Row]]:
    return {method: study(taken) for method, taken in steps.items()}


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        # Ratios of 1/2, 1 and 2 to a limit of 1.25.
        (FAST, SLOW, HOLDS),
        (FAST, FAST, HOLDS),
        (SLOW, FAST, FAILS),
        (SPREAD, FAST, OPEN),
        # Ours missed: the ratio is at least 5, or at least 2.5, or unknown.
        (MISSED, FAST, FAILS),
        (MISSED, SLOW, FAILS),
        ([10_000, 10_000, None], FAST, OPEN),
        ([None, None, 50_000], [49_000] * 3, OPEN),  # at least 1.02: it may be 100
        # Theirs missed: the ratio is at most 1/5; or at most 2, and nothing fails by that.
        (FAST, MISSED, HOLDS),
        (SLOW, [10_000, 10_000, None], OPEN),
        ([48_000] * 3, [10_000, 10_000, None], OPEN),
        # Both missed.
        (MISSED, MISSED, OPEN),
        # Two seeds on either side, or none.
        (FAST[:2], SLOW, OPEN),
        (FAST, SLOW[:2], OPEN),
        (FAST, [], OPEN),
        ([], SLOW, OPEN),
    ],
)
def test_whether_a_method_is_as_fast(ours: Steps, theirs: Steps, word: str) -> None:
    found = as_fast("theirs", claimed=("ours",), within=1.25)(of(ours=ours, theirs=theirs))
    assert found.word == word


def test_a_ratio_is_at_most_its_limit_where_its_whole_interval_is() -> None:
    rows = of(ours=SPREAD, theirs=FAST)
    # t of two degrees of freedom is 4.303, and the error of the mean 1 / sqrt(3).
    limit = math.exp(4.3027 / math.sqrt(3.0))
    assert as_fast("theirs", claimed=("ours",), within=1.001 * limit)(rows).word == HOLDS
    assert as_fast("theirs", claimed=("ours",), within=0.999 * limit)(rows).word == OPEN
    assert as_fast("theirs", claimed=("ours",), within=1.001 / limit)(rows).word == OPEN
    assert as_fast("theirs", claimed=("ours",), within=0.999 / limit)(rows).word == FAILS


@pytest.mark.parametrize(
    ("a", "b", "every", "one"),
    [
        (FAST, FAST, HOLDS, HOLDS),
        (FAST, SLOW, FAILS, HOLDS),
        (FAST, SPREAD, OPEN, HOLDS),
        (SLOW, SPREAD, FAILS, OPEN),
        (SLOW, MISSED, FAILS, FAILS),
        # The better ratio is only a bound, the other is known.
        ([5_000, 5_000, None], FAST, OPEN, HOLDS),
        (FAST, [], OPEN, HOLDS),
        (SLOW, [], FAILS, OPEN),
        ([], [], OPEN, OPEN),
    ],
)
def test_all_of_them_or_one_of_them(a: Steps, b: Steps, every: str, one: str) -> None:
    rows = of(theirs=FAST, a=a, b=b)
    for any_of, word in ((False, every), (True, one)):
        judge = as_fast("theirs", claimed=("a", "b"), within=1.25, any_of=any_of)
        assert judge(rows).word == word


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        (FAST, SLOW, HOLDS),
        (SLOW, FAST, FAILS),
        (FAST, FAST, OPEN),
        (FAST, SPREAD, OPEN),
        # The second missed: it is slower still.
        (FAST, MISSED, HOLDS),
        (FAST, [20_000, 20_000, None], OPEN),  # 1 is in the interval
        (FAST, [49_000, 49_000, None], HOLDS),
        (SLOW, [15_000, 15_000, None], OPEN),
        # The first missed: it is slower still.
        (MISSED, FAST, FAILS),
        ([49_000, 49_000, None], FAST, FAILS),
        ([10_000, 10_000, None], SLOW, OPEN),
        ([5_000, 5_000, None], [49_000] * 3, OPEN),
        (MISSED, MISSED, OPEN),
        (FAST[:2], SLOW, OPEN),
        (FAST, [], OPEN),
    ],
)
def test_whether_a_method_is_faster(first: Steps, second: Steps, word: str) -> None:
    found = faster(("first", "second"))(of(first=first, second=second))
    assert found.word == word


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        (FAST, FAST, HOLDS),
        (FAST, [12_000] * 3, HOLDS),  # 1 / 1.2
        ([12_000] * 3, FAST, HOLDS),
        (SLOW, FAST, FAILS),
        (FAST, SLOW, FAILS),
        (SPREAD, FAST, OPEN),
        (MISSED, FAST, FAILS),
        (FAST, MISSED, FAILS),
        (MISSED, MISSED, OPEN),
        ([49_000, 49_000, None], [49_000] * 3, OPEN),
        (FAST[:2], FAST, OPEN),
    ],
)
def test_whether_two_methods_are_alike(ours: Steps, theirs: Steps, word: str) -> None:
    found = alike("theirs", claimed=("ours",), within=1.25)(of(ours=ours, theirs=theirs))
    assert found.word == word


def test_a_bound_settles_nothing_against_itself() -> None:
    # The first missed once and is nevertheless ahead, clearly: how far, nobody knows.
    rows = of(first=[1_000, 1_000, 1_000, 1_000, None], second=[49_000] * 5)
    found = faster(("first", "second"))(rows)
    assert found.ours.startswith("second / first: ≤ ")
    assert found.word == OPEN
    # The other way round nothing fails by it.
    assert faster(("second", "first"))(rows).word == OPEN


def test_every_pair_is_to_be_faster() -> None:
    judge = faster(("a", "b"), ("b", "c"))
    assert judge(of(a=FAST, b=SLOW, c=MISSED)).word == HOLDS
    assert judge(of(a=FAST, b=SLOW, c=FAST)).word == FAILS
    assert judge(of(a=FAST, b=SLOW, c=SLOW)).word == OPEN
    assert judge(of(a=FAST, b=SLOW)).word == OPEN
    assert judge(of(a=SLOW, b=FAST)).word == FAILS  # whatever c will come to
    assert judge(of(a=FAST, b=SLOW)).ours == "b / a: 2.00 (2.00 … 2.00)"


@pytest.mark.parametrize(
    ("steps", "word", "ours"),
    [
        (FAST, HOLDS, "a: 3 of 3"),
        (MISSED, FAILS, "a: 0 of 3"),
        ([1_000, None, None], OPEN, "a: 1 of 3"),
        (FAST[:2], OPEN, "a: 2 of 2"),
        (MISSED[:2], OPEN, "a: 0 of 2"),
        ([], OPEN, "not run"),
    ],
)
def test_whether_a_method_reaches_its_target(steps: Steps, word: str, ours: str) -> None:
    found = reaches("a")(of(a=steps))
    assert (found.word, found.ours) == (word, ours)


@pytest.mark.parametrize(
    ("steps", "word"),
    [(MISSED, HOLDS), (FAST, FAILS), ([1_000, None, None], OPEN), (MISSED[:2], OPEN), ([], OPEN)],
)
def test_whether_a_method_misses_its_target(steps: Steps, word: str) -> None:
    assert misses("a")(of(a=steps)).word == word


def test_every_method_is_to_reach_its_target() -> None:
    assert reaches("a", "b")(of(a=FAST, b=SLOW)).word == HOLDS
    assert reaches("a", "b")(of(a=FAST, b=MISSED)).word == FAILS
    assert reaches("a", "b")(of(a=FAST)).word == OPEN
    assert reaches("a", "b")(of(a=MISSED)).word == FAILS


HIGH, LOW = study(FAST, [20.0, 20.5, 21.0]), study(MISSED, [-20.0, -20.5, -21.0])


@pytest.mark.parametrize(
    ("first", "second", "by", "word"),
    [
        (HIGH, LOW, 0.0, HOLDS),
        (LOW, HIGH, 0.0, FAILS),
        (HIGH, HIGH, 0.0, OPEN),
        (HIGH, LOW, 41.0, OPEN),  # the difference is 41
        (HIGH, LOW, 45.0, FAILS),
        (HIGH[:2], LOW, 0.0, OPEN),
        (HIGH, [], 0.0, OPEN),
        # Models that play, a single row each: their episodes are counted.
        (play(21.0, 20.0, 21.0), play(-1.0, 1.0, 0.0), 0.0, HOLDS),
        (play(21.0, 21.0, 21.0), play(21.0, 21.0, 21.0), 0.0, OPEN),
        (play(21.0, 21.0, 21.0), play(21.0, 21.0, 21.0), -0.5, HOLDS),
        (play(20.0, 20.0, 20.0), play(21.0, 21.0, 21.0), -0.5, FAILS),
        (play(21.0), play(-21.0), 0.0, OPEN),  # one episode says nothing
        # A method against a model: three seeds, and its episodes.
        (HIGH, play(18.0, 19.0, 17.0, 18.0), 0.0, HOLDS),
        (study(FAST, [14.0, 18.0, 22.0]), play(*[17.0] * 50), 0.0, OPEN),
        (HIGH[:2], play(18.0, 19.0, 17.0, 18.0), 0.0, OPEN),
    ],
)
def test_whether_a_method_returns_more(
    first: list[Row], second: list[Row], by: float, word: str
) -> None:
    found = returns_more(("first", "second"), by=by)({"first": first, "second": second})
    assert found.word == word


def test_the_unit_is_a_seed_or_an_episode() -> None:
    rows = {"method": HIGH, "model": play(18.0, 19.0, 17.0, 18.0)}
    found = returns_more(("method", "model"))(rows)
    assert found.ours == f"method - model: {difference([20.0, 20.5, 21.0], [18, 19, 17, 18])}"


def test_every_pair_is_to_return_more() -> None:
    judge = returns_more(("a", "b"), ("b", "c"))
    middle = study(FAST, [0.0, 0.5, 1.0])
    assert judge({"a": HIGH, "b": middle, "c": LOW}).word == HOLDS
    assert judge({"a": HIGH, "b": middle, "c": HIGH}).word == FAILS
    assert judge({"a": HIGH, "b": middle}).word == OPEN


def saying(word: str) -> Judge:
    return lambda rows: Verdict(word, f"figure of {word}", f"test of {word}")


@pytest.mark.parametrize(
    ("one", "two", "all_of_them", "one_of_them"),
    [
        (HOLDS, HOLDS, HOLDS, HOLDS),
        (HOLDS, OPEN, OPEN, HOLDS),
        (OPEN, OPEN, OPEN, OPEN),
        (HOLDS, FAILS, FAILS, HOLDS),
        (FAILS, OPEN, FAILS, OPEN),
        (FAILS, FAILS, FAILS, FAILS),
    ],
)
def test_several_things_hold_if_all_do_or_if_one_does(
    one: str, two: str, all_of_them: str, one_of_them: str
) -> None:
    for first, second in ((one, two), (two, one)):
        judges = saying(first), saying(second)
        ours = f"figure of {first}; figure of {second}"
        test = f"test of {first}" + f"; test of {second}" * (first != second)
        assert both(*judges)({}) == Verdict(all_of_them, ours, test)
        assert either(*judges)({}) == Verdict(one_of_them, ours, test)


@pytest.mark.parametrize(
    "judge",
    [
        as_fast("a", claimed=("b",), within=1.0),
        as_fast("a", claimed=("b",), within=1.0, any_of=True),
        alike("a", claimed=("b",), within=1.25),
        faster(("a", "b")),
        misses("a"),
        reaches("a"),
        returns_more(("a", "b")),
    ],
)
def test_what_was_not_run_is_said_to_be(judge: Judge) -> None:
    nothing: list[Mapping[str, list[Row]]] = [{}, {"a": [], "b": []}, {"other": HIGH}]
    for rows in nothing:
        found = judge(rows)
        assert (found.word, found.ours) == (OPEN, "not run")


# The table of a sweep.


def test_the_table_says_who_is_faster_and_by_chance() -> None:
    rows = of(first=FAST, late=SLOW, never=MISSED, same=FAST, few=FAST[:2])
    table = {line["method"]: line for line in lines_of(rows)}
    column = {method: line["P(faster)"] for method, line in table.items()}
    assert column == {"first": "", "late": "0.00", "never": "0.00", "same": "0.50", "few": "0.50"}
    assert table["first"]["times first"] == "1"
    assert table["never"]["times first"] == "≥ 5.00 (5.00 …)"
    assert table["never"]["env steps to 20, by seed"] == "- - -"
    assert (table["late"]["median"], table["never"]["median"]) == ("20,000", "-")
    assert log_ranks(rows) == "Log-rank test against first, p: late 0.1, never 0.1, same 1."
    # Any of them may be the one that the others are compared with.
    table = {line["method"]: line for line in lines_of(rows, "late")}
    assert (table["late"]["times late"], table["first"]["P(faster)"]) == ("1", "1.00")
    assert log_ranks(rows, "late").startswith("Log-rank test against late, p: first 0.1")


@pytest.mark.parametrize(
    "rows",
    [
        {"model": play(1.0, 2.0)},
        of(first=FAST),
        of(first=FAST[:2], other=SLOW),
        {"model": play(1.0, 2.0), **of(first=FAST)},
    ],
)
def test_without_two_methods_of_seeds_enough_nothing_is_tested(
    rows: Mapping[str, list[Row]],
) -> None:
    table = lines_of(rows)
    assert [line["method"] for line in table] == list(rows)
    assert len({tuple(line) for line in table}) == 1
    assert log_ranks(rows) == ""


def test_more_seeds_settle_what_is_no_bound() -> None:
    rows = {"slow": study([1_000, 1_100, 1_900]), "usual": study([1_000, 1_000, 1_000])}
    open_still = faster(("usual", "slow"))(rows)
    assert open_still.word == "not settled"
    times = open_still.seeds_wanted()
    assert times is not None
    assert open_still.at(times) == "holds"
    assert open_still.at(times / 1.1) == "not settled"
    assert open_still.compared == ("slow", "usual")
    # Of a claim that all reach and none does, no number of seeds makes another.
    mixed = both(reaches("usual"), misses("mixed"))({**rows, "mixed": study([1_000, None, 900])})
    assert (mixed.word, mixed.seeds_wanted()) == ("not settled", None)
