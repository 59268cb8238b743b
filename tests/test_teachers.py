from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.fakes import tiny_network
from tutelage import teachers
from tutelage.errors import UserError
from tutelage.files import load_tensors, save_tensors
from tutelage.networks import QNetwork, parse_size
from tutelage.teachers import Ensemble, Model, Teacher, TeacherError, parse_teacher
from tutelage.types import QFunction

CARD = {"mean_return": 20.5, "config": {"seed": 1, "milestones": [0.0, 15.0]}}


def make_network(size: str = "mlp:16") -> QNetwork:
    network = tiny_network(size)
    network.shift.fill_(87.0)
    network.scale.fill_(1 / 30)
    return network


def save(path: Path, network: QNetwork | None = None, *, half: bool = False) -> Path:
    teachers.save(path, network or make_network(), env="CartPole-v1", card=CARD, half=half)
    return path


def rewrite(path: Path, **about: str) -> None:
    """Change entries of a model's header; an empty one is left out."""
    tensors, before = load_tensors(path)
    save_tensors(path, tensors, {k: v for k, v in {**before, **about}.items() if v})


def load(path: Path) -> Model:
    return teachers.load(str(path))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model.safetensors")


def test_a_network_comes_back_with_all_that_is_known_of_it(model: Path) -> None:
    network, loaded = make_network(), load(model)
    assert (loaded.path, loaded.env, loaded.card) == (model, "CartPole-v1", CARD)
    assert loaded.network.size == network.size
    assert (loaded.network.obs_shape, loaded.network.num_actions) == ((1, 3), 2)
    for name, weights in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], weights), name
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())


def test_half_precision_halves_the_weights_and_keeps_the_scaling(tmp_path: Path) -> None:
    network = make_network("mlp:500")
    path = save(tmp_path / "half.safetensors", network, half=True)
    whole = save(tmp_path / "whole.safetensors", network)
    assert path.stat().st_size < 0.65 * whole.stat().st_size
    for name, loaded in load(path).network.state_dict().items():
        given = network.state_dict()[name]
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, given.half().float() if given.ndim else given), name


def test_a_folder_stands_for_its_best_model_or_else_its_last(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*last\.safetensors"):
        load(tmp_path)
    for name in ("last", "best"):
        path = save(tmp_path / f"{name}.safetensors")
        assert load(tmp_path).path == path


def test_a_bundled_model_is_loaded_by_name_and_an_unknown_name_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "BUNDLED", tmp_path)
    for name in ("pong-student", "pong"):
        save(tmp_path / f"{name}.safetensors")
    assert teachers.load("pong").path == tmp_path / "pong.safetensors"
    with pytest.raises(UserError, match=r"no model 'pang'.*bundled name \(pong, pong-student\)"):
        teachers.load("pang")


def test_a_network_of_another_size_than_the_header_says_is_refused(model: Path) -> None:
    rewrite(model, size="mlp:8")
    with pytest.raises(UserError, match=r"says it is of size mlp:8 but its tensors differ: size"):
        load(model)


@pytest.mark.parametrize("format_", ["other-1", ""])
def test_a_safetensors_file_of_another_format_is_refused(format_: str, model: Path) -> None:
    rewrite(model, format=format_)
    shown = repr(format_ or None)
    with pytest.raises(UserError, match=rf"no Tutelage model \(format {shown}, expected 'tut"):
        load(model)


@pytest.mark.parametrize(
    "about",
    [
        {"env": ""},
        {"card": "{"},
        {"obs_shape": "3"},
        {"obs_shape": "[null]"},
        {"num_actions": "x"},
        {"num_actions": "-2"},
        {"obs_shape": "[-1, 3]"},
        {"num_actions": "99999999999"},
    ],
)
def test_a_damaged_header_is_refused(about: dict[str, str], model: Path) -> None:
    rewrite(model, **about)
    with pytest.raises(UserError, match=f"{model.name} has a damaged header"):
        load(model)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["head.weight", "body.1.bias", "scale"])
def test_weights_that_are_not_finite_are_refused(name: str, value: float, tmp_path: Path) -> None:
    network = make_network()
    network.state_dict()[name].view(-1)[0] = value
    with pytest.raises(UserError, match="holds NaN or infinite weights"):
        load(save(tmp_path / "model.safetensors", network))


def test_a_model_fits_the_environment_it_was_made_for(model: Path) -> None:
    teachers.check_fits(load(model), "mine", "CartPole-v1", (1, 3), 2)


@pytest.mark.parametrize(
    ("env", "obs_shape", "num_actions"),
    [("Acrobot-v1", (1, 3), 2), ("CartPole-v1", (1, 6), 2), ("CartPole-v1", (1, 3), 3)],
)
def test_a_model_made_for_something_else_is_refused_showing_both(
    env: str, obs_shape: tuple[int, ...], num_actions: int, model: Path
) -> None:
    shown = (
        r"teacher 'mine' plays CartPole-v1 \(observations \[1, 3\], 2 actions\); "
        rf"this run plays {env} \(observations \[1, {obs_shape[1]}\], {num_actions} actions\)"
    )
    with pytest.raises(UserError, match=shown):
        teachers.check_fits(load(model), "mine", env, obs_shape, num_actions)


@pytest.mark.parametrize(("side", "frame"), [(84, 84), (80, 80)])
def test_a_models_environment_has_the_frames_it_was_made_for(
    side: int, frame: int, model: Path
) -> None:
    network = QNetwork(parse_size("1/1/1/1"), (4, side, side), 6)
    config = teachers.environment_of(Model(model, network, "pong", {}), sticky=0.25)
    assert (config.env, config.frame, config.sticky) == ("pong", frame, 0.25)


# A ensemble of teachers.


@dataclass
class Counted:
    """A network of two actions that counts: q = (sign * the state's number, 1)."""

    sign: float = 1.0
    broken: float | None = None
    """The state for which it says NaN."""
    calls: list[int] = field(default_factory=list)

    def __call__(self, obs: Tensor) -> Tensor:
        self.calls.append(len(obs))
        state = obs[:, -1, 0].float()
        q = torch.stack([self.sign * state, torch.ones(len(obs))], dim=1)
        if self.broken is not None:
            q[state == self.broken, 1] = torch.nan
        return q


def staff_of(*teachers: tuple[QFunction, str], seed: int = 0) -> Ensemble:
    """Return a ensemble of networks with their wrappers, such as ``+negate``."""
    return Ensemble(
        [Teacher(f"{i}{text}", q, parse_teacher(text)[1]) for i, (q, text) in enumerate(teachers)],
        seed=seed,
    )


def states(*numbers: int) -> Tensor:
    """Return ``obs[N,2,1]``: each number and before it its hundredfold."""
    return torch.tensor([[[100.0 * n], [float(n)]] for n in numbers])


def test_copies_of_a_network_share_one_pass_and_only_those_asked_do_anything() -> None:
    mine, yours, idle = Counted(), Counted(sign=2.0), Counted()
    ensemble = staff_of((mine, ""), (yours, ""), (mine, "+negate"), (idle, ""), (mine, "+delay:1"))
    q = ensemble(states(1, 2, 3, 4, 5, 6), np.array([2, 1, 0, 4, 2, 1]), 0)
    assert q[:, 0].tolist() == [-1.0, 4.0, 3.0, 400.0, -5.0, 12.0]
    assert q[:, 1].tolist() == [-1.0, 1.0, 1.0, 1.0, -1.0, 1.0]
    assert (mine.calls, yours.calls, idle.calls) == ([4], [2], [])
    ensemble(states(7), np.array([3]), 8)
    assert (mine.calls, yours.calls, idle.calls) == ([4], [2], [1])


@given(arm=st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_rows_come_back_in_their_order(arm: list[int]) -> None:
    mine, yours = Counted(), Counted(sign=2.0)
    ensemble = staff_of((yours, "+scale:3"), (mine, ""), (mine, "+negate"), (yours, ""), (mine, ""))
    sign = np.array([6.0, 1.0, -1.0, 2.0, 1.0])
    q = ensemble(states(*range(len(arm))), np.array(arm), 0)
    np.testing.assert_array_equal(q[:, 0], sign[arm] * np.arange(len(arm)))
    assert len(mine.calls) == int(any(k in (1, 2, 4) for k in arm))
    assert len(yours.calls) == int(any(k in (0, 3) for k in arm))


def test_a_teachers_noise_does_not_depend_on_who_else_is_asked() -> None:
    mine = Counted()
    ensemble = staff_of((mine, "+noise:1"), (mine, "+noise:1"), (Counted(), ""))
    together = ensemble(states(1, 2, 3, 4), np.array([0, 1, 2, 0]), 64)
    alone = ensemble(states(1, 4), np.array([0, 0]), 64)
    torch.testing.assert_close(together[[0, 3]], alone, rtol=0, atol=0)


def test_the_teacher_that_says_nan_is_named() -> None:
    mine = Counted(broken=3.0)
    ensemble = staff_of((Counted(), ""), (mine, ""), (mine, "+negate"), (mine, "+noise:1"))
    obs = states(1, 2, 3, 4)
    for culprit in (1, 2, 3):
        arm = np.array([1, 2, culprit, 3])
        with pytest.raises(TeacherError, match="NaN or infinite Q-values at env step 24") as raised:
            ensemble(obs, arm, 24)
        assert raised.value.arm == culprit
    assert ensemble(obs, np.array([1, 2, 0, 3]), 24).isfinite().all()


def test_a_teacher_that_says_infinity_through_its_wrapper_alone_is_named() -> None:
    big = Counted(sign=1e38)
    ensemble = staff_of((big, ""), (big, "+scale:100"))
    with pytest.raises(TeacherError) as raised:
        ensemble(states(1, 2), np.array([0, 1]), 0)
    assert raised.value.arm == 1


def test_the_teacher_that_raises_is_named() -> None:
    def broken(obs: Tensor) -> Tensor:
        raise ZeroDivisionError("no luck")

    ensemble = staff_of((Counted(), ""), (Counted(), ""), (broken, "+negate"), (broken, ""))
    for arm, culprit in ([0, 1, 2], 2), ([3, 1, 0], 3), ([3, 1, 2], 2):
        with pytest.raises(TeacherError, match=r"ZeroDivisionError\('no luck'\)") as raised:
            ensemble(states(1, 2, 3), np.array(arm), 0)
        assert raised.value.arm == culprit
        assert isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_teacher_that_answers_for_other_rows_is_named(rows: int) -> None:
    ensemble = staff_of((Counted(), ""), (lambda obs: torch.zeros(rows, 2), ""))
    with pytest.raises(TeacherError) as raised:
        ensemble(states(1, 2, 3), np.array([0, 1, 1]), 0)
    assert raised.value.arm == 1


def test_a_wrapper_that_does_not_fit_is_the_users_mistake() -> None:
    ensemble = staff_of((Counted(), ""), (Counted(), "+delay:2"))
    with pytest.raises(UserError, match="a stack of 2 frames shows at most 1") as raised:
        ensemble(states(1, 2), np.array([0, 1]), 0)
    assert not isinstance(raised.value, TeacherError)
    with pytest.raises(UserError, match="a stack of 2 frames shows at most 1"):
        ensemble.check(states(1, 2))


def test_a_check_asks_every_teacher_and_lets_it_fail() -> None:
    networks = Counted(broken=1.0), Counted(), Counted()
    staff_of(*((network, "+delay:1") for network in networks)).check(states(1, 2))
    assert [network.calls for network in networks] == [[1], [1], [1]]


def test_a_teacher_alone_plays_with_a_noise_that_is_another_in_each_call() -> None:
    ensemble = staff_of((Counted(), ""), (Counted(sign=3.0), "+noise:1"), seed=4)
    obs = states(*range(200))
    one, again = ensemble.alone(1), ensemble.alone(1)
    first, second = one(obs), one(obs)
    assert torch.equal(again(obs), first)
    assert torch.equal(again(obs), second)
    noise = torch.stack(
        [q - torch.stack([obs[:, 1, 0] * 3.0, torch.ones(200)], 1) for q in (first, second)]
    )
    assert abs(np.corrcoef(noise.flatten(1).numpy())[0, 1]) < 0.2
    assert ensemble.alone(0)(states(7)).tolist() == [[7.0, 1.0]]


def test_no_teachers_are_refused() -> None:
    with pytest.raises(UserError, match="no teachers, expected at least one"):
        Ensemble([])


def test_a_model_is_loaded_once_for_all_of_its_copies(tmp_path: Path) -> None:
    one, two = (str(save(tmp_path / f"{name}.safetensors")) for name in "ab")
    names = (f"{one}+noise:1", two, one, f"{one}+negate")
    ensemble, models = teachers.load_teachers(names, device=torch.device("cpu"), seed=3)
    assert list(models) == [one, two]
    assert tuple(teacher.name for teacher in ensemble.teachers) == names
    networks = [teacher.network for teacher in ensemble.teachers]
    assert [networks.index(network) for network in networks] == [0, 1, 0, 0]
    obs = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        ensemble(obs, np.array([2, 3]), 0)[1], -load(Path(one)).network(obs)[1]
    )
    with pytest.raises(UserError, match="unknown wrapper of a teacher 'loud'"):
        teachers.load_teachers([one, f"{two}+loud"], device=torch.device("cpu"), seed=3)
