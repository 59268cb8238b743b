"""The rest of claim 4: who of those that succeed is faster."""

from tutelage.experiments import Experiment
from tutelage.experiments.exploration import STRATEGIES
from tutelage.experiments.plots import env_steps
from tutelage.experiments.verdicts import faster

EXPERIMENT = Experiment(
    number="4a",
    title="Boltzmann exploration",
    claim='"Greedy and Bayesian exploration reaching the maximum in 250K timesteps", Boltzmann in '
    "400K (section 4.4).",
    paper="greedy 250K, Bayesian 250K, Boltzmann 400K",
    methods={
        name: {"explore": STRATEGIES[name]} for name in ("greedy", "dropout of Q", "boltzmann")
    },
    judge=faster(("greedy", "boltzmann"), ("dropout of Q", "boltzmann")),
    plot=env_steps,
)
