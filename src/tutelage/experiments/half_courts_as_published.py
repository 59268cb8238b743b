"""Claim 10 in the half-court game that the authors' code plays."""

from tutelage.experiments import Experiment
from tutelage.experiments.half_courts import BOTTOM, TOP
from tutelage.experiments.plots import returns
from tutelage.experiments.tasks import Play
from tutelage.experiments.verdicts import returns_more

EXPERIMENT = Experiment(
    number="10a",
    title="Experts of half a court, in the game of the authors' code",
    claim="The same where the agent acts, and is rewarded, in every other step while the ball is "
    "elsewhere, as the authors' code has it; beside experts of the stricter game and a teacher of "
    "the whole court.",
    paper="top 15.02, bottom 2",
    methods={
        "top expert, top half": Play("pong-top-2", only="ball-top:2"),
        "top expert, whole court": Play("pong-top-2"),
        "bottom expert, bottom half": Play(BOTTOM, only="ball-bottom:2"),
        "bottom expert, whole court": Play(BOTTOM),
        "teacher, top half": Play("pong", only="ball-top:2"),
        "teacher, bottom half": Play("pong", only="ball-bottom:2"),
        "expert of the stricter game, top half": Play(TOP, only="ball-top:2"),
    },
    judge=returns_more(
        ("top expert, top half", "top expert, whole court"),
        ("bottom expert, bottom half", "bottom expert, whole court"),
    ),
    plot=returns,
)
