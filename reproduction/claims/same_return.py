"""Claim 1: a small student plays like its teacher."""

from reproduction import Claim, plays
from tutelage.sweeps.figures import returns
from tutelage.sweeps.judges import returns_more

CLAIM = Claim(
    number="1",
    title="A student of 6.4 % of the teacher's size",
    claim='The student has 432,492 parameters, "merely 6.4% of the teacher network size" of '
    "6,716,748, and returns as much (section 4.1; a network and its target copy are counted).",
    paper="teacher 21, student 21",
    methods={"teacher": plays("pong"), "student": plays("pong-small-1")},
    judge=returns_more(("student", "teacher"), by=-0.5),
    plot=returns,
    told={
        "holds": "A student of 6.4 % of the size returned as much as its teacher, within half a "
        "point."
    },
)
