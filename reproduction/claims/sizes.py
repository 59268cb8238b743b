"""Claim 7: how small a student may be."""

from reproduction import Claim
from reproduction.columns import sizes
from tutelage.sweeps.judges import reaches

WIDTHS = {
    "25 %": "32/32/32/256",
    "6.4 %": "student",
    "3.7 %": "12/12/12/96",
    "1.6 %": "8/8/8/64",
    "0.65 %": "6/6/6/32",
    "0.24 %": "4/4/4/16",
}
"""Share of the teacher's parameters -> the student's size."""

CLAIM = Claim(
    number="7",
    title="Sizes",
    claim='A student may be "as small as 7%" (Rusu et al.: 4 %) without loss (section 1).',
    paper="7 %, 4 %",
    methods={share: {"student": size} for share, size in WIDTHS.items()},
    judge=reaches("6.4 %", "3.7 %"),
    plot=sizes,
    told={"holds": "Students of 6.4 % and 3.7 % of the teacher's size reached 20 in every seed."},
)
