"""Models in files: what comes back, what older ones said, and what a file may not claim."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes import tiny_network
from tests.players import refusal
from tutelage import models
from tutelage.cli import main
from tutelage.configs import Distill
from tutelage.errors import UserError
from tutelage.files import file_digest, load_tensors, save_tensors
from tutelage.heads import Categorical, Gaussian, Head, QValues
from tutelage.importers import import_model
from tutelage.networks import Network
from tutelage.policies import Function, Model
from tutelage.schema import nested

CARD = {"mean_return": 20.5, "config": {"seed": 1, "milestones": [0.0, 15.0]}}
OBS = torch.randn(9, 1, 3, generator=torch.Generator().manual_seed(3))


def make_network(size: str = "mlp:16", head: Head | None = None) -> Network:
    network = tiny_network(size, head=head)
    network.shift.fill_(87.0)
    network.scale.fill_(1 / 30)
    return network


def save(path: Path, network: Network | None = None, *, half: bool = False) -> Path:
    models.save(path, network or make_network(), env="CartPole-v1", card=CARD, half=half)
    return path


def network_of(model: Model) -> Network:
    assert isinstance(model.policy, Network)
    return model.policy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "model.safetensors")


# What comes back.


@pytest.mark.parametrize("size", ["mlp:16", "mlp:16/8:norm"])
@pytest.mark.parametrize(
    "head", [QValues(2, temperature=0.1), Categorical(3), Gaussian(2, squashed=True)]
)
def test_a_network_comes_back_with_all_that_is_known_of_it(
    size: str, head: Head, tmp_path: Path
) -> None:
    network = make_network(size, head)
    path = save(tmp_path / "model.safetensors", network)
    model = import_model(path)
    assert (model.path, model.env, model.card) == (path, "CartPole-v1", CARD)
    assert (model.format, model.obs_shape, model.policy.head) == ("tutelage", (1, 3), head)
    assert model.parameters == network.num_parameters()
    assert model.files == {path.name: file_digest(path)}
    loaded = network_of(model)
    assert loaded.size == network.size
    assert torch.equal(loaded(OBS), network(OBS))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_half_precision_halves_the_weights_and_keeps_the_scaling(tmp_path: Path) -> None:
    network = make_network("mlp:500")
    network.register_buffer("shift", torch.tensor([1.0001, 2.0002, 3.0003]))
    path = save(tmp_path / "half.safetensors", network, half=True)
    whole = save(tmp_path / "whole.safetensors", network)
    assert path.stat().st_size < 0.65 * whole.stat().st_size
    given = network.state_dict()
    for name, loaded in network_of(import_model(path)).state_dict().items():
        exact = name in ("shift", "scale")
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, given[name] if exact else given[name].half().float()), name


def as_before(path: Path, network: Network, **other: str) -> Path:
    """Write a network as commit 6089b50 did, when all numbers were Q-values."""
    about = {
        "format": "tutelage-q-network-1",
        "size": str(network.size),
        "obs_shape": json.dumps(list(network.obs_shape)),
        "num_actions": str(network.head.size),
        "env": "CartPole-v1",
        "card": json.dumps(CARD),
        **other,
    }
    tensors = {name.replace("output.", "head."): t for name, t in network.state_dict().items()}
    save_tensors(path, tensors, about)
    return path


def test_a_file_from_before_heads_is_read_as_the_q_values_it_held(tmp_path: Path) -> None:
    network = make_network("mlp:9/8")
    model = import_model(as_before(tmp_path / "old.safetensors", network))
    assert (model.policy.head, model.card, model.env) == (QValues(2), CARD, "CartPole-v1")
    assert torch.equal(network_of(model)(OBS), network(OBS))


def test_a_folder_stands_for_its_best_model_or_else_its_last(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"last\.safetensors"):
        import_model(tmp_path)
    for name in ("last", "best"):
        path = save(tmp_path / f"{name}.safetensors")
        assert import_model(tmp_path).path == path


def test_a_bundled_model_is_loaded_by_name_and_an_unknown_name_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "BUNDLED", tmp_path)
    for name in ("pong-student", "pong"):
        save(tmp_path / f"{name}.safetensors")
    assert import_model("pong").path == tmp_path / "pong.safetensors"
    with pytest.raises(UserError, match=r"'pang'.*pong, pong-student"):
        import_model("pang")


# What it may not be.


def refused(path: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        import_model(path)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1_000
    return line


def rewrite(path: Path, **about: Any) -> None:
    """Change entries of a model's header; None leaves one out."""
    tensors, before = load_tensors(path)
    changed = {key: value for key, value in {**before, **about}.items() if value is not None}
    save_tensors(path, tensors, changed)


@pytest.mark.parametrize(
    "about",
    [
        {"env": None},
        {"env": 3},
        {"card": None},
        {"card": []},
        {"size": ["mlp:16"]},
        {"size": "mlp:0"},
        {"obs_shape": None},
        {"obs_shape": 3},
        {"obs_shape": []},
        {"obs_shape": [None]},
        {"obs_shape": [-1, 3]},
        {"obs_shape": [1, 3.5]},
        {"obs_shape": [1] * 6},
        {"obs_shape": [2**30, 3]},
        {"head": None},
        {"head": "q"},
        {"head": {}},
        {"head": {"kind": ["q"], "n": 2}},
        {"head": {"kind": "dueling", "n": 2}},
        {"head": {"kind": "q", "n": 2, "scale": 3}},
        {"head": {"kind": "q", "n": "two"}},
        {"head": {"kind": "q", "n": -2}},
        {"head": {"kind": "q", "n": True}},
        {"head": {"kind": "q", "n": 2, "temperature": 0}},
        {"head": {"kind": "q", "n": 2, "temperature": float("nan")}},
        {"head": {"kind": "multi-categorical", "sizes": []}},
    ],
    ids=json.dumps,
)
def test_a_header_of_other_types_is_refused(about: dict[str, Any], path: Path) -> None:
    rewrite(path, **about)
    assert path.name in refused(path)


@pytest.mark.parametrize(
    "about",
    [
        {"obs_shape": "3"},
        {"obs_shape": "[1, 3"},
        {"obs_shape": "[null]"},
        {"card": "{"},
        {"card": "[]"},
        {"card": "[" * 100_000},
        {"num_actions": "x"},
        {"num_actions": "-2"},
        {"num_actions": "9" * 5_000},
    ],
    ids=lambda about: next(iter(about.items()))[1][:9],
)
def test_a_header_from_before_heads_is_checked_as_well(
    about: dict[str, str], tmp_path: Path
) -> None:
    path = as_before(tmp_path / "old.safetensors", make_network(), **about)
    assert path.name in refused(path)


@pytest.mark.parametrize("inside", ["[]", '"x"', "null", "[" * 100_000, '{"a": ' * 100_000, "{"])
def test_a_header_that_is_no_object_is_refused(inside: str, path: Path) -> None:
    from safetensors.torch import save as pack

    tensors, _ = load_tensors(path)
    path.write_bytes(pack(tensors, {"about": inside}))
    assert path.name in refused(f"tutelage:{path}")
    refused(path)


@pytest.mark.parametrize("format_", ["other-1", None, 3, ["tutelage-policy-1"]])
def test_a_file_of_another_format_is_refused(format_: Any, path: Path) -> None:
    rewrite(path, format=format_)
    assert "tutelage-policy-1" in refused(f"tutelage:{path}")


@pytest.mark.parametrize(
    ("about", "word"),
    [
        ({"size": "mlp:8"}, "mlp:8"),
        ({"obs_shape": [1, 4]}, "size"),
        ({"head": {"kind": "categorical", "n": 3}}, "size"),
        # Claims that no machine has the memory for cost none before they are refused.
        ({"size": "mlp:65536/65536/65536/65536"}, "65536"),
        ({"obs_shape": [2**20, 2**20]}, "size"),
        ({"head": {"kind": "q", "n": 2**20}}, "size"),
    ],
)
def test_weights_that_are_not_what_the_header_says_are_refused(
    about: dict[str, Any], word: str, path: Path
) -> None:
    rewrite(path, **about)
    assert word in refused(path)


@pytest.mark.parametrize("name", ["output.weight", "body.1.bias", "scale"])
def test_tensors_of_another_kind_are_refused(name: str, path: Path) -> None:
    tensors, about = load_tensors(path)
    for value, word in (
        (tensors[name].int(), "int32"),
        (tensors[name] * torch.nan, "NaN"),
        (tensors[name] + torch.inf, "NaN or infinite"),
        (torch.zeros(7, 5), ""),
        (None, name),
    ):
        others = {key: tensor for key, tensor in tensors.items() if key != name}
        save_tensors(path, others if value is None else {**others, name: value}, about)
        assert word in refused(path)
    save_tensors(path, {**tensors, "more": torch.ones(1)}, about)
    assert "more" in refused(path)


@pytest.mark.parametrize("name", ["x" * 5_000, "a/" * 3_000, "no\0where", "", "pong+noise:1"])
def test_a_name_that_is_no_files_is_refused(name: str) -> None:
    refused(name)


def test_only_networks_of_tutelages_own_are_saved(tmp_path: Path) -> None:
    others: list[Any] = [Function(lambda obs: obs, QValues(2)), torch.nn.Linear(2, 2)]
    for other in others:
        with pytest.raises(UserError, match=type(other).__name__):
            models.save(tmp_path / "x.safetensors", other, env="", card={})
    assert not list(tmp_path.iterdir())


# On the command line.


def test_inspect_lists_a_card_without_settings_of_other_games(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = {"mean_return": 8.0, "note": "", "config": nested(Distill(seed=7))}
    for env, words, no_words in (
        ("CartPole-v1", ["settings.vector"], ["pool_frames", "{", "note"]),
        ("pong", ["settings.pool_frames"], ["settings.vector"]),
    ):
        path = tmp_path / f"{env}.safetensors"
        models.save(path, make_network(head=QValues(2)), env=env, card=card)
        main(["inspect", str(path)])
        lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
        assert (lines["card.mean_return"], lines["settings.seed"]) == ("8", "7")
        shown = " ".join([*lines, *lines.values()])
        assert all(word in shown for word in words)
        assert not any(word in shown for word in no_words)


def test_inspect_says_what_a_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "model.safetensors", make_network(head=QValues(2, temperature=0.1)))
    main(["inspect", str(path), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["format"] == "tutelage"
    assert said["head"] == {"kind": "q", "n": 2, "temperature": 0.1}
    assert (said["observations"], said["size"], said["env"]) == ([1, 3], "mlp:16", "CartPole-v1")
    assert (said["parameters"], said["bytes"]) == (98, path.stat().st_size)
    assert (said["digests"], said["memory"]) == ({path.name: file_digest(path)}, False)
    assert said["card"] == CARD
    main(["inspect", str(path)])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("mlp:16", "temperature 0.1", file_digest(path), "20.5"))
    assert "no model" in refusal(["inspect", str(tmp_path / "none")], capsys)
