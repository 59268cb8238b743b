"""The models of the claims, and teams of teachers that several of them share."""

from pathlib import Path

MODELS = Path(__file__).parent / "models"


def model(name: str) -> str:
    """Return what names a model that comes with the reproduction, from any working directory."""
    return str(MODELS / f"{name}.safetensors")


GOOD, FAIR, WEAK = (model(f"pong-{quality}") for quality in ("good", "fair", "weak"))
EXPERTS = ("pong", "pong-small-1", model("pong-small-2"), model("pong-small-3"))
NOISY = tuple(f"{name}+noise:{sigma}" for sigma in (1, 2) for name in EXPERTS)
UNEQUAL = ("pong", GOOD, FAIR, WEAK, "pong+negate")
HALVES = TOP, BOTTOM = model("pong-top"), model("pong-bottom")
