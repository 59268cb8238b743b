"""The rest of claim 4: who of those that succeed is faster."""

from reproduction import Claim
from reproduction.claims.exploration import STRATEGIES
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import faster

CLAIM = Claim(
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
    told={"not settled": "No difference in speed was seen between Boltzmann, greedy and dropout."},
)
