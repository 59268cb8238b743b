"""A student at play in each traffic, side by side, as a GIF."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image, ImageDraw

import tutelage as tt
from reproduction.cars.roads import ROADS, env_of
from tutelage.types import Array

STUDENT = Path("reproduction/cars/models/student.safetensors")
SEED = 1
SECONDS = 12
RATE = 5
"""Frames per second, as highway-env simulates."""
GAP = 6


class Camera:
    """Keeps each frame of highway-env's simulation, of which a step has several."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.frames: list[Array] = []
        self.frames_per_sec = RATE
        self._env = env

    def _capture_frame(self) -> None:  # highway-env calls it by this name of Gymnasium's own
        self.frames.append(np.asarray(self._env.render()))


def write(student: Path, path: Path) -> None:
    """Write one episode of each traffic, cut after ``SECONDS``; the last frame of a shorter waits.

    Frames are ``[height,width,3]`` uint8.
    """
    episodes = [_episode(student, traffic) for traffic in ROADS]
    pictures = [_picture(frames) for frames in _together(episodes)]
    palette = pictures[0].quantize(32, dither=Image.Dither.NONE)
    first, *rest = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in pictures]
    first.save(
        path, save_all=True, append_images=rest, duration=1000 // RATE, loop=0, optimize=True
    )


def _episode(student: Path, traffic: str) -> list[Array]:
    env = gymnasium.make(env_of(traffic), render_mode="rgb_array", disable_env_checker=True)
    player = tt.Player(student, env, view="cars")
    obs, _ = env.reset(seed=SEED)
    camera = Camera(env.unwrapped)
    camera._capture_frame()
    env.unwrapped.watch(camera)  # type: ignore[attr-defined]
    over = False
    while not over and len(camera.frames) < SECONDS * RATE:
        obs, _, terminated, truncated, _ = env.step(player.act(obs))
        camera._capture_frame()
        over = terminated or truncated
    env.close()
    return camera.frames[: SECONDS * RATE]


def _together(episodes: list[list[Array]]) -> Iterator[list[Array]]:
    for i in range(max(map(len, episodes))):
        yield [frames[min(i, len(frames) - 1)] for frames in episodes]


def _picture(frames: list[Array]) -> Image.Image:
    """Return two by two frames, each with the name of its traffic."""
    height, width, _ = frames[0].shape
    whole = Image.new("RGB", (2 * width + GAP, 2 * height + GAP), "white")
    draw = ImageDraw.Draw(whole)
    for i, (name, frame) in enumerate(zip(ROADS, frames, strict=True)):
        corner = ((i % 2) * (width + GAP), (i // 2) * (height + GAP))
        whole.paste(Image.fromarray(frame), corner)
        draw.text((corner[0] + 6, corner[1] + 4), name, fill="white")
    return whole
