"""Beside claim 9: teachers of truly different quality and an adversary.

Noise averages out, these do not.
"""

from tutelage.experiments import Experiment, Row
from tutelage.experiments.plots import env_steps
from tutelage.experiments.teams import UNEQUAL
from tutelage.experiments.verdicts import as_fast


def share(row: Row, arm: int) -> float | None:
    """Return the share of a teacher among the choices that were paid."""
    picks = row.get("picks")
    return picks[arm] / sum(picks) if picks else None


EXPERIMENT = Experiment(
    number="9b",
    title="Unequal teachers and an adversary",
    claim="A selector learns from teachers of 20, 18, -3 and -15 and an adversary within 1.5 times "
    "the env steps of the best teacher alone (ours; harder than section 4.5).",
    paper="-",
    methods={
        "best alone": {"teachers": UNEQUAL[:1]},
        **{
            name: {"teachers": UNEQUAL, "selector": name}
            for name in ("random", "best-first", "thompson-beta", "ucb1", "epsilon-greedy")
        },
    },
    judge=as_fast(
        "best alone",
        claimed=("thompson-beta", "ucb1", "epsilon-greedy"),
        within=1.5,
        any_of=True,
    ),
    plot=env_steps,
    columns={"picks of the adversary": lambda row: share(row, 4)},
)
