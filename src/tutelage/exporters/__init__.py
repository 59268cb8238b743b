"""Formats that policies are taken elsewhere in: one exporter a format.

A new format is one file and its entry in ``EXPORTERS``; one from outside of the package is named
``MODULE:NAME``, where NAME is an ``Exporter``.
"""

from tutelage.errors import UserError
from tutelage.exporters import c, onnx, onnx_int8, torch_export
from tutelage.exporters.base import Exporter, Portable, Written
from tutelage.specs import resolve

__all__ = ["EXPORTERS", "Exporter", "Portable", "Written", "exporter_named"]

INT8 = 0.99
"""The least share of equal actions of eight bits, unless the return is not inferior."""

EXPORTERS: dict[str, Exporter] = {
    "onnx": Exporter(onnx.write, onnx.open_file),
    "onnx-int8": Exporter(onnx_int8.write, onnx.open_file, INT8, by_return=True),
    "torch": Exporter(torch_export.write, torch_export.open_file),
    "c": Exporter(c.write, c.open_file),
    "c-int8": Exporter(c.write_int8, c.open_file, INT8, by_return=True),
}
"""Name -> exporter."""


def exporter_named(text: str) -> Exporter:
    """Return the exporter of that name, or of ``MODULE:NAME``; raise UserError otherwise."""
    found, rest = resolve("format", text, EXPORTERS)
    if not isinstance(found, Exporter) or rest:
        raise UserError(f"format {text!r} is no exporter, expected {', '.join(EXPORTERS)}")
    return found
