"""What settles a claim: each judge looks at the rows of a sweep's methods.

With fewer than three seeds nothing is settled. A missed target counts as the env steps spent: where
that makes a ratio a bound, it settles only what the bound implies, so that a claim neither holds
nor fails by a run of which it is not known how long it would have taken.

Intervals are of 95 % each, whatever their number. That all of several comparisons hold by chance is
less likely than that one does; that one of them fails, or is the one that holds, is more likely.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tutelage.sweeps.rows import Row
from tutelage.sweeps.statistics import Interval, Ratio, Spent, difference, ratio

ByMethod = Mapping[str, Sequence[Row]]
"""The rows of each method, seed by seed."""


HOLDS, FAILS, OPEN = "holds", "does not hold", "not settled"


@dataclass(frozen=True)
class Verdict:
    """What came of a claim."""

    word: str
    """holds, does not hold or not settled."""
    ours: str
    """The figure that decides, with its interval."""
    test: str
    """What decided it."""
    at: Callable[[float], str] = field(default=lambda times: OPEN, compare=False)
    """The word there would be with so many times the seeds, if figures and spread stayed."""
    compared: tuple[str, ...] = field(default=(), compare=False)
    """The methods that it is about."""

    def seeds_wanted(self) -> float | None:
        """Return how many times the seeds would settle it, if figures and spread stayed.

        None where a hundred times would not, as where runs that missed their target leave a bound.
        """
        return next((times for times in TIMES if self.at(times) != OPEN), None)


Judge = Callable[[ByMethod], Verdict]

SEEDS = 3
"""Fewer settle nothing."""

Figure = TypeVar("Figure", bound=Interval)

TIMES = [1.05**n for n in range(95)]
"""What numbers of seeds are tried, up to a hundredfold."""


def _all(words: Sequence[str]) -> str:
    """Return what all of it comes to: a single failure fails it."""
    return FAILS if FAILS in words else OPEN if OPEN in words else HOLDS


def _any(words: Sequence[str]) -> str:
    """Return what one of it comes to: only if all fail does it fail."""
    return HOLDS if HOLDS in words else OPEN if OPEN in words else FAILS


def as_fast(
    reference: str, *, claimed: Sequence[str], within: float, any_of: bool = False
) -> Judge:
    """Judge that each of ``claimed`` (or at least one) needs few env steps.

    By the ratio of geometric means of env steps to the target, claimed over reference: it holds
    where the whole interval is at most ``within``, and fails where all of it is above.
    """
    which = "one ratio" if any_of else "every ratio"
    return _compare(
        [(method, reference) for method in claimed],
        figure=ratio_of,
        name=lambda method, _: method,
        word=lambda r: _at_most(r, within),
        test=f"{which} of env steps to {reference}'s at most {within:g}",
        joined=_any if any_of else _all,
    )


def alike(reference: str, *, claimed: Sequence[str], within: float) -> Judge:
    """Judge that each of ``claimed`` needs about as many env steps as the reference.

    It holds where the whole interval of the ratio lies in 1 / ``within`` … ``within``, and fails
    where it lies outside.
    """
    return _compare(
        [(method, reference) for method in claimed],
        figure=ratio_of,
        name=lambda method, _: method,
        word=lambda r: _all([_at_most(r, within), _at_most(r.inverse, within)]),
        test=f"every ratio of env steps to {reference}'s from {1 / within:g} to {within:g}",
    )


def faster(*pairs: tuple[str, str]) -> Judge:
    """Judge that in each pair the first needs fewer env steps than the second.

    By the ratio of geometric means, second over first: it holds where each interval is above 1,
    and fails where one is below.
    """
    return _compare(
        [(second, first) for first, second in pairs],
        figure=ratio_of,
        name=lambda second, first: f"{second} / {first}",
        word=_above_one,
        test="every ratio of env steps above 1",
    )


def reaches(*claimed: str) -> Judge:
    """Judge that each method reaches its target: it holds where all seeds do, fails where none."""
    return _reaching(claimed, all_do=HOLDS, none_does=FAILS, test="target reached by each")


def misses(*claimed: str) -> Judge:
    """Judge that each method misses its target: it holds where all seeds do, fails where none."""
    return _reaching(claimed, all_do=FAILS, none_does=HOLDS, test="target reached by none")


def _reaching(claimed: Sequence[str], *, all_do: str, none_does: str, test: str) -> Judge:
    def word(reached: Sequence[bool]) -> str:
        if len(reached) < SEEDS:
            return OPEN
        return all_do if all(reached) else OPEN if any(reached) else none_does

    def judge(rows: ByMethod) -> Verdict:
        of = f"{test} of {SEEDS} seeds or more"
        there = {m: [value is not None for value in steps(rows[m])] for m in claimed if rows.get(m)}
        if not there:
            return Verdict(OPEN, "not run", of)
        ours = ", ".join(f"{m}: {sum(reached)} of {len(reached)}" for m, reached in there.items())
        words = [*map(word, there.values()), *[OPEN] * (len(claimed) - len(there))]
        said = _all(words)
        return Verdict(said, ours, of, lambda times: said, tuple(there))

    return judge


def returns_more(*pairs: tuple[str, str], by: float = 0.0) -> Judge:
    """Judge that in each pair the first returns more than the second plus ``by``.

    By the difference of mean returns: it holds where each interval is above ``by``, and fails
    where one is below. The unit is a seed for a method that is studied, and the verdict is about
    what this method makes of any seed; for a model that plays it is an episode, and the verdict is
    about this very network. Where one stands against the other the interval is mostly the seeds'.

    The mean return of a seed that passed is that of the episodes that confirmed it: never below its
    target, and a little flattered by that.
    """
    return _compare(
        pairs,
        figure=lambda rows, a, b: difference(returns_of(rows[a]), returns_of(rows[b])),
        name=lambda a, b: f"{a} - {b}",
        word=lambda gain: HOLDS if gain.low > by else FAILS if gain.high < by else OPEN,
        test=f"every difference of mean returns above {by:g}",
    )


def _compare(
    pairs: Sequence[tuple[str, str]],
    *,
    figure: Callable[[ByMethod, str, str], Figure],
    name: Callable[[str, str], str],
    word: Callable[[Figure], str],
    test: str,
    joined: Callable[[Sequence[str]], str] = _all,
) -> Judge:
    """Judge pairs of methods by a figure each; a pair without seeds enough is open."""

    def judge(rows: ByMethod) -> Verdict:
        there = [pair for pair in pairs if all(_enough(rows, method) for method in pair)]
        if not there:
            some = any(rows.get(method) for pair in pairs for method in pair)
            return Verdict(OPEN, f"fewer than {SEEDS} seeds" if some else "not run", test)
        figures = {name(*pair): figure(rows, *pair) for pair in there}
        missing = [OPEN] * (len(pairs) - len(there))

        def at(times: float) -> str:
            return joined([*(word(one.narrowed(times)) for one in figures.values()), *missing])

        ours = ", ".join(f"{label}: {value}" for label, value in figures.items())
        compared = tuple(dict.fromkeys(method for pair in there for method in pair))
        return Verdict(at(1.0), ours, test, at, compared)

    return judge


def both(*judges: Judge) -> Judge:
    """Judge that all of several things hold: their figures and tests stand side by side."""
    return _joined(_all, judges)


def either(*judges: Judge) -> Judge:
    """Judge that one of several things holds: it fails only if all do."""
    return _joined(_any, judges)


def _joined(words: Callable[[Sequence[str]], str], judges: Sequence[Judge]) -> Judge:
    def judge(rows: ByMethod) -> Verdict:
        found = [one(rows) for one in judges]
        tests = dict.fromkeys(verdict.test for verdict in found)
        return Verdict(
            words([verdict.word for verdict in found]),
            "; ".join(verdict.ours for verdict in found),
            "; ".join(tests),
            lambda times: words([verdict.at(times) for verdict in found]),
            tuple(dict.fromkeys(method for verdict in found for method in verdict.compared)),
        )

    return judge


def steps(rows: Sequence[Row]) -> list[float | None]:
    """Return the env steps to the target, None where it was missed."""
    return [row.env_steps_to_target for row in rows]


def spent(rows: Sequence[Row]) -> Spent:
    """Return the env steps to the target, or those of the whole run where it was missed."""
    return Spent.of(steps(rows), [row.env_steps for row in rows])


def ratio_of(rows: ByMethod, ours: str, theirs: str) -> Ratio:
    """Return how many times the env steps of ``theirs`` the method ``ours`` took."""
    return ratio(spent(rows[ours]), spent(rows[theirs]))


def _at_most(r: Ratio, within: float) -> str:
    if r.low > within and not r.at_most:
        return FAILS
    return HOLDS if r.high <= within and not r.at_least else OPEN


def _above_one(r: Ratio) -> str:
    if r.low > 1.0 and not r.at_most:
        return HOLDS
    return FAILS if r.high < 1.0 and not r.at_least else OPEN


def returns_of(rows: Sequence[Row]) -> list[float]:
    """Return a method's mean returns, seed by seed, or those of a model's episodes."""
    if rows[0].command.name == "evaluate":
        return [value for row in rows for value in row.returns]
    return [row.mean_return for row in rows]


def _enough(rows: ByMethod, method: str) -> bool:
    return bool(rows.get(method)) and len(returns_of(rows[method])) >= SEEDS
