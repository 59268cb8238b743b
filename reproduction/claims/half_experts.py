"""Claim 11: the contextual choice that the paper left undone."""

from collections.abc import Mapping
from pathlib import Path

from reproduction import Claim
from reproduction.columns import shares
from reproduction.teams import HALVES
from tutelage.choice_log import read_log
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import both, misses, reaches


def agreement(folder: Path) -> Mapping[str, float]:
    """Return how often the ball's half was given to its expert, over the last half of the log.

    Of states in which the ball is seen; the context is ``ball-half``, one-hot of top and bottom.
    """
    path = folder / "selections.jsonl"
    if not path.exists() or not path.stat().st_size:
        return {}
    log = read_log(path).feedback
    if log.context.shape[1] != 2:
        return {}
    context, arm = (values[len(log.arm) // 2 :] for values in (log.context, log.arm))
    seen = context.any(axis=1)
    return {"agreement_with_half": float((context[seen].argmax(axis=1) == arm[seen]).mean())}


LONGER = {"teacher_acts": "1:0:16000", "target_return": 18.0, "features": "ball-half"}
"""A choice per state is harder than one for all: the teachers act for longer."""

SELECTORS = (
    *("linear-thompson", "thompson-beta", "random", "ucb1"),
    *("doubly-robust", "linucb", "direct", "importance-weighted"),
)

CLAIM = Claim(
    number="11",
    title="Two experts of half a court each",
    claim="A contextual selector makes one student of the whole court from a top and a bottom "
    "expert, where neither selectors without a context nor either expert can (section 5, future "
    "work).",
    paper="not done",
    methods={
        **{name: {"teachers": HALVES, "selector": name, **LONGER} for name in SELECTORS},
        "linear-thompson, student acts": {
            "teachers": HALVES,
            "selector": "linear-thompson",
            **LONGER,
            "teacher_acts": "0",
            "pay": "all",
        },
        "top alone": {"teachers": HALVES[:1], **LONGER},
        "bottom alone": {"teachers": HALVES[1:], **LONGER},
    },
    judge=both(
        reaches("linear-thompson"),
        misses("thompson-beta", "random", "ucb1", "top alone", "bottom alone"),
    ),
    plot=env_steps,
    told={
        "holds": "A selector that sees where the ball is made one whole player of two experts "
        "of half a court; no other did."
    },
    score=agreement,
    columns={
        "agreement with the ball's half": shares(lambda row: row.scores.get("agreement_with_half"))
    },
)
