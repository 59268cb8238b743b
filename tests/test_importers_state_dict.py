"""State dicts say what the networks that they were taken from say."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import save_file
from torch import Tensor, nn

from tutelage.errors import UserError
from tutelage.heads import Categorical, Gaussian, Head, Point, QValues
from tutelage.importers import import_model
from tutelage.policies import begin_again

N = 1_000
BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32))
SCALE, BIAS = torch.tensor([1.5, 2.5]), torch.tensor([-0.5, 2.5])


def vectors() -> Tensor:
    return torch.randn(N, 1, 5, generator=torch.Generator().manual_seed(1))


def frames(side: int = 36, n: int = N) -> Tensor:
    """Return stacks of frames; the convolutions of ``nature`` make 64 numbers of 36 pixels."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 4, side, side), dtype=torch.uint8, generator=generator)


def chain(activation: type[nn.Module], *widths: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), activation()]
    return nn.Sequential(*parts[:-1])


def nature(channels: int = 4) -> list[nn.Module]:
    return [
        *(nn.Conv2d(channels, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten()),
    ]


class Actor(nn.Module):
    """The two layers of CleanRL's SAC, TD3 and DDPG."""

    def __init__(self, *last: str) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(5, 256), nn.Linear(256, 256)
        for name in last:
            setattr(self, name, nn.Linear(256, 2))
        self.register_buffer("action_scale", SCALE)
        self.register_buffer("action_bias", BIAS)

    def hidden(self, x: Tensor) -> Tensor:
        h: Tensor = self.fc2(self.fc1(x).relu()).relu()
        return h


class Noisy(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight_mu = nn.Parameter(torch.randn(after, before) / before**0.5)
        self.bias_mu = nn.Parameter(torch.randn(after))
        self.register_buffer("weight_sigma", torch.randn(after, before))
        self.register_buffer("bias_epsilon", torch.randn(after))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight_mu, self.bias_mu)


Case = tuple[Any, Callable[[Tensor], Tensor], Head, Tensor]
"""What is saved, what it says of observations, the head, observations."""


def dqn() -> Case:
    network = chain(nn.ReLU, 5, 120, 84, 3)
    return nn.ModuleDict({"network": network}).state_dict(), network, QValues(3), vectors()


def dqn_atari() -> Case:
    network = nn.Sequential(*nature(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 3))
    state = nn.ModuleDict({"network": network}).state_dict()
    return state, lambda x: network(x / 255.0), QValues(3), frames()


def c51() -> Case:
    network, atoms = chain(nn.ReLU, 5, 120, 84, 3 * 11), torch.linspace(-10.0, 10.0, 11)
    state = {**nn.ModuleDict({"network": network}).state_dict(), "atoms": atoms}

    def q(x: Tensor) -> Any:
        return (network(x).view(-1, 3, 11).softmax(dim=2) * atoms).sum(dim=2)

    return {"model_weights": state, "args": {"n_atoms": 11}}, q, QValues(3), vectors()


def rainbow() -> Case:
    body, support = nn.Sequential(*nature()), torch.linspace(-1.0, 1.0, 5)
    value = nn.Sequential(Noisy(64, 512), nn.ReLU(), Noisy(512, 5))
    advantage = nn.Sequential(Noisy(64, 512), nn.ReLU(), Noisy(512, 15))
    parts = nn.ModuleDict({"network": body, "value_head": value, "advantage_head": advantage})

    def q(x: Tensor) -> Any:
        h = body(x / 255.0)
        a = advantage(h).view(-1, 3, 5)
        atoms = value(h).view(-1, 1, 5) + a - a.mean(dim=1, keepdim=True)
        return (atoms.softmax(dim=2) * support).sum(dim=2)

    return {**parts.state_dict(), "support": support}, q, QValues(3), frames()


def ppo() -> Case:
    actor = chain(nn.Tanh, 5, 64, 64, 3)
    parts = nn.ModuleDict({"critic": chain(nn.Tanh, 5, 64, 64, 1), "actor": actor})
    return parts.state_dict(), actor, Categorical(3), vectors()


def ppo_compiled() -> Case:
    state, actor, head, obs = ppo()
    return {f"_orig_mod.{name}": value for name, value in state.items()}, actor, head, obs


def ppo_continuous() -> Case:
    mean, log_sd = chain(nn.Tanh, 5, 64, 64, 2), torch.randn(1, 2)
    parts = nn.ModuleDict({"critic": chain(nn.Tanh, 5, 64, 64, 1), "actor_mean": mean})

    def out(x: Tensor) -> Tensor:
        return torch.cat([(mean(x) - BIAS) / SCALE, (log_sd - SCALE.log()).expand(len(x), 2)], 1)

    return {**parts.state_dict(), "actor_logstd": log_sd}, out, Gaussian(2), vectors()


def sac() -> Case:
    actor: Any = Actor("fc_mean", "fc_logstd")

    def out(x: Tensor) -> Tensor:
        h = actor.hidden(x)
        log_sd = -5 + 0.5 * 7 * (actor.fc_logstd(h).tanh() + 1)
        return torch.cat([actor.fc_mean(h), log_sd], dim=1)

    return actor.state_dict(), out, Gaussian(2, squashed=True), vectors()


def td3() -> Case:
    actor: Any = Actor("fc_mu")
    saved = (actor.state_dict(), nn.Linear(2, 2).state_dict())
    return saved, lambda x: actor.fc_mu(actor.hidden(x)).tanh(), Point(2), vectors()


@pytest.mark.parametrize(
    "case", [dqn, dqn_atari, c51, rainbow, ppo, ppo_compiled, ppo_continuous, sac, td3]
)
def test_cleanrls_networks_are_known_by_their_layers(
    case: Callable[[], Case], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    saved, network, head, obs = case()
    torch.save(saved, tmp_path / "agent.cleanrl_model")
    space = BOX if isinstance(head, Gaussian | Point) else None
    model = import_model(str(tmp_path / "agent.cleanrl_model"), space=space)
    assert model.policy.head == head
    with torch.no_grad():
        expected = network(obs[:, 0] if obs.ndim == 3 else obs)
    out, _ = model.policy.step(obs, ())
    assert (out - expected).abs().max() <= 1e-5
    assert torch.equal(head.mode(out), head.mode(expected)) or (
        (head.mode(out) - head.mode(expected)).abs().max() <= 1e-5
    )


def test_the_lstm_of_cleanrls_ppo_remembers(tmp_path: Path) -> None:
    torch.manual_seed(1)
    body = nn.Sequential(*nature(1), nn.Linear(64, 512), nn.ReLU())
    lstm, actor = nn.LSTM(512, 16), nn.Linear(16, 3)
    parts = {"network": body, "lstm": lstm, "actor": actor, "critic": nn.Linear(16, 1)}
    torch.save(nn.ModuleDict(parts).state_dict(), tmp_path / "agent")
    policy = import_model(str(tmp_path / "agent")).policy
    carry, rng = policy.initial(4), np.random.default_rng(1)
    state: Any = (torch.zeros(1, 4, 16), torch.zeros(1, 4, 16))
    for obs in frames(n=N)[:, :1].reshape(N // 4, 4, 1, 36, 36):
        begins = rng.random(4) < 0.1
        carry = begin_again(policy, carry, begins)
        state = tuple(s * torch.from_numpy(~begins).float().view(1, 4, 1) for s in state)
        with torch.no_grad():
            h, state = lstm(body(obs / 255.0)[None], state)
            expected = actor(h[0])
        out, carry = policy.step(obs, carry)
        assert (out - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(("cell", "last"), [("gru", "actor_linear"), ("lstm", "pol_func")])
def test_baby_a3c_sees_the_newest_frame_and_remembers(cell: str, last: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    parts: dict[str, Any] = {f"conv{i}": nn.Conv2d(32, 32, 3, 2, 1) for i in (2, 3, 4)}
    parts["conv1"] = nn.Conv2d(1, 32, 3, 2, 1)
    parts[cell] = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}[cell](800, 16)
    parts[last] = nn.Linear(16, 6)
    state = nn.ModuleDict(parts).state_dict()
    torch.save({"state_dict": state}, tmp_path / "m.tar", _use_new_zipfile_serialization=False)
    policy = import_model(str(tmp_path / "m.tar")).policy
    carry, rng = policy.initial(20), np.random.default_rng(1)
    zero = torch.zeros(20, 16)
    memory: Any = zero if cell == "gru" else (zero, zero)
    for seen in frames(80).reshape(N // 20, 20, 4, 80, 80):
        obs = 40 + seen // 2
        begins = rng.random(20) < 0.1
        carry = begin_again(policy, carry, begins)
        goes_on = torch.from_numpy(~begins).float()[:, None]
        memory = memory * goes_on if cell == "gru" else tuple(m * goes_on for m in memory)
        x = (obs[:, -1:] - 40.0) / 127.0  # the darkest pixel is 0, the brightest 1
        with torch.no_grad():
            for i in (1, 2, 3, 4):
                x = nn.functional.elu(parts[f"conv{i}"](x))
            memory = parts[cell](x.flatten(1), memory)
            expected = parts[last](memory if cell == "gru" else memory[0])
        out, carry = policy.step(obs, carry)
        assert (out - expected).abs().max() <= 1e-5


def test_any_layers_are_read_by_a_named_size(tmp_path: Path) -> None:
    torch.manual_seed(1)
    actor = chain(nn.ELU, 5, 16, 8, 2)
    parts = nn.ModuleDict({"actor": actor, "critic": chain(nn.ELU, 5, 16, 1)})
    torch.save({"model_state_dict": parts.state_dict(), "iter": 3}, tmp_path / "model.pt")
    options = "+size:mlp:16/8+activation:elu+prefix:actor.+head:point"
    model = import_model(f"{tmp_path / 'model.pt'}{options}", space=BOX)
    with torch.no_grad():
        expected = (actor(vectors()[:, 0]) - BIAS) / SCALE
    assert (model.policy.step(vectors(), ())[0] - expected).abs().max() <= 1e-5
    assert model.parameters == sum(p.numel() for p in actor.parameters())


def test_frames_of_a_named_size_are_divided_by_255(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(
        *(nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(800, 16), nn.ReLU(), nn.Linear(16, 3)),
    )
    save_file(network.state_dict(), tmp_path / "m.safetensors")
    name = f"{tmp_path / 'm.safetensors'}+size:8/8/8/16+activation:relu+head:q"
    policy = import_model(name).policy
    with torch.no_grad():
        expected = network(frames(84) / 255.0)
    assert (policy.step(frames(84), ())[0] - expected).abs().max() <= 1e-5


def test_a_dueling_head_is_folded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    parts: Any = nn.ModuleDict(
        {"fc": nn.Linear(5, 8), "advantage": nn.Linear(8, 3), "value": nn.Linear(8, 1)}
    )
    torch.save(parts.state_dict(), tmp_path / "m.pt")
    name = f"{tmp_path / 'm.pt'}+size:mlp:8+activation:relu"
    policy = import_model(name, space=spaces.Discrete(3)).policy
    with torch.no_grad():
        h = parts["fc"](vectors()[:, 0]).relu()
        a = parts["advantage"](h)
        expected = parts["value"](h) + a - a.mean(dim=1, keepdim=True)
    assert policy.head == QValues(3)
    assert (policy.step(vectors(), ())[0] - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("saved", "options", "says"),
    [
        ({"network": chain(nn.ReLU, 5, 32, 3)}, "", "activation"),  # CleanRL's are 120/84
        ({"layers": chain(nn.ReLU, 5, 8, 3)}, "", "size"),
        ({"layers": chain(nn.ReLU, 5, 8, 3)}, "+size:mlp:8", "activation"),
        ({"layers": chain(nn.ReLU, 5, 8, 3)}, "+size:mlp:8+activation:relu", "head"),
        ({"layers": chain(nn.ReLU, 5, 9, 3)}, "+size:mlp:8+activation:relu", "layers of 9/3"),
        (
            {"actor": chain(nn.ReLU, 5, 8, 3), "critic": chain(nn.ReLU, 5, 8, 1)},
            "+size:mlp:8+activation:relu+head:q",
            "prefix",
        ),
        ({"network": chain(nn.ReLU, 5, 120, 84, 3), "more": nn.Linear(2, 2)}, "", "more"),
        ({"network": chain(nn.ReLU, 5, 120, 84, 3)}, "+head:dice", "choose from"),
        ({"network": chain(nn.ReLU, 5, 120, 84, 3)}, "+part:actor", "actor"),
        ({"network": chain(nn.ReLU, 5, 120, 84, 3)}, "+colour:red", "activation"),
    ],
)
def test_what_nothing_says_has_to_be_named(
    saved: dict[str, nn.Module], options: str, says: str, tmp_path: Path
) -> None:
    torch.save(nn.ModuleDict(saved).state_dict(), tmp_path / "m.pt")
    with pytest.raises(UserError, match=says):
        import_model(f"{tmp_path / 'm.pt'}{options}")


def test_other_files_are_refused(tmp_path: Path) -> None:
    actor = Actor("fc_mu").state_dict()
    torch.save({"first": actor, "second": actor}, tmp_path / "two.pt")
    with pytest.raises(UserError, match="first, second"):
        import_model(str(tmp_path / "two.pt"))
    torch.save(actor, tmp_path / "td3.pt")
    with pytest.raises(UserError, match="from"):
        import_model(str(tmp_path / "td3.pt"), space=spaces.Box(-1.0, 1.0, (2,)))
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(UserError, match="never loaded"):
        import_model(str(tmp_path / "module.pt"))
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="state dict"):
        import_model(str(tmp_path / "list.pt"))


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "whole numbers": Tensor.long,
    "truths": Tensor.bool,
    "complex": lambda weight: weight.to(torch.complex64),
    "quantised": lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
    "sparse": Tensor.to_sparse,
    "without numbers": lambda weight: weight.to("meta"),
    "one for many": lambda weight: weight[:1, :1].clone().expand(2**18, 2**16),
    "one": Tensor.sum,
    "none": lambda weight: weight[:0],
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("options", ["", "+size:mlp:120/84+activation:relu+head:q"])
def test_weights_that_are_not_plain_numbers_are_refused(
    kind: str, options: str, tmp_path: Path
) -> None:
    tensors = nn.ModuleDict({"network": chain(nn.ReLU, 5, 120, 84, 3)}).state_dict()
    tensors["network.0.weight"] = ODD[kind](tensors["network.0.weight"])
    torch.save(dict(tensors), tmp_path / "m.pt")
    with pytest.raises(UserError, match=r"^.* (holds|has) a.* .*network\.0\.weight.*$"):
        import_model(f"{tmp_path / 'm.pt'}{options}")


def test_what_makes_no_network_is_refused_in_one_line(tmp_path: Path) -> None:
    network = nn.ModuleDict({"network": chain(nn.ReLU, 5, 120, 84, 3)}).state_dict()
    cells = {f"lstm.{side}": torch.zeros(2) for side in ("weight_hh_l0", "bias_hh_l0")}
    shared = torch.zeros(1_000)
    cases: list[tuple[dict[Any, Any], str]] = [
        ({**network, 1: torch.zeros(2)}, "by 1, expected a layer's name"),
        ({**network, "a\nb": torch.zeros(2)}, "expected a layer's name"),
        ({str(i): shared[i:] for i in range(20)}, "the same weights more than 10 times"),
        ({**network, "atoms": torch.tensor(1.0)}, "do not go together"),
        ({"actor.weight": torch.zeros(2, 2), "conv4.weight": torch.zeros(2), **cells}, "conv1"),
        ({"model_weights": network, "args": {"gamma": np.float64(0.9)}}, "objects of numpy"),
    ]
    for saved, says in cases:
        torch.save(saved, tmp_path / "m.pt")
        with pytest.raises(UserError, match=says) as error:
            import_model(tmp_path / "m.pt")
        assert "\n" not in str(error.value)
