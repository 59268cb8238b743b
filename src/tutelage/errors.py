"""The one exception that is meant for the person at the keyboard."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

Entry = TypeVar("Entry")


class UserError(Exception):
    """Bad input: says what was given, what was expected and the choices. Exit code 2."""


class MisfitError(UserError):
    """A policy and an environment do not go together: what one does and what the other does."""

    def __init__(self, policy: str, env: str) -> None:
        """``policy`` and ``env`` continue a name: "sees 8 numbers", "gives 6 numbers"."""
        super().__init__(policy, env)
        self._policy, self._env = policy, env

    def __str__(self) -> str:
        return str(self.of("the policy", "the environment"))

    def of(self, policy: str, env: str) -> UserError:
        """Return the same error with both named."""
        return UserError(f"{policy} {self._policy}; {env} {self._env}")


class PolicyWarning(UserWarning):
    """What a person should know of a policy that is used all the same."""


class FaultyEnvironmentError(UserError):
    """An environment raised in the middle of a run, or gave what is no number."""


MANY = 20
"""Choices; of more, what was probably meant says enough."""


def choose_from(what: str, given: str, choices: Iterable[str]) -> UserError:
    """Return the error for a name that is not in a table.

    >>> str(choose_from("loss", "kll", ["mse", "kl"]))
    "unknown loss 'kll': did you mean kl? choose from kl, mse"
    """
    names = sorted(choices)
    hints = [hint] if (hint := did_you_mean(given, names)) else []
    if not hints or len(names) <= MANY:
        hints.append(f"choose from {', '.join(names)}")
    return UserError(f"unknown {what} {given!r}: {' '.join(hints)}")


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """Return the question whether the name most like ``given`` was meant; empty if none is.

    >>> did_you_mean("distil", ["distill", "teach"])
    'did you mean distill?'
    """
    alike = get_close_matches(given, list(names), n=1)
    return f"did you mean {alike[0]}?" if alike else ""


def look_up(what: str, name: str, table: Mapping[str, Entry]) -> Entry:
    """Return the entry of that name; raise UserError with the choices if there is none."""
    if name not in table:
        raise choose_from(what, name, table)
    return table[name]


def counted(number: int, what: str) -> str:
    """Return how many there are of ``what``, as one says it.

    >>> counted(1, "number"), counted(6, "number")
    ('1 number', '6 numbers')
    """
    return f"{number:,} {what}{'s' * (number != 1)}"


def shortened(text: str, most: int = 80) -> str:
    """Return a text of at most ``most`` characters: the beginning of a longer one."""
    return text if len(text) <= most else f"{text[: most - 3]}…"


def shown(value: Any) -> str:
    """Return a value as it stands in a program, as it is repeated in an error."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # thousands of digits, or lists in lists
        return "longer than can be shown"


def diverged(env_steps: int) -> UserError:
    """Return the error for a network that has come to NaN or infinite numbers."""
    return UserError(
        f"training diverged within {env_steps:,} env steps: the network has come to NaN or "
        "infinite numbers; begin anew with a smaller `learning_rate` or `max_grad_norm`"
    )
