"""Two pieces of work in turn, A B A B …, and the ratio of their rates pair by pair."""

import statistics
import time
from collections.abc import Callable


def rate(work: Callable[[], int]) -> float:
    """Return how much ``work`` says it did, per second."""
    began = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - began)


def paired(
    ours: Callable[[], int], theirs: Callable[[], int], *, pairs: int = 5
) -> dict[str, float]:
    """Return median rates and the median, lowest and highest ratio ours / theirs."""
    ours(), theirs()  # a warm-up each
    measured = [(rate(ours), rate(theirs)) for _ in range(pairs)]
    ratios = [a / b for a, b in measured]
    return {
        "ours_per_second": statistics.median(a for a, _ in measured),
        "reference_per_second": statistics.median(b for _, b in measured),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }
