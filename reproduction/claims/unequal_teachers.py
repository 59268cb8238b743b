"""Beside claim 9: teachers of truly different quality and an adversary.

Noise averages out, these do not.
"""

from reproduction import Claim
from reproduction.columns import shares
from reproduction.teams import UNEQUAL
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import as_fast

CLAIM = Claim(
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
    told={
        "not settled": "Among unequal teachers selectors came close to the best teacher alone, "
        "but missed in single seeds."
    },
    columns={
        "picks of the adversary": shares(
            lambda row: row.picks[4] / sum(row.picks) if row.picks else None
        )
    },
)
