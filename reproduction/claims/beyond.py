"""Claim 6: a student that also learns from reward may pass its teacher."""

from reproduction import Claim, plays
from reproduction.claims.alone import KICKSTARTED
from reproduction.teams import GOOD
from tutelage.sweeps.figures import returns
from tutelage.sweeps.judges import returns_more

FROM = {"teachers": (GOOD,)}
LONGER = {
    "distill_weight": "1:0.02:10000",
    "samples_per_step": 8.0,
    "learning_rate": "5e-4:5e-5",
    "explore": "epsilon:0.1:0.02:100000",
    "env_steps": 200_000,
}
"""Reward counts for more and more, and has the time that it takes."""

CLAIM = Claim(
    number="6",
    title="Beyond the teacher",
    claim='"An exploration strategy with enough exploration could lead to the student model '
    'surpassing the teacher model in performance" (section 4.4, section 5).',
    paper="no figure",
    methods={
        "teacher": plays(GOOD),
        "distilled": FROM,
        "kickstarted": {**FROM, **KICKSTARTED},
        "kickstarted, longer": {**FROM, **KICKSTARTED, **LONGER},
    },
    judge=returns_more(("kickstarted, longer", "teacher")),
    plot=returns,
    told={
        "holds": "With reward beside its teacher, the student came to return more than the "
        "teacher does."
    },
)
