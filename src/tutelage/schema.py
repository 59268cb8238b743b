"""Settings from outside: read by name or in their groups, and checked by the types they have.

A configuration is a frozen dataclass of settings and of groups of them, which are dataclasses too.
Choices are a ``Literal``, bounds a ``Meta`` and schedules a ``Scheduled`` in the type. A kind whose
settings bring defaults for others says so by a classmethod ``brings``.
"""

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from msgspec import Meta

from tutelage.errors import UserError, choose_from, shown
from tutelage.schedules import is_zero, parse_schedule

Config = TypeVar("Config")


@dataclass(frozen=True)
class Scheduled:
    """Says of a string that it spells a schedule, and what its values may be."""

    low: float = 0.0
    high: float = math.inf
    over_run: bool = False
    """Whether START:END, over the whole run, is one too."""


def build(kind: type[Config], values: Mapping[str, Any], *, where: str = "") -> Config:
    """Return a configuration of that ``kind`` with ``values``, by name or in their groups.

    ``build(Distill, {"seed": 3, "env": "CartPole-v1"})``; the rest is as usual. Raises UserError,
    saying ``where``, for a name that is no setting and a value that does not fit.
    """
    try:
        named = _by_name(kind, values)
        return _filled(kind, _usual(kind), {**_brought(kind, named), **named})
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from None


def _brought(kind: type[Any], named: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the defaults that some values bring with them, where the kind says so."""
    found: Mapping[str, Any] = kind.brings(named) if hasattr(kind, "brings") else {}
    return found


def check(config: Config) -> Config:
    """Return a configuration that was put together by hand, if every value fits.

    Raises UserError for one that does not; numbers of NumPy become Python's own.
    """
    return changed(config)


def changed(config: Config, /, **values: Any) -> Config:
    """Return the configuration with other ``values``, by name; raise UserError as ``build``."""
    kind = type(config)
    return _filled(kind, vars(config), _by_name(kind, {**flat(config), **values}))


def flat(config: Any) -> dict[str, Any]:
    """Return every setting by its name, without the groups."""
    values: dict[str, Any] = {}
    for name, value in vars(config).items():
        values |= flat(value) if is_dataclass(value) else {name: value}
    return values


def nested(config: Any) -> dict[str, Any]:
    """Return every setting in its group, as plain data; what is None is left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items() if inner is not None}
        return list(value) if isinstance(value, tuple) else value

    values: dict[str, Any] = plain(asdict(config))
    return values


def settings_of(kind: type[Any]) -> dict[str, Any]:
    """Return every setting of a configuration by its name, and the type it has."""
    return dict(_settings(kind))


def _settings(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        plain = _plain(hints[one.name])
        if is_dataclass(plain):
            yield from _settings(plain)  # type: ignore[arg-type]
        else:
            yield one.name, hints[one.name]


def _by_name(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by their names, taken out of the groups that they come in."""
    known = settings_of(kind)
    groups = _groups(kind)
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in groups and isinstance(value, Mapping):
            found |= _by_name(groups[key], value)
        elif key in known:
            found[key] = value
        else:
            raise choose_from("setting", key, known)
    return found


def _groups(kind: type[Any]) -> dict[str, type[Any]]:
    hints = {name: _plain(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    return {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)
    }


def _usual(kind: type[Any]) -> dict[str, Any]:
    """Return the defaults of those fields that have one."""
    return {
        one.name: one.default if one.default_factory is MISSING else one.default_factory()
        for one in fields(kind)
        if one.default is not MISSING or one.default_factory is not MISSING
    }


def _filled(kind: type[Config], usual: Mapping[str, Any], values: Mapping[str, Any]) -> Config:
    given: dict[str, Any] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        plain = _plain(hint)
        if is_dataclass(plain):
            given[name] = _filled(plain, vars(usual[name]), values)  # type: ignore[arg-type]
        elif name in values:
            given[name] = _fit(name, values[name], hint)
        elif name in usual:
            given[name] = usual[name]
        else:
            raise UserError(f"{name} is not given, expected {NAMES[plain]}")
    return kind(**given)


def _plain(hint: Any) -> Any:
    """Return a type without what is annotated to it."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


NAMES = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}
LISTS = {str: 'a list of strings, as ["pong"]', float: "a list of numbers, as [1.0]"}
"""What a value should be, by the type of its setting."""


def _fit(name: str, value: Any, hint: Any) -> Any:
    """Return ``value`` as its setting's type has it; raise UserError if it does not fit."""
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    plain = _plain(hint)
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if get_origin(plain) in (Union, types.UnionType):
        options = [option for option in get_args(plain) if option is not type(None)]
        if value is None and len(options) < len(get_args(plain)):
            return None
        words = [option for option in options if get_origin(option) is Literal]
        plain = words[0] if words and isinstance(value, str) else options[0]
    if get_origin(plain) is Literal:
        choices = get_args(plain)
        if type(value) not in {type(choice) for choice in choices} or value not in choices:
            raise UserError(
                f"{name} is {shown(value)}, expected one of {', '.join(map(str, choices))}"
            )
        return value
    if get_origin(plain) is tuple:
        item = get_args(plain)[0]
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise UserError(f"{name} is {shown(value)}, expected {LISTS[item]}")
        return tuple(_scalar(name, one, item, LISTS[item]) for one in value)
    value = _scalar(name, value, plain, NAMES[plain])
    for extra in extras:
        if isinstance(extra, Meta):
            _check_bounds(name, value, extra)
        elif isinstance(extra, Scheduled):
            _check_schedule(name, value, extra)
    return value


def _scalar(name: str, value: Any, kind: type[Any], expected: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if kind is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"{name} is {shown(value)}, expected {expected}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{name} must be a finite number, got {value}")
    if kind is str and "\0" in value:
        raise UserError(f"{name} is {shown(value)}, expected a string without a zero byte")
    return value


def _check_bounds(name: str, value: float, bounds: Meta) -> None:
    low = bounds.ge if bounds.ge is not None else bounds.gt
    high = bounds.le if bounds.le is not None else bounds.lt
    above = low is None or (value >= low if bounds.ge is not None else value > low)
    below = high is None or (value <= high if bounds.le is not None else value < high)
    if above and below:
        return
    if high is None:
        expected = f"{'at least' if bounds.ge is not None else 'above'} {_number(low)}"
    else:
        left = "[" if bounds.ge is not None else "("
        right = "]" if bounds.le is not None else ")"
        expected = f"in {left}{_number(low)}, {_number(high)}{right}"
    raise UserError(f"{name} must be {expected}, got {shown(value)}")


def _number(end: float | None) -> str:
    return f"{end:,}" if isinstance(end, int) else f"{end:,g}"


def _check_schedule(name: str, text: str, bounds: Scheduled) -> None:
    over = 1 if bounds.over_run else None
    try:
        parse_schedule(text, over=over, low=bounds.low, high=bounds.high)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    if bounds.over_run and is_zero(text):
        raise UserError(f"{name}: schedule {text!r}: expected a value above 0 at one end at least")
