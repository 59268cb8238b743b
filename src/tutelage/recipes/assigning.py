"""From a configuration to what assigns several teachers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tutelage.assignment.alone import Alone
from tutelage.assignment.credit import LastReward, SegmentReturn
from tutelage.assignment.measures import MEASURES
from tutelage.assignment.protocol import Assignment
from tutelage.assignment.round import PerRound
from tutelage.assignment.segment import PerSegment
from tutelage.assignment.state import PerState
from tutelage.configs import Distill
from tutelage.domains import About, Feature, about
from tutelage.errors import UserError, choose_from, look_up
from tutelage.evaluation import evaluate
from tutelage.models import Student
from tutelage.networks import Network
from tutelage.schedules import is_zero
from tutelage.selectors import build_selector, is_contextual
from tutelage.selectors.base import TakesTrials
from tutelage.specs import is_place, load_object
from tutelage.teachers import Ensemble, TeacherError
from tutelage.types import Array, seeded

HIDDEN = "hidden"
"""The one context that is no function of the observation: the student's own hidden layer."""


def check_names(config: Distill) -> None:
    """Raise UserError for a selector or a measure that there is not, used or not."""
    build_selector(
        config.selection.selector, num_arms=1, rng=np.random.default_rng(0), context_dim=1
    )
    look_up("measure", config.selection.measure, MEASURES)


def assign(
    config: Distill,
    ensemble: Ensemble,
    *,
    network: Student,
    play: Callable[[int], float],
) -> Assignment:
    """Return what assigns one of the ensemble to each state, by the selector asked for.

    ``network`` is the student's, whose hidden units may be the context; ``play(round)`` is what it
    returns in a short evaluation. Raises UserError for what does not go together.
    """
    asked, known = config.selection, about(config.environment)
    features = _features(config, known)
    never_asked = is_zero(config.distill_weight) and is_zero(config.teacher_acts)
    if len(ensemble.teachers) == 1 or never_asked:
        return Alone()
    names = tuple(teacher.name for teacher in ensemble.teachers)
    contextual = is_contextual(asked.selector)
    feature = features or _hidden(network, used=contextual)
    selector = build_selector(
        asked.selector,
        num_arms=len(names),
        rng=np.random.default_rng(seeded(config.seed, "selector")),
        context_dim=feature.dim,
    )
    if asked.choice_per == "round" and not contextual:
        measure = MEASURES[asked.measure]
        if measure.by_points and known.segment_ends is None:
            usual = ", ".join(name for name, one in MEASURES.items() if not one.by_points)
            raise UserError(
                f"measure {asked.measure!r}: {config.environment.env} has no points that are won "
                f"and lost, choose from {usual}"
            )
        low_high = asked.return_range or known.return_range
        scale = measure.scale((low_high[0], low_high[1]) if low_high else None)
        return PerRound(selector, names=names, measure=measure.of, scale=scale, play=play)
    if asked.pay == "led" and is_zero(config.teacher_acts):
        raise UserError("pay led, but teacher_acts is 0: no segment would be led; choose pay all")
    num_envs, ends = config.environment.num_envs, known.segment_ends
    if ends and asked.segment_steps:
        raise UserError(
            f"segment_steps is for environments of which no segments are known; in "
            f"{config.environment.env} one ends with a point"
        )
    settings: dict[str, Any] = {
        "names": names,
        "credit": LastReward(ends)
        if ends
        else SegmentReturn(num_envs, asked.segment_steps or None),
        "num_envs": num_envs,
        "pay_all": asked.pay == "all",
    }
    if not contextual:
        return PerSegment(selector, **settings)
    return PerState(
        selector,
        feature=feature,
        rng=np.random.default_rng(seeded(config.seed, "segments")),
        # All of an episode makes its return, the end of it no more than the beginning.
        decay=asked.credit_decay if ends else 1.0,
        **settings,
    )


def try_out(
    config: Distill, ensemble: Ensemble, assignment: Assignment, device: torch.device
) -> int:
    """Let every teacher play if the selector asks for that; return the env steps taken.

    The paper's naive baseline, section 3.5: evaluate every teacher first, then use the best.
    """
    selector = getattr(assignment, "selector", None)
    if not isinstance(selector, TakesTrials):
        return 0
    spent, returns = 0, np.full(len(ensemble.teachers), -np.inf)
    for k in range(len(ensemble.teachers)):
        try:
            trial = evaluate(
                ensemble.alone(k),
                config.environment,
                episodes=config.selection.measure_episodes,
                seed=config.seed,
                stream="trial",
                max_steps=config.examination.eval_max_steps,
                device=device,
                threads=config.threads,
            )
        except TeacherError as failure:
            assignment.drop(k, failure.reason)
        else:
            spent += int(trial.lengths.sum())
            returns[k] = trial.mean
    selector.score(returns)
    return spent


def _features(config: Distill, known: About) -> Feature | None:
    """Return the context asked for by its name, None for the student's hidden units.

    Raises UserError where there is none of it.
    """
    offered = [*known.features, HIDDEN]
    name = config.selection.features
    if name == "auto":
        name = offered[0]
    if is_place(name):
        found = load_object("features", name, known.features)
        if not isinstance(found, Feature):
            raise UserError(
                f"features {name!r}: expected a tutelage.Feature, got a {type(found).__name__}"
            )
        return found
    if name not in offered:
        raise choose_from(f"features of {config.environment.env}", name, offered)
    return known.features.get(name)


def _hidden(network: Student, *, used: bool) -> Feature:
    if not isinstance(network, Network):
        if used:
            raise UserError(
                "features hidden are the hidden units of the student, and which these are in a "
                "module of one's own is not known: name others by `features`, or another `selector`"
            )
        return Feature(0, lambda obs: np.zeros((len(obs), 0)))

    def hidden(obs: Array) -> Array:
        device = next(network.parameters()).device
        with torch.inference_mode():
            units = network.hidden(torch.from_numpy(obs).to(device))
        return units.cpu().numpy().astype(np.float64)

    return Feature(network.output.in_features, hidden)
