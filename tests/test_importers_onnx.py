"""ONNX files say what the PyTorch networks say that they were made of."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from gymnasium import spaces
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tutelage.errors import UserError
from tutelage.heads import Categorical, Gaussian, Point, QValues
from tutelage.importers import import_model
from tutelage.policies import begin_again

BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32))
SCALE, BIAS = torch.tensor([1.5, 2.5]), torch.tensor([-0.5, 2.5])

Values = list[tuple[str, list[int | str]]]


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: Values,
    outputs: Values,
    weights: dict[str, Tensor],
    kind: int = TensorProto.FLOAT,
) -> str:
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(value.numpy(), name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    )
    return str(path)


def perceptron(path: Path, output: str, *, batch: int | str = "n", actions: int = 2) -> Any:
    """Write tanh(W obs + b) by a last layer; return its name and the network."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, actions)).requires_grad_(False)
    nodes = [
        helper.make_node("Gemm", ["obs", "0.weight", "0.bias"], ["h"], transB=1),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("Gemm", ["t", "2.weight", "2.bias"], [output], transB=1),
    ]
    name = write(
        path, nodes, [("obs", [batch, 5])], [(output, [batch, actions])], network.state_dict()
    )
    return name, network


@pytest.mark.parametrize("batch", ["n", 1, 300])
def test_any_number_of_states_is_asked_of_any_file(batch: int | str, tmp_path: Path) -> None:
    name, network = perceptron(tmp_path / "p", "continuous_actions", batch=batch)
    obs = torch.randn(1_000, 1, 5)
    in_range = import_model(f"{name}+units:range", space=BOX).policy
    assert in_range.head == Point(2)
    assert (in_range.step(obs, ())[0] - network(obs[:, 0])).abs().max() <= 1e-5
    policy = import_model(name, space=BOX).policy
    expected = (network(obs[:, 0]) - BIAS) / SCALE
    assert (policy.step(obs, ())[0] - expected).abs().max() <= 1e-5
    assert torch.equal(in_range.head.mode(expected), policy.head.mode(policy.step(obs, ())[0])) or (
        (policy.step(obs, ())[0].clamp(-1, 1) - expected.clamp(-1, 1)).abs().max() <= 1e-5
    )


def test_the_head_is_read_off_names_sizes_and_the_environment(tmp_path: Path) -> None:
    values, _ = perceptron(tmp_path / "q", "q_values", actions=3)
    assert import_model(values).policy.head == QValues(3)
    numbers, _ = perceptron(tmp_path / "n", "numbers", actions=4)
    with pytest.raises(UserError, match="head:q"):
        import_model(numbers)
    assert import_model(numbers, space=spaces.Discrete(4)).policy.head == Categorical(4)
    assert import_model(numbers, space=BOX).policy.head == Gaussian(2)
    named = import_model(f"{numbers}+head:squashed-gaussian", space=BOX)
    assert named.policy.head == Gaussian(2, squashed=True)
    for space in (spaces.Discrete(5), spaces.Box(-1.0, 1.0, (3,))):
        with pytest.raises(UserError, match="4 numbers"):
            import_model(numbers, space=space)
    with pytest.raises(UserError, match="choose from"):
        import_model(f"{numbers}+head:dice")


def recurrent(path: Path, first: str, after: str, *, batch: int | str = "n") -> Any:
    """Write h' = tanh(W obs + U h), action = h'; its memory has a side for layers."""
    torch.manual_seed(1)
    weights = {"w": torch.randn(5, 2), "u": torch.randn(2, 2), "axis": torch.tensor([0])}
    nodes = [
        helper.make_node("Squeeze", [first, "axis"], ["h"]),
        helper.make_node("MatMul", ["obs", "w"], ["a"]),
        helper.make_node("MatMul", ["h", "u"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Tanh", ["c"], ["actions"]),
        helper.make_node("Unsqueeze", ["actions", "axis"], [after]),
    ]
    memory: list[int | str] = [1, batch, 2]
    return write(
        path,
        nodes,
        [("obs", [batch, 5]), (first, memory)],
        [("actions", [batch, 2]), (after, memory)],
        weights,
    ), weights


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("names", [("h_in", "h_out"), ("hidden", "newHidden"), ("h0", "hn")])
def test_a_memory_is_found_by_its_names(
    names: tuple[str, str], batch: int | str, tmp_path: Path
) -> None:
    name, weights = recurrent(tmp_path / "r", *names, batch=batch)
    policy = import_model(name).policy
    rng = np.random.default_rng(1)
    carry, h = policy.initial(4), torch.zeros(4, 2)
    for _ in range(250):
        obs, begins = torch.randn(4, 1, 5), rng.random(4) < 0.1
        carry, h = begin_again(policy, carry, begins), h * ~torch.from_numpy(begins)[:, None]
        h = (obs[:, 0] @ weights["w"] + h @ weights["u"]).tanh()
        out, carry = policy.step(obs, carry)
        assert (out - h).abs().max() <= 1e-5
    assert [tuple(part.shape) for part in carry] == [(4, 1, 2)]


def test_one_of_several_outputs_is_chosen(tmp_path: Path) -> None:
    weights = {"w": torch.eye(2)}
    nodes = [
        helper.make_node("MatMul", ["obs", "w"], ["actions"]),
        helper.make_node("Neg", ["obs"], ["values"]),
    ]
    shape: list[int | str] = ["n", 2]
    name = write(
        tmp_path / "two", nodes, [("obs", shape)], [("actions", shape), ("values", shape)], weights
    )
    with pytest.raises(UserError, match=r"output:actions.*values"):
        import_model(name)
    with pytest.raises(UserError, match="choose from"):
        import_model(f"{name}+output:q")
    obs = torch.randn(3, 1, 2)
    assert torch.equal(import_model(f"{name}+output:actions").policy.step(obs, ())[0], obs[:, 0])


def test_inputs_of_several_parts_are_the_keys_of_a_dict(tmp_path: Path) -> None:
    nodes = [helper.make_node("Concat", ["speed", "place"], ["actions"], axis=1)]
    inputs: Values = [("speed", ["n", 1]), ("place", ["n", 2])]
    name = write(tmp_path / "parts", nodes, inputs, [("actions", ["n", 3])], {})
    policy: Any = import_model(name).policy
    speed, place = torch.randn(4, 1, 1), torch.randn(4, 1, 2)
    out, _ = policy.step({"speed": speed, "place": place, "more": place}, ())
    assert torch.equal(out, torch.cat([speed, place], dim=2)[:, 0])
    for other in (place, {"place": place}):
        with pytest.raises(UserError, match="speed"):
            policy.step(other, ())


def test_images_are_given_as_the_file_wants_them(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["image"], ["m"], keepdims=0)]
    nodes[0].input.append("axes")
    nodes.append(helper.make_node("Identity", ["m"], ["logits"]))
    name = write(
        tmp_path / "image",
        nodes,
        [("image", ["n", 3, 4, 6])],
        [("logits", ["n", 3])],
        {"axes": torch.tensor([2, 3])},
    )
    obs = torch.randint(0, 256, (5, 1, 4, 6, 3), dtype=torch.uint8)
    expected = obs[:, 0].float().mean(dim=(1, 2))
    assert torch.allclose(import_model(name).policy.step(obs, ())[0], expected)
    scaled = import_model(f"{name}+scaling:unit").policy.step(obs, ())[0]
    assert torch.allclose(scaled, expected / 255.0)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (helper.make_node("Dream", ["obs"], ["actions"]), "Dream"),
        (helper.make_node("Neg", ["nothing"], ["actions"]), "ONNX Runtime"),
    ],
)
def test_what_the_runtime_lacks_is_named(node: onnx.NodeProto, says: str, tmp_path: Path) -> None:
    name = write(tmp_path / "bad", [node], [("obs", ["n", 2])], [("actions", ["n", 2])], {})
    with pytest.raises(UserError, match=says) as raised:
        import_model(name)
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    name, _ = perceptron(tmp_path / "p", "actions")
    policy: Any = import_model(name).policy
    with pytest.raises(UserError, match="sees 5 numbers; the environment gives 4"):
        policy.step(torch.zeros(3, 1, 4), ())
    with pytest.raises(UserError, match="NaN"):
        policy.step(torch.full((3, 1, 5), torch.nan), ())
    with pytest.raises(UserError, match="parts: a"):
        policy.step({"a": torch.zeros(3, 1, 5)}, ())
    data = Path(name).read_bytes()
    for size in (0, 1, 10, len(data) // 2):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(UserError):
            import_model(tmp_path / "cut")


def test_an_input_without_a_side_for_states_is_refused(tmp_path: Path) -> None:
    shape = [onnx.helper.make_tensor_value_info(name, 1, [5]) for name in ("obs", "actions")]
    node = onnx.helper.make_node("Identity", ["obs"], ["actions"])
    graph = onnx.helper.make_graph([node], "g", shape[:1], shape[1:])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "p.onnx"))
    with pytest.raises(UserError, match=r"its input obs has the shape \[5\].*with a batch"):
        import_model(f"{tmp_path / 'p.onnx'}+head:point:5")


def test_weights_beside_the_file_are_read_and_told(tmp_path: Path) -> None:
    name, network = perceptron(tmp_path / "p.onnx", "actions")
    model = onnx.load(name)
    onnx.save(model, name, save_as_external_data=True, location="weights", size_threshold=0)
    imported = import_model(name)
    assert set(imported.files) == {"p.onnx", "weights"}
    obs = torch.randn(3, 1, 5)
    assert torch.allclose(imported.policy.step(obs, ())[0], network(obs[:, 0]), atol=1e-5)


@pytest.mark.parametrize("place", ["/etc/hostname", "../secret", "weights/../../secret"])
def test_no_file_elsewhere_is_read_as_weights(place: str, tmp_path: Path) -> None:
    name, _ = perceptron(tmp_path / "p.onnx", "actions")
    onnx.save(onnx.load(name), name, save_as_external_data=True, location="w", size_threshold=0)
    model = onnx.load(name, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = place
    Path(name).write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=f"names the file {place} as its weights"):
        import_model(name)


def test_an_input_that_says_no_shape_is_refused(tmp_path: Path) -> None:
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)] for name in ("obs", "logits")
    )
    graph = helper.make_graph([helper.make_node("Tanh", ["obs"], ["logits"])], "g", inputs, outputs)
    onnx.save(helper.make_model(graph), str(tmp_path / "p.onnx"))
    with pytest.raises(UserError, match="its input obs says no shape"):
        import_model(f"{tmp_path / 'p.onnx'}+head:categorical:2")
