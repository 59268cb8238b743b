"""Claim 10: experts of half a court, in their half and on the whole."""

from tutelage.experiments import Experiment
from tutelage.experiments.plots import returns
from tutelage.experiments.tasks import Play
from tutelage.experiments.teams import HALVES
from tutelage.experiments.verdicts import returns_more

TAUGHT, BOTTOM = HALVES
TOP = "pong-top-reward"
"""Taught in the half-court game from reward too; ``TAUGHT`` only by a teacher of the whole."""

EXPERIMENT = Experiment(
    number="10",
    title="Experts of half a court",
    claim='The top expert reaches "an average reward of up to 15.02" in its half, the bottom one '
    '"a maximum reward of 2"; "both of these agents performed poorly when operating in the '
    'entirety of the state space" (section 4.5).',
    paper="top 15.02, bottom 2",
    methods={
        "top expert, top half": Play(TOP, only="ball-top"),
        "top expert, whole court": Play(TOP),
        "top expert without reward, top half": Play(TAUGHT, only="ball-top"),
        "top expert without reward, whole court": Play(TAUGHT),
        "bottom expert, bottom half": Play(BOTTOM, only="ball-bottom"),
        "bottom expert, whole court": Play(BOTTOM),
    },
    judge=returns_more(
        ("top expert, top half", "top expert, whole court"),
        ("bottom expert, bottom half", "bottom expert, whole court"),
    ),
    plot=returns,
)
