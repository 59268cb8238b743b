"""Claim 2: which loss teaches fastest."""

from reproduction import Claim
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import faster

CLAIM = Claim(
    number="2",
    title="Losses",
    claim='"Using the KL divergence for the student loss results in the best student performance '
    'in terms of how quickly the student reaches maximum average reward"; combinations "were not '
    'significantly better" (section 4.2, figure 4.2-1).',
    paper="KL first; students 1.1M steps, the teacher 2.5M",
    methods={
        "kl": {},
        "mse": {"loss": "mse"},
        "nll": {"loss": "nll"},
        "mse-prob": {"loss": "mse-prob"},
        "mse + nll": {"loss": "mse:0.5+nll:0.5"},
        "teacher's own training": {"command": "teach", "seeds": 1},
    },
    judge=faster(*(("kl", loss) for loss in ("mse", "nll", "mse + nll"))),
    plot=env_steps,
    told={"holds": "With KL the student reached 20 more than twice as fast as with MSE or NLL."},
)
