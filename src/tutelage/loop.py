"""The only training loop: a generator. Logging, evaluating, saving and stopping consume it."""

from collections.abc import Iterator

from tutelage.assignment.round import Assignment
from tutelage.learner import Learner
from tutelage.sources.online import Source
from tutelage.types import Row


def run(source: Source, learner: Learner, assignment: Assignment) -> Iterator[Row]:
    """Yield a row per round, and never end by itself.

    A teacher is assigned, a source yields experience, a learner takes steps on it, the assignment
    is paid. Between two rows everything is at rest, so that a consumer may save, evaluate or stop
    there.
    """
    while True:
        assignment.begin()
        measured = [learner.update(batch) for batch in source.collect(assignment)]
        settled = assignment.settle()
        last = measured[-1] if measured else {}
        yield Row(
            env_steps=source.env_steps,
            updates=learner.updates,
            metrics={
                **source.metrics(),
                **assignment.metrics(),
                **{name: sum(float(m[name]) for m in measured) / len(measured) for name in last},
            },
            settled=settled,
        )
