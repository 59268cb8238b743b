"""From rows and figures to what a person looks at: tables, curves, films, one page."""

from collections.abc import Iterator
from contextlib import contextmanager

from tutelage.errors import UserError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Say which extra of the package to install where what is imported within is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"this needs the package {error.name}: pip install 'tutelage[{extra}]'"
        ) from error
