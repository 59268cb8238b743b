"""A policy plays in an environment of one's own: observations as given, actions as taken."""

from typing import Any

import ale_py
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from torch import Tensor

import tutelage as tt
from tutelage.policies import Carry

VECTOR = spaces.Box(-1.0, 1.0, (2,), np.float32)


class Still(gymnasium.Env[Any, Any]):
    """Has spaces and nothing else."""

    def __init__(self, seen: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = seen, actions


def saying(*numbers: float, head: tt.Head) -> tt.Function:
    return tt.Function(lambda obs: torch.tensor([numbers]).float().expand(len(obs), -1), head)


@pytest.mark.parametrize(
    ("space", "policy", "action"),
    [
        (spaces.Discrete(3, start=5), saying(0, 0, 9, head=tt.QValues(3)), 7),
        (
            spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64),
            saying(0.5, -0.5, head=tt.Point(2)),
            [1.0, 2.5],
        ),
        (
            spaces.MultiDiscrete([2, 3], start=[1, 0]),
            saying(0, 1, 0, 0, 1, head=tt.MultiCategorical((2, 3))),
            [2, 2],
        ),
        (spaces.MultiBinary(2), saying(-1, 1, head=tt.Bernoulli(2)), [0, 1]),
    ],
    ids=["discrete", "box", "multi-discrete", "multi-binary"],
)
def test_an_action_is_one_of_the_environments_own(
    space: spaces.Space[Any], policy: tt.Function, action: Any
) -> None:
    taken = tt.Player(policy, Still(VECTOR, space)).act(VECTOR.sample())
    np.testing.assert_array_equal(taken, action)
    assert space.contains(taken)


def test_an_action_that_may_not_be_taken_is_not() -> None:
    player = tt.Player(saying(3, 2, 1, head=tt.QValues(3)), Still(VECTOR, spaces.Discrete(3)))
    assert player.act(np.zeros(2), action_mask=np.array([0, 1, 1])) == 1


def test_parts_of_an_observation_are_one_vector() -> None:
    seen: list[Tensor] = []

    def note(obs: Tensor) -> Tensor:
        seen.append(obs)
        return torch.zeros(len(obs), 2)

    parts = spaces.Dict({"at": VECTOR, "goal": spaces.Discrete(3)})
    env = Still(parts, spaces.Discrete(2))
    policy = tt.Function(note, tt.QValues(2))
    obs = {"at": np.array([0.25, 0.5], np.float32), "goal": 2}
    tt.Player(policy, env).act(obs)
    assert seen[-1].tolist() == [[[0.25, 0.5, 0.0, 0.0, 1.0]]]
    tt.Player(policy, env, view="goal").act(obs)
    assert seen[-1].tolist() == [[[0.0, 0.0, 1.0]]]


class Counting:
    """Takes the action that is the number of steps since the episode began."""

    head = tt.QValues(3)

    def initial(self, n: int) -> Carry:
        return (torch.zeros(n, dtype=torch.long),)

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        return torch.eye(3)[carry[0]], (carry[0] + 1,)


def test_a_memory_lasts_until_it_is_reset() -> None:
    player = tt.Player(Counting(), Still(VECTOR, spaces.Discrete(3)))
    assert [player.act(np.zeros(2)) for _ in range(3)] == [0, 1, 2]
    player.reset()
    assert player.act(np.zeros(2)) == 0


def test_a_policy_of_other_spaces_is_refused() -> None:
    with pytest.raises(tt.UserError, match="among 3 actions; the environment has 2"):
        tt.Player(saying(0, 0, 0, head=tt.QValues(3)), Still(VECTOR, spaces.Discrete(2)))
    with pytest.raises(tt.UserError, match="4 x 84 x 84 numbers; the environment gives 2 numbers"):
        tt.Player("pong-small-1", Still(VECTOR, spaces.Discrete(6)))
    with pytest.raises(tt.UserError, match="a policy is"):
        tt.Player(3, Still(VECTOR, spaces.Discrete(2)))  # type: ignore[arg-type]


def test_stacked_frames_go_in_as_the_environment_gives_them() -> None:
    gymnasium.register_envs(ale_py)
    game = AtariPreprocessing(gymnasium.make("PongNoFrameskip-v4"))
    env = FrameStackObservation(game, 4, padding_type="zero")
    model = tt.load("pong-small-1")
    player = tt.Player(model, env)
    obs, _ = env.reset(seed=0)
    actions = []
    for _ in range(60):
        q = model.policy.step(torch.from_numpy(obs)[None], ())[0]
        actions.append(player.act(obs))
        assert actions[-1] == int(q.argmax())
        obs, *_ = env.step(actions[-1])
    assert len(set(actions)) > 1
