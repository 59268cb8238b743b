"""Claim 10: experts of half a court, in their half and on the whole."""

from reproduction import Claim, plays
from reproduction.teams import BOTTOM, TOP, model
from tutelage.sweeps.figures import returns
from tutelage.sweeps.judges import returns_more

TOP_REWARD = model("pong-top-reward")
"""Taught in the half-court game from reward too; ``TOP`` only by a teacher of the whole."""

CLAIM = Claim(
    number="10",
    title="Experts of half a court",
    claim='The top expert reaches "an average reward of up to 15.02" in its half, the bottom one '
    '"a maximum reward of 2"; "both of these agents performed poorly when operating in the '
    'entirety of the state space" (section 4.5).',
    paper="top 15.02, bottom 2",
    methods={
        "top expert, top half": plays(TOP_REWARD, only="ball-top"),
        "top expert, whole court": plays(TOP_REWARD),
        "top expert without reward, top half": plays(TOP, only="ball-top"),
        "top expert without reward, whole court": plays(TOP),
        "bottom expert, bottom half": plays(BOTTOM, only="ball-bottom"),
        "bottom expert, whole court": plays(BOTTOM),
    },
    judge=returns_more(
        ("top expert, top half", "top expert, whole court"),
        ("bottom expert, bottom half", "bottom expert, whole court"),
    ),
    plot=returns,
    told={
        "holds": "An expert of one half of the court plays well there and badly on the whole court."
    },
)
