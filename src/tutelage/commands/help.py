"""What ``--help`` says of each setting: its docstring in one paragraph, with its table's names."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import docstring_parser
from tyro import MISSING_NONPROP
from tyro.conf import arg
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from tutelage.assignment.measures import MEASURES
from tutelage.domains import DOMAINS
from tutelage.exploration import EXPLORATIONS
from tutelage.exporters import EXPORTERS
from tutelage.losses import LOSSES
from tutelage.networks import SIZES
from tutelage.selectors import SELECTORS
from tutelage.specs import spelled
from tutelage.targets import TARGETS
from tutelage.wrappers import WRAPPERS

CHOICES: Mapping[str, tuple[str, Iterable[str]]] = {
    "loss": ("Choose from", LOSSES),
    "target": ("Choose from", TARGETS),
    "explore": ("Choose from", spelled(EXPLORATIONS)),
    "selector": ("Choose from", SELECTORS),
    "selectors": ("Choose from", SELECTORS),
    "measure": ("Choose from", MEASURES),
    "domain": ("Choose from", DOMAINS),
    "to": ("Choose from", EXPORTERS),
    "student": ("Named sizes:", SIZES),
    "size": ("Named sizes:", SIZES),
    "teachers": ("Wrappers:", spelled(WRAPPERS)),
}
"""Setting -> the names of its table's entries, and how they are introduced."""

REGISTRY = ConstructorRegistry()
"""How tyro reads the settings of a command."""


@REGISTRY.struct_rule
def settings(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Return how a command or a group of settings is shown and read; None for anything else."""
    kind: Any = info.type
    if not is_dataclass(info.type):
        return None
    hints = get_type_hints(kind, include_extras=True)
    parsed = docstring_parser.parse_from_object(kind).params
    said = {one.arg_name: one.description or "" for one in parsed}
    shown = (
        _field(one, hints[one.name], said.get(one.name, ""), info.default) for one in fields(kind)
    )
    return StructConstructorSpec(instantiate=kind, fields=tuple(shown))


def _field(one: Field[Any], hint: Any, said: str, instance: Any) -> StructFieldSpec:
    default = getattr(instance, one.name, _usual(one))
    kind: Any = Annotated[hint, _shown(one.name, hint, said, default)]
    return StructFieldSpec(name=one.name, type=kind, default=default)


def _usual(one: Field[Any]) -> Any:
    """Return a field's own default, as tyro has one that is missing."""
    if one.default_factory is not MISSING:
        return one.default_factory()
    return MISSING_NONPROP if one.default is MISSING else one.default


def _shown(name: str, hint: Any, said: str, default: Any) -> Any:
    """Return how a setting is shown: a group by its plain name, which no flag repeats."""
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if is_dataclass(plain):
        # The settings of a command stand beside its own options.
        return arg(name="" if name == "config" else name, prefix_name=False)
    text = " ".join(said.split())
    if name in CHOICES:
        lead, names = CHOICES[name]
        text += f" {lead} {', '.join(names)}."
    told = default is None or default in ("", ())
    return arg(
        help=text,
        # What is empty by default is explained in words.
        help_behavior_hint="" if told else None,
        metavar=_metavar(plain),
    )


def _metavar(plain: Any) -> str | None:
    """Return what stands for the value of a setting that may be None, as if it may not."""
    options = get_args(plain)
    if len(options) != 2 or options[1] is not type(None):
        return None
    several = get_origin(options[0]) is tuple
    kind = get_args(options[0])[0] if several else options[0]
    name: str = kind.__name__.upper()
    return f"[{name} [{name} ...]]" if several else name
