"""Claim 4: how the student should explore, in our usual setting."""

from reproduction import Claim
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import both, faster, misses, reaches

STRATEGIES = {
    "greedy": "greedy",
    "epsilon-greedy": "epsilon:1:0.1:10000",
    "boltzmann": "boltzmann:0.1",
    "dropout of Q": "dropout-q:0.1",
    "mc-dropout": "mc-dropout:0.1",
}
"""Epsilon falls over a fifth of the budget, as in the authors' code; the student says q / 0.1, so
that Boltzmann's temperature is 0.01 on the scale of Q. Epsilon's noise is in the return in training
too, for which evaluations therefore must not wait."""

OTHERS = ("greedy", "boltzmann", "dropout of Q")

CLAIM = Claim(
    number="4",
    title="Exploration",
    claim='"Only Epsilon-Greedy exploration strategy failed to reach average reward of 21" '
    "(section 4.4).",
    paper="greedy, Bayesian, Boltzmann 21 within 400K; epsilon-greedy 16 at 5M",
    methods={
        name: {"explore": explore, **({"eval_readiness": 0.0} if name == "epsilon-greedy" else {})}
        for name, explore in STRATEGIES.items()
    },
    judge=both(
        reaches(*OTHERS),
        misses("epsilon-greedy"),
        faster(*((name, "epsilon-greedy") for name in OTHERS)),
    ),
    plot=env_steps,
    told={
        "not settled": "Epsilon-greedy was slower than the others, but it did not fail in every "
        "seed."
    },
)
