"""Claim 3: at which temperature the teacher's Q-values teach best."""

from reproduction import Claim
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import faster

TAUS = (0.01, 0.1, 0.001, 1.0, 2.0, 10.0)
"""The paper's and the default come first, should the time run out."""

CLAIM = Claim(
    number="3",
    title="Temperatures",
    claim='"Sharpening the Q-values with a temperature tau = 0.01 led to the best student '
    'performance" (section 4.3).',
    paper="tau = 0.01",
    methods={
        f"{loss}, tau {tau:g}": {"loss": loss, "tau": tau}
        for loss in ("kl", "mse", "mse-prob")
        for tau in TAUS
    },
    judge=faster(*(("kl, tau 0.01", f"kl, tau {tau:g}") for tau in TAUS if tau != 0.01)),
    plot=env_steps,
    told={
        "does not hold": "A temperature of 0.1 was faster than the paper's 0.01, which was "
        "among the slower ones."
    },
)
