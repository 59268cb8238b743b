"""How fast it is: every figure a ratio of two things measured in turn, in one run."""
