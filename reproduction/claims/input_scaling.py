"""Beside claim 4: what the scaling of the input alone changes."""

from reproduction import Claim
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import faster

CLAIM = Claim(
    number="4c",
    title="Scaling of the input",
    claim="Frames less their median in units of their deviation teach faster than pixels / 255 "
    "(ours; all else as usual).",
    paper="-",
    methods={"standard": {}, "unit": {"scaling": "unit"}},
    judge=faster(("standard", "unit")),
    plot=env_steps,
    told={
        "holds": "The student learnt more than twice as slowly from pixels / 255 as from "
        "standardised ones."
    },
)
