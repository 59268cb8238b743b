"""Four experts: whether it matters how one chooses among equals."""

from tutelage.experiments import Experiment
from tutelage.experiments.teams import EXPERTS

EXPERIMENT = Experiment(
    title="Four experts",
    claim="With four expert teachers, random, epsilon-greedy and UCB1 choices reach 20 equally "
    "fast (section 4.5, figure 4.5-1).",
    methods={
        name: {"teachers": EXPERTS, "selector": name}
        for name in ("random", "epsilon-greedy", "ucb1")
    },
    reference="random",
    within=1.25,
    claimed=("epsilon-greedy", "ucb1"),
)
