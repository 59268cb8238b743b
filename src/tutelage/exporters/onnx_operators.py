"""PyTorch's core operators as ONNX's: one function each, and its entry in ``OPERATORS``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from tutelage.errors import UserError

TYPES: Mapping[torch.dtype, int] = {
    torch.float32: 1,
    torch.uint8: 2,
    torch.int8: 3,
    torch.int32: 6,
    torch.int64: 7,
    torch.bool: 9,
    torch.float16: 10,
    torch.float64: 11,
}
"""Type -> its number in ONNX (onnx.proto, TensorProto.DataType)."""
FAR = 2**63 - 1
"""The end of a slice that has none."""


class Graph:
    """An ONNX graph as it grows; what depends on no input is computed at once."""

    def __init__(self, onnx: Any, batched: str, *, prefix: str = "") -> None:
        """``batched`` is the input whose first side counts the states; ``prefix`` begins names."""
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.known: dict[Node, Any] = {}
        """What each node is: the name of a value, a constant, or several of these."""
        self.said: list[Tensor] = []
        """The outputs, as PyTorch knows their types."""
        self._onnx = onnx
        self._batched = batched
        self._prefix = prefix
        self._batch = ""
        self._constants: dict[int, tuple[str, Tensor]] = {}

    def take(self, node: Any) -> None:
        """Add an operator; raise UserError where there is none for it."""
        name = str(node.target)
        if name.startswith(("aten._assert", "aten.sym_")):
            return
        args = [self._filled(arg) for arg in node.args]
        if not any(isinstance(one, str) for one in _flat(args)) and not _symbolic(node):
            named = {key: self._filled(value) for key, value in node.kwargs.items()}
            with torch.no_grad():
                self.known[node] = node.target(*args, **named)
            return
        base = name.removeprefix("aten.").rpartition(".")[0]
        if base not in OPERATORS:
            raise UserError(
                f"the policy uses {name}, which has no counterpart in ONNX here: choose torch"
            )
        self.known[node] = OPERATORS[base](self, node)

    def _filled(self, arg: Any) -> Any:
        if isinstance(arg, Node):
            return self.known.get(arg, arg.meta["val"])
        if isinstance(arg, list | tuple):
            return [self._filled(one) for one in arg]
        return arg

    def say(self, name: str, node: Any) -> None:
        """Name an output of the graph."""
        self.nodes.append(
            self._onnx.helper.make_node("Identity", [self.name(self.known[node])], [name])
        )
        self.said.append(node.meta["val"])

    def add(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Add an operator of one output; return its name."""
        name = f"{self._prefix}v{len(self.nodes)}"
        given = [self.name(one) for one in inputs]
        self.nodes.append(self._onnx.helper.make_node(kind, given, [name], name, **attributes))
        return name

    def name(self, value: Any) -> str:
        """Return the name of a value, of a constant as well."""
        if isinstance(value, str):
            return value
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
        key = id(value) if isinstance(value, Tensor) else -len(self.initializers) - 1
        if key not in self._constants:
            name = f"{self._prefix}c{len(self.initializers)}"
            array = tensor.detach().cpu().contiguous().numpy()
            self.initializers.append(self._onnx.numpy_helper.from_array(array, name))
            self._constants[key] = name, tensor  # kept, or another might have its id
        return self._constants[key][0]

    def shape(self, sides: Sequence[Any]) -> Any:
        """Return a shape as a tensor; a side that is no number is the number of states."""
        if all(isinstance(side, int) for side in sides):
            return torch.tensor([int(side) for side in sides])
        if not self._batch:
            whole = self.add("Shape", self._batched)
            self._batch = self.add("Slice", whole, torch.tensor([0]), torch.tensor([1]))
        parts = [torch.tensor([s]) if isinstance(s, int) else self._batch for s in sides]
        return self.add("Concat", *parts, axis=0)

    def of(self, node: Any, kind: torch.dtype | None = None) -> Any:
        """Return what a node, or a number, is; of the type ``kind``, if that is given."""
        if not isinstance(node, Node):
            return torch.tensor(node, dtype=kind)
        value = self.known[node]
        if kind is None or node.meta["val"].dtype == kind:
            return value
        if isinstance(value, Tensor):
            return value.to(kind)
        return self.add("Cast", value, to=TYPES[kind])


Operator = Callable[[Graph, Any], Any]
"""``(graph, node)``: adds the operator of a node of torch.fx; returns the name of its result."""


def _given(node: Any, *usual: Any) -> list[Any]:
    """Return a node's arguments, the last of which may be left out: these are ``usual``."""
    args = list(node.args)
    missing = len(usual) + 1 - len(args)
    return args + list(usual[len(usual) - missing :] if missing > 0 else ())


def _flat(args: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for one in args:
        found += _flat(one) if isinstance(one, list) else [one]
    return found


def _symbolic(node: Any) -> bool:
    """Return whether a side of what the node says is the number of states."""
    value = node.meta.get("val")
    several = value if isinstance(value, list | tuple) else [value]
    return any(
        not isinstance(side, int)
        for one in several
        if isinstance(one, Tensor)
        for side in one.shape
    )


def _kind(node: Any) -> torch.dtype:
    dtype: torch.dtype = node.meta["val"].dtype
    return dtype


def _sides(node: Any) -> list[Any]:
    return list(node.meta["val"].shape)


def _plain(kind: str, **attributes: Any) -> Operator:
    """Return an operator of one argument."""
    return lambda g, node: g.add(kind, g.of(node.args[0], _kind(node)), **attributes)


def _both(kind: str) -> Operator:
    """Return an operator of two arguments of the type of what it says, perhaps times alpha."""

    def operator(g: Graph, node: Any) -> Any:
        x, y = (g.of(arg, _kind(node)) for arg in node.args[:2])
        if (alpha := node.kwargs.get("alpha", 1)) != 1:
            y = g.add("Mul", y, torch.tensor(alpha, dtype=_kind(node)))
        return g.add(kind, x, y)

    return operator


def _compared(kind: str) -> Operator:
    """Return a comparison of two arguments, both taken as the type that holds either."""

    def operator(g: Graph, node: Any) -> Any:
        given = [a.meta["val"] if isinstance(a, Node) else a for a in node.args[:2]]
        dtype = torch.result_type(*given)
        return g.add(kind, *(g.of(arg, dtype) for arg in node.args[:2]))

    return operator


def _unequal(g: Graph, node: Any) -> Any:
    return g.add("Not", _compared("Equal")(g, node))


def _cast(g: Graph, node: Any) -> Any:
    return g.of(node.args[0], _kind(node))


def _reshape(g: Graph, node: Any) -> Any:
    sides = [side if isinstance(side, int) else -1 for side in _sides(node)]
    if sides.count(-1) > 1:
        raise UserError("the policy makes a shape of the number of states twice: choose torch")
    return g.add("Reshape", g.of(node.args[0]), torch.tensor(sides))


def _expand(g: Graph, node: Any) -> Any:
    return g.add("Expand", g.of(node.args[0]), g.shape(_sides(node)))


def _full(g: Graph, node: Any) -> Any:
    value = node.args[1] if len(node.args) > 1 else 0
    return g.add("Expand", torch.tensor(value, dtype=_kind(node)), g.shape(_sides(node)))


def _permute(g: Graph, node: Any) -> Any:
    order = [int(i) % len(_sides(node)) for i in node.args[1]]
    return g.add("Transpose", g.of(node.args[0]), perm=order)


def _slice(g: Graph, node: Any) -> Any:
    x, axis, start, end, step = _given(node, 0, 0, None, 1)
    if _sides(x) == _sides(node):
        return g.of(x)
    bounds = (start or 0, FAR if end is None else end, axis, step)
    return g.add("Slice", g.of(x), *(torch.tensor([bounds[i]]) for i in (0, 1, 2, 3)))


def _select(g: Graph, node: Any) -> Any:
    x, axis, index = node.args
    return g.add("Gather", g.of(x), torch.tensor(index), axis=axis)


def _index(g: Graph, node: Any) -> Any:
    """Return x[:, index] of one index along one side."""
    x, indices = node.args
    given = [(i, one) for i, one in enumerate(indices) if one is not None]
    if len(given) != 1:
        raise UserError("the policy indexes by several tensors at once: choose torch")
    axis, index = given[0]
    return g.add("Gather", g.of(x), g.of(index, torch.int64), axis=axis)


def _index_select(g: Graph, node: Any) -> Any:
    x, axis, index = node.args
    return g.add("Gather", g.of(x), g.of(index), axis=axis)


def _gather(g: Graph, node: Any) -> Any:
    x, axis, index = node.args[:3]
    return g.add("GatherElements", g.of(x), g.of(index), axis=axis)


def _cat(g: Graph, node: Any) -> Any:
    parts: Any = node.args[0]
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return g.add("Concat", *(g.of(part, _kind(node)) for part in parts), axis=axis)


def _split(g: Graph, node: Any) -> Any:
    x: Any = node.args[0]
    axis: Any = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    parts, start = [], 0
    for one in node.meta["val"]:
        end = start + one.shape[axis]
        bounds = (torch.tensor([value]) for value in (start, end, axis))
        parts.append(g.add("Slice", g.of(x), *bounds))
        start = end
    return parts


def _unbind(g: Graph, node: Any) -> Any:
    x: Any = node.args[0]
    axis: Any = node.args[1] if len(node.args) > 1 else 0
    return [
        g.add("Gather", g.of(x), torch.tensor(i), axis=axis)
        for i in range(x.meta["val"].shape[axis])
    ]


def _reduce(kind: str) -> Operator:
    def operator(g: Graph, node: Any) -> Any:
        x: Any = node.args[0]
        axes: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        if axes is None or axes == []:
            axes = list(range(x.meta["val"].ndim))
        axes = [axes] if isinstance(axes, int) else axes
        kept = len(_sides(node)) == x.meta["val"].ndim
        return g.add(kind, g.of(x, _kind(node)), torch.tensor(axes), keepdims=int(kept))

    return operator


def _extreme(kind: str) -> Operator:
    """Return max.dim or min.dim: the values and where they are."""

    def operator(g: Graph, node: Any) -> Any:
        x, axis = node.args[:2]
        kept = int(bool(node.args[2])) if len(node.args) > 2 else 0
        values = g.add(f"Reduce{kind}", g.of(x), torch.tensor([axis]), keepdims=kept)
        return [values, g.add(f"Arg{kind}", g.of(x), axis=axis, keepdims=kept)]

    return operator


def _arg(kind: str) -> Operator:
    def operator(g: Graph, node: Any) -> Any:
        x: Any = node.args[0]
        if len(node.args) < 2 or node.args[1] is None:
            raise UserError("the policy takes the largest of all states at once: choose torch")
        kept = len(_sides(node)) == x.meta["val"].ndim
        return g.add(kind, g.of(x), axis=node.args[1], keepdims=int(kept))

    return operator


def _softmax(kind: str) -> Operator:
    return lambda g, node: g.add(kind, g.of(node.args[0], _kind(node)), axis=node.args[1])


def _clamp(g: Graph, node: Any) -> Any:
    x, low, high = _given(node, None, None)
    value = g.of(x, _kind(node))
    low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
    if low is not None and low != -torch.inf:
        value = g.add("Max", value, g.of(low, _kind(node)))
    if high is not None and high != torch.inf:
        value = g.add("Min", value, g.of(high, _kind(node)))
    return value


def _hardtanh(g: Graph, node: Any) -> Any:
    x, low, high = _given(node, -1.0, 1.0)
    bounds = (torch.tensor(bound, dtype=_kind(node)) for bound in (low, high))
    return g.add("Clip", g.of(x), *bounds)


def _elu(g: Graph, node: Any) -> Any:
    x, alpha, scale, inner = _given(node, 1.0, 1.0, 1.0)
    value = g.of(x)
    if inner != 1.0:
        value = g.add("Mul", value, torch.tensor(inner))
    value = g.add("Elu", value, alpha=float(alpha))
    return value if scale == 1.0 else g.add("Mul", value, torch.tensor(scale))


def _gelu(g: Graph, node: Any) -> Any:
    """Return x (1 + erf(x / sqrt 2)) / 2, or its approximation by tanh."""
    x = g.of(node.args[0])
    if node.kwargs.get("approximate", "none") == "tanh":
        cube = g.add("Mul", g.add("Mul", g.add("Mul", x, x), x), torch.tensor(0.044715))
        inner = g.add("Mul", g.add("Add", x, cube), torch.tensor((2.0 / np.pi) ** 0.5))
        bent = g.add("Tanh", inner)
    else:
        bent = g.add("Erf", g.add("Mul", x, torch.tensor(0.5**0.5)))
    half = g.add("Mul", x, torch.tensor(0.5))
    return g.add("Mul", half, g.add("Add", bent, torch.tensor(1.0)))


def _leaky_relu(g: Graph, node: Any) -> Any:
    slope = node.args[1] if len(node.args) > 1 else 0.01
    return g.add("LeakyRelu", g.of(node.args[0]), alpha=slope)


def _log1p(g: Graph, node: Any) -> Any:
    x = g.of(node.args[0], _kind(node))
    return g.add("Log", g.add("Add", x, torch.tensor(1.0, dtype=_kind(node))))


def _expm1(g: Graph, node: Any) -> Any:
    x = g.of(node.args[0], _kind(node))
    return g.add("Sub", g.add("Exp", x), torch.tensor(1.0, dtype=_kind(node)))


def _rsqrt(g: Graph, node: Any) -> Any:
    return g.add("Reciprocal", g.add("Sqrt", g.of(node.args[0], _kind(node))))


def _softplus(g: Graph, node: Any) -> Any:
    if len(node.args) > 1 and node.args[1] != 1.0:
        raise UserError("the policy uses softplus of another beta than 1: choose torch")
    return g.add("Softplus", g.of(node.args[0]))


def _where(g: Graph, node: Any) -> Any:
    test, x, y = node.args
    return g.add("Where", g.of(test, torch.bool), g.of(x, _kind(node)), g.of(y, _kind(node)))


def _mm(g: Graph, node: Any) -> Any:
    return g.add("MatMul", *(g.of(arg, _kind(node)) for arg in node.args[:2]))


def _addmm(g: Graph, node: Any) -> Any:
    bias, x, weight = node.args[:3]
    alpha, beta = (float(node.kwargs.get(name, 1)) for name in ("alpha", "beta"))
    return g.add("Gemm", g.of(x), g.of(weight), g.of(bias), alpha=alpha, beta=beta)


def _convolution(g: Graph, node: Any) -> Any:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
    if transposed:
        raise UserError("the policy uses a transposed convolution: choose torch")
    given = [g.of(x), g.of(weight), *([] if bias is None else [g.of(bias)])]
    sides = len(stride)
    padded = list(padding) * (sides // len(padding))
    return g.add(
        "Conv",
        *given,
        strides=list(stride),
        pads=padded * 2,
        dilations=list(dilation) * (sides // len(dilation)),
        group=groups,
    )


def _pool(g: Graph, node: Any) -> Any:
    x, kernel, stride, padding, _, ceil = _given(node, None, [], 0, 1, False)
    size = list(kernel)
    padded = [padding] * len(size) if isinstance(padding, int) else list(padding)
    pooled = g.add(
        "MaxPool",
        g.of(x),
        kernel_shape=size,
        strides=list(stride) or size,
        pads=padded * 2,
        ceil_mode=int(bool(ceil)),
    )
    return [pooled]


def _batch_norm(g: Graph, node: Any) -> Any:
    """Return (x - mean) / sqrt(var + eps) weight + bias as one product and one sum."""
    x, weight, bias, mean, var, _, eps = node.args
    known: list[Any] = [None if one is None else g.of(one) for one in (weight, bias, mean, var)]
    w, b, m, v = known
    scale = 1.0 / torch.sqrt(v + eps) if w is None else w / torch.sqrt(v + eps)
    shift = -m * scale if b is None else b - m * scale
    shape = [1, -1, *[1] * (len(_sides(node.args[0])) - 2)]
    scaled = g.add("Mul", g.of(x), scale.reshape(shape))
    return [g.add("Add", scaled, shift.reshape(shape))]


def _layer_norm(g: Graph, node: Any) -> Any:
    x, shape, weight, bias, eps = node.args
    sides = [int(side) for side in shape]
    given = [
        torch.full(sides, usual) if one is None else g.of(one)
        for one, usual in ((weight, 1.0), (bias, 0.0))
    ]
    return [g.add("LayerNormalization", g.of(x), *given, axis=-len(sides), epsilon=eps)]


def _group_norm(g: Graph, node: Any) -> Any:
    """Return groups of channels normalised, then each channel times its weight plus its bias."""
    x, weight, bias, _, _, _, groups, eps = node.args
    sides = [0, *_sides(x)[1:]]
    ones = torch.ones(groups)
    apart = g.add("Reshape", g.of(x), torch.tensor([0, groups, -1]))
    normal = g.add("InstanceNormalization", apart, ones, 0.0 * ones, epsilon=eps)
    made = g.add("Reshape", normal, torch.tensor(sides))
    each = [1, -1, *[1] * (len(sides) - 2)]
    for kind, one in (("Mul", weight), ("Add", bias)):
        made = made if one is None else g.add(kind, made, g.of(one).reshape(each))
    return [made]


def _same(g: Graph, node: Any) -> Any:
    return g.of(node.args[0])


_UNARY = {
    **{name: name.capitalize() for name in ("relu", "tanh", "sigmoid", "exp", "log", "sqrt")},
    **{name: name.capitalize() for name in ("neg", "abs", "erf", "floor", "ceil", "round")},
    **{name: name.capitalize() for name in ("reciprocal", "sign", "sin", "cos")},
    **{"logical_not": "Not", "bitwise_not": "Not"},
}
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow"}
_BINARY |= {"maximum": "Max", "minimum": "Min", "logical_and": "And", "logical_or": "Or"}
_BINARY |= {"bitwise_and": "And", "bitwise_or": "Or"}
_COMPARED = {"gt": "Greater", "lt": "Less", "ge": "GreaterOrEqual", "le": "LessOrEqual"}
_COMPARED |= {"eq": "Equal"}
_REDUCED = {"mean": "ReduceMean", "sum": "ReduceSum", "amax": "ReduceMax", "amin": "ReduceMin"}

OPERATORS: dict[str, Operator] = {
    **{name: _plain(kind) for name, kind in _UNARY.items()},
    **{name: _both(kind) for name, kind in _BINARY.items()},
    **{name: _compared(kind) for name, kind in _COMPARED.items()},
    **{name: _reduce(kind) for name, kind in _REDUCED.items()},
    **dict.fromkeys(("clone", "alias", "detach", "lift_fresh_copy", "_to_copy"), _cast),
    **dict.fromkeys(("contiguous", "_to_dense"), _same),
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "flatten"), _reshape
    ),
    **dict.fromkeys(("mm", "bmm", "matmul"), _mm),
    **dict.fromkeys(("full", "full_like", "zeros", "zeros_like", "new_zeros"), _full),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **{"max": _extreme("Max"), "min": _extreme("Min")},
    **{"argmax": _arg("ArgMax"), "argmin": _arg("ArgMin")},
    **{"_softmax": _softmax("Softmax"), "_log_softmax": _softmax("LogSoftmax")},
    "addmm": _addmm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "cat": _cat,
    "clamp": _clamp,
    "convolution": _convolution,
    "elu": _elu,
    "expand": _expand,
    "expm1": _expm1,
    "gather": _gather,
    "gelu": _gelu,
    "hardtanh": _hardtanh,
    "index": _index,
    "index_select": _index_select,
    "leaky_relu": _leaky_relu,
    "log1p": _log1p,
    "max_pool2d_with_indices": _pool,
    "native_group_norm": _group_norm,
    "native_layer_norm": _layer_norm,
    "ne": _unequal,
    "permute": _permute,
    "rsqrt": _rsqrt,
    "select": _select,
    "slice": _slice,
    "softplus": _softplus,
    "unbind": _unbind,
    "where": _where,
}
"""Name of PyTorch's core operator -> what adds ONNX's."""
