"""PQN: lambda-returns, the memory of one rollout, its objective, and that it learns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from tutelage import EnvironmentConfig, Teach, evaluate
from tutelage.errors import UserError
from tutelage.objectives import LambdaQ
from tutelage.recipes import teach
from tutelage.rollout import Rollout, lambda_returns
from tutelage.schema import build
from tutelage.types import Batch, Transitions

T, N = 4, 2


def test_lambda_returns_by_hand() -> None:
    # One environment: the second step terminates, the third is cut, the last is the last.
    reward = np.array([[1.0], [2.0], [4.0], [8.0]], np.float32)
    next_value = np.array([[10.0], [20.0], [30.0], [40.0]], np.float32)
    terminated = np.array([[False], [True], [False], [False]])
    cut = np.array([[False], [False], [True], [True]])
    # G3 = 8 + 0.5 * 40; G2 = 4 + 0.5 * 30; G1 = 2; G0 = 1 + 0.5 (0.75 * 10 + 0.25 * 2)
    returns = lambda_returns(reward, next_value, terminated, cut, gamma=0.5, decay=0.25)
    assert returns[:, 0].tolist() == [5.0, 2.0, 19.0, 28.0]


@pytest.mark.parametrize("decay", [0.0, 0.65, 1.0])
def test_lambda_returns_are_those_of_stable_baselines3(decay: float) -> None:
    rng = np.random.default_rng(0)
    steps, envs = 16, 3
    reward = rng.standard_normal((steps, envs)).astype(np.float32)
    value = rng.standard_normal((steps + 1, envs)).astype(np.float32)
    terminated = rng.random((steps, envs)) < 0.2
    box, two = spaces.Box(0.0, 1.0, (1,)), spaces.Discrete(2)
    theirs = RolloutBuffer(steps, box, two, gae_lambda=decay, gamma=0.9, n_envs=envs)
    begins = np.vstack([np.zeros(envs), terminated[:-1]])
    nothing = np.zeros((envs, 1), np.float32)
    for t in range(steps):
        said = torch.from_numpy(value[t])
        theirs.add(nothing, nothing, reward[t], begins[t], said, torch.zeros(envs))
    theirs.compute_returns_and_advantage(torch.from_numpy(value[steps]), terminated[-1])
    cut = np.zeros_like(terminated)
    cut[-1] = True
    ours = lambda_returns(reward, value[1:], terminated, cut, gamma=0.9, decay=decay)
    np.testing.assert_allclose(ours, theirs.returns, atol=1e-5)


def rollout(**settings: Any) -> Rollout:
    usual: dict[str, Any] = {
        "steps": T,
        "num_envs": N,
        "obs_shape": (1, 1),
        "obs_dtype": np.float32,
        "label_size": 2,
        "value": lambda obs: 100.0 * obs[:, 0, 0],
        "epochs": 2,
        "minibatches": 2,
        "gamma": 0.5,
        "decay": 0.0,
        "rng": np.random.default_rng(1),
        "device": torch.device("cpu"),
    }
    return Rollout(**{**usual, **settings})


def played(first: int = 0) -> Iterator[Transitions]:
    """Yield steps whose observations count, worth as much; the first environment is cut at 2."""
    for t in range(first, first + T):
        now = np.array([t, 10 + t], np.float32)
        label = np.stack([now - 5.0, now], axis=1)
        cut = np.array([t == first + 1, False])
        yield Transitions(
            obs=now.reshape(N, 1, 1),
            action=np.array([0, 1]),
            reward=np.ones(N, np.float32),
            terminated=np.array([False, t == first + 2]),
            truncated=cut,
            next_obs=(now + 1.0).reshape(N, 1, 1),
            label=label,
            inside=np.ones(N, np.bool_),
            arm=np.zeros(N, np.int64),
        )


def held(batches: list[Batch]) -> dict[float, tuple[int, float]]:
    """Return state -> (action, return) of batches."""
    found: dict[float, tuple[int, float]] = {}
    for batch in batches:
        assert batch.action is not None
        assert batch.returns is not None
        columns = (batch.obs.flatten(), batch.action, batch.returns)
        for obs, action, returns in zip(*(c.tolist() for c in columns), strict=True):
            assert found.setdefault(obs, (action, returns)) == (action, returns)
    return found


def test_a_rollout_gives_every_state_once_per_epoch_with_its_return() -> None:
    memory = rollout()
    for step in played():
        assert not list(memory.batches())
        memory.add(step)
    batches = list(memory.batches())
    assert [len(batch.obs) for batch in batches] == [4] * 4
    for epoch in (batches[:2], batches[2:]):
        assert held(epoch) == {
            0.0: (0, 1.5),  # 1 + 0.5 * 1, the best that is said of the next state
            1.0: (0, 101.0),  # cut: 1 + 0.5 * 200, the value of what was never acted in
            2.0: (0, 2.5),
            3.0: (0, 201.0),  # the last: 1 + 0.5 * 400
            10.0: (1, 6.5),
            11.0: (1, 7.0),
            12.0: (1, 1.0),  # terminated
            13.0: (1, 701.0),
        }
    orders = [torch.cat([b.obs.flatten() for b in e]).tolist() for e in (batches[:2], batches[2:])]
    assert orders[0] != orders[1]
    assert not list(memory.batches())  # forgotten


def test_a_rollout_that_is_whole_takes_no_more() -> None:
    memory = rollout()
    steps = list(played())
    for step in steps:
        memory.add(step)
    with pytest.raises(ValueError, match="before the next begins"):
        memory.add(steps[0])


@pytest.mark.parametrize("stored", [0, 2, T])
def test_a_rollout_goes_on_from_where_it_was_saved(stored: int) -> None:
    whole, again = rollout(), rollout(rng=np.random.default_rng(9))
    steps = [*played(), *played(20)]
    for step in steps[:stored]:
        whole.add(step)
    again.restore(whole.state())

    def rest(memory: Rollout) -> list[npt.NDArray[Any]]:
        given: list[npt.NDArray[Any]] = []
        for step in steps[stored:]:
            given += [batch.obs.numpy() for batch in memory.batches()]
            memory.add(step)
        return given + [batch.obs.numpy() for batch in memory.batches()]

    for one, other in zip(rest(whole), rest(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rollout_of_another_size_is_refused() -> None:
    whole = rollout()
    for step in played():
        whole.add(step)
    with pytest.raises(ValueError, match="steps of a rollout of 2"):
        rollout(steps=2).restore(whole.state())
    with pytest.raises(ValueError, match="bytes"):
        rollout(obs_shape=(1, 2)).restore(whole.state())


def test_the_loss_is_of_the_action_taken_alone() -> None:
    q = torch.tensor([[1.0, 5.0], [2.0, -3.0]], requires_grad=True)
    batch = Batch(
        obs=torch.zeros(2, 1, 1),
        label=torch.zeros(2, 2),
        action=torch.tensor([1, 0]),
        returns=torch.tensor([3.0, 2.5]),
    )
    loss = LambdaQ()(q, batch)
    assert loss.tolist() == [4.0, 0.25]
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    assert q.grad.tolist() == [[0.0, 4.0], [-1.0, 0.0]]
    assert LambdaQ(loss="huber")(q, batch).tolist() == [1.5, 0.125]


CARTPOLE: dict[str, Any] = {
    "algorithm": "pqn",
    "env": "CartPole-v1",
    "size": "mlp:64/64:norm",
    "env_steps": 24_576,
    "num_envs": 16,
    "rollout_steps": 16,
    "minibatches": 8,
    "epochs": 4,
    "learning_rate": "3e-3:0",
    "return_lambda": 0.95,
    "epsilon": "1:0.05:8000",
    "precision": "fp32",
    "threads": 1,
    "milestones": [],
}


def test_pqn_learns_cartpole(tmp_path: Path) -> None:
    network = teach(build(Teach, CARTPOLE), tmp_path / "run")
    returns = evaluate(network, EnvironmentConfig(env="CartPole-v1"), episodes=10).returns
    assert returns.min() >= 150.0  # untrained about 10, at random 22


def test_the_algorithm_brings_its_defaults_and_what_is_given_goes_before_them() -> None:
    config = build(Teach, {"algorithm": "pqn", "epsilon": "0.1", "environment": {"num_envs": 8}})
    assert (config.epsilon, config.environment.num_envs) == ("0.1", 8)
    assert (config.size, config.learning.optimizer) == ("nature:norm", "radam")
    assert build(Teach, {"algorithm": "double-q"}) == Teach()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"algorithm": "pqn", "replay_size": 100}, "replay_size is a setting of .* double-q"),
        ({"return_lambda": 0.9}, "return_lambda is a setting of algorithm pqn"),
        ({"algorithm": "pqn", "only": "ball-top"}, "only is for algorithm double-q"),
        ({"algorithm": "pqn", "minibatches": 2_000}, "no more than the 1,024 steps"),
        ({"algorithm": "dqn"}, "expected one of double-q, pqn"),
    ],
)
def test_what_does_not_belong_to_the_algorithm_is_refused(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        build(Teach, settings)


def test_a_budget_that_ends_before_anything_is_learnt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="first rollout of 16 steps of 16 environments"):
        teach(build(Teach, {**CARTPOLE, "env_steps": 256, "round_steps": 256}), tmp_path / "run")
