import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.fakes import make_batch, tiny_network
from tutelage.files import pack_state, unpack_state
from tutelage.heads import Categorical, Head, QValues
from tutelage.learner import Learner, Term
from tutelage.losses import Loss, parse_loss
from tutelage.networks import Network
from tutelage.objectives import Distillation, DoubleQ
from tutelage.schedules import parse_schedule
from tutelage.targets import parse_target
from tutelage.types import State, StepOut

HEAD = QValues(2)


def distil(loss: str | Loss = "kl", head: Head = HEAD) -> Distillation:
    chosen = parse_loss(loss, head) if isinstance(loss, str) else loss
    return Distillation(chosen, parse_target("raw", 1.0), head)


def loss_of(name: str, out: Tensor, label: Tensor) -> Tensor:
    return parse_loss(name, HEAD)(out, label, HEAD)


def term(objective: Distillation | DoubleQ, weight: str = "1") -> Term:
    return Term(objective, parse_schedule(weight))


def sum_of_q(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """Return a loss whose gradient for every output, and so for the output's bias, is 1."""
    return out.sum(dim=1)


def make_learner(
    network: Network,
    terms: Mapping[str, Term],
    *,
    learning_rate: str = "0.01",
    max_grad_norm: float = 1e9,
    forward: StepOut | None = None,
    autocast: torch.dtype | None = None,
    average: float = 0.0,
) -> Learner:
    return Learner(
        network,
        terms,
        learning_rate=parse_schedule(learning_rate),
        max_grad_norm=max_grad_norm,
        forward=forward or (lambda obs, updates: network(obs)),
        autocast=autocast,
        average=average,
    )


def weights_of(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def gradients_of(network: Network) -> Tensor:
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return torch.cat([gradient.flatten() for gradient in gradients])


def test_the_loss_falls_on_a_fixed_batch_and_agreement_rises() -> None:
    learner, batch = make_learner(tiny_network(), {"distill": term(distil())}), make_batch()
    first, *_, last = (learner.update(batch) for _ in range(150))
    assert last["train/loss"] < 0.1 * first["train/loss"]
    assert last["distill/agreement"] > first["distill/agreement"]


def test_a_temperature_of_the_students_own_leaves_it_on_the_scale_of_returns() -> None:
    tau = 0.5
    label = torch.tensor([[tau * math.log(3.0), 0.0]])  # softmax(q / tau) = 3/4, 1/4
    batch = replace(make_batch(size=1), label=label)
    target = parse_target("divide", tau)
    alike = Distillation(parse_loss("kl", HEAD), target, HEAD, student_tau=tau)
    q = torch.zeros(1, 2, requires_grad=True)
    loss = alike(q, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    assert q.grad is not None  # (softmax(q / tau) - p) / tau
    assert q.grad.tolist()[0] == pytest.approx([(0.5 - 0.75) / tau, (0.5 - 0.25) / tau])
    assert alike(label + 7.0, batch).item() == pytest.approx(0.0, abs=1e-6)


def test_the_teacher_does_not_change_even_if_its_labels_carry_gradients() -> None:
    teacher, learner = (
        tiny_network(seed=1),
        make_learner(tiny_network(), {"distill": term(distil("mse"))}),
    )
    before = pack_state(teacher.state_dict())
    for seed in range(5):
        batch = make_batch(seed=seed)
        learner.update(replace(batch, label=teacher(batch.obs)))
    assert pack_state(teacher.state_dict()) == before


def test_every_part_is_told_the_exact_count_of_updates() -> None:
    told: dict[str, list[int]] = {"forward": [], "weight": [], "rate": [], "after": []}
    network = tiny_network()

    class Told(Distillation):
        def after_update(self, updates: int) -> None:
            told["after"].append(updates)

    def note(what: str, updates: int, value: float) -> float:
        told[what].append(updates)
        return value

    def forward(obs: Tensor, updates: int) -> Tensor:
        q: Tensor = network(obs)
        return q * note("forward", updates, 1.0)

    learner = Learner(
        network,
        {
            "told": Term(
                Told(parse_loss("mse", HEAD), parse_target("raw", 1.0), HEAD),
                lambda updates: note("weight", updates, 1.0),
            )
        },
        learning_rate=lambda updates: note("rate", updates, 0.01),
        max_grad_norm=1.0,
        forward=forward,
    )
    told["rate"].clear()  # the optimiser is built with the rate at 0
    for _ in range(3):
        learner.update(make_batch())
    assert learner.updates == 3
    assert told == {
        "forward": [0, 1, 2],
        "weight": [0, 1, 2],
        "rate": [0, 1, 2],
        "after": [1, 2, 3],
    }


def test_what_is_measured_is_what_the_hand_computes() -> None:
    network, batch = tiny_network(), make_batch()
    q, label = network(batch.obs).detach(), batch.label
    terms = {"one": term(distil("mse"), "0.5"), "two": term(distil("nll"), "3")}
    measured = make_learner(network, terms).update(batch)
    one, two = (loss_of(loss, q, label).mean() for loss in ("mse", "nll"))
    torch.testing.assert_close(measured["train/loss"], 0.5 * one + 3.0 * two)
    torch.testing.assert_close(measured["train/loss_one"], one)
    torch.testing.assert_close(measured["train/loss_two"], two)
    torch.testing.assert_close(measured["train/q"], q.amax(dim=1).mean())
    agreeing = [int(a.argmax() == b.argmax()) for a, b in zip(q, label, strict=True)]
    assert measured["distill/agreement"].item() == pytest.approx(sum(agreeing) / len(agreeing))
    lost = [(b.max() - b[a.argmax()]).item() for a, b in zip(q, label, strict=True)]
    assert measured["distill/regret"].item() == pytest.approx(sum(lost) / len(lost))
    assert not any(value.requires_grad for value in measured.values())


def test_an_objective_says_what_its_head_and_its_kind_have_to_tell() -> None:
    network, batch = tiny_network(head=Categorical(2)), make_batch()
    told = make_learner(network, {"d": term(distil(head=network.head))}).update(batch)
    assert {name for name in told if "train/" not in name} == {
        "distill/agreement",
        "distill/relative_probability",
    }
    assert "train/q" not in told
    network = tiny_network()
    told = make_learner(network, {"rl": term(DoubleQ(network, target_every=9))}).update(batch)
    assert set(told) == {"train/loss", "train/loss_rl", "train/grad_norm", "train/q"}


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_learner_knows_a_network_that_diverged(wrong: float) -> None:
    network = tiny_network()
    learner = make_learner(network, {"one": term(distil("mse"))})
    learner.update(make_batch())
    assert learner.is_finite()
    with torch.no_grad():
        network.output.bias[0] = wrong
    assert not learner.is_finite()


def test_a_term_of_weight_zero_gives_no_gradient() -> None:
    alone, beside = tiny_network(), tiny_network()
    learners = [
        make_learner(alone, {"distill": term(distil())}),
        make_learner(beside, {"distill": term(distil()), "other": term(distil(sum_of_q), "0")}),
    ]
    for learner in learners:
        for seed in range(3):
            learner.update(make_batch(seed=seed))
    assert torch.equal(weights_of(alone), weights_of(beside))


def test_weights_follow_their_schedules_over_updates() -> None:
    terms = {"in": term(distil("mse"), "0:1:2"), "out": term(distil("nll"), "1:0:2")}
    learner = make_learner(tiny_network(), terms)
    for rising in (0.0, 0.5, 1.0, 1.0):
        measured = learner.update(make_batch())
        expected = rising * measured["train/loss_in"] + (1 - rising) * measured["train/loss_out"]
        torch.testing.assert_close(measured["train/loss"], expected)


@pytest.mark.parametrize(("limit", "clipped"), [(0.25, True), (1e6, False)])
def test_gradients_are_clipped_to_the_global_norm(limit: float, clipped: bool) -> None:
    network, batch = tiny_network(), make_batch()
    sum_of_q(network(batch.obs), batch.label, HEAD).mean().backward()  # type: ignore[no-untyped-call]
    whole = gradients_of(network)
    terms = {"distill": term(distil(sum_of_q))}
    measured = make_learner(network, terms, max_grad_norm=limit).update(batch)
    torch.testing.assert_close(measured["train/grad_norm"], whole.norm())
    expected = whole * (limit / whole.norm()) if clipped else whole
    torch.testing.assert_close(gradients_of(network), expected, rtol=1e-4, atol=1e-6)


def test_adam_moves_by_the_scheduled_learning_rate() -> None:
    network = tiny_network()
    learner = make_learner(network, {"distill": term(distil(sum_of_q))}, learning_rate="0.1:0.3:2")
    # Under a constant gradient Adam moves by the rate itself: 0.1, 0.2, 0.3, 0.3.
    for moved in (0.1, 0.3, 0.6, 0.9):
        learner.update(make_batch())
        torch.testing.assert_close(network.output.bias.detach(), torch.full((2,), -moved))


def test_the_average_follows_its_formula_and_holds_no_graph() -> None:
    network = tiny_network()
    learner = make_learner(network, {"distill": term(distil())}, average=0.2)
    expected = weights_of(network)
    # decay = min(average, updates / (updates + 10))
    for decay in (1 / 11, 2 / 12, 0.2, 0.2):
        learner.update(make_batch())
        expected = decay * expected + (1.0 - decay) * weights_of(network)
        torch.testing.assert_close(weights_of(learner.averaged), expected)
    assert not torch.equal(weights_of(learner.averaged), weights_of(network))
    assert not any(p.requires_grad for p in learner.averaged.parameters())


def test_trust_is_of_labels_and_does_not_touch_reward() -> None:
    batch = make_batch()
    trusted = replace(batch, weight=torch.zeros(16))
    losses = [
        make_learner(network, {"double_q": term(DoubleQ(network, target_every=9))}).update(given)
        for given, network in ((batch, tiny_network()), (trusted, tiny_network()))
    ]
    assert losses[0]["train/loss"] == losses[1]["train/loss"] > 0.0


def test_autocast_rounds_the_forward_pass_only() -> None:
    network, seen = tiny_network(), []

    def forward(obs: Tensor, updates: int) -> Tensor:
        hidden = network.hidden(obs)
        seen.append(hidden.dtype)
        q: Tensor = network.output(hidden)
        return q.float()

    learner = make_learner(
        network, {"distill": term(distil())}, forward=forward, autocast=torch.bfloat16
    )
    measured = learner.update(make_batch())
    assert seen == [torch.bfloat16]
    assert weights_of(network).dtype == measured["train/loss"].dtype == torch.float32


def given_losses(*losses: float) -> Loss:
    """Return a loss that is given; its gradient for every output of sample i is i + 1."""

    def loss(out: Tensor, target: Tensor, head: Head) -> Tensor:
        number = torch.arange(1.0, len(losses) + 1.0)
        return torch.tensor(losses) + number * (out - out.detach()).sum(dim=1)

    return loss


@pytest.mark.parametrize(
    ("weight", "losses", "gradient"),
    [
        (None, [8.0, 4.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]),
        ([1.0, 1.0, 1.0, 1.0], [8.0, 4.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]),
        ([0.3, 0.3, 0.3, 0.3], [8.0, 4.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]),
        ([1.0, 0.0, 0.5, 0.5], [16.0, 0.0, 2.0, 1.0], [2.0, 0.0, 3.0, 4.0]),
        ([0.0, 0.0, 0.0, 0.25], [0.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, 16.0]),
        ([0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_labels_count_by_their_share_of_all_trust(
    weight: list[float] | None, losses: list[float], gradient: list[float]
) -> None:
    """The weights of a batch are scaled to a mean of 1."""
    batch = make_batch(size=4)
    if weight is not None:
        batch = replace(batch, weight=torch.tensor(weight))
    q = torch.zeros(4, 2, requires_grad=True)
    measured = distil(given_losses(8.0, 4.0, 2.0, 1.0))(q, batch)
    torch.testing.assert_close(measured, torch.tensor(losses))
    measured.sum().backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    torch.testing.assert_close(q.grad, torch.tensor(gradient)[:, None].expand(4, 2))


def test_a_label_without_trust_teaches_nothing() -> None:
    half = torch.tensor([1.0, 0.0]).repeat_interleave(8)
    batch, other = make_batch(seed=0), make_batch(seed=1)
    mixed = replace(batch, label=torch.where(half[:, None] > 0, batch.label, 0.0))
    learnt = []
    for labels in (batch.label, mixed.label, other.label):
        network = tiny_network()
        learner = make_learner(network, {"distill": term(distil("mse"))})
        learner.update(replace(batch, label=labels, weight=half))
        learnt.append(weights_of(network))
    assert torch.equal(learnt[0], learnt[1])
    assert not torch.equal(learnt[0], learnt[2])


def test_a_batch_that_nobody_trusts_changes_nothing_and_is_finite() -> None:
    network = tiny_network()
    before = weights_of(network)
    learner = make_learner(network, {"distill": term(distil())})
    measured = learner.update(replace(make_batch(), weight=torch.zeros(16)))
    assert all(bool(torch.isfinite(value)) for value in measured.values())
    assert measured["train/loss"] == 0.0
    assert torch.equal(weights_of(network), before)


@pytest.mark.parametrize("wrong", [{"weight": torch.ones(16, 1)}, {"label": torch.zeros(16, 3)}])
def test_trust_and_labels_of_another_shape_are_refused(wrong: dict[str, Tensor]) -> None:
    learner = make_learner(tiny_network(), {"distill": term(distil())})
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} has shape"):
        learner.update(replace(make_batch(), **wrong))


def test_a_label_that_rules_an_action_out_leaves_the_network_finite() -> None:
    batch = make_batch()
    masked = replace(batch, label=batch.label.index_fill(1, torch.tensor([0]), -torch.inf))
    for loss in ("kl", "mse", "nll", "mse-prob"):
        learner = make_learner(tiny_network(), {"distill": term(distil(loss))})
        measured = [learner.update(masked) for _ in range(20)][-1]
        assert learner.is_finite()
        assert all(bool(torch.isfinite(value)) for value in measured.values())


def make_resumable(*, seed: int) -> Learner:
    network = tiny_network(seed=seed)

    def forward(obs: Tensor, updates: int) -> Tensor:
        return network.dropped(obs, 0.3, torch.Generator().manual_seed(updates))

    terms = {
        "distill": term(distil(), "1:0:10"),
        "double_q": term(DoubleQ(network, target_every=2), "0.5"),
    }
    return make_learner(network, terms, learning_rate="0.01:0.001:6", forward=forward, average=0.9)


def train(learner: Learner, seeds: range) -> list[dict[str, float]]:
    measured = [learner.update(make_batch(seed=seed)) for seed in seeds]
    return [{name: value.item() for name, value in each.items()} for each in measured]


@pytest.mark.parametrize("through_a_file", [False, True])
def test_a_restored_learner_goes_on_bit_for_bit(through_a_file: bool, tmp_path: Path) -> None:
    learner, twin = make_resumable(seed=0), make_resumable(seed=1)
    train(learner, range(3))
    saved: State = copy.deepcopy(learner.state())
    if through_a_file:
        (tmp_path / "state").write_bytes(pack_state(saved))
        saved = unpack_state(tmp_path / "state")
    twin.restore(saved)
    assert train(twin, range(3, 7)) == train(learner, range(3, 7))
    assert pack_state(twin.state()) == pack_state(learner.state())
