"""Dict observations with an image: teachers see their parts, students one of them."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from torch import Tensor

import tutelage as tt
from tutelage.cli import main
from tutelage.domains import EnvironmentConfig, Spaces, make, spaces_of
from tutelage.domains.gym import GymSettings
from tutelage.domains.views import apart, parts_of, view_of
from tutelage.errors import UserError
from tutelage.teachers import model_of
from tutelage.types import Array

N = 1_000
PICTURE = spaces.Box(0, 255, (44, 36, 3), np.uint8)


class Lights(gym.Env[Any, Any]):
    """Four steps of being shown a dark, a grey or a bright picture: which one is to be said."""

    observation_space = spaces.Dict(
        picture=PICTURE, lamp=spaces.Discrete(3, start=2), speed=spaces.Box(-1.0, 1.0, (2,))
    )
    action_space = spaces.Discrete(3)

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's own)

    def __init__(self, start: int = 2, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        lamp = spaces.Discrete(3, start=start)
        self.observation_space = spaces.Dict({**Lights.observation_space.spaces, "lamp": lamp})
        self._start = start

    def _see(self) -> Any:
        self._lamp = int(self.np_random.integers(3))
        picture = self.np_random.integers(50, size=PICTURE.shape) + 100 * self._lamp
        speed = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        return {"picture": picture.astype(np.uint8), "lamp": self._lamp + self._start} | {
            "speed": speed
        }

    def render(self) -> Any:
        return np.full((64, 64, 3), 100 * self._lamp, np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        reward, self._steps = float(action == self._lamp), self._steps + 1
        return self._see(), reward, self._steps == 4, False, {}


@pytest.fixture
def lights() -> Iterator[Any]:
    """Register the environment; yield a module ``watchmen`` for teachers."""
    made_by: Any = Lights
    for start in (0, 2):
        gym.register(f"Lights{start}-v0", made_by, kwargs={"start": start})
    made: Any = types.ModuleType("watchmen")
    sys.modules["watchmen"] = made
    yield made
    del sys.modules["watchmen"]
    for start in (0, 2):
        del gym.registry[f"Lights{start}-v0"]


def batch(space: spaces.Dict) -> dict[str, Array]:
    space.seed(3)
    drawn = [space.sample() for _ in range(N)]
    return {key: np.stack([one[key] for one in drawn]) for key in space.spaces}


def test_a_vector_is_taken_apart_into_what_it_was_joined_of() -> None:
    space = spaces.Dict(
        picture=PICTURE,
        lamp=spaces.Discrete(3, start=2),
        doors=spaces.MultiDiscrete([2, 3], start=[1, -1]),
        yes=spaces.MultiBinary([2, 2]),
        inner=spaces.Dict(a=spaces.Box(-1.0, 1.0, (2,)), b=spaces.Discrete(2)),
    )
    flat_keys = {key: part for key, part in space.spaces.items() if key != "inner"}
    obs = batch(spaces.Dict(flat_keys))
    obs["inner"] = {"a": np.ones((N, 2)), "b": np.ones(N, np.int64)}  # type: ignore[assignment]
    flat = view_of("", space)(obs)
    assert flat.shape == (N, 1, 44 * 36 * 3 + 3 + 5 + 4 + 4)
    parts = apart(parts_of("", space))(torch.from_numpy(flat))
    for key in flat_keys:
        np.testing.assert_array_equal(parts[key][:, 0].numpy(), obs[key])
    assert parts["picture"].dtype == torch.uint8
    assert parts["inner"][0, 0].tolist() == [1.0, 1.0, 0.0, 1.0]  # one of its parts has no shape
    assert set(parts_of("lamp, yes", space)) == {"lamp", "yes"}
    assert set(parts_of("inner", space)) == {"a", "b"}
    assert parts_of("lamp", space) == parts_of("", PICTURE) == {}


@pytest.mark.parametrize("view", ["", "picture,speed"])
def test_a_policy_of_several_parts_is_the_librarys(view: str, lights: Any, tmp_path: Path) -> None:
    class Fewer(gym.ObservationWrapper[Any, Any, Any]):
        def __init__(self, env: gym.Env[Any, Any]) -> None:
            super().__init__(env)
            whole: Any = env.observation_space
            self.observation_space = spaces.Dict({k: whole[k] for k in ("picture", "speed")})

        def observation(self, observation: Any) -> Any:
            return {key: observation[key] for key in ("picture", "speed")}

    env = gym.make("Lights0-v0")
    trained_in: Any = Fewer(env) if view else env
    model = sb3.PPO("MultiInputPolicy", trained_in, n_steps=8, batch_size=8, seed=1, device="cpu")
    model.learn(32).save(tmp_path / "ppo")
    whole: Any = env.observation_space
    obs = batch(whole)
    shown = {key: obs[key] for key in trained_in.observation_space.spaces}
    name = str(tmp_path / "ppo.zip")
    policy = model_of(name, Spaces(spaces.Discrete(3), parts_of(view, whole))).policy
    out, _ = policy.step(torch.from_numpy(view_of(view, whole)(obs)), ())
    with torch.no_grad():
        seen, _ = model.policy.obs_to_tensor(shown)
        expected: Any = model.policy.get_distribution(seen).distribution
    assert (out.log_softmax(dim=1) - expected.logits).abs().max() <= 1e-5
    wanted, _ = model.predict(shown, deterministic=True)
    np.testing.assert_array_equal(policy.head.mode(out).numpy(), wanted)
    # The same from an environment on: what is played, labelled, evaluated and timed.
    played = tt.evaluate(name, "Lights0-v0", episodes=20, student_view=view, seed=1)
    outcome = tt.distill(
        name,
        "Lights0-v0",
        "2/2/2/4",
        teacher_view=view,
        student_view="picture",
        target_return=5.0,
        confirm_episodes=20,
        out=tmp_path / "run",
        env_steps=64,
        num_envs=2,
        learning_starts=16,
        learning_rate="1e-3",
        threads=1,
    )
    assert outcome.result["teacher"]["episodes"] == len(played.returns) == 20
    assert outcome.student.obs_shape == (1, 44, 36, 3)


def test_a_function_is_given_the_parts_and_its_student_an_image(
    lights: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(obs: dict[str, Tensor]) -> Tensor:
        assert {key: tuple(part.shape[1:]) for key, part in obs.items()} == {
            "lamp": (),
            "speed": (2,),
        }
        return torch.eye(3)[obs["lamp"] - 2]

    lights.say = say
    asked = {"teacher_view": "lamp,speed", "student_view": "picture", "env": "Lights2-v0"}
    asked |= {"teacher": "watchmen:say", "student": "2/2/2/8", "out": str(tmp_path / "run")}
    asked |= {"env_steps": "1024", "num_envs": "8", "threads": "1", "target_return": "5"}
    asked |= {"samples_per_step": "32", "round_steps": "256", "learning_rate": "3e-3"}
    main(["distill", *(f"--{k.replace('_', '-')}={v}" for k, v in asked.items()), "--json"])
    capsys.readouterr()
    assert (tmp_path / "run" / "video.mp4").exists()  # both, each as it sees
    student = tt.evaluate(tmp_path / "run", student_view="picture", episodes=50)
    assert student.mean > 3.5  # of 4; chance is 4/3
    words = ["evaluate", str(tmp_path / "run"), "--student-view", "picture", "--episodes", "4"]
    main([*words, "--json"])
    record = ["record", "--teacher", "watchmen:say", "--env", "Lights2-v0", "--student-view"]
    main([*record, "lamp,speed", "--env-steps", "64", "--out", str(tmp_path / "data"), "--json"])


def test_what_cannot_be_joined_or_seen_is_refused(lights: Any, tmp_path: Path) -> None:
    config = EnvironmentConfig(env="Lights2-v0")
    assert set(spaces_of(config).parts) == {"picture", "lamp", "speed"}
    with pytest.raises(UserError, match="choose from"):
        make(
            EnvironmentConfig(env="Lights2-v0", gymnasium=GymSettings(student_view="sound")), seed=0
        )
    words = spaces.Dict({**Lights.observation_space.spaces, "words": spaces.Text(5)})
    assert parts_of("", words) == {}
    with pytest.raises(UserError, match="have words, a Text.*lamp,picture,speed"):
        view_of("", words)
    env = gym.make("Lights0-v0")
    model = sb3.PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, device="cpu")
    model.save(tmp_path / "ppo")
    with pytest.raises(UserError, match="takes a Dict of .*picture"):
        tt.evaluate(tmp_path / "ppo.zip", "Lights0-v0", episodes=1, student_view="picture")


class BySpeed(torch.nn.Module):
    """Speaks of one part."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 3)

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.layer(obs["speed"].flatten(1))
        return out


def test_a_contract_says_which_numbers_are_which_part(lights: Any, tmp_path: Path) -> None:
    policy = BySpeed()
    seen: dict[str, Any] = {"env": "Lights2-v0", "student_view": "lamp,speed"}
    contract = tt.export(policy, "onnx", tmp_path / "out", **seen, states=64, episodes=2)
    lamp, speed = contract["observation"]["parts"]
    assert (lamp["key"], lamp["offset"], lamp["size"]) == ("lamp", 0, 3)
    assert lamp["space"] == {"kind": "Discrete", "n": 3, "start": 2}
    assert (speed["key"], speed["offset"], speed["size"]) == ("speed", 3, 2)
    assert "3 … 4" in (tmp_path / "out" / "contract.html").read_text()
