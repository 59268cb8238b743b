"""Tutelage beside the libraries that people would take instead: same teachers, budgets, judge.

``python -m reproduction.peers FOLDER`` runs what has no row yet; ``--docs docs`` writes
``distillbench.md`` and its figures from the rows. Each library distils by its own code, in an
environment of its own (``drivers/``); Tutelage plays all students.
"""
