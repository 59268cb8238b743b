"""How each library distils: one driver for each, run by the Python of an environment of its own.

``PYTHONPATH=reproduction/peers PYTHON -m drivers.NAME SPEC``: a driver knows nothing of Tutelage,
but for the one that drives it. It reads a ``Spec`` and leaves students that Tutelage can play.
"""
