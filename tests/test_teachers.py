from pathlib import Path

import pytest
import torch

from tests.fakes import tiny_network
from tutelage import teachers
from tutelage.errors import UserError
from tutelage.files import load_tensors, save_tensors
from tutelage.networks import QNetwork, parse_size
from tutelage.teachers import Model

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
    [{"env": ""}, {"card": "{"}, {"obs_shape": "3"}, {"obs_shape": "[null]"}, {"num_actions": "x"}],
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
