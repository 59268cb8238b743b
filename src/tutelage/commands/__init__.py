"""The commands: each a dataclass whose fields are its flags, and what it shows."""
