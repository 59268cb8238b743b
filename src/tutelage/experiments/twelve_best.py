"""Beside claim 9: whether any selector copes with twelve teachers."""

from tutelage.experiments import Experiment
from tutelage.experiments.plots import env_steps
from tutelage.experiments.twelve_teachers import EXPERIMENT as TWELVE
from tutelage.experiments.verdicts import as_fast

BEST = ("thompson-beta", "thompson-beta, longer lead")

EXPERIMENT = Experiment(
    number="9a",
    title="The default selector among twelve teachers",
    claim="A selector learns from the twelve teachers within 1.25 times the env steps that the "
    "experts alone take (ours).",
    paper="-",
    methods={name: TWELVE.methods[name] for name in ("experts only", *BEST)},
    judge=as_fast("experts only", claimed=BEST, within=1.25, any_of=True),
    plot=env_steps,
)
