"""From a configuration to what assigns several teachers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tutelage.assignment import Alone, Assignment, PerRound
from tutelage.bandits import BestFirst
from tutelage.configs import Distill
from tutelage.environments import RETURNS, has_rallies
from tutelage.errors import UserError, choose_from, look_up
from tutelage.evaluation import evaluate
from tutelage.features import FEATURES, Feature
from tutelage.measures import MEASURES
from tutelage.networks import QNetwork
from tutelage.rallies import PerRally, PerState
from tutelage.schedules import is_zero
from tutelage.selection import scale_reward
from tutelage.selectors import is_contextual, parse_selector
from tutelage.teachers import Staff, TeacherError
from tutelage.types import Array, seeded

UNPAID = ("random", "best-first")
"""The selectors that learn nothing from what their choices are paid."""

HIDDEN = "hidden"
"""The one context that is no function of the observation: the student's own hidden layer."""


def check_names(config: Distill) -> None:
    """Raise UserError for a selector, a measure or features that there are not, used or not."""
    parse_selector(config.selector)
    look_up("measure", config.measure, MEASURES)
    if config.features not in (offered := [*FEATURES, HIDDEN]):
        raise choose_from("features", config.features, offered)


def assign(
    config: Distill,
    staff: Staff,
    *,
    network: QNetwork,
    play: Callable[[int], float],
) -> Assignment:
    """Return what assigns one of the staff to each state, by the selector asked for.

    ``network`` is the student's, whose hidden units may be the context; ``play(round)`` is what it
    returns in a short evaluation. Raises UserError for what does not go together.
    """
    if len(staff.teachers) == 1:
        return Alone()
    build = parse_selector(config.selector)
    names = tuple(teacher.name for teacher in staff.teachers)
    by_rally = is_contextual(config.selector) or config.choice_per == "rally"
    if by_rally and config.pay == "led" and is_zero(config.teacher_acts):
        raise UserError("pay led, but teacher_acts is 0: no rally would be led; choose pay all")
    is_paid = config.selector.partition(":")[0] not in UNPAID
    if is_paid and (by_rally or config.measure == "points") and not has_rallies(config.env):
        raise UserError(
            f"teachers are paid by points won and lost, and {config.env} has none: choose "
            "choice_per round, a measure such as return with its return_range, and a selector "
            "without a context"
        )
    rng = np.random.default_rng(seeded(config.seed, "selector"))
    rallies: dict[str, Any] = {
        "names": names,
        "num_envs": config.num_envs,
        "rng": np.random.default_rng(seeded(config.seed, "rallies")),
        "pay_all": config.pay == "all",
    }
    if is_contextual(config.selector):
        feature = _feature(config, network)
        selector = build(num_arms=len(names), rng=rng, context_dim=feature.dim)
        return PerState(selector, feature=feature, decay=config.credit_decay, **rallies)
    selector = build(num_arms=len(names), rng=rng)
    if isinstance(selector, BestFirst):
        _return_range(config)  # refuses before a run begins what its trial needs
    if config.choice_per == "rally":
        return PerRally(selector, **rallies)
    low, high = _return_range(config)
    return PerRound(
        selector,
        names=names,
        measure=MEASURES[config.measure],
        low=low,
        high=high,
        play=play,
    )


def try_out(config: Distill, staff: Staff, assignment: Assignment, device: torch.device) -> int:
    """Let every teacher play if the selector is the naive baseline; return the env steps taken.

    The paper, section 3.5: evaluate every teacher first, then use the best.
    """
    selector = getattr(assignment, "selector", None)
    if not isinstance(selector, BestFirst):
        return 0
    low, high = _return_range(config)
    spent, scores = 0, [0.0] * len(staff.teachers)
    for k in range(len(staff.teachers)):
        try:
            trial = evaluate(
                staff.alone(k),
                config,
                episodes=config.measure_episodes,
                seed=config.seed,
                stream="trial",
                device=device,
                threads=config.threads,
            )
        except TeacherError as failure:
            assignment.retire(k, failure.reason)
        else:
            spent += int(trial.lengths.sum())
            scores[k] = scale_reward(trial.mean, low, high)
    selector.score(scores)
    return spent


def _return_range(config: Distill) -> tuple[float, float]:
    """Return the least and the largest return there is; NaN where nobody needs them."""
    if config.return_range or config.env in RETURNS:
        low, high = config.return_range or RETURNS[config.env]
        return low, high
    if config.measure != "points" or config.selector.startswith("best-first"):
        raise UserError(
            f"the returns of {config.env} are not known: name them by return_range LOW HIGH"
        )
    return float("nan"), float("nan")


def _feature(config: Distill, network: QNetwork) -> Feature:
    if config.features == HIDDEN:

        def hidden(obs: Array) -> Array:
            device = next(network.parameters()).device
            with torch.inference_mode():
                units = network.hidden(torch.from_numpy(obs).to(device))
            return units.cpu().numpy().astype(np.float64)

        return Feature(network.head.in_features, hidden)
    if config.env != "pong":
        raise UserError(
            f"features {config.features!r} are of pong, this is {config.env}: choose hidden"
        )
    return FEATURES[config.features]
