import pytest
import torch
from torch import Tensor, nn

from tutelage.heads import QValues
from tutelage.learner import Learner, Term
from tutelage.networks import Network, parse_size
from tutelage.objectives import DoubleQ
from tutelage.schedules import constant
from tutelage.types import Batch

TARGET = ((10.0, 0.0), (0.0, 5.0))
ONLINE = ((1.0, 0.0), (0.0, 2.0))


def set_output(network: Network, weight: tuple[tuple[float, ...], ...]) -> None:
    network.output.weight.data.copy_(torch.tensor(weight))


def linear_q(weight: tuple[tuple[float, ...], ...]) -> Network:
    """Return a network with q = weight @ obs for observations that are not negative."""
    network = Network(parse_size("mlp:2"), (1, 2), QValues(2))
    assert isinstance(network.body[1], nn.Linear)
    network.body[1].weight.data.copy_(torch.eye(2))
    set_output(network, weight)
    return network


def make_learner(
    network: Network, objective: DoubleQ, *, learning_rate: float, max_grad_norm: float
) -> Learner:
    return Learner(
        network,
        {"double_q": Term(objective, constant(1.0))},
        learning_rate=constant(learning_rate),
        max_grad_norm=max_grad_norm,
        forward=lambda obs, updates: network(obs),
    )


def make_batch() -> Batch:
    return Batch(
        obs=torch.ones(3, 1, 2),
        label=torch.zeros(3, 2),
        action=torch.tensor([0, 1, 0]),
        n_step_reward=torch.tensor([1.5, -1.0, 0.0]),
        bootstrap=torch.tensor([0.9, 0.0, 0.81]),
        next_obs=torch.tensor([[[1.0, 1.0]], [[1.0, 1.0]], [[3.0, 1.0]]]),
    )


def test_the_online_network_chooses_and_the_target_network_values() -> None:
    network = linear_q(TARGET)
    objective = DoubleQ(network, target_every=100)
    set_output(network, ONLINE)
    # Online q(s') = [1, 2], [1, 2], [3, 2] chooses 1, 1, 0; the target network values them at
    # 5, 5, 30. Plain DQN would value the first at max(10, 5), the online network alone at 2.
    # y = [1.5 + 0.9 * 5, -1 + 0 * 5, 0.81 * 30] = [6, -1, 24.3]
    q = torch.tensor([[5.5, 0.0], [9.0, 2.0], [24.0, 99.0]], requires_grad=True)
    losses = objective(q, make_batch())
    # Huber of -0.5, 3 and -0.3: 0.5 d^2 up to 1, |d| - 0.5 beyond.
    assert losses.tolist() == pytest.approx([0.125, 2.5, 0.045], rel=1e-4)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    torch.testing.assert_close(
        q.grad, torch.tensor([[-0.5, 0.0], [0.0, 1.0], [-0.3, 0.0]]), rtol=1e-4, atol=0.0
    )
    assert all(p.grad is None for p in network.parameters())


def test_the_squared_error_is_not_cut() -> None:
    network = linear_q(TARGET)
    objective = DoubleQ(network, target_every=100, loss="mse")
    set_output(network, ONLINE)
    q = torch.tensor([[5.5, 0.0], [9.0, 2.0], [24.0, 99.0]], requires_grad=True)  # y as above
    losses = objective(q, make_batch())
    assert losses.tolist() == pytest.approx([0.25, 9.0, 0.09], rel=1e-4)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(
        q.grad, torch.tensor([[-1.0, 0.0], [0.0, 6.0], [-0.6, 0.0]]), rtol=1e-4, atol=0.0
    )


def test_only_the_squared_error_settles_at_the_mean_return() -> None:
    """A state with a reward of 1 that ends every tenth time: q = 1 + 0.9 q is 10.

    Under Huber's loss nine small steps up outvote the one, cut, step down.
    """
    batch = Batch(
        obs=torch.ones(10, 1, 2),
        label=torch.zeros(10, 2),
        action=torch.zeros(10, dtype=torch.int64),
        n_step_reward=torch.ones(10),
        bootstrap=torch.tensor([1.0] * 9 + [0.0]),
        next_obs=torch.ones(10, 1, 2),
    )

    def settled(loss: str) -> float:
        network = linear_q(((0.0, 0.0), (0.0, 0.0)))
        objective = DoubleQ(network, target_every=2, loss=loss)
        learner = make_learner(network, objective, learning_rate=0.1, max_grad_norm=100.0)
        for _ in range(400):
            learner.update(batch)
        return float(network(batch.obs)[0, 0].detach())

    assert settled("mse") == pytest.approx(10.0, abs=0.5)
    assert settled("huber") > 20.0


def snapshot(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_the_target_network_is_copied_exactly_every_so_many_updates() -> None:
    network = linear_q(ONLINE)
    objective = DoubleQ(network, target_every=3)
    learner = make_learner(network, objective, learning_rate=0.1, max_grad_norm=10.0)
    after = [snapshot(network)]
    for updates in range(1, 8):
        learner.update(make_batch())
        after.append(snapshot(network))
        assert not torch.equal(after[-1]["output.weight"], after[-2]["output.weight"])
        copied = after[3 * (updates // 3)]
        for name, value in objective.state().items():
            assert torch.equal(value, copied[name]), (updates, name)


def test_the_target_network_is_restored() -> None:
    network = linear_q(TARGET)
    saved = snapshot(linear_q(ONLINE))
    objective = DoubleQ(network, target_every=3)
    objective.restore(saved)
    assert torch.equal(objective.state()["output.weight"], saved["output.weight"])
    assert torch.equal(network.output.weight, torch.tensor(TARGET))
