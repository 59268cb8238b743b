"""Claim 6: a student that also learns from reward may pass its teacher."""

from tutelage.experiments import Experiment
from tutelage.experiments.alone import KICKSTARTED
from tutelage.experiments.plots import returns
from tutelage.experiments.tasks import Play
from tutelage.experiments.verdicts import returns_more

FROM = {"teachers": ("pong-good",)}

EXPERIMENT = Experiment(
    number="6",
    title="Beyond the teacher",
    claim='"An exploration strategy with enough exploration could lead to the student model '
    'surpassing the teacher model in performance" (section 4.4, section 5).',
    paper="no figure",
    methods={
        "teacher": Play("pong-good"),
        "distilled": FROM,
        "kickstarted": {**FROM, **KICKSTARTED},
    },
    judge=returns_more(("kickstarted", "teacher")),
    plot=returns,
)
