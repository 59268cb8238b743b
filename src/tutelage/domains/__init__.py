"""Families of environments: all that is known of one is in its file."""
