"""Features of Pong: balls at places that are known, drawn by hand or by the emulator."""

from typing import NamedTuple

import ale_py
import ale_py.roms
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.domains import EnvironmentConfig, make
from tutelage.domains.pong import (
    FASTEST,
    FEATURES,
    REGIONS,
    ball_half,
    ball_motion,
    ball_position,
    find_ball,
)
from tutelage.errors import UserError
from tutelage.schema import build

Frame = npt.NDArray[np.uint8]
SIZES = pytest.mark.parametrize("size", [84, 80])
MIDLINE = 0.02
"""Nearer to the middle than about a pixel, a ball's half is not sure."""

ROWS, COLUMNS = st.integers(0, 156), st.integers(0, 158)
"""Upper left corner of a ball in the court, in pixels of the full frame."""


def court(*balls: tuple[int, int], paddles: tuple[int, int] = (70, 70)) -> Frame:
    """Return the 160x160 court with balls and paddles (the enemy's, the player's) from there on."""
    screen = np.full((160, 160), 87, np.uint8)
    for row, column in zip(paddles, (16, 140), strict=True):
        screen[row : row + 16, column : column + 4] = 147
    for row, column in balls:
        screen[row : row + 4, column : column + 2] = 236
    return screen


def shown(inside: Frame, size: int) -> Frame:
    """Return the frame of that size, as the environments shrink it, with walls and a score."""
    screen = np.full((210, 160), 87, np.uint8)
    screen[2:22, 36:48] = screen[24:34] = screen[194:] = 236
    screen[34:194] = inside
    if size == 80:
        return screen[35:195:2, ::2]
    return np.asarray(cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA), np.uint8)


def observed(*stack: Frame, size: int) -> Frame:
    """Return ``[1,4,size,size]`` of courts, oldest first; what is missing before them is black."""
    frames = [shown(inside, size) for inside in stack]
    black = [np.zeros_like(frames[0])] * (4 - len(frames))
    return np.stack(black + frames)[np.newaxis]


def regions(obs: Frame) -> list[str]:
    """Return the regions that the only observation is in."""
    return [name for name, region in REGIONS.items() if region(obs)[0]]


@SIZES
@given(row=ROWS, column=COLUMNS, enemy=st.integers(0, 144), player=st.integers(0, 144))
def test_the_ball_is_where_it_was_drawn_before_a_paddle_too(
    size: int, row: int, column: int, enemy: int, player: int
) -> None:
    ball = find_ball(shown(court((row, column), paddles=(enemy, player)), size)[np.newaxis])
    assert ball.seen.tolist() == [True]
    np.testing.assert_allclose(ball.row, (row + 2) / 160, atol=0.007)
    np.testing.assert_allclose(ball.column, (column + 1) / 160, atol=0.007)


@SIZES
@given(row=ROWS, column=COLUMNS, enemy=st.integers(0, 144), player=st.integers(0, 144))
def test_a_court_upside_down_swaps_top_and_bottom(
    size: int, row: int, column: int, enemy: int, player: int
) -> None:
    inside = court((row, column), paddles=(enemy, player))
    upright, mirrored = (observed(drawn, size=size) for drawn in (inside, inside[::-1]))
    if abs((row + 2) / 160 - 0.5) > MIDLINE:
        np.testing.assert_array_equal(ball_half(mirrored), ball_half(upright)[:, ::-1])
    np.testing.assert_allclose(
        ball_motion(mirrored), ball_motion(upright) * [-1, 1, 1, -1, 1], atol=0.03
    )


@SIZES
def test_between_points_there_is_no_ball(size: int) -> None:
    obs = observed(*[court()] * 4, size=size)
    ball = find_ball(obs[:, -1])
    assert np.stack([ball.row, ball.column, ball.seen]).tolist() == [[0.5], [0.5], [0.0]]
    assert regions(obs) == []
    for feature in FEATURES.values():
        assert not feature.of(obs).any()


@SIZES
def test_where_the_ball_is_hidden_its_half_is_where_it_was_last_seen(size: int) -> None:
    top, bottom, hidden = court((40, 80)), court((120, 80)), court()
    assert regions(observed(top, bottom, hidden, hidden, size=size)) == ["ball-bottom"]
    assert regions(observed(bottom, top, hidden, hidden, size=size)) == ["ball-top"]
    assert regions(observed(bottom, hidden, hidden, hidden, size=size)) == ["ball-bottom"]
    assert regions(observed(bottom, bottom, bottom, top, size=size)) == ["ball-top"]
    # The position is the present's.
    assert not ball_position(observed(top, top, top, hidden, size=size)).any()


@SIZES
def test_the_ball_of_a_pooled_frame_is_between_its_two_images(size: int) -> None:
    ball = find_ball(shown(court((40, 60), (46, 62)), size)[np.newaxis])
    np.testing.assert_allclose([ball.row, ball.column], [[45 / 160], [62 / 160]], atol=0.008)


@SIZES
def test_velocity_is_what_the_ball_moved_between_the_last_two_frames(size: int) -> None:
    old, before, now = court((0, 0)), court((80, 60)), court((70, 70))
    place = [2 * 72 / 160 - 1, 2 * 71 / 160 - 1, 1]
    for stack, seen_twice in [([old, old, before, now], 1), ([old, court(), now], 0), ([now], 0)]:
        motion = ball_motion(observed(*stack, size=size))[0]
        np.testing.assert_allclose(motion[:3], place, atol=0.015)
        pixels = motion[3:] * FASTEST * 160
        np.testing.assert_allclose(pixels, np.array([-10, 10]) * seen_twice, atol=1.5)
    assert not ball_motion(observed(old, old, before, court(), size=size)).any()


@pytest.mark.parametrize("name", FEATURES)
def test_contract_d_numbers_per_state_independent_of_the_other_states(name: str) -> None:
    feature = FEATURES[name]
    stacks = [court((20, 30)), court()], [court((120, 80)), court((110, 90))], [court((1, 1))] * 3
    obs = np.concatenate([observed(*stack, size=84) for stack in stacks])
    context = feature.of(obs)
    assert context.shape == (3, feature.dim)
    assert context.dtype == np.float64
    assert len(np.unique(context, axis=0)) >= 2
    np.testing.assert_array_equal(context, np.concatenate([feature.of(o[None]) for o in obs]))
    assert feature.of(obs[:0]).shape == (0, feature.dim)


def test_regions_are_the_columns_of_the_feature_of_halves() -> None:
    obs = np.concatenate([observed(court(b), size=84) for b in [(20, 30), (120, 80), (90, 9)]])
    masks = np.stack([REGIONS[name](obs) for name in ("ball-top", "ball-bottom")], axis=1)
    assert masks.dtype == np.bool_
    assert masks.tolist() == [[True, False], [False, True], [False, True]]
    np.testing.assert_array_equal(masks, FEATURES["ball-half"].of(obs))


@pytest.mark.parametrize(
    "obs",
    [
        np.zeros((2, 4)),
        np.zeros((2, 1, 210, 160, 3), np.uint8),
        np.zeros((2, 4, 84, 80), np.uint8),
        np.zeros((2, 1, 84, 84), np.uint8),
        np.zeros((2, 4, 84, 84), np.float32),
    ],
)
def test_other_observations_are_refused(obs: Frame) -> None:
    readers = [*REGIONS.values(), *(feature.of for feature in FEATURES.values())]
    for read in readers:
        with pytest.raises(UserError) as raised:
            read(obs)
        given, _, expected = str(raised.value).partition(", expected ")
        assert str(obs.dtype) in given
        assert str(obs.shape) in given
        assert "[N, 4, 84, 84]" in expected


class Game(NamedTuple):
    """T steps of one game, as observed at either size, and where its memory says the ball is."""

    obs: dict[int, Frame]
    """``[T,4,size,size]``."""
    place: npt.NDArray[np.float64]
    """``[T,2]``: row and column in courts, the mean of the two frames that are pooled."""
    played: npt.NDArray[np.bool_]
    """``[T]``: there is a ball."""


@pytest.fixture(scope="module")
def game() -> Game:
    """Play so that both sides score and segments are long: follow the ball, but often at random."""
    envs = {
        size: make(
            build(EnvironmentConfig, {"num_envs": 1, "noop_max": 0, "frame": size}),
            seed=0,
            threads=1,
        )
        for size in (84, 80)
    }
    emulator = ale_py.ALEInterface()
    emulator.setFloat("repeat_action_probability", 0.0)
    rom = ale_py.roms.get_rom_path("pong")
    assert rom is not None
    emulator.loadROM(rom)
    buttons = emulator.getMinimalActionSet()
    rng = np.random.default_rng(0)
    obs: dict[int, list[Frame]] = {84: [], 80: []}
    places = []
    for _ in range(800):
        ram = emulator.getRAM().astype(int)
        below = ram[54] - ram[51] - 8  # from the middle of the player's paddle
        chased = 3 if below > 4 else 2 if below < -4 else 0
        a = chased if rng.random() < 0.8 else int(rng.integers(6))
        balls = []
        for _ in range(4):
            emulator.act(buttons[a])
            row, column = emulator.getRAM()[[54, 49]].astype(float)
            # Full frames show a ball's upper left corner 48 up and 49 left of what memory says.
            balls.append([(row - 48 + 2) / 160, (column - 49 + 1) / 160] if row else [np.nan] * 2)
        places.append(balls[2:])
        for size, env in envs.items():
            obs[size].append(env.step(np.array([a])).next_obs[0])
    assert not emulator.game_over()
    pair = np.array(places)
    played = np.isfinite(pair).all(axis=2)
    place = (
        np.where(played[:, :, None], pair, 0.0).sum(axis=1) / np.maximum(played.sum(1), 1)[:, None]
    )
    return Game({size: np.stack(seen) for size, seen in obs.items()}, place, played.any(axis=1))


@SIZES
def test_the_ball_is_where_the_emulators_memory_says(size: int, game: Game) -> None:
    ball = find_ball(game.obs[size][:, -1])
    assert 100 < game.played.sum() < 780
    assert not (ball.seen & ~game.played).any()
    # In a bounce a ball can be inside the wall, where nothing shows it.
    assert ball.seen[game.played].mean() >= 0.99
    off = np.stack([ball.row, ball.column], axis=1) - game.place
    assert np.abs(off[ball.seen]).max() <= 0.02


@SIZES
def test_the_half_is_what_the_emulators_memory_says(size: int, game: Game) -> None:
    off = game.place[:, 0] - 0.5
    sure = game.played & (np.abs(off) > MIDLINE)
    for name, truth in [("ball-top", off < 0), ("ball-bottom", off > 0)]:
        np.testing.assert_array_equal(REGIONS[name](game.obs[size])[sure], truth[sure])
        assert truth[sure].mean() > 0.2


@SIZES
def test_features_of_real_play_are_about_one_in_size_and_agree(size: int, game: Game) -> None:
    obs = game.obs[size]
    half, position, motion = (
        FEATURES[name].of(obs) for name in ("ball-half", "ball-position", "ball")
    )
    for numbers in (half, position, motion[:, 3], motion[:, 4]):
        assert 0.8 <= np.abs(numbers).max() <= 1.1
    np.testing.assert_array_equal(motion[:, :3], position)
    both = (position[1:, 2] > 0) & (position[:-1, 2] > 0)
    moved = np.diff(position[:, :2], axis=0) / 2
    np.testing.assert_allclose(motion[1:][both, 3:] * FASTEST, moved[both], atol=1e-12)
    assert (half.sum(axis=1) >= position[:, 2]).all()
    assert (half.sum(axis=1) > position[:, 2]).any()
