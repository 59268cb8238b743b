"""Teachers of truly different quality, and an adversary: noise averages out, these do not."""

from tutelage.experiments import Experiment
from tutelage.experiments.teams import UNEQUAL

EXPERIMENT = Experiment(
    claim="A selector learns from teachers of 20, 18, -3 and -15 and an adversary within 1.5 times "
    "the env steps of the best teacher alone (ours; harder than section 4.5).",
    methods={
        "best alone": {"teachers": UNEQUAL[:1]},
        **{
            name: {"teachers": UNEQUAL, "selector": name}
            for name in ("random", "best-first", "thompson-beta", "ucb1", "epsilon-greedy")
        },
    },
)
