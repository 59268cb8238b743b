"""Claim 5: a student's network may express a policy that it fails to learn by itself."""

from reproduction import Claim
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import both, misses, reaches, returns_more

REWARD = {"reward_weight": "1", "learning_rate": "3e-4"}
KICKSTARTED = {"reward_weight": "1", "distill_weight": "1:0.2:10000", "student_tau": 0.1}
"""Distilled as usual, but on the scale of returns, and with reward on top."""

CLAIM = Claim(
    number="5",
    title="The student by itself",
    claim='The student\'s network "is not large enough to properly learn and explore" a policy by '
    "itself, though it can express it (section 4.4); here: not in as many env steps.",
    paper="no figure",
    methods={
        "distilled": {},
        "by itself": {
            **REWARD,
            "distill_weight": "0",
            "teacher_acts": "0",
            "explore": "epsilon:1:0.01:10000",
        },
        "kickstarted": KICKSTARTED,
        "kickstarted by MSE": {
            **REWARD,
            "distill_weight": "1:0:10000",
            "loss": "mse",
            "target": "raw",
        },
        "by itself, its teacher's budget": {"command": "teach", "size": "student", "seeds": 1},
    },
    judge=both(reaches("distilled"), misses("by itself"), returns_more(("distilled", "by itself"))),
    plot=env_steps,
    told={"holds": "Taught, the student reached 20 in every seed; from reward alone, in none."},
)
