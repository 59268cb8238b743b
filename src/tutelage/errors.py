"""The one exception that is meant for the person at the keyboard."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


class UserError(Exception):
    """Bad input: says what was given, what was expected and the choices. Exit code 2."""


class PolicyWarning(UserWarning):
    """What a person should know of a policy that is used all the same."""


class FaultyEnvironmentError(UserError):
    """An environment raised in the middle of a run, or gave what is no number."""


def choose_from(what: str, given: str, choices: Iterable[str]) -> UserError:
    """Return the error for a name that is not in a table.

    >>> str(choose_from("loss", "kll", ["mse", "kl"]))
    "unknown loss 'kll': choose from kl, mse"
    """
    return UserError(f"unknown {what} {given!r}: choose from {', '.join(sorted(choices))}")


def look_up(what: str, name: str, table: Mapping[str, Entry]) -> Entry:
    """Return the entry of that name; raise UserError with the choices if there is none."""
    if name not in table:
        raise choose_from(what, name, table)
    return table[name]


def diverged(env_steps: int) -> UserError:
    """Return the error for a network that has come to NaN or infinite numbers."""
    return UserError(
        f"training diverged within {env_steps:,} env steps: the network has come to NaN or "
        "infinite numbers; begin anew with a smaller learning_rate or max_grad_norm"
    )


def positive(what: str, given: float) -> float:
    """Return ``given``; raise UserError unless it is above 0 (a NaN is not)."""
    if not given > 0:
        raise UserError(f"{what} {given}, expected a number above 0")
    return given
