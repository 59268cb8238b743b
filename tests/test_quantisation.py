"""Networks that learn in bytes: what is rounded, what is learnt, what is saved and exported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

import tutelage as tt
from tutelage import models
from tutelage.errors import UserError
from tutelage.exporters import EXPORTERS, Portable
from tutelage.files import load_tensors, save_tensors
from tutelage.heads import Categorical
from tutelage.importers import import_model
from tutelage.networks import Network, parse_size
from tutelage.quantisation import (
    LEAST,
    MOST,
    QuantisedLayer,
    Range,
    layers_of,
    packed_bytes,
    precision_of,
    quantise,
)
from tutelage.types import seeded, torch_generator


def layer(weight: list[list[float]], bits: int) -> QuantisedLayer:
    made = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        made.weight.copy_(torch.tensor(weight))
        made.bias.zero_()
    return QuantisedLayer(made, bits)


def test_weights_round_to_steps_of_each_output() -> None:
    made = layer([[7.0, 3.4, -1.6], [0.7, 0.04, -0.7]], 4)
    torch.testing.assert_close(made.scales(), torch.tensor([1.0, 0.1]))
    assert made.whole().tolist() == [[7, 3, -2], [7, 0, -7]]
    torch.testing.assert_close(made.rounded(), torch.tensor([[7.0, 3.0, -2.0], [0.7, 0.0, -0.7]]))
    assert layer([[127.0, 1.4]], 8).rounded().tolist() == [[127.0, 1.0]]


def test_inputs_round_to_256_steps_and_gradients_pass_but_where_they_are_cut() -> None:
    inputs = Range().eval()
    inputs.low.fill_(-0.5)
    inputs.high.fill_(2.05)  # steps of 0.01, of which -0.5 is byte -128 and 0 byte -78
    scale, zero = inputs.steps()
    assert float(scale) == pytest.approx(0.01)
    assert int(zero) == -78
    x = torch.tensor([-9.0, -0.104, 0.0, 1.006, 3.0], requires_grad=True)
    rounded = inputs(x)
    torch.testing.assert_close(rounded, torch.tensor([-0.5, -0.1, 0.0, 1.01, 2.05]))
    rounded.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("low", "high"), [(-8.0, 8.0), (-1.3, 2.7), (0.0, 5.5), (-3.3, 0.0), (-0.01, 700.0), (0.0, 0.0)]
)
def test_inputs_round_as_by_torch_to_the_last_bit(low: float, high: float) -> None:
    rounds = Range().eval()
    rounds.low.fill_(low)
    rounds.high.fill_(high)
    shown = (
        torch.randn(10_000, generator=torch.Generator().manual_seed(1)) * max(high, -low, 1.0) * 1.2
    )
    ours, theirs = (shown.clone().requires_grad_() for _ in range(2))
    weight = torch.linspace(-1.0, 1.0, len(shown))
    out = rounds(ours)
    expected = torch.fake_quantize_per_tensor_affine(theirs, *rounds.steps(), LEAST, MOST)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(out, expected)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


def test_gradients_of_weights_are_those_of_the_rounded_layer() -> None:
    made = layer([[7.0, 3.4]], 4).eval()
    made(torch.tensor([[1.0, 2.0]])).sum().backward()
    expected = made.inputs(torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(made.weight.grad, expected)


def test_a_range_follows_what_is_learnt_from_alone() -> None:
    inputs = Range()
    inputs(torch.tensor([-2.0, 4.0]))
    assert (float(inputs.low), float(inputs.high)) == (-2.0, 4.0)
    inputs(torch.tensor([1.0, 8.0]))  # the mean of two; zero is always within
    assert (float(inputs.low), float(inputs.high)) == (-1.0, 6.0)
    with torch.no_grad():
        inputs(torch.tensor([-90.0, 90.0]))
    inputs.eval()(torch.tensor([-90.0, 90.0]))
    assert (float(inputs.low), float(inputs.high)) == (-1.0, 6.0)
    inputs.train().seen.fill_(1e6)
    inputs(torch.tensor([0.0, 106.0]))
    assert float(inputs.high) == pytest.approx(7.0)


def network(size: str, obs_shape: tuple[int, ...], precision: str) -> Network:
    generator = torch_generator(seeded(1, "test"))
    made = Network(parse_size(size), obs_shape, Categorical(4), generator=generator)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(generator=generator)
    return quantise(made, precision)


def test_nothing_rounds_that_is_not_asked_to() -> None:
    assert layers_of(network("mlp:8", (1, 4), "fp32")) == []
    assert precision_of(network("mlp:8", (1, 4), "fp32")) == "fp32"


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_file_says_its_precision_and_acts_the_same(precision: str, tmp_path: Path) -> None:
    made = network("mlp:8/8:norm", (1, 4), precision)
    obs = torch.randn(64, 1, 4, generator=torch.Generator().manual_seed(1))
    made(obs)
    path = tmp_path / "one.safetensors"
    models.save(path, made, env="CartPole-v1", card={})
    again: Any = import_model(path).policy
    assert precision_of(again) == precision
    torch.testing.assert_close(again(obs), made.eval()(obs), rtol=0.0, atol=1e-5)
    # 4·8, 8·8 and 8·4 weights; a scale and a bias for each of 20 outputs; 5 bytes for each layer.
    assert packed_bytes(made) == 128 * (8 if precision == "int8" else 4) // 8 + 20 * 8 + 3 * 5
    tensors, about = load_tensors(path)
    save_tensors(path, {**tensors, "output.inputs.low": torch.tensor(1.0)}, about)
    with pytest.raises(UserError, match="range that does not hold 0"):
        import_model(path)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("to", ["onnx-int8", "c-int8", "onnx", "c"])
@pytest.mark.parametrize("size", ["mlp:16/8", "4/4/4/16"])
def test_an_exported_file_says_what_was_trained(
    size: str, to: str, precision: str, tmp_path: Path
) -> None:
    shape = (1, 6) if size.startswith("mlp") else (4, 84, 84)
    made = network(size, shape, precision)
    rng = np.random.default_rng(1)
    obs = rng.normal(size=(200, *shape)).astype(np.float32)
    if len(shape) == 3:
        obs = rng.integers(0, 256, (60, *shape), np.uint8)
        made.calibrate(obs)
    made(torch.from_numpy(obs))
    policy = Portable(made.eval().requires_grad_(False), spaces.Discrete(4), obs[:1])

    def states(n: int) -> list[tuple[Any, ...]]:
        raise AssertionError("nothing is calibrated anew")

    written = EXPORTERS[to].write(policy, tmp_path, states)
    action, said = EXPORTERS[to].open(tmp_path, written)(policy.natural(obs))
    want = made(torch.from_numpy(obs)).numpy()
    # A sum's last bit may round an activation the other way, by one of 256 steps.
    assert np.isclose(said, want, rtol=0.0, atol=1e-5).all(axis=1).mean() > 0.8
    np.testing.assert_allclose(said, want, atol=0.02 * float(want.std()))
    assert (action.ravel() == want.argmax(1)).mean() >= 0.99


def test_torch_is_refused_in_one_line(tmp_path: Path) -> None:
    made = network("mlp:8", (1, 4), "int8").eval()
    policy = Portable(made, spaces.Discrete(4), np.zeros((1, 1, 4), np.float32))
    with pytest.raises(UserError, match="choose onnx-int8 or c-int8"):
        EXPORTERS["torch"].write(policy, tmp_path, lambda n: [])


SETTINGS: dict[str, Any] = {
    "env_steps": 1024,
    "round_steps": 256,
    "checkpoint_every": 512,
    "eval_from": 10_000,
    "confirm_episodes": 2,
    "target_return": 1e9,
    "threads": 1,
    "precision": "fp32",
}


def teacher(obs: torch.Tensor) -> torch.Tensor:
    """Return logits by which the cart is pushed to where the pole falls."""
    lean = obs.flatten(1)[:, 2:3] * 3.0 + obs.flatten(1)[:, 3:4]
    return torch.cat([-lean, lean], 1) * 5.0


def distilled(out: Path, **settings: Any) -> Any:
    return tt.distill(
        teacher,
        "CartPole-v1",
        "mlp:4",
        out=out,
        **{"head": tt.Categorical(2), **SETTINGS, **settings},
    )


@pytest.mark.parametrize("reward_weight", ["0", "0.5"])
def test_a_run_goes_on_as_if_never_stopped(reward_weight: str, tmp_path: Path) -> None:
    settings = {"reward_weight": reward_weight, "head": tt.QValues(2), "target_every": 20}
    distilled(tmp_path / "whole", student_precision="int4", **settings)
    rows: list[Any] = []

    def stop(row: Any) -> None:
        rows.append(row)
        if len(rows) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distilled(tmp_path / "stopped", student_precision="int4", watch=stop, **settings)
    distilled(tmp_path / "stopped", student_precision="int4", resume=True, **settings)
    whole, stopped = (
        load_tensors(tmp_path / name / "last.safetensors")[0] for name in ("whole", "stopped")
    )
    assert float(whole["output.inputs.seen"]) > 50.0
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_a_module_of_ones_own_rounds_by_itself(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="let it round by itself"):
        tt.distill(
            teacher,
            "CartPole-v1",
            nn.Sequential(nn.Flatten(), nn.Linear(4, 2)),
            head=tt.Categorical(2),
            out=tmp_path / "out",
            student_precision="int8",
            **SETTINGS,
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_learning_in_few_bits_keeps_more_than_rounding_afterwards(tmp_path: Path) -> None:
    obs = torch.randn(4000, 1, 4, generator=torch.Generator().manual_seed(5)) * torch.tensor(
        [1.0, 1.0, 0.1, 1.0]
    )
    want = teacher(obs).argmax(1)
    agreed = {}
    for precision in ("fp32", "int4"):
        out = tmp_path / precision
        distilled(out, env_steps=4096, student_precision=precision)
        student: Any = import_model(out).policy
        rounded = quantise(student, "int4") if precision == "fp32" else student
        if precision == "fp32":
            rounded.train()(obs)  # ranges, as calibration has them
        with torch.no_grad():
            agreed[precision] = float((rounded.eval()(obs).argmax(1) == want).float().mean())
    assert agreed["int4"] >= agreed["fp32"]
    assert agreed["int4"] > 0.85


def test_inspect_says_the_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tutelage.cli import main

    path = tmp_path / "one.safetensors"
    models.save(path, network("mlp:8", (1, 4), "int4"), env="CartPole-v1", card={})
    main(["inspect", str(path), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (said["precision"], said["packed_bytes"]) == ("int4", 64 // 2 + 12 * 8 + 2 * 5)
