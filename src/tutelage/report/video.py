"""Films of greedy play: policies side by side on the same episode."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from tutelage.domains import EnvironmentConfig, as_evaluated, camera, make
from tutelage.environments import Environments
from tutelage.errors import UserError
from tutelage.policies import Policy
from tutelage.report.captions import Caption
from tutelage.report.film import write_film
from tutelage.types import Array

STREAM = "evaluation"
"""A film's own held-out starts: neither training nor ``evaluate`` draws from this stream."""
GAME_WIDTH = 320
"""Pixels that a game is enlarged to, as far as whole multiples allow."""
GAP = 8


@dataclass(frozen=True)
class Moment:
    """A game after a step."""

    frame: Array
    """``[height,width,3]`` uint8."""
    score: float
    over: bool


def side_by_side(
    policies: Mapping[str, Policy],
    config: EnvironmentConfig,
    path: Path,
    *,
    sees: Mapping[str, EnvironmentConfig] = MappingProxyType({}),
    seed: int = 0,
    max_steps: int = 2000,
    scale: int | None = None,
) -> dict[str, float]:
    """Film one greedy episode of each policy, and return what each had scored when it ended.

    ``sees``: the environment as policies see it that see another part of it than ``config`` says.

    The episode starts from a held-out seed and is cut after ``max_steps``; a game that
    is over waits, its last frame showing, for the others. The file is an mp4 (H.264, yuv420p)
    that browsers play, with one frame for the start and one for each env step. ``scale`` enlarges
    pixels (default: to about 320 a game). Raises UserError for an environment that cannot be
    filmed and a ``path`` that cannot be written.
    """
    if not policies:
        raise ValueError("policies is empty: nobody to film")
    with ExitStack() as stack:
        games = {
            name: stack.enter_context(
                closing(_episode(policy, sees.get(name, config), seed, max_steps))
            )
            for name, policy in policies.items()
        }
        shown = {name: next(game) for name, game in games.items()}
        write_film(_frames(games, shown, scale), path)
    return {name: moment.score for name, moment in shown.items()}


def _frames(
    games: Mapping[str, Iterator[Moment]], shown: dict[str, Moment], scale: int | None
) -> Iterator[Array]:
    """Yield a picture of all games for each step, until none goes on; keep ``shown`` up to date."""
    width = next(iter(shown.values())).frame.shape[1]
    scale = scale or max(1, GAME_WIDTH // width)
    captions = {name: Caption(name, scale * width) for name in shown}
    running = True
    while running:
        yield _row([_panel(captions[name], moment, scale) for name, moment in shown.items()])
        moved = {name: moment for name, game in games.items() if (moment := next(game, None))}
        shown |= moved
        running = bool(moved)


def _episode(
    policy: Policy,
    config: EnvironmentConfig,
    seed: int,
    max_steps: int,
) -> Generator[Moment]:
    alone = replace(as_evaluated(config), num_envs=1, only="")
    carry = policy.initial(1)
    with (
        closing(make(alone, seed=seed, stream=STREAM, threads=1)) as player,
        closing(_camera(alone, seed)) as film,
    ):
        score = 0.0
        yield Moment(film.obs[0], score, over=False)
        for _ in range(max_steps):
            with torch.inference_mode():
                out, carry = policy.step(torch.from_numpy(player.obs), carry)
            action = policy.head.mode(out).cpu().numpy()
            step, filmed = player.step(action), film.step(action)
            if step.reward[0] != filmed.reward[0]:
                raise UserError(
                    f"env {config.env!r} cannot be filmed: the same seed and actions gave it "
                    "different rewards"
                )
            score += float(step.reward[0])
            over = bool(step.terminated[0] or step.truncated[0])
            yield Moment(filmed.next_obs[0], score, over)
            if over:
                return


def _camera(config: EnvironmentConfig, seed: int) -> Environments:
    try:
        return camera(config, seed=seed, stream=STREAM)
    except UserError:
        raise
    except Exception as error:  # renderers raise whatever they like
        raise UserError(f"env {config.env!r} cannot be filmed: {error!r}") from error


def _panel(caption: Caption, moment: Moment, scale: int) -> Array:
    game = moment.frame.repeat(scale, axis=0).repeat(scale, axis=1)
    return np.vstack([caption.draw(moment.score, over=moment.over), game])


def _row(panels: list[Array]) -> Array:
    """Put panels side by side, padded to even sides: yuv420p halves both for its colours."""
    gap = np.zeros((panels[0].shape[0], GAP, 3), np.uint8)
    row = np.hstack([part for panel in panels for part in (gap, panel)][1:])
    return np.pad(row, ((0, row.shape[0] % 2), (0, row.shape[1] % 2), (0, 0)))
