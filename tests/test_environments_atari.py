"""Atari: the same pixels as Gymnasium's own preprocessing, seeds, sticky actions, going back."""

from pathlib import Path
from typing import Any

import ale_py
import ale_py.roms
import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from tests.players import assert_equal_arrays
from tutelage.domains import EnvironmentConfig, make
from tutelage.domains.atari import Pooled
from tutelage.domains.pong import ball_half
from tutelage.environments import Environments, Step
from tutelage.files import pack_state, unpack_state
from tutelage.heads import head_for
from tutelage.schema import build

Actions = npt.NDArray[np.int64]
NOOP = 0


def pong(
    *, seed: int = 1, stream: str = "training", threads: int = 1, **config: Any
) -> Environments:
    return make(build(EnvironmentConfig, config), seed=seed, stream=stream, threads=threads)


def random_play(envs: Environments, *, steps: int, seed: int = 0) -> list[Step]:
    rng = np.random.default_rng(seed)
    head = head_for(envs.action_space)
    return [envs.step(head.random(envs.num_envs, rng)) for _ in range(steps)]


def assert_same(a: list[Step], b: list[Step]) -> None:
    for one, other in zip(a, b, strict=True):
        assert_equal_arrays(one, other)


def differ(a: list[Step], b: list[Step]) -> npt.NDArray[np.bool_]:
    """Return for each environment whether it ever showed something else."""
    shown: npt.NDArray[np.bool_] = np.any(
        [(x.next_obs != y.next_obs).any(axis=(1, 2, 3)) for x, y in zip(a, b, strict=True)], axis=0
    )
    return shown


class Gymnasium:
    """What Gymnasium makes of one game: its preprocessing, its stack, reset by hand."""

    def __init__(self) -> None:
        gymnasium.register_envs(ale_py)
        game = AtariPreprocessing(gymnasium.make("PongNoFrameskip-v4"), noop_max=0)
        self._env = FrameStackObservation(game, 4, padding_type="zero")
        self.obs = self._env.reset(seed=0)[0]

    def step(self, action: int) -> tuple[npt.NDArray[np.uint8], float, bool, bool]:
        led_to, reward, terminated, truncated, _ = self._env.step(action)
        self.obs = self._env.reset()[0] if terminated or truncated else led_to
        return led_to, float(reward), terminated, truncated


@pytest.mark.parametrize("num_envs", [1, 2])
def test_pong_is_bit_identical_to_gymnasiums_preprocessing_over_whole_games(num_envs: int) -> None:
    """The first environment never moves and loses after 764 steps; the second plays at random."""
    envs = pong(num_envs=num_envs, noop_max=0)
    reference = [Gymnasium() for _ in range(num_envs)]
    rng = np.random.default_rng(0)
    finished: list[tuple[float, int]] = []
    for _ in range(820):
        np.testing.assert_array_equal(envs.obs, np.stack([r.obs for r in reference]))
        action = np.array([NOOP, rng.integers(6)])[:num_envs]
        step = envs.step(action)
        outcomes = [r.step(int(a)) for r, a in zip(reference, action, strict=True)]
        np.testing.assert_array_equal(step.next_obs, np.stack([o[0] for o in outcomes]))
        np.testing.assert_array_equal(step.reward, [o[1] for o in outcomes])
        np.testing.assert_array_equal(step.terminated, [o[2] for o in outcomes])
        np.testing.assert_array_equal(step.truncated, [o[3] for o in outcomes])
        finished.extend(step.finished)
    assert (-21.0, 764) in finished


def test_the_80_crop_is_every_second_pixel_of_the_papers_rows() -> None:
    envs = pong(num_envs=1, noop_max=0, frame=80)
    assert envs.obs_shape == (4, 80, 80)
    game = ale_py.ALEInterface()
    game.setFloat("repeat_action_probability", 0.0)
    rom = ale_py.roms.get_rom_path("pong")
    assert rom is not None
    game.loadROM(rom)
    actions = game.getMinimalActionSet()
    np.testing.assert_array_equal(envs.obs[0, 3], game.getScreenGrayscale()[35:195:2, ::2])
    rng = np.random.default_rng(0)
    for _ in range(120):
        a = int(rng.integers(6))
        screens = []
        for _ in range(4):
            game.act(actions[a])
            screens.append(game.getScreenGrayscale())
        step = envs.step(np.array([a]))
        expected = np.maximum(screens[2], screens[3])[35:195:2, ::2]
        np.testing.assert_array_equal(step.next_obs[0, 3], expected)


def test_the_seed_decides_everything_and_the_threads_nothing() -> None:
    runs = [
        random_play(pong(seed=seed, stream=stream, num_envs=4, threads=threads), steps=70)
        for seed, stream, threads in [
            (1, "training", 1),
            (1, "training", 2),
            (2, "training", 1),
            (1, "evaluation", 1),
        ]
    ]
    assert_same(runs[0], runs[1])
    assert differ(runs[0], runs[2]).any()
    assert differ(runs[0], runs[3]).any()
    # The number of no-ops differs, so that four environments do not play one game.
    shown = [[s.next_obs[i, -1].tobytes() for s in runs[0]] for i in range(4)]
    assert len({tuple(frames) for frames in shown}) > 1


def short_games(*, sticky: float = 0.0, frames: int = 160) -> Environments:
    """Pong, cut after so many emulator frames (the no-ops at the start count)."""
    return Environments(
        AtariVectorEnv(
            "pong",
            2,
            num_threads=1,
            use_fire_reset=False,
            reward_clipping=False,
            repeat_action_probability=sticky,
            max_num_frames_per_episode=frames,
        ),
        seed=1,
    )


def test_episodes_of_one_environment_differ_and_a_cut_one_is_truncated() -> None:
    envs = short_games()
    episodes: list[list[bytes]] = [[]]
    for _ in range(200):
        step = envs.step(np.full(2, NOOP))
        episodes[-1].append(step.next_obs[0, -1].tobytes())
        assert not step.terminated.any()
        if step.truncated[0]:
            # The game went on to its last frame; then only the newest of the stack is not black.
            assert step.next_obs[0, :3].any()
            assert not envs.obs[0, :3].any()
            episodes.append([])
    assert len(episodes) >= 5
    assert len({tuple(episode) for episode in episodes[:-1]}) > 1


def test_sticky_actions_change_the_game_and_are_reproducible_from_the_seed() -> None:
    plain, sticky, again = (
        random_play(pong(num_envs=2, sticky=s, noop_max=0), steps=60) for s in (0.0, 0.25, 0.25)
    )
    assert differ(plain, sticky).all()
    assert_same(sticky, again)


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_pong_goes_back_to_where_it_was_in_the_middle_of_episodes(
    sticky: float, tmp_path: Path
) -> None:
    original, restored = (pong(num_envs=3, sticky=sticky) for _ in range(2))
    rng = np.random.default_rng(0)
    lengths = np.ones(3)
    while lengths.min() > 0 or len(np.unique(lengths)) < 3:
        original.step(np.where([True, False, False], NOOP, rng.integers(6, size=3)))
        lengths = original.state()["lengths"]
    (tmp_path / "state").write_bytes(pack_state(original.state()))
    restored.restore(unpack_state(tmp_path / "state"))
    np.testing.assert_array_equal(restored.obs, original.obs)
    later = [random_play(envs, steps=150) for envs in (original, restored)]
    assert_same(*later)
    assert any(step.finished for step in later[0])


def test_pong_goes_back_even_after_the_emulator_was_elsewhere(tmp_path: Path) -> None:
    """Sticky actions draw from the emulator's own generator, which no clone could reach."""
    original = short_games(sticky=0.25)
    random_play(original, steps=50)
    state = original.state()
    expected = random_play(original, steps=100, seed=1)
    original.restore(state)
    assert_same(random_play(original, steps=100, seed=1), expected)
    assert sum(len(step.finished) for step in expected) >= 4


def test_pong_of_one_half_is_pong_whose_player_freezes_while_the_ball_is_in_the_other(
    tmp_path: Path,
) -> None:
    half, whole = pong(num_envs=3, only="ball-bottom"), pong(num_envs=3)
    rng = np.random.default_rng(0)
    labels = np.zeros((3, 6), np.float32)
    last = np.zeros(3, np.int64)
    points = []
    for number in range(160):
        if number == 100:  # and is so after a resume
            (tmp_path / "state").write_bytes(pack_state(half.state()))
            half = pong(num_envs=3, only="ball-bottom")
            half.restore(unpack_state(tmp_path / "state"))
        wished, inside = rng.integers(6, size=3), ball_half(half.obs)[:, 1]
        np.testing.assert_array_equal(half.inside, inside)
        step = half.play(wished, labels)
        np.testing.assert_array_equal(step.inside, inside)
        np.testing.assert_array_equal(step.action, np.where(inside, wished, last))
        plain = whole.step(step.action)
        np.testing.assert_array_equal(step.next_obs, plain.next_obs)
        np.testing.assert_array_equal(step.reward, plain.reward * inside)
        points += [bool(i) for i, reward in zip(inside, plain.reward, strict=True) if reward]
        last = step.action
    assert 0 < sum(points) < len(points)


def test_pong_of_every_other_step_is_that_of_the_authors_training_loop() -> None:
    """Theirs: where the ball is elsewhere, one step with the last action whose reward is lost; then
    in any case one with an action of the agent, whose reward counts."""
    half, whole = pong(num_envs=1, only="ball-top:2"), pong(num_envs=1)
    rng = np.random.default_rng(0)
    ours, theirs, elsewhere = [], [], []
    last = np.zeros(1, np.int64)
    for _ in range(500):
        if not ball_half(whole.obs)[0, 0]:
            elsewhere.append(float(whole.step(last).reward[0]))
            assert half.step(rng.integers(6, size=1)).reward == 0.0
        last = rng.integers(6, size=1)
        theirs.append(float(whole.step(last).reward[0]))
        ours.append(float(half.step(last).reward[0]))
        np.testing.assert_array_equal(half.obs, whole.obs)
    assert ours == theirs
    assert sum(ours) < 0.0
    assert any(elsewhere)


def test_rewards_are_clipped_to_their_sign_only_where_asked() -> None:
    clipped, plain = (
        random_play(pong(env="ms_pacman", num_envs=1, clip_rewards=clip), steps=130)
        for clip in (True, False)
    )
    gained = np.array([step.reward[0] for step in plain])
    assert gained.max() >= 10.0
    np.testing.assert_array_equal([step.reward[0] for step in clipped], np.sign(gained))


def test_all_actions_of_the_joystick_hold_the_games_own() -> None:
    own, whole = pong(num_envs=1), pong(num_envs=1, full_actions=True)
    assert (own.action_space.n, whole.action_space.n) == (6, 18)  # type: ignore[attr-defined]
    same = np.array([0, 1, 3, 4, 11, 12])  # no-op, fire, right, left, and fire with either
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.integers(6, size=1)
        own.step(action)
        whole.step(same[action])
        np.testing.assert_array_equal(own.obs, whole.obs)


# What is a setting of a game.


def test_a_lost_life_is_an_end_of_value_in_training_and_the_game_goes_on() -> None:
    shown = {}
    for life_loss in (False, True):
        envs = pong(env="breakout", num_envs=2, life_loss=life_loss, fire_reset=True)
        shown[life_loss] = random_play(envs, steps=400)
        envs.close()
    lost = np.zeros(2, np.int64)
    for plain, step in zip(shown[False], shown[True], strict=True):
        assert plain.lost is None
        assert step.lost is not None
        assert not (step.lost & step.terminated).any()
        lost += step.lost + step.terminated
        for name in ("next_obs", "reward", "terminated", "truncated", "finished"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(step, name))
    games = sum(len(step.finished) for step in shown[True])
    assert games >= 2
    assert 5 * games <= lost.sum() < 5 * (games + 2)  # five lives a game


def test_fire_at_the_start_is_a_setting() -> None:
    served = {}
    for fire_reset in (False, True):
        envs = pong(env="breakout", num_envs=1, fire_reset=fire_reset, noop_max=0)
        frames = [envs.step(np.array([NOOP])).next_obs[0, -1, 40:70] for _ in range(30)]
        served[fire_reset] = len({frame.tobytes() for frame in frames}) > 1
        envs.close()
    assert served == {False: False, True: True}


def test_four_pooled_frames_hold_what_two_show_and_more() -> None:
    """Of Ms Pac-Man's ghosts each is drawn in one frame of four."""
    games = {
        pool: pong(env="ms_pacman", num_envs=1, noop_max=0, frame=80, pool_frames=pool)
        for pool in (2, 4)
    }
    more = 0
    for _ in range(80):
        two, four = (games[pool].step(np.array([NOOP])) for pool in (2, 4))
        assert (four.next_obs >= two.next_obs).all()
        assert (four.reward == two.reward).all()
        more += bool((four.next_obs[:, -1] > two.next_obs[:, -1]).any())
    assert more > 40
    for envs in games.values():
        envs.close()


def test_pooling_the_last_two_frames_by_ourselves_is_what_the_emulator_does() -> None:
    """Over whole games, with sticky actions, rewards clipped."""
    shown = []
    for own in (False, True):
        frames: dict[str, Any] = {"stack_num": 1, "frameskip": 1, "maxpool": False}
        raw: Any = AtariVectorEnv(
            "breakout",
            2,
            num_threads=1,
            img_height=210,
            img_width=160,
            repeat_action_probability=0.25,
            reward_clipping=not own,
            **frames if own else {},
        )
        envs = Environments(Pooled(raw, stack=4, pool=2, clip=True) if own else raw, seed=1)
        shown.append(random_play(envs, steps=250))
        envs.close()
    assert sum(len(step.finished) for step in shown[0]) >= 1
    for one, other in zip(*shown, strict=True):
        ended = one.terminated | one.truncated
        np.testing.assert_array_equal(one.next_obs[~ended], other.next_obs[~ended])
        for name in ("reward", "terminated", "truncated", "finished"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    "settings",
    [
        {"life_loss": True, "fire_reset": True, "full_actions": True},
        {"pool_frames": 4, "sticky": 0.25, "life_loss": True},
    ],
)
def test_whatever_the_settings_a_game_is_put_back_where_it_was(settings: dict[str, Any]) -> None:
    envs, again = (pong(env="breakout", num_envs=2, **settings) for _ in range(2))
    random_play(envs, steps=150)
    again.restore(envs.state())
    np.testing.assert_array_equal(again.obs, envs.obs)
    assert_same(random_play(envs, steps=100, seed=1), random_play(again, steps=100, seed=1))
