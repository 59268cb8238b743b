"""Films are decoded again: how many frames, of what size, who plays, and what is seen of it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage.domains import EnvironmentConfig, camera, make
from tutelage.domains.atari import AtariSettings
from tutelage.errors import UserError
from tutelage.evaluation import evaluate
from tutelage.heads import QValues
from tutelage.policies import Function
from tutelage.report import video
from tutelage.report.captions import HEIGHT, MARGIN, Caption
from tutelage.report.video import side_by_side
from tutelage.types import Array


class Countdown(gymnasium.Env[Array, int]):
    """Ends after 3 steps of action 0 or 8 of action 1; each frame is brighter than the last."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float32)
    action_space: Any = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self.at += 1
        return np.zeros(2, np.float32), self.reward(), self.at == (3, 8)[action], False, {}

    def reward(self) -> float:
        return 1.0

    def render(self) -> Any:
        return np.full((48, 61, 3), 25 * self.at, np.uint8)


class Unseeded(Countdown):
    def reward(self) -> float:
        return np.random.default_rng().random()


class Blind(Countdown):
    def render(self) -> Any:
        return "text"


class Broken(Countdown):
    def render(self) -> Any:
        raise RuntimeError("no graphics here")


@pytest.fixture(params=[Countdown])
def countdown(request: pytest.FixtureRequest) -> Iterator[EnvironmentConfig]:
    name = "TutelageTest/Countdown-v0"
    gymnasium.register(name, request.param)
    yield EnvironmentConfig(env=name)
    gymnasium.registry.pop(name)


def always(action: int, num_actions: int) -> Function:
    def q(obs: Tensor) -> Tensor:
        return torch.eye(num_actions)[action].expand(len(obs), -1)

    return Function(q, QValues(num_actions))


def decode(path: Path) -> list[Array]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_film_of_pong_is_an_mp4_that_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    policies = {name: always(action, 6) for action, name in enumerate(("teacher", "student"))}
    side_by_side(policies, EnvironmentConfig(), path, max_steps=40)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 37.5
        assert (stream.width, stream.height) == (2 * 320 + 8, 420 + HEIGHT)
    frames = decode(path)
    assert len(frames) == 41
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    # Pong's ground is brown: the game is filmed in colour, and red and blue are not swapped.
    red, green, blue = np.median(frames[0][60:].reshape(-1, 3), axis=0)
    assert red > green > blue
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_the_camera_stays_in_step_with_the_game(sticky: float) -> None:
    config = EnvironmentConfig(num_envs=1, atari=AtariSettings(sticky=sticky, frame=80))
    player = make(config, seed=3, stream=video.STREAM, threads=1)
    film = camera(config, seed=3, stream=video.STREAM)
    rng = np.random.default_rng(0)
    points = 0
    for _ in range(1100):
        action = rng.integers(6, size=1)
        step, filmed = player.step(action), film.step(action)
        assert np.array_equal(step.reward, filmed.reward)
        assert step.finished == filmed.finished
        points += int(step.reward[0] != 0)
        grey = filmed.next_obs[0, 35:195:2, ::2] @ np.array([0.299, 0.587, 0.114])
        assert np.abs(grey - step.next_obs[0, -1]).mean() < 1.0
    player.close()
    film.close()
    assert points > 21


def test_both_are_named_and_who_is_over_waits_for_the_other(
    tmp_path: Path, countdown: EnvironmentConfig
) -> None:
    path = tmp_path / "film.mp4"
    policies = {"short": always(0, 2), "long": always(1, 2)}
    assert side_by_side(policies, countdown, path) == {"short": 3.0, "long": 8.0}
    frames = decode(path)
    assert len(frames) == 1 + 8
    assert frames[0].shape == (HEIGHT + 5 * 48, 2 * 5 * 61 + 8, 3)
    left, right = slice(0, 305), slice(313, 618)
    for at, frame in enumerate(frames):
        for name, side, last in (("short", left, 3), ("long", right, 8)):
            now = min(at, last)
            assert frame[HEIGHT:, side].mean() == pytest.approx(25 * now, abs=4)
            strip = Caption(name, 305).draw(now, over=now == last)
            assert np.abs(frame[:HEIGHT, side].astype(int) - strip).mean() < 4.0
    # Another name is further away than the film's compression.
    other = Caption("long", 305).draw(0.0, over=False)
    assert np.abs(frames[0][:HEIGHT, left].astype(int) - other).mean() > 4.0


def test_a_film_scores_what_an_evaluation_of_the_same_play_does(tmp_path: Path) -> None:
    config = EnvironmentConfig()
    film = tmp_path / "film.mp4"
    score = side_by_side({"fire": always(0, 6)}, config, film, seed=5, scale=1)["fire"]
    assert score == evaluate(always(0, 6), config, episodes=1, seed=5).returns[0]
    assert decode(film)[0].shape == (210 + HEIGHT, 160, 3)


def test_a_film_is_cut_and_padded_to_even_sides(
    tmp_path: Path, countdown: EnvironmentConfig
) -> None:
    path = tmp_path / "film.mp4"
    assert side_by_side({"": always(1, 2)}, countdown, path, max_steps=5, scale=1) == {"": 5.0}
    frames = decode(path)
    assert len(frames) == 6
    assert frames[0].shape == (48 + HEIGHT, 62, 3)


@pytest.mark.parametrize("package", ["pygame", "av", "matplotlib"])
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=package):
        side_by_side(
            {"": always(0, 2)}, EnvironmentConfig(env="CartPole-v1"), tmp_path / "film.mp4"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*RGB-array")
@pytest.mark.parametrize("countdown", [Blind, Broken, Unseeded], indirect=True)
def test_a_film_that_would_be_wrong_is_refused(
    tmp_path: Path, countdown: EnvironmentConfig
) -> None:
    with pytest.raises(UserError, match="Countdown"):
        side_by_side({"": always(0, 2)}, countdown, tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["teacher", "a student that was distilled from twelve", "W" * 99, "two\nlines\x1b"]
)
def test_a_caption_keeps_name_and_score_apart(name: str) -> None:
    strip = Caption(name, 320).draw(-21.0, over=False)
    assert strip.shape == (HEIGHT, 320, 3)
    columns = np.flatnonzero((strip != strip[0, 0]).any(axis=(0, 2)))
    assert columns.min() >= MARGIN - 2
    assert columns.max() < 320 - MARGIN + 2
    assert np.diff(columns).max() >= MARGIN - 2
    assert Caption(name, 640).draw(-21.0, over=False).shape == (2 * HEIGHT, 640, 3)
