"""Films of greedy play: policies side by side on the same episode."""

import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from tutelage.domains import EnvironmentConfig, camera, make
from tutelage.errors import UserError
from tutelage.files import write_atomic
from tutelage.policies import Policy
from tutelage.report.captions import Caption
from tutelage.types import Array

STREAM = "evaluation"
"""A film's own held-out starts: neither training nor ``evaluate`` draws from this stream."""
FPS = Fraction(75, 2)
"""Env steps per second of film: 2.5 times Atari's own 15, so 2000 steps last 53 seconds."""
BITS_PER_SECOND = 200_000
"""A cap that real play rarely meets: 53 seconds stay under 1.4 MB, whatever the game."""
GAME_WIDTH = 320
"""Pixels that a game is enlarged to, as far as whole multiples allow."""
GAP = 8


@dataclass(frozen=True)
class _Moment:
    frame: Array
    """``[height,width,3]`` uint8."""
    score: float
    over: bool


def side_by_side(
    policies: Mapping[str, Policy],
    config: EnvironmentConfig,
    path: Path,
    *,
    seed: int = 0,
    max_steps: int = 2000,
    scale: int | None = None,
) -> dict[str, float]:
    """Film one greedy episode of each policy, and return what each had scored when it ended.

    The episode starts from a held-out seed and is cut after ``max_steps``; a game that
    is over waits, its last frame showing, for the others. The file is an mp4 (H.264, yuv420p)
    that browsers play, with one frame for the start and one for each env step, ``FPS`` of them a
    second. ``scale`` enlarges pixels (default: to about 320 a game). Raises UserError for an
    environment that cannot be filmed and a ``path`` that cannot be written.
    """
    if not policies:
        raise ValueError("policies is empty: nobody to film")
    with ExitStack() as stack:
        games = {
            name: stack.enter_context(closing(_episode(policy, config, seed, max_steps)))
            for name, policy in policies.items()
        }
        shown = {name: next(game) for name, game in games.items()}
        if scale is None:
            scale = max(1, GAME_WIDTH // next(iter(shown.values())).frame.shape[1])

        def frames(scale: int) -> Iterator[Array]:
            width = scale * next(iter(shown.values())).frame.shape[1]
            captions = {name: Caption(name, width) for name in shown}
            running = True
            while running:
                yield _row([_panel(captions[name], m, scale) for name, m in shown.items()])
                running = False
                for name, game in games.items():
                    if (moment := next(game, None)) is not None:
                        shown[name] = moment
                        running = True

        _encode(frames(scale), path)
    return {name: moment.score for name, moment in shown.items()}


def _episode(
    policy: Policy,
    config: EnvironmentConfig,
    seed: int,
    max_steps: int,
) -> Generator[_Moment]:
    unclipped = replace(config.atari, clip_rewards=False)
    alone = replace(config, num_envs=1, atari=unclipped)
    carry = policy.initial(1)
    with (
        closing(make(alone, seed=seed, stream=STREAM, threads=1)) as player,
        closing(camera(alone, seed=seed, stream=STREAM)) as film,
    ):
        score = 0.0
        yield _Moment(film.obs[0], score, over=False)
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
            yield _Moment(filmed.next_obs[0], score, over)
            if over:
                return


def _panel(caption: Caption, moment: _Moment, scale: int) -> Array:
    game = moment.frame.repeat(scale, axis=0).repeat(scale, axis=1)
    return np.vstack([caption.draw(moment.score, over=moment.over), game])


def _row(panels: list[Array]) -> Array:
    """Put panels side by side, padded to even sides: yuv420p halves both for its colours."""
    gap = np.zeros((panels[0].shape[0], GAP, 3), np.uint8)
    row = np.hstack([part for panel in panels for part in (gap, panel)][1:])
    return np.pad(row, ((0, row.shape[0] % 2), (0, row.shape[1] % 2), (0, 0)))


def _encode(frames: Iterator[Array], path: Path) -> None:
    # The index goes to the front (faststart) by reading the file again, so a buffer will not do.
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "film.mp4"
        try:
            _mux(frames, draft)
        except av.error.FFmpegError as error:
            raise UserError(f"cannot encode {path}: {error}") from error
        write_atomic(path, draft.read_bytes())


def _mux(frames: Iterator[Array], path: Path) -> None:
    first = next(frames)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {
            "crf": "24",
            "preset": "medium",
            "tune": "animation",
            "maxrate": str(BITS_PER_SECOND),
            "bufsize": str(2 * BITS_PER_SECOND),
        }

        def put(rgb: Array) -> None:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))

        put(first)
        for rgb in frames:
            put(rgb)
        container.mux(stream.encode(None))
