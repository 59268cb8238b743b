"""Claim 12: from recorded play as well as from one's own."""

from reproduction import Claim
from tutelage.sweeps.figures import env_steps
from tutelage.sweeps.judges import reaches

SAMPLES = 24_576
"""Env steps recorded; where the teacher learns, of a training that goes on where its own ended."""

CLAIM = Claim(
    number="12",
    title="Online and offline",
    claim="A student learns online, from states it visits itself, and offline, from a data set of "
    "its teacher's (section 3.2).",
    paper="both learn",
    methods={
        "online": {},
        "offline, the teacher plays": {"record": {"env_steps": SAMPLES}},
        "offline, the teacher explores": {
            "record": {"env_steps": SAMPLES, "explore": "epsilon:0.25"}
        },
        "offline, the teacher learns": {
            "train": {
                "env_steps": SAMPLES,
                "init": "pong",
                "epsilon": "0.05",
                "learning_rate": "1e-5",
            }
        },
    },
    judge=reaches("online", "offline, the teacher plays", "offline, the teacher learns"),
    plot=env_steps,
    told={
        "holds": "Students reached 20 online and from recorded data, whether the teacher played "
        "or learnt."
    },
)
