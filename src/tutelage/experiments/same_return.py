"""Claim 1: a small student plays like its teacher."""

from tutelage.experiments import Experiment
from tutelage.experiments.plots import returns
from tutelage.experiments.tasks import Play
from tutelage.experiments.verdicts import returns_more

EXPERIMENT = Experiment(
    number="1",
    title="A student of 6.4 % of the teacher's size",
    claim='The student has 432,492 parameters, "merely 6.4% of the teacher network size" of '
    "6,716,748, and returns as much (section 4.1; a network and its target copy are counted).",
    paper="teacher 21, student 21",
    methods={"teacher": Play("pong"), "student": Play("pong-small-1")},
    judge=returns_more(("student", "teacher"), by=-0.5),
    plot=returns,
)
