"""What settles a claim: each judge looks at the rows of an experiment's methods.

With fewer than three seeds nothing is settled. A missed target counts as the env steps spent: where
that makes a ratio a bound, it settles only what the bound implies, so that a claim neither holds
nor fails by a run of which it is not known how long it would have taken.

Intervals are of 95 % each, whatever their number. That all of several comparisons hold by chance is
less likely than that one does; that one of them fails, or is the one that holds, is more likely.
"""

from collections.abc import Callable, Sequence

from tutelage.experiments import ByMethod, Judge, Row, Verdict
from tutelage.experiments.statistics import Interval, Ratio, Spent, difference, ratio
from tutelage.experiments.tasks import is_play

SEEDS = 3
"""Fewer settle nothing."""

HOLDS, FAILS, OPEN = "holds", "does not hold", "not settled"


def as_fast(
    reference: str, *, claimed: Sequence[str], within: float, any_of: bool = False
) -> Judge:
    """Judge that each of ``claimed`` (or at least one) needs few env steps.

    By the ratio of geometric means of env steps to the target, claimed over reference: it holds
    where the whole interval is at most ``within``, and fails where all of it is above.
    """

    def judge(rows: ByMethod) -> Verdict:
        which = "one ratio" if any_of else "every ratio"
        test = f"{which} of env steps to {reference}'s at most {within:g}"
        there = [m for m in claimed if _enough(rows, m, reference)]
        if not there:
            return Verdict(OPEN, _few(rows, reference, *claimed), test)
        ratios = {m: ratio_of(rows, m, reference) for m in there}
        words = [_at_most(r, within) for r in ratios.values()]
        words += [OPEN] * (len(claimed) - len(there))
        return Verdict((_any if any_of else _all)(words), _list(ratios), test)

    return judge


def faster(*pairs: tuple[str, str]) -> Judge:
    """Judge that in each pair the first needs fewer env steps than the second.

    By the ratio of geometric means, second over first: it holds where each interval is above 1,
    and fails where one is below.
    """

    def judge(rows: ByMethod) -> Verdict:
        test = "every ratio of env steps above 1"
        there = [(a, b) for a, b in pairs if _enough(rows, a, b)]
        if not there:
            return Verdict(OPEN, _few(rows, *(m for pair in pairs for m in pair)), test)
        ratios = {f"{b} / {a}": ratio_of(rows, b, a) for a, b in there}
        words = [_above_one(r) for r in ratios.values()]
        words += [OPEN] * (len(pairs) - len(there))
        return Verdict(_all(words), _list(ratios), test)

    return judge


def reaches(*claimed: str) -> Judge:
    """Judge that each method reaches its target: it holds where all seeds do, fails where none."""

    def judge(rows: ByMethod) -> Verdict:
        test = f"target reached by each of {SEEDS} seeds or more"
        there = {m: _reached(rows[m]) for m in claimed if rows.get(m)}
        if not there:
            return Verdict(OPEN, "not run", test)
        ours = ", ".join(f"{m}: {sum(of)} of {len(of)}" for m, of in there.items())
        words = [
            OPEN if len(of) < SEEDS else HOLDS if all(of) else OPEN if any(of) else FAILS
            for of in there.values()
        ]
        words += [OPEN] * (len(claimed) - len(there))
        return Verdict(_all(words), ours, test)

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

    def judge(rows: ByMethod) -> Verdict:
        test = f"every difference of mean returns above {by:g}"
        there = [(a, b) for a, b in pairs if _enough(rows, a, b)]
        if not there:
            return Verdict(OPEN, _few(rows, *(m for pair in pairs for m in pair)), test)
        gains = {f"{a} - {b}": difference(_returns(rows[a]), _returns(rows[b])) for a, b in there}
        words = [
            HOLDS if gain.low > by else FAILS if gain.high < by else OPEN for gain in gains.values()
        ]
        words += [OPEN] * (len(pairs) - len(there))
        return Verdict(_all(words), _list(gains), test)

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
        )

    return judge


def steps(rows: Sequence[Row]) -> list[float | None]:
    """Return the env steps to the target, None where it was missed."""
    return [row.get("env_steps_to_target") for row in rows]


def spent(rows: Sequence[Row]) -> Spent:
    """Return the env steps to the target, or those of the whole run where it was missed."""
    return Spent.of(steps(rows), [row["env_steps"] for row in rows])


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


def _all(words: Sequence[str]) -> str:
    """Return what all of it comes to: a single failure fails it."""
    return FAILS if FAILS in words else OPEN if OPEN in words else HOLDS


def _any(words: Sequence[str]) -> str:
    """Return what one of it comes to: only if all fail does it fail."""
    return HOLDS if HOLDS in words else OPEN if OPEN in words else FAILS


def _list(figures: "dict[str, Ratio] | dict[str, Interval]") -> str:
    return ", ".join(f"{name}: {figure}" for name, figure in figures.items())


def _reached(rows: Sequence[Row]) -> list[bool]:
    return [value is not None for value in steps(rows)]


def _returns(rows: Sequence[Row]) -> list[float]:
    if is_play(rows[0]["settings"]):
        return [value for row in rows for value in row["returns"]]
    return [row["mean_return"] for row in rows]


def _enough(rows: ByMethod, *methods: str) -> bool:
    return all(rows.get(m) and len(_returns(rows[m])) >= SEEDS for m in methods)


def _few(rows: ByMethod, *methods: str) -> str:
    return f"fewer than {SEEDS} seeds" if any(rows.get(m) for m in methods) else "not run"
