"""Who teaches in which state, and what that choice is paid."""
