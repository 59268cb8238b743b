"""Beside claim 9: whether any selector copes with twelve teachers."""

from reproduction import Claim
from reproduction.claims.twelve_teachers import CLAIM as TWELVE
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import as_fast

BEST = ("thompson-beta", "thompson-beta, longer lead")

CLAIM = Claim(
    number="9a",
    title="The default selector among twelve teachers",
    claim="A selector learns from the twelve teachers within 1.25 times the env steps that the "
    "experts alone take (ours).",
    paper="-",
    methods={name: TWELVE.methods[name] for name in ("experts only", *BEST)},
    judge=as_fast("experts only", claimed=BEST, within=1.25, any_of=True),
    plot=env_steps,
    told={
        "not settled": "Our default selector was slower than the experts alone; with a longer "
        "lead of the teachers it came close."
    },
)
