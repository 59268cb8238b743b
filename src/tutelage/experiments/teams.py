"""Teams of teachers that several experiments share. A student says q / tau: scaled back."""

SMALL = tuple(f"pong-small-{i}+scale:0.1" for i in (1, 2, 3))
EXPERTS = ("pong", *SMALL)
NOISY = tuple(f"{name}+noise:{sigma}" for sigma in (1, 2) for name in EXPERTS)
UNEQUAL = ("pong", "pong-good", "pong-fair", "pong-weak", "pong+negate")
HALVES = ("pong-top+scale:0.1", "pong-bottom+scale:0.1")
