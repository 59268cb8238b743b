"""One grammar for what is named: ``NAME``, ``NAME:VALUE``, ``NAME:OPTION=VALUE,…``.

A name is looked up in a table; what is not in a table may come from outside of the package as
``MODULE:NAME``, as Gymnasium's ``module:Env-v0`` does. Values are read by the types of the entry's
own parameters.
"""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import (
    Annotated,
    Any,
    Literal,
    SupportsFloat,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from tutelage.errors import UserError, choose_from, shown
from tutelage.schedules import parse_schedule
from tutelage.types import Schedule

Entry = TypeVar("Entry")
Read = Callable[[str], Any]


@dataclass(frozen=True)
class Between:
    """What a number, or every value of a schedule, may be: from ``low`` to ``high``."""

    low: float = -math.inf
    high: float = math.inf

    def check(self, value: float) -> None:
        """Raise ValueError for a value outside, and for NaN."""
        if not self.low <= value <= self.high:
            raise ValueError(f"a number {self}")

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"of {self.low:g} or more"
        return f"from {self.low:g} to {self.high:g}"


Probability = Annotated[float, Between(0.0, 1.0)]
ProbabilitySchedule = Annotated[Schedule, Between(0.0, 1.0)]


def is_place(text: str) -> bool:
    """Return whether ``text`` is of the form ``MODULE:NAME``, with or without ``:REST``.

    >>> is_place("my.nets:small"), is_place("mlp:8"), is_place("ppo.zip")
    (True, False, False)
    """
    module, _, rest = text.partition(":")
    name = rest.partition(":")[0]
    return name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def resolve(what: str, text: str, table: Mapping[str, Entry]) -> tuple[Entry, str]:
    """Return the entry that ``text`` names and what follows its name.

    ``text`` is ``NAME[:REST]`` of the table or ``MODULE:NAME[:REST]`` of a module that can be
    imported, which is a program that the user names as one. Raises UserError with the choices.
    """
    name, _, rest = text.partition(":")
    if name in table:
        return table[name], rest
    if is_place(text):
        attribute, _, after = rest.partition(":")
        return load_object(what, f"{name}:{attribute}", table), after
    raise choose_from(what, name, table)


def load_object(what: str, text: str, table: Mapping[str, Any] | None = None) -> Any:
    """Return what ``MODULE:NAME`` names; raise UserError where there is none."""
    module, _, attribute = text.partition(":")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UserError(f"{what} {text!r}: importing {module} failed: {error}") from error
        choices = ":" if table is None else f"; choose from {', '.join(sorted(table))}, or"
        raise UserError(
            f"unknown {what} {text!r}: there is no module {module!r}{choices} "
            "name one of your own as MODULE:NAME"
        ) from None
    except (Exception, SystemExit) as error:  # a script may end where it is imported
        raise UserError(f"{what} {text!r}: importing {module} failed: {error!r}") from error
    if not hasattr(found, attribute):
        raise UserError(f"{what} {text!r}: module {module!r} has no {attribute!r}")
    return getattr(found, attribute)


def build(what: str, text: str, table: Mapping[str, Callable[..., Entry]], **given: Any) -> Entry:
    """Return what the entry of a table makes of the rest of ``text`` and of what is ``given``.

    Its parameters are the options: the first takes a bare value (``epsilon:0.1``), any may be
    named (``ucb1:exploration=2``). Raises UserError for an unknown name or option, a value of
    another type or outside of its bounds, and for one that is missing.
    """
    entry, rest = resolve(what, text, table)
    return construct(entry, f"{what} {shown(text)}", rest, given)


def construct(
    entry: Callable[..., Entry], where: str, rest: str, given: Mapping[str, Any]
) -> Entry:
    """Call ``entry`` with what is ``given`` and the options that ``rest`` spells."""
    try:
        readers, required = _options(entry, given)
    except (TypeError, ValueError, NameError) as error:  # no callable, or one without a signature
        raise UserError(f"{where} cannot be made: {error}") from error
    chosen: dict[str, Any] = {}
    bare = bool(rest) and "=" not in rest
    words = [rest] if bare else rest.split(",") if rest else []
    for word in words:
        name, equals, value = word.partition("=")
        if bare and readers:
            name, value = next(iter(readers)), word
        elif not equals or name not in readers:
            expected = ", ".join(f"{option}=…" for option in readers) or "none"
            raise UserError(f"{where}: unknown option {shown(word)}, expected {expected}")
        if name in chosen:
            raise UserError(f"{where}: {name} is given twice")
        try:
            chosen[name] = readers[name](value)
        except ValueError as error:
            raise UserError(f"{where}: {name} is {shown(value)}, expected {error}") from None
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    if missing := [name for name in required if name not in chosen]:
        raise UserError(f"{where} needs a value: {missing[0]}")
    try:
        inspect.signature(entry).bind(**given, **chosen)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} cannot be made: {error}") from error
    return entry(**given, **chosen)


def spelled(table: Mapping[str, Any]) -> list[str]:
    """Return the names of a table, each with the options that it needs: ``epsilon:EPSILON``.

    >>> spelled({"none": lambda: 0, "half": bool})
    ['none', 'half']
    """
    return [":".join([name, *map(str.upper, _needed(entry))]) for name, entry in table.items()]


def _needed(entry: Any) -> list[str]:
    """Return the options without which an entry of a table cannot be made."""
    try:
        _, required = _options(entry, {})
    except (TypeError, ValueError, NameError):  # no function that is given options
        return []
    return required


def _options(
    entry: Callable[..., Any], given: Mapping[str, Any]
) -> tuple[dict[str, Read], list[str]]:
    """Return how each option is read, in order, and which must be there."""
    function = entry.__init__ if inspect.isclass(entry) else entry
    hints = get_type_hints(function, include_extras=True)
    readers: dict[str, Read] = {}
    required: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in given or name not in hints or (read := _reader(hints[name])) is None:
            continue
        readers[name] = read
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
    return readers, required


def _reader(hint: Any) -> Read | None:
    bounds = Between()
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        for extra in extras:
            if isinstance(extra, Between):
                bounds = extra
            elif isinstance(extra, Table):
                return extra.read
    if get_origin(hint) is Literal:
        return lambda text: _one_of(text, get_args(hint))
    if hint == Schedule:
        return lambda text: parse_schedule(text, low=bounds.low, high=bounds.high)
    if get_origin(hint) in (Union, types.UnionType):
        known = [read for one in get_args(hint) if (read := _reader(one)) is not None]
        return (lambda text: _any_of(text, known)) if known else None
    plain = get_origin(hint) or hint
    if not inspect.isclass(plain):
        return None
    if plain is bool:
        return lambda text: _one_of(text, ("true", "false")) == "true"
    if issubclass(plain, int | np.integer):
        return lambda text: _number(text, int, bounds)
    if issubclass(plain, float | np.floating) or plain is SupportsFloat:
        return lambda text: _number(text, float, bounds)
    return str if plain is str else None


def _any_of(text: str, readers: Sequence[Read]) -> Any:
    """Return what the first makes of a text that can read it; raise ValueError if none can."""
    refused = []
    for read in readers:
        try:
            return read(text)
        except ValueError as error:
            refused.append(str(error))
    raise ValueError(" or ".join(dict.fromkeys(refused)))


@dataclass(frozen=True)
class Table:
    """Says of an option that it names an entry of another table."""

    what: str
    entries: Mapping[str, Callable[..., Any]]

    def read(self, text: str) -> Any:
        """Return what the entry that ``text`` names makes."""
        return build(self.what, text, self.entries)


def _one_of(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"one of {', '.join(choices)}")
    return text


def _number(text: str, kind: type[int] | type[float], bounds: Between) -> int | float:
    expected = "a whole number" if kind is int else "a number"
    try:
        value = kind(text)
        if not math.isfinite(value):
            raise ValueError(text)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None
    bounds.check(value)
    return value
