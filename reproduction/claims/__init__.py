"""One module for each claim, with its ``CLAIM``."""
