"""Claim 9: twelve teachers: four experts, the same with noise N(0, 1), the same with N(0, 2)."""

from reproduction import Claim
from reproduction.teams import EXPERTS, NOISY
from tutelage.selectors import SELECTORS
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import as_fast

FIRST = ("random", "ucb1", "epsilon-greedy", "thompson-beta")
"""The paper's own and the default come first, should the time run out."""

LONGER = {"teacher_acts": "1:0:11000", "learning_starts": 3_000}
"""Twelve teachers take longer to be told apart: all try before the student learns, and lead on."""

TWELVE = (*EXPERTS, *NOISY)

CLAIM = Claim(
    number="9",
    title="Twelve teachers, eight of them noisy",
    paper="as fast as experts only",
    claim="With eight noisy teachers beside four experts, UCB1 learns as fast as from the experts "
    "alone (section 4.5, figure 4.5-2).",
    methods={
        "experts only": {"teachers": EXPERTS, "selector": "random"},
        **{
            name: {"teachers": TWELVE, "selector": name}
            for name in (*FIRST, *(name for name in SELECTORS if name not in FIRST))
        },
        "thompson-beta, longer lead": {"teachers": TWELVE, "selector": "thompson-beta", **LONGER},
    },
    judge=as_fast("experts only", claimed=("ucb1",), within=1.25),
    plot=env_steps,
    told={
        "does not hold": "With eight noisy teachers among twelve, UCB1 needed about twice the "
        "env steps of the four experts alone."
    },
)
