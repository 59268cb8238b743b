"""Claim 10 in the half-court game that the authors' code plays."""

from reproduction import Claim, plays
from reproduction.claims.half_courts import TOP_REWARD
from reproduction.teams import BOTTOM, model
from tutelage.sweeps.figures import returns
from tutelage.sweeps.judges import returns_more

TOP_2 = model("pong-top-2")

CLAIM = Claim(
    number="10a",
    title="Experts of half a court, in the game of the authors' code",
    claim="The same where the agent acts, and is rewarded, in every other step while the ball is "
    "elsewhere, as the authors' code has it; beside experts of the stricter game and a teacher of "
    "the whole court.",
    paper="top 15.02, bottom 2",
    methods={
        "top expert, top half": plays(TOP_2, only="ball-top:2"),
        "top expert, whole court": plays(TOP_2),
        "bottom expert, bottom half": plays(BOTTOM, only="ball-bottom:2"),
        "bottom expert, whole court": plays(BOTTOM),
        "teacher, top half": plays("pong", only="ball-top:2"),
        "teacher, bottom half": plays("pong", only="ball-bottom:2"),
        "expert of the stricter game, top half": plays(TOP_REWARD, only="ball-top:2"),
    },
    judge=returns_more(
        ("top expert, top half", "top expert, whole court"),
        ("bottom expert, bottom half", "bottom expert, whole court"),
    ),
    plot=returns,
    told={
        "holds": "In the game of the authors' code, too, an expert plays better in its own half."
    },
)
