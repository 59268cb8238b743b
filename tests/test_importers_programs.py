"""TorchScript, torch.export and Python: run only where they are named, checked at every answer."""

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from tutelage.errors import UserError
from tutelage.heads import Bernoulli, Categorical, MultiCategorical, Point, QValues
from tutelage.importers import Importer, import_model, policy_of
from tutelage.importers.base import ToRange
from tutelage.policies import Function, Model, begin_again

BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32))
OBS = torch.randn(1_000, 1, 5, generator=torch.Generator().manual_seed(1))


def perceptron() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 8), nn.ELU(), nn.Linear(8, 3)).requires_grad_(False).eval()


class Forgetful(nn.Module):
    """An LSTM whose state is inside of it, as robots are given them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.lstm, self.out = nn.LSTM(5, 4), nn.Linear(4, 3)
        self.register_buffer("h", torch.zeros(1, 1, 4))
        self.register_buffer("c", torch.zeros(1, 1, 4))
        self.normaliser = nn.Module()
        self.normaliser.register_buffer("mean", torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        own: Any = self
        out, (h, c) = own.lstm((x - own.normaliser.mean).unsqueeze(0), (own.h, own.c))
        own.h[:] = h
        own.c[:] = c
        said: Tensor = own.out(out.squeeze(0))
        return said


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, -x


def script(module: nn.Module, path: Path, *example: Tensor) -> str:
    jit: Any = torch.jit
    made = jit.trace(module, example) if example else jit.script(module)
    made.save(str(path))
    return str(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_program_is_asked_in_numbers_of_its_own_kind(dtype: torch.dtype, tmp_path: Path) -> None:
    module = perceptron().to(dtype)
    policy: Any = import_model(f"torchscript:{script(module, tmp_path / 'p')}+head:q:3").policy
    assert torch.equal(policy.step(OBS, ())[0], module(OBS[:, 0].to(dtype)).float())
    with pytest.raises(UserError, match=r"observations \[4\]: RuntimeError: mat1 and mat2 shapes"):
        policy.step(OBS[..., :4], ())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_run_only_where_it_is_named(tmp_path: Path) -> None:
    network = perceptron()
    name = script(network, tmp_path / "policy", OBS[:1, 0])
    with pytest.raises(UserError, match=f"torchscript:{name}"):
        import_model(name)
    model = import_model(f"torchscript:{name}+head:q:3")
    assert model.policy.head == QValues(3)
    assert (model.policy.step(OBS, ())[0] - network(OBS[:, 0])).abs().max() <= 1e-5
    with pytest.raises(UserError, match=r"observations \[4\]"):
        model.policy.step(OBS[:, :, :4], ())
    (tmp_path / "cut").write_bytes(Path(name).read_bytes()[:500])
    with pytest.raises(UserError, match="damaged"):
        import_model(f"torchscript:{tmp_path / 'cut'}+head:q:3")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_state_inside_of_a_program_is_kept_by_environment(tmp_path: Path) -> None:
    name = script(Forgetful().eval(), tmp_path / "policy", OBS[:1, 0])
    policy = import_model(f"torchscript:{name}+head:point", space=spaces.Box(-1, 1, (3,))).policy
    load: Any = torch.jit.load
    originals = [load(name) for _ in range(4)]
    carry, rng = policy.initial(4), np.random.default_rng(1)
    for obs in OBS.reshape(250, 4, 1, 5):
        begins = rng.random(4) < 0.1
        carry = begin_again(policy, carry, begins)
        for i in np.flatnonzero(begins):
            originals[i] = load(name)
        out, carry = policy.step(obs, carry)
        with torch.no_grad():
            expected = torch.cat([one(x) for one, x in zip(originals, obs, strict=True)])
        assert (out - expected).abs().max() <= 1e-5


class Counting(nn.Module):
    """Keeps a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return x * self.steps


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_state_that_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    name = script(Counting(), tmp_path / "policy")
    with pytest.raises(UserError, match="steps"):
        import_model(f"torchscript:{name}+head:q:5")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_of_several_outputs_is_chosen_by_its_number(tmp_path: Path) -> None:
    name = script(Pair(), tmp_path / "pair")
    policy = import_model(f"torchscript:{name}+head:q:5+output:1").policy
    assert torch.equal(policy.step(OBS, ())[0], -OBS[:, 0])
    for output in ("", "+output:2"):
        policy = import_model(f"torchscript:{name}+head:q:5{output}").policy
        with pytest.raises(UserError, match="2 outputs"):
            policy.step(OBS, ())
    with pytest.raises(UserError, match="number"):
        import_model(f"torchscript:{name}+head:q:5+output:actions")


@pytest.mark.parametrize("free", [True, False])
def test_exported_programs_say_what_their_networks_say(free: bool, tmp_path: Path) -> None:
    network = perceptron()
    sides = ({0: torch.export.Dim("n", min=1, max=4096)},) if free else None
    program = torch.export.export(network, (OBS[:2, 0],), dynamic_shapes=sides)
    torch.export.save(program, tmp_path / "policy.pt2")
    name = str(tmp_path / "policy.pt2")
    with pytest.raises(UserError, match=f"torch-export:{name}"):
        import_model(name)
    policy = import_model(f"torch-export:{name}", space=spaces.Discrete(3)).policy
    assert policy.head == Categorical(3)
    obs = OBS if free else OBS[:21]
    assert (policy.step(obs, ())[0] - network(obs[:, 0])).abs().max() <= 1e-5
    with pytest.raises(UserError, match="sees 5 numbers; the environment gives 4"):
        policy.step(obs[:, :, :4], ())
    (tmp_path / "other").write_bytes(b"PK")
    with pytest.raises(UserError, match="damaged"):
        import_model(f"torch-export:{tmp_path / 'other'}")


@pytest.fixture
def module() -> Iterator[Any]:
    """Return a module that can be imported as ``experts``."""
    made: Any = types.ModuleType("experts")
    sys.modules["experts"] = made
    yield made
    del sys.modules["experts"]


def test_a_policy_a_network_and_a_function_are_named_by_their_module(module: Any) -> None:
    network = perceptron()
    module.policy = Function(network, QValues(3))
    assert import_model("experts:policy").policy is module.policy
    module.network = network
    model = import_model("experts:network", space=spaces.Discrete(3))
    assert model.policy.head == Categorical(3)
    assert model.parameters == 75
    assert torch.equal(model.policy.step(OBS, ())[0], network(OBS[:, 0]))
    module.function = lambda obs: np.stack([obs[:, 0], -obs[:, 1]], axis=1)
    policy = import_model("experts:function+arrays:numpy", space=BOX).policy
    assert policy.head == Point(2)
    first = (OBS[0, 0, 0] + 0.5) / 1.5  # from [-2, 1] into [-1, 1]
    assert torch.allclose(policy.step(OBS, ())[0][0, 0], first)
    module.Expert = lambda: None
    for name in ("experts:nothing", "no_such_module:policy", "experts:Expert"):
        with pytest.raises(UserError):
            import_model(name)


def test_whole_numbers_are_actions() -> None:
    space = spaces.Discrete(3, start=1)
    policy = policy_of(lambda obs: (obs[:, 0] > 0).long() + 1, space=space)
    out, _ = policy.step(OBS, ())
    assert torch.equal(policy.head.mode(out), (OBS[:, 0, 0] > 0).long())
    assert torch.equal(
        out[0].exp() > 0.5, torch.tensor([OBS[0, 0, 0] <= 0, OBS[0, 0, 0] > 0, False])
    )
    several = policy_of(
        lambda obs: torch.tensor([[1, 0]] * len(obs)), space=spaces.MultiDiscrete([2, 3])
    )
    assert several.head == MultiCategorical((2, 3))
    assert several.head.mode(several.step(OBS[:2], ())[0]).tolist() == [[1, 0]] * 2
    yes = policy_of(lambda obs: obs[:, :2] > 0, space=spaces.MultiBinary(2))
    assert yes.head == Bernoulli(2)
    assert torch.equal(yes.head.mode(yes.step(OBS, ())[0]), (OBS[:, 0, :2] > 0).long())


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda obs: torch.zeros(len(obs), 2), "numbers"),
        (lambda obs: torch.zeros(2, 3), "numbers"),
        (lambda obs: torch.zeros(3), "numbers"),
        (lambda obs: torch.full((len(obs), 3), torch.nan), "NaN"),
        (lambda obs: torch.full((len(obs), 3), torch.inf), "infinity"),
        (lambda obs: torch.full((len(obs),), 3), "one of"),
        (lambda obs: torch.zeros(len(obs), 2, dtype=torch.int64), "actions"),
        (lambda obs: None, "NoneType"),
        (lambda obs: ["left"] * len(obs), "no numbers"),
        (lambda obs: {"action": 1}, "dict"),
    ],
)
def test_a_function_that_says_anything_else_is_told_so(
    function: Callable[[Tensor], Any], says: str
) -> None:
    policy = policy_of(function, head="categorical:3")
    with pytest.raises(UserError, match=says):
        policy.step(OBS, ())


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(UserError, match="callable"):
        policy_of(3, head="q:3")
    with pytest.raises(UserError, match="mean"):
        policy_of(lambda obs: obs)
    with pytest.raises(UserError, match="floating-point"):
        policy_of(lambda obs: torch.zeros(len(obs), dtype=torch.int64), space=BOX).step(OBS, ())
    with pytest.raises(UserError, match="choose from"):
        policy_of(lambda obs: obs, head="q:5", arrays="jax")


def test_an_importer_from_outside_is_named_with_its_file(module: Any, tmp_path: Path) -> None:
    def load(path: Path, *, space: Any = None, sign: str = "+1") -> Any:
        return Model(Function(lambda obs: int(sign) * obs[:, 0], QValues(5)), str(path), "own")

    module.format = Importer(lambda path: False, load)
    (tmp_path / "file").write_text("")
    model = import_model(f"experts:format:{tmp_path / 'file'}+sign:-1")
    assert torch.equal(model.policy.step(OBS, ())[0], -OBS[:, 0])
    module.format = load
    with pytest.raises(UserError, match="importer"):
        import_model(f"experts:format:{tmp_path / 'file'}")


def test_an_action_that_is_fixed_is_the_middle_of_its_range() -> None:
    low, high = np.array([-2.0, 3.0], np.float32), np.array([2.0, 3.0], np.float32)
    said = ToRange(low, high)(torch.tensor([[1.0, 3.0]]))
    assert said.tolist() == [[0.5, 0.0]]
