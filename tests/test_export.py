"""A policy taken elsewhere acts as it did here, in its own runtime; what cannot be is refused."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor, nn

import tutelage as tt
from tests.players import controller, refusal
from tests.test_importers_onnx import perceptron
from tutelage import proof
from tutelage.cli import main
from tutelage.domains import EnvironmentConfig
from tutelage.exporters import EXPORTERS, Exporter, Portable, Written
from tutelage.exporters.base import expected_action
from tutelage.exporters.c import compiled
from tutelage.exporters.c.compiled import deepest
from tutelage.exporters.c.file import HELPERS
from tutelage.exporters.c.quantised import line
from tutelage.heads import Bernoulli, Categorical, Gaussian, Head, MultiCategorical, Point, QValues
from tutelage.importers import import_model, policy_of
from tutelage.importers.layers import ACTIVATIONS, Cell, Frames, Layers, Recurrent
from tutelage.importers.state_dict import Dueling, Expectation
from tutelage.networks import Network, parse_size
from tutelage.types import Array

# PyTorch warns of what it does itself as it traces: an export hides it, its parts do not.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

EXACT = ["onnx", "torch", "c"]
BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32))
HALF_BOX = spaces.Box(np.array([-np.inf, 0.0], np.float32), np.array([0.5, 5.0], np.float32))
SMALL: dict[str, Any] = {"states": 64, "episodes": 2}
WORDS = ["--states", "64", "--episodes", "2"]

HEADS: dict[str, tuple[Head, gymnasium.Space[Any]]] = {
    "q": (QValues(3, temperature=0.1), spaces.Discrete(3, start=2)),
    "categorical": (Categorical(3), spaces.Discrete(3)),
    "multi-categorical": (MultiCategorical((3, 2)), spaces.MultiDiscrete([3, 2], start=[1, 0])),
    "bernoulli": (Bernoulli(3), spaces.MultiBinary(3)),
    "gaussian": (Gaussian(2), BOX),
    "squashed gaussian": (Gaussian(2, squashed=True), BOX),
    "gaussian, half bounded": (Gaussian(2, bounded=False), HALF_BOX),
    "point": (Point(2), BOX),
}


@pytest.fixture(autouse=True)
def _no_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much is noted of long work is a matter of the machine."""
    monkeypatch.setattr("tutelage.commands.display.SECONDS", 1e9)


def network(size: str, obs: tuple[int, ...], head: Head) -> Network:
    made = Network(parse_size(size), obs, head, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        made.output.weight.mul_(20.0)  # so that some actions are clipped
    return made.eval().requires_grad_(False)


def states_of(policy: Portable, obs: Array, memory: tuple[Array, ...] = ()) -> Any:
    return lambda n: [
        (policy.natural(obs[i : i + 1]), *(part[i : i + 1] for part in memory))
        for i in range(min(n, len(obs)))
    ]


def check(
    to: str, made: Any, space: gymnasium.Space[Any], obs: Array, folder: Path, apart: float = 1e-5
) -> Written:
    """Assert that a file says what the policy says, and is read back as the same policy."""
    policy = Portable(made, space, obs[:1])
    generator = torch.Generator().manual_seed(3)
    carry = tuple(torch.randn(p.shape, generator=generator) for p in made.initial(len(obs)))
    with torch.no_grad():
        numbers, after = policy.said(torch.from_numpy(obs), carry)
    want = expected_action(policy, numbers)
    memory = tuple(part.numpy() for part in carry)
    folder.mkdir()
    written = EXPORTERS[to].write(policy, folder, states_of(policy, obs, memory))
    action, said, *left = EXPORTERS[to].open(folder, written)(policy.natural(obs), *memory)
    np.testing.assert_allclose(said, numbers, atol=apart)
    for mine, theirs in zip(left, after, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=apart)
    if apart < 1e-3:
        np.testing.assert_allclose(action.reshape(want.shape), want, atol=5 * apart)
    if written.read_back:
        name = written.read_back.replace("policy.", f"{folder}/policy.", 1)
        again = import_model(name, space=space).policy
        assert again.head == policy.head
        out, _ = again.step(torch.from_numpy(obs), carry)
        np.testing.assert_allclose(out, numbers, atol=apart)
    return written


@pytest.mark.parametrize("head", HEADS)
def test_every_head_acts_the_same_in_every_format(head: str, tmp_path: Path) -> None:
    made, space = network("mlp:40", (2, 4), HEADS[head][0]), HEADS[head][1]
    obs = np.random.default_rng(1).normal(size=(200, 2, 4)).astype(np.float32)
    for to in EXACT:
        check(to, made, space, obs, tmp_path / to)


@pytest.mark.parametrize("to", EXACT)
def test_pixels_go_in_as_bytes_and_are_scaled_inside(to: str, tmp_path: Path) -> None:
    made = network("4/20/4/8", (1, 84, 84, 3), QValues(4))
    obs = np.random.default_rng(1).integers(0, 256, (9, 1, 84, 84, 3), np.uint8)
    made.calibrate(obs)
    written = check(to, made, spaces.Discrete(4), obs, tmp_path / "out", 1e-4)
    if to == "c":  # bytes are turned into numbers where they are read: no image of floats
        assert written.about["static_ram_bytes"] < 84 * 84 * 3
        assert "const uint8_t *obs" in (tmp_path / "out" / "policy.h").read_text()


@pytest.mark.parametrize("memory", ["lstm", "gru", "lstm cell"])
def test_a_memory_goes_in_and_comes_out(memory: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    kinds: dict[str, Callable[[], Any]] = {
        "lstm": lambda: Recurrent(nn.LSTM(5, 8, num_layers=2)),
        "gru": lambda: Cell(nn.GRUCell(5, 8)),
        "lstm cell": lambda: Cell(nn.LSTMCell(5, 8)),
    }
    made = Layers(Frames((5,)), nn.Linear(8, 3), Categorical(3), kinds[memory]())
    obs = np.random.default_rng(1).normal(size=(50, 1, 5)).astype(np.float32)
    for to in EXACT:
        check(to, made, spaces.Discrete(3), obs, tmp_path / to)


def test_columns_may_be_picked_and_layers_normalised_over_the_batch(tmp_path: Path) -> None:
    class Picking(nn.Module):
        head = Categorical(3)

        def __init__(self) -> None:
            super().__init__()
            self.normed = nn.BatchNorm1d(3)
            self.normed.running_mean = torch.tensor([0.5, -1.0, 2.0])
            self.normed.running_var = torch.tensor([0.25, 4.0, 1.0])
            self.picked = nn.Buffer(torch.tensor([4, 0, -2]))

        def forward(self, obs: Tensor) -> Tensor:
            out: Tensor = self.normed(obs[:, self.picked])
            return out

    obs = np.random.default_rng(1).normal(size=(50, 1, 5)).astype(np.float32)
    for to in EXACT:
        made = policy_of(Picking().eval(), head=Categorical(3))
        check(to, made, spaces.Discrete(3), obs, tmp_path / to)


def test_one_memory_may_become_what_another_was(tmp_path: Path) -> None:
    class Delay:
        head = Categorical(2)

        def initial(self, n: int) -> tuple[Tensor, ...]:
            return torch.zeros(n, 2), torch.zeros(n, 2)

        def step(self, obs: Tensor, carry: tuple[Tensor, ...]) -> Any:
            return obs[:, 0] + carry[1], (2.0 * obs[:, 0], carry[0])

    obs = np.random.default_rng(1).normal(size=(50, 1, 2)).astype(np.float32)
    for to in EXACT:
        check(to, Delay(), spaces.Discrete(2), obs, tmp_path / to)


def test_an_onnx_file_is_exported_as_well(tmp_path: Path) -> None:
    """Its own graph goes into the new one, behind what its actions' units need."""
    obs = np.random.default_rng(1).normal(size=(100, 1, 5)).astype(np.float32)
    name, _ = perceptron(tmp_path / "file", "continuous_actions", batch=1)
    made = import_model(name, space=BOX).policy
    for to in ("onnx", "c"):
        check(to, made, BOX, obs, tmp_path / to)
    with pytest.raises(tt.UserError, match="is an ONNX file.*choose onnx"):
        check("torch", made, BOX, obs, tmp_path / "torch")
    torch.manual_seed(1)
    gru = Cell(nn.GRUCell(5, 8))
    remembers = Layers(Frames((5,)), nn.Linear(8, 3), Categorical(3), gru)
    written = check("onnx", remembers, spaces.Discrete(3), obs, tmp_path / "gru")
    again = import_model(f"{tmp_path}/gru/{written.read_back}", space=spaces.Discrete(3)).policy
    for to in ("onnx", "c"):
        check(to, again, spaces.Discrete(3), obs, tmp_path / f"gru again, {to}")


def test_what_stands_between_layers_is_the_same_in_onnx_and_c(tmp_path: Path) -> None:
    class Every(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kinds = nn.ModuleList(kind() for kind in ACTIVATIONS.values())

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([kind(2.0 * x) for kind in self.kinds], dim=1)

    torch.manual_seed(1)
    wide = 6 * len(ACTIVATIONS)
    duel = Dueling(nn.Linear(wide, 5), nn.Linear(wide, 15), 5)
    norms = [nn.LayerNorm(wide), nn.LayerNorm(wide, bias=False)]
    body = nn.Sequential(Every(), *norms, duel, Expectation(torch.linspace(-1, 1, 5)))
    made = Layers(Frames((6,)), body, QValues(3))
    obs = np.random.default_rng(1).normal(size=(100, 1, 6)).astype(np.float32)
    check("onnx", made, spaces.Discrete(3), obs, tmp_path / "onnx")
    check("c", made, spaces.Discrete(3), obs, tmp_path / "c")


@pytest.mark.parametrize("to", ["onnx", "c"])
def test_a_normalised_network_is_the_same(to: str, tmp_path: Path) -> None:
    made = network("4/6/4/8:norm", (4, 84, 84), QValues(6))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:  # gains and biases that are no ones and zeros
                parameter.add_(torch.linspace(-0.5, 0.5, len(parameter)))
    obs = np.random.default_rng(1).integers(0, 256, (20, 4, 84, 84), np.uint8)
    check(to, made, spaces.Discrete(6), obs, tmp_path / "out")


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("to", [*EXACT, "c-int8"])
def test_convolutions_of_any_kind_are_the_same(to: str, groups: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    rows = [
        nn.Conv2d(4, 8, 3, 2, 1, groups=groups),  # 13 rows, 17 columns -> 7, 9
        nn.ReLU(),
        nn.Conv2d(8, 20, (1, 3), padding=(0, 2), dilation=(1, 2), groups=groups),
        nn.Conv2d(20, 8, (3, 1), groups=groups),
    ]
    line = [nn.Flatten(2), nn.Conv1d(8, 16, 3, 2, padding=2, groups=groups), nn.Tanh()]
    body = nn.Sequential(*rows, *line, nn.Flatten(), nn.Linear(16 * 24, 3))
    made = Layers(Frames((4, 13, 17)), body, QValues(3))
    obs = np.random.default_rng(1).normal(size=(20, 4, 13, 17)).astype(np.float32)
    check(to, made, spaces.Discrete(3), obs, tmp_path / "out", 0.05 if to == "c-int8" else 1e-5)


@pytest.mark.parametrize(
    ("size", "least", "most"),
    [("8/12/8/24", 0, 255), ("8/12/8/24:norm", 52, 236), ("6/4/4/9", 0, 200)],
)
def test_bytes_in_c_are_those_of_onnx_runtime(
    size: str, least: int, most: int, tmp_path: Path
) -> None:
    made = network(size, (4, 84, 84), QValues(6))
    obs = np.random.default_rng(1).integers(least, most, (20, 4, 84, 84), np.uint8, endpoint=True)
    made.calibrate(obs)
    policy = Portable(made, spaces.Discrete(6), obs[:1])
    said = {}
    for to in ("onnx-int8", "c-int8", "c"):
        (tmp_path / to).mkdir()
        written = EXPORTERS[to].write(policy, tmp_path / to, states_of(policy, obs))
        _, said[to] = EXPORTERS[to].open(tmp_path / to, written)(obs)
        if to != "onnx-int8":
            bytes_each = 1 if to == "c-int8" else 4
            assert written.about["table_bytes"] >= 0.99 * made.num_parameters() * bytes_each
            assert written.about["table_bytes"] <= made.num_parameters() * (bytes_each + 0.3)
    spread = float(said["c"].std())
    # Both round to the nearest byte, but may fall on either side of a half.
    assert np.abs(said["onnx-int8"] - said["c-int8"]).max() < 0.02 * spread
    assert 0.0 < np.abs(said["c"] - said["c-int8"]).max() < 0.5 * spread


@pytest.mark.parametrize(("least", "most"), [(0, 255), (0, 236), (52, 236), (100, 131)])
def test_pixels_that_rise_evenly_need_no_table(least: int, most: int) -> None:
    x = np.arange(256)
    table = np.clip(np.rint((x - least) * 255.0 / (most - least)) - 128, -128, 127).astype(np.int8)
    found = line(table)
    assert found is not None
    low, slope, half, shift, first, top = found
    rises = (slope * np.maximum(x - low, 0) >> 8) + half >> shift
    np.testing.assert_array_equal(np.minimum(first + rises, top), table)


def test_pixels_that_do_not_rise_evenly_have_a_table() -> None:
    table = np.arange(-128, 128).astype(np.int8)
    table[100] = table[101]
    assert line(table) is None
    assert line(np.zeros(256, np.int8)) is None


def test_numbers_become_bytes_by_the_nearest_of_which_the_even(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(
        f"#include <math.h>\n#include <stdint.h>\n#include <stdio.h>\n{HELPERS}"
        "int main(void) {\n"
        "    const float x[] = {0.5f, 1.5f, -0.5f, -1.5f, 1.49f, 126.5f, 300.0f, -300.0f, INFINITY,"
        " -1e30f};\n"
        '    for (int i = 0; i < 10; i++) printf("%d ", p_byte(x[i], 0));\n'
        '    printf("%d %d %d", p_byte(0.5f, -128), p_byte(-1.0f, -128), p_byte(2.6f, 127));\n'
        "    return 0;\n}\n"
    )
    program = str(tmp_path / "round")
    subprocess.run(["cc", "-std=c99", str(tmp_path / "main.c"), "-o", program, "-lm"], check=True)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    in_range, beyond = [0, 2, 0, -2, 1, 126], [127, -128, 127, -128]
    assert [int(word) for word in said.split()] == [*in_range, *beyond, -128, -128, 127]


@pytest.mark.parametrize("to", ["onnx-int8", "c-int8"])
def test_small_numbers_of_a_vector_are_not_lost_in_bytes(to: str, tmp_path: Path) -> None:
    """One step for all three would be 8, so that the last two said nothing."""
    body = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        body.weight.copy_(torch.tensor([[0.0, 1.0, 0.0], [0.001, 0.0, 100.0]]))
    obs = np.random.default_rng(1).uniform(-1, 1, (200, 1, 3)).astype(np.float32)
    obs *= np.array([1000.0, 1.0, 0.01], np.float32)
    made = Layers(Frames((3,)), nn.Sequential(nn.Flatten(), body), QValues(2))
    check(to, made, spaces.Discrete(2), obs, tmp_path / "out", 0.02)


def test_the_c_compiles_without_a_warning_and_plays_by_itself(tmp_path: Path) -> None:
    """The controller: left where 0.05 x + 0.2 v + angle + 0.6 spin < 0, else right."""
    tt.export(controller(tmp_path / "model"), "c", tmp_path / "out", **SMALL)
    (tmp_path / "main.c").write_text(
        """
#include "out/policy.h"
#include <stdio.h>
int main(void) {
    const float obs[3][POLICY_OBS] = {{1, 0, 0, 0}, {0, 0, -1, 0}, {1, 0, 0, -0.5f}};
    const float none[POLICY_OBS] = {0.0f / 0.0f};
    int32_t action[POLICY_ACTION];
    float numbers[POLICY_NUMBERS];
    for (int i = 0; i < 3; i++) {
        if (policy_run(obs[i], action, numbers)) return 1;
        printf("%d %.2f %.2f ", action[0], numbers[0], numbers[1]);
    }
    printf("%d", policy_act(none, action));
    return 0;
}
"""
    )
    strict = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
    sources = [str(tmp_path / "main.c"), str(tmp_path / "out" / "policy.c")]
    program = str(tmp_path / "play")
    subprocess.run(["cc", *strict, *sources, "-o", program, "-lm"], check=True)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    # Leaning by 0.05, by -1, and by 0.05 - 0.6 / 2.
    assert said.split() == ["1", "0.00", "0.05", "0", "1.00", "0.00", "0", "0.25", "0.00", "1"]


def test_a_contract_says_what_goes_in_what_comes_out_and_what_was_proved(tmp_path: Path) -> None:
    teacher = controller(tmp_path / "model")
    contract = tt.export(teacher, "onnx", tmp_path / "out", **SMALL, seed=3)
    assert contract == json.loads((tmp_path / "out" / "contract.json").read_text())
    assert contract["schema"] == "tutelage-contract-1"
    assert (contract["format"], contract["opset"]) == ("onnx", 18)
    assert contract["observation"]["shape"] == [4]
    assert contract["action"]["space"] == {"kind": "Discrete", "n": 2, "start": 0}
    assert contract["numbers"]["head"] == {"kind": "q", "n": 2, "temperature": 1.0}
    assert contract["model"]["digests"] == dict(import_model(teacher).files)
    shown = contract["proof"]
    assert (shown["states"], shown["agreement"], shown["episodes"]) == (64, 1.0, 2)
    assert shown["return"] == shown["return_exported"] == 500.0
    assert shown["return_difference_ci95"] == [0.0, 0.0]
    assert shown["us_per_action"] > 0.0 < shown["us_per_action_exported"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("contract.html", "contract.json", "policy.onnx"),
    ]
    page = (tmp_path / "out" / "contract.html").read_text()
    assert "100.000% of 64 states" in page
    read_back = f"{tmp_path}/out/{contract['read_back']}"
    assert tt.evaluate(read_back, "CartPole-v1", episodes=2).mean == 500.0


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_of_what_pytorch_does_itself(tmp_path: Path) -> None:
    tt.export(controller(tmp_path / "model"), "onnx", tmp_path / "onnx", **SMALL)
    tt.export(controller(tmp_path / "model"), "torch", tmp_path / "torch", **SMALL)


def test_statistics_of_others_are_folded_in(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]))
    model = sb3.PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=1, device="cpu")
    model.learn(128)
    model.save(tmp_path / "ppo.zip")
    env.save(str(tmp_path / "stats.pkl"))
    name = f"{tmp_path}/ppo.zip+vecnormalize:{tmp_path}/stats.pkl"
    contract = tt.export(name, "c", tmp_path / "out", env="Pendulum-v1", **SMALL)
    assert contract["proof"]["largest_action_error"] < 1e-5
    assert contract["action"]["space"]["low"] == [-2.0]
    # Without the statistics it is another policy.
    other = tt.export(f"{tmp_path}/ppo.zip", "c", tmp_path / "other", env="Pendulum-v1", **SMALL)
    assert abs(other["proof"]["return"] - contract["proof"]["return"]) > 1e-3


def test_a_teacher_is_exported_as_its_wrappers_change_it(tmp_path: Path) -> None:
    teacher = controller(tmp_path / "model")
    contract = tt.export(f"{teacher}+negate", "onnx", tmp_path / "out", **SMALL)
    assert contract["proof"]["return_exported"] < 50.0
    assert contract["model"]["wrappers"] == ["negate"]
    with pytest.raises(tt.UserError, match="draws at random"):
        tt.export(f"{teacher}+noise:1", "torch", tmp_path / "noisy", **SMALL)


def test_a_memory_is_proved_over_whole_episodes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    gru = Cell(nn.GRUCell(4, 8))
    made = Layers(Frames((4,)), nn.Linear(8, 2), Categorical(2), gru)
    contract = tt.export(made, "onnx", tmp_path / "out", env="CartPole-v1", states=640, episodes=3)
    assert contract["proof"]["agreement"] == 1.0
    assert contract["proof"]["return_difference"] == 0.0
    assert [one["input"] for one in contract["memory"]] == ["memory_0_in"]


@pytest.mark.parametrize(("to", "least"), [("onnx", 0.999), ("c-int8", 0.9)])
def test_the_bundled_student_proves_itself(to: str, least: float, tmp_path: Path) -> None:
    small: dict[str, Any] = {"states": 256, "episodes": 1, "max_steps": 100}
    contract = tt.export("pong-small-1", to, tmp_path / "out", min_agreement=least, **small)
    assert contract["proof"]["agreement"] >= least
    assert contract["proof"]["passed_by"] == "agreement"


# What the proof measures, worked out by hand.


def test_an_action_is_off_in_units_of_its_range() -> None:
    """A torque of 0.5 too much, of a range from -2 to 2, is off by an eighth."""
    policy = Portable(
        network("mlp:4", (1, 3), Point(1)), _space("Pendulum-v1"), np.zeros((1, 1, 3))
    )

    def off(obs: Array) -> list[Array]:
        with torch.no_grad():
            action, numbers = policy(torch.from_numpy(obs))
        return [(action - 0.5 * torch.sign(action)).numpy(), (numbers + 0.25).numpy()]

    same = proof.agreement(
        policy, off, EnvironmentConfig(env="Pendulum-v1"), states=32, seed=0, note=lambda text: None
    )
    assert same.action_error == pytest.approx(0.125)
    assert same.share == pytest.approx(0.875)
    assert same.largest == pytest.approx(0.25)


def test_returns_are_compared_in_pairs_of_the_same_start(tmp_path: Path) -> None:
    """A file that always pushes to the left falls early: each pair differs, none is mixed up."""
    model = import_model(controller(tmp_path / "model"))
    policy = Portable(model.policy, spaces.Discrete(2), np.zeros((1, 1, 4), np.float32))

    def left(obs: Array) -> list[Array]:
        return [np.zeros(len(obs), np.int64), np.zeros((len(obs), 2), np.float32)]

    config = EnvironmentConfig(env="CartPole-v1")
    both = proof.returns(policy, left, config, episodes=20, max_steps=500, seed=0, note=print)
    assert (both.original.returns == 500.0).all()
    mean, low, high = both.difference
    assert mean == pytest.approx(both.exported.mean - 500.0)
    assert low <= mean <= high < -480.0


def _space(env: str) -> gymnasium.Space[Any]:
    return gymnasium.make(env).action_space


# Bad input: one line, exit code 2, nothing left behind.


def test_a_file_that_acts_otherwise_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = EXPORTERS["onnx"]

    def turned(folder: Path, written: Written) -> Any:
        run = onnx.open(folder, written)
        return lambda *given: [1 - run(*given)[0], *run(*given)[1:]]

    monkeypatch.setitem(EXPORTERS, "onnx", Exporter(onnx.write, turned))
    teacher, out = controller(tmp_path / "model"), tmp_path / "out"
    line = refusal(["export", teacher, "--to", "onnx", "--out", str(out), *WORDS], capsys)
    assert "0.0000 of 64 actions are equal (at least 0.999)" in line
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    # A return that is not inferior makes up for it in eight bits only; this one is.
    monkeypatch.setitem(EXPORTERS, "onnx", Exporter(onnx.write, turned, 0.99, by_return=True))
    line = refusal(["export", teacher, "--to", "onnx", "--out", str(out), *WORDS], capsys)
    assert "its return of" in line
    assert line.endswith("distilled with --student-precision int8 acts in bytes as it learnt to")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def unpaid(**options: Any) -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.TransformReward(
            gymnasium.make("CartPole-v1", **options), lambda reward: 0.0
        )

    with pytest.raises(tt.UserError, match="nothing is paid here that returns could be compared"):
        tt.export(teacher, "onnx", out, env=unpaid, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = controller(tmp_path / "model")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    new = str(tmp_path / "new")
    anywhere = controller(tmp_path / "anywhere", env="")
    for words, said in (
        ([teacher, "--to", "jpeg", "--out", new], ["jpeg", *EXPORTERS]),
        ([teacher, "--to", "onnx", "--out", str(tmp_path / "used")], ["is not empty"]),
        ([teacher, "--to", "onnx", "--out", teacher], ["exists and is not empty"]),
        (
            [teacher, "--to", "onnx", "--out", new, "--env", "Pendulum-v1"],
            ["sees 4", "Pendulum-v1 gives 3"],
        ),
        ([anywhere, "--to", "onnx-int8", "--out", new], ["does not say what it plays"]),
        ([teacher, "--to", "onnx", "--out", new, "--states", "0"], ["states"]),
        ([teacher, "--to", "onnx", "--out", new, "--min-agreement", "2"], ["min_agreement"]),
        (["nothing.zip", "--to", "onnx", "--out", new], ["nothing.zip"]),
    ):
        line = refusal(["export", *words], capsys)
        assert all(word in line for word in said), line
        assert not Path(new).exists()


@pytest.mark.parametrize(
    ("to", "function", "said"),
    [
        ("onnx", lambda x: x[:, :2] * float("nan"), "NaN"),
        ("c", lambda x: x[:, :2] * float("nan"), "NaN"),
        ("onnx", lambda x: torch.special.bessel_j0(x[:, :2]), "choose torch: .*bessel_j0"),
        ("c", lambda x: torch.cumsum(x[:, :2], 1), "CumSum, which C has no loop for: choose onnx"),
        ("onnx", lambda x: x[:, :2].reshape(len(x), 2), "len"),
        ("onnx", lambda x: torch.from_numpy(x[:, :2].numpy()), "NumPy"),
        ("onnx", lambda x: x[:, :2] + torch.rand(2), "at random"),
        ("c-int8", lambda x: x[:, :2] * 2.0, "no layer that eight bits would make smaller"),
    ],
)
def test_what_cannot_be_said_elsewhere_is_named(
    to: str, function: Callable[[Tensor], Tensor], said: str, tmp_path: Path
) -> None:
    with pytest.raises(tt.UserError, match=said):
        tt.export(function, to, tmp_path / "out", env="CartPole-v1", head=Categorical(2), **SMALL)
    assert not list(tmp_path.iterdir())


def test_torchscript_is_refused_by_its_name(tmp_path: Path) -> None:
    script: Any = torch.jit.script
    script(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))).save(str(tmp_path / "linear.pt"))
    name = f"torchscript:{tmp_path}/linear.pt+head:q"
    with pytest.raises(tt.UserError, match="is TorchScript, which cannot be traced again"):
        tt.export(name, "onnx", tmp_path / "out", env="CartPole-v1", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["linear.pt"]


def test_a_compiler_that_never_ends_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cc").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(compiled, "PATIENCE", 0.2)
    words = ["export", controller(tmp_path / "m.safetensors"), "--to", "c"]
    said = refusal([*words, "--out", str(tmp_path / "out")], capsys)
    assert "cc did not end within 0.2 s" in said


def test_a_folder_of_any_name_holds_c(tmp_path: Path) -> None:
    model = controller(tmp_path / "m.safetensors")
    contract = tt.export(model, "c", tmp_path / "two\nlines", states=64, episodes=1, max_steps=20)
    assert contract


def test_the_stack_is_that_of_the_deepest_call() -> None:
    lines = [("p_elu", 8), ("p_byte", 24), ("policy_run", 400), ("policy_act", 16)]
    frames = "".join(f"policy.c:1:5:{name}\t{n}\tstatic\n" for name, n in lines)
    assert deepest(f"{frames}policy.c:9:6:policy_reset\t800\tstatic\n") == 16 + 400 + 24


def test_a_full_disk_and_a_missing_runtime_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = controller(tmp_path / "model")
    words = ["export", teacher, "--out", str(tmp_path / "out"), *WORDS]

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert "No space left on device" in refusal([*words, "--to", "onnx"], capsys)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", None)
        assert "pip install 'tutelage[onnx]'" in refusal([*words, "--to", "onnx"], capsys)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "which", lambda name: None)
        assert "the command cc is not found" in refusal([*words, "--to", "c"], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_jinja_there_is_no_page_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutelage.report.contract.find_spec", lambda name: None)
    out = tmp_path / "out"
    main(["export", controller(tmp_path / "model"), "--to", "torch", "--out", str(out), *WORDS])
    assert "pip install 'tutelage[report]'" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["contract.json", "policy.pt2"]
