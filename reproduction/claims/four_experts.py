"""Claim 8: four experts: whether it matters how one chooses among equals."""

from reproduction import Claim
from reproduction.teams import EXPERTS
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import alike

CLAIM = Claim(
    number="8",
    title="Four experts",
    claim="With four expert teachers, random, epsilon-greedy and UCB1 choices learn equally fast: "
    '"the performance of these students is practically identical" (section 4.5, figure 4.5-1).',
    paper="no difference seen",
    methods={
        name: {"teachers": EXPERTS, "selector": name}
        for name in ("random", "epsilon-greedy", "ucb1")
    },
    judge=alike("random", claimed=("epsilon-greedy", "ucb1"), within=1.25),
    plot=env_steps,
    told={
        "not settled": "No difference between selectors and random choice was seen, nor one of "
        "1.25 times ruled out."
    },
)
