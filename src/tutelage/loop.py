"""The only training loop: a generator. Logging, evaluating, saving and stopping consume it."""

from collections.abc import Iterator

import numpy as np

from tutelage.bandits import Selector
from tutelage.learners import Learner
from tutelage.sources import Source
from tutelage.types import Row


def run(source: Source, learner: Learner, selector: Selector) -> Iterator[Row]:
    """Yield a row per round, and never end by itself.

    A selector picks a teacher, a source yields experience, a learner takes steps on it. Between
    two rows everything is at rest, so that a consumer may save, evaluate or stop there.
    """
    while True:
        choice = selector.choose(np.zeros((source.num_envs, 0)))
        measured = [learner.update(batch) for batch in source.collect(choice.arm)]
        last = measured[-1] if measured else {}
        yield Row(
            env_steps=source.env_steps,
            updates=learner.updates,
            metrics={
                **source.metrics(),
                **{name: sum(float(m[name]) for m in measured) / len(measured) for name in last},
            },
        )
