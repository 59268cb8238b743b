"""From a configuration to what assigns several teachers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tutelage.assignment.measures import MEASURES
from tutelage.assignment.round import Alone, Assignment, PerRound
from tutelage.assignment.segment import PerSegment, PerState
from tutelage.configs import Distill
from tutelage.domains import Feature, about
from tutelage.errors import UserError, choose_from, look_up
from tutelage.evaluation import evaluate
from tutelage.networks import Network
from tutelage.schedules import is_zero
from tutelage.selectors.bandits import BestFirst
from tutelage.selectors.base import scale_reward
from tutelage.selectors.parsing import is_contextual, parse_selector
from tutelage.teachers import Ensemble, TeacherError
from tutelage.types import Array, seeded

UNPAID = ("random", "best-first")
"""The selectors that learn nothing from what their choices are paid."""

HIDDEN = "hidden"
"""The one context that is no function of the observation: the student's own hidden layer."""


def check_names(config: Distill) -> None:
    """Raise UserError for a selector, a measure or features that there are not, used or not."""
    parse_selector(config.selection.selector)
    look_up("measure", config.selection.measure, MEASURES)
    offered = [*about(config.environment).features, HIDDEN, "auto"]
    if config.selection.features not in offered:
        raise choose_from("features", config.selection.features, offered)


def assign(
    config: Distill,
    ensemble: Ensemble,
    *,
    network: Network,
    play: Callable[[int], float],
) -> Assignment:
    """Return what assigns one of the ensemble to each state, by the selector asked for.

    ``network`` is the student's, whose hidden units may be the context; ``play(round)`` is what it
    returns in a short evaluation. Raises UserError for what does not go together.
    """
    if len(ensemble.teachers) == 1:
        return Alone()
    build = parse_selector(config.selection.selector)
    names = tuple(teacher.name for teacher in ensemble.teachers)
    by_segment = (
        is_contextual(config.selection.selector) or config.selection.choice_per == "segment"
    )
    if by_segment and config.selection.pay == "led" and is_zero(config.teacher_acts):
        raise UserError("pay led, but teacher_acts is 0: no segment would be led; choose pay all")
    is_paid = config.selection.selector.partition(":")[0] not in UNPAID
    if (
        is_paid
        and (by_segment or config.selection.measure == "points")
        and not about(config.environment).segment_ends
    ):
        raise UserError(
            f"teachers are paid by points won and lost, and {config.environment.env} has none: choose "
            "choice_per round, a measure such as return with its return_range, and a selector "
            "without a context"
        )
    rng = np.random.default_rng(seeded(config.seed, "selector"))
    segments: dict[str, Any] = {
        "names": names,
        "num_envs": config.environment.num_envs,
        "rng": np.random.default_rng(seeded(config.seed, "segments")),
        "pay_all": config.selection.pay == "all",
    }
    if is_contextual(config.selection.selector):
        feature = _feature(config, network)
        selector = build(num_arms=len(names), rng=rng, context_dim=feature.dim)
        return PerState(selector, feature=feature, decay=config.selection.credit_decay, **segments)
    selector = build(num_arms=len(names), rng=rng)
    if isinstance(selector, BestFirst):
        _return_range(config)  # refuses before a run begins what its trial needs
    if config.selection.choice_per == "segment":
        return PerSegment(selector, **segments)
    low, high = _return_range(config)
    return PerRound(
        selector,
        names=names,
        measure=MEASURES[config.selection.measure],
        low=low,
        high=high,
        play=play,
    )


def try_out(
    config: Distill, ensemble: Ensemble, assignment: Assignment, device: torch.device
) -> int:
    """Let every teacher play if the selector is the naive baseline; return the env steps taken.

    The paper, section 3.5: evaluate every teacher first, then use the best.
    """
    selector = getattr(assignment, "selector", None)
    if not isinstance(selector, BestFirst):
        return 0
    low, high = _return_range(config)
    spent, scores = 0, [0.0] * len(ensemble.teachers)
    for k in range(len(ensemble.teachers)):
        try:
            trial = evaluate(
                ensemble.alone(k),
                config.environment,
                episodes=config.selection.measure_episodes,
                seed=config.seed,
                stream="trial",
                device=device,
                threads=config.threads,
            )
        except TeacherError as failure:
            assignment.drop(k, failure.reason)
        else:
            spent += int(trial.lengths.sum())
            scores[k] = scale_reward(trial.mean, low, high)
    selector.score(scores)
    return spent


def _return_range(config: Distill) -> tuple[float, float]:
    """Return the least and the largest return there is; NaN where nobody needs them."""
    known = config.selection.return_range or about(config.environment).return_range
    if known:
        low, high = known
        return low, high
    if config.selection.measure != "points" or config.selection.selector.startswith("best-first"):
        raise UserError(
            f"the returns of {config.environment.env} are not known: name them by return_range LOW HIGH"
        )
    return float("nan"), float("nan")


def _feature(config: Distill, network: Network) -> Feature:
    features, name = about(config.environment).features, config.selection.features
    if name == "auto":
        name = next(iter(features), HIDDEN)
    if name == HIDDEN:

        def hidden(obs: Array) -> Array:
            device = next(network.parameters()).device
            with torch.inference_mode():
                units = network.hidden(torch.from_numpy(obs).to(device))
            return units.cpu().numpy().astype(np.float64)

        return Feature(network.output.in_features, hidden)
    return look_up("features", name, features)
