"""Twelve teachers: four experts, the same with noise N(0, 1), the same with N(0, 2)."""

from tutelage.bandits import SELECTORS
from tutelage.experiments import Experiment
from tutelage.experiments.teams import EXPERTS, NOISY

FIRST = ("random", "ucb1", "epsilon-greedy", "thompson-beta")
"""The paper's own and the default come first, should the time run out."""

EXPERIMENT = Experiment(
    title="Twelve teachers, eight of them noisy",
    claim="With eight noisy teachers beside four experts, UCB1 learns as fast as from the experts "
    "alone (section 4.5, figure 4.5-2).",
    methods={
        "experts only": {"teachers": EXPERTS, "selector": "random"},
        **{
            name: {"teachers": (*EXPERTS, *NOISY), "selector": name}
            for name in (*FIRST, *(name for name in SELECTORS if name not in FIRST))
        },
    },
    reference="experts only",
    within=1.25,
    claimed=("ucb1",),
)
