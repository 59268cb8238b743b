"""The rest of claim 2: which loss comes second.

Where neither reaches the target, env steps cannot tell, but the returns after all of them can.
"""

from reproduction import Claim
from tutelage.sweeps.figures import returns
from tutelage.sweeps.judges import returns_more

CLAIM = Claim(
    number="2a",
    title="The second loss",
    claim='After the KL divergence "followed by the MSE loss and then the NLL" (section 4.2, '
    "figure 4.2-1).",
    paper="MSE before NLL",
    methods={"mse": {"loss": "mse"}, "nll": {"loss": "nll"}},
    judge=returns_more(("mse", "nll")),
    plot=returns,
    told={
        "does not hold": "NLL came second, not MSE, which returned far less after the same budget."
    },
)
