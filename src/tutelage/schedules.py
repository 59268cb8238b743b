"""Numbers that change with env steps or updates, written ``0.05`` or ``1:0.02:80000``."""

import math
import sys

from tutelage.errors import UserError
from tutelage.types import Schedule


def constant(value: float) -> Schedule:
    """Return ``value`` always."""
    return lambda step: value


def linear(start: float, end: float, over: int) -> Schedule:
    """Go from ``start`` to ``end`` in a straight line over ``over`` steps, then stay."""
    return lambda step: start + (end - start) * min(max(step / over, 0.0), 1.0)


def is_zero(text: str) -> bool:
    """Return whether the schedule that ``text`` spells is 0 from its start to its end."""
    schedule = parse_schedule(text, over=1)
    return schedule(0) == schedule(sys.maxsize) == 0.0


def parse_schedule(
    text: str, *, over: int | None = None, low: float = -math.inf, high: float = math.inf
) -> Schedule:
    """Return the schedule that ``text`` spells: ``VALUE`` or ``START:END:OVER``.

    >>> parse_schedule("1:0.02:80000")(40000)
    0.51

    Where ``over`` is given, ``START:END`` goes over that many steps. Raises UserError for anything
    else, and for values below ``low`` or above ``high``.
    """
    try:
        numbers = [float(word) for word in text.split(":")]
    except ValueError:
        numbers = []
    if over is not None and len(numbers) == 2:
        numbers.append(over)
    finite = all(map(math.isfinite, numbers))
    if finite and len(numbers) == 1:
        schedule = constant(numbers[0])
    elif finite and len(numbers) == 3 and numbers[2] >= 1:
        schedule = linear(numbers[0], numbers[1], int(numbers[2]))
    else:
        short = "" if over is None else ", START:END"
        raise UserError(
            f"unknown schedule {text!r}: "
            f"expected a number (0.05){short} or START:END:STEPS (1:0.02:80000)"
        )
    if not all(low <= value <= high for value in numbers[:2]):
        end = "up" if high == math.inf else f"to {high:g}"
        raise UserError(f"schedule {text!r}: expected a value from {low:g} {end}")
    return schedule
