"""Claim 4 in the paper's own setting, as far as it can be made out."""

from reproduction import Claim
from reproduction.claims.exploration import STRATEGIES
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import either, reaches

PUBLISHED = {
    "scaling": "unit",
    "teacher_acts": "0",
    "average": 0.0,
    "learning_starts": 50_000,
    "samples_per_step": 8.0,
    "learning_rate": "1e-4",
    "env_steps": 250_000,
    "tau": 0.01,
}
"""Pixels / 255, 50K steps before the first update, a batch of 32 every four steps' worth of
samples; the paper's 250K env steps."""

READINGS = {
    "softmax of both": {"loss": "mse-prob"},
    "softmax of the teacher's": {"loss": "mse", "target": "softmax"},
}
"""Of "MSE losses, softmax teacher Q-values processing with tau = 0.01"."""

CLAIM = Claim(
    number="4b",
    title="Exploration, in the paper's setting",
    claim="The same in the paper's own setting: pixels / 255, the student alone acts, 50K env "
    'steps of warm-up, "MSE losses, softmax teacher Q-values processing with tau = 0.01" in two '
    "readings (section 4.4).",
    paper="greedy 250K, Bayesian 250K, Boltzmann 400K; epsilon-greedy 16 at 5M",
    methods={
        f"{strategy}, {reading}": {**PUBLISHED, **loss, "explore": explore}
        for reading, loss in READINGS.items()
        for strategy, explore in STRATEGIES.items()
    },
    judge=either(
        *(reaches(f"greedy, {reading}", f"dropout of Q, {reading}") for reading in READINGS)
    ),
    plot=env_steps,
    told={"does not hold": "In the paper's own setting no run of ours reached 20."},
)
