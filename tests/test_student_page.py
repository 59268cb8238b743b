"""The examples of docs/student.md are run as they stand, only shorter."""

from pathlib import Path

import pytest
import torch

import tutelage as tt
from tests.snippets import blocks, changed, run

ALONE, ATARI, MANY, SMALL = blocks("docs/student.md")


def test_a_student_plays_in_ones_own_environment_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = "env_steps=512, num_envs=4, confirm_episodes=2"
    shorter = {
        '"sac.zip"': "lambda obs: -obs[:, 2:]",
        'out="runs/mine"': f'out="runs/mine", {quick}',
    }
    assert run(changed(ALONE, shorter))["score"] < 0.0


def test_a_student_plays_gymnasiums_pong_as_the_page_says() -> None:
    names = run(ATARI)
    env, player, score = names["env"], names["player"], 0.0
    obs, _ = env.reset(seed=0)
    while score < 1.0:
        obs, reward, terminated, truncated, _ = env.step(player.act(obs))
        assert not terminated
        assert not truncated
        score += reward
    assert score == 1.0


def test_a_student_plays_many_games() -> None:
    names = run(MANY)
    assert names["envs"].obs.shape == (8, 4, 84, 84)
    names["envs"].close()


def test_a_student_goes_into_smaller_files_and_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(SMALL)
    model = names["model"]
    assert Path("small.safetensors").stat().st_size < 0.55 * 4 * model.parameters
    envs = tt.make(tt.EnvironmentConfig(num_envs=3), seed=0)
    obs = torch.from_numpy(envs.obs)
    envs.close()
    torch.testing.assert_close(names["policy"](obs), model.policy.step(obs, ())[0])
    torch.testing.assert_close(
        tt.load("small.safetensors").policy.step(obs, ())[0], model.policy.step(obs, ())[0]
    )
