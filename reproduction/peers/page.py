"""``distillbench.md``, made from the rows alone."""

HEAD = """# DistillBench

Made by `python -m reproduction.peers --docs docs` from `results/distillbench/*.jsonl`; not typed.

Tutelage beside the libraries that people would take instead: the same frozen teachers, the same
environments, students of the same widths, as many env steps, the same seeds, and one judge, which
is Tutelage's evaluation.

**What was decided before any figure was seen.** The measure is the mean return of a student over 50
greedy episodes, from the same starts for all. A method's return is the mean over its seeds, with
a 95 % t interval. Two methods are compared at equal budgets of env steps, each by its own
settings and, beside, by those chosen for it. One is better where Welch's interval of the difference
leaves out 0; they are as good as equal where the whole interval lies within 5 % of what the
teacher's play is above random play; anything else is not settled. Seconds are of one core's time,
in distilling alone: what the teacher and the environment took belongs to them, evaluation does not.
Students are compared as they are at the end of their budget; none is chosen among several."""
