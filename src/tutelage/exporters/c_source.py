"""C99 of an ONNX graph of one state: plain loops over static arrays, nothing allocated.

What works number by number (an activation, a shift, a cast, a slice) is no loop of its own but an
expression in the loop that needs it, so that it costs no memory. Layers keep a block of results in
registers and read their weights in the order in which they lie.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tutelage.errors import UserError
from tutelage.types import Array

TYPES: Mapping[str, str] = {
    "float32": "float",
    "float64": "double",
    "uint8": "uint8_t",
    "int8": "int8_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "bool": "uint8_t",
}
WIDE, WIDTH, ROWS = 32, 16, 4
"""Results of a layer that are summed up at once; with several rows, of so many at once."""
INSTEAD = "choose onnx or torch"

Index = Sequence[str]
"""An expression for each side of a tensor."""


@dataclass(frozen=True)
class Node:
    """One operator of a graph."""

    kind: str
    inputs: Sequence[str]
    output: str
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """A graph of one state, all shapes known; what depends on no input is a constant."""

    nodes: Sequence[Node]
    constants: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass
class Program:
    """The statements of a network, and the arrays that they need."""

    statements: list[str] = field(default_factory=list)
    tables: dict[str, Array] = field(default_factory=dict)
    """Constant arrays by name: what lies in flash."""
    arenas: dict[str, int] = field(default_factory=dict)
    """Type -> so many numbers of working memory."""
    stack: int = 0
    """Bytes of the largest local arrays."""


def program_of(network: Network, given: Mapping[str, str]) -> Program:
    """Return the network as C, its inputs as the expressions ``given``.

    Raises UserError, naming the formats that can, for an operator that C has no loop for here.
    """
    return _Writer(network, given).written()


Pointwise = Callable[["_Writer", Node, Index], str]
"""``(writer, node, index)``: what the node's output is at an index."""


class _Writer:
    def __init__(self, network: Network, given: Mapping[str, str]) -> None:
        self.net = network
        self.program = Program()
        self.made = {node.output: node for node in network.nodes}
        self.users: dict[str, list[Node]] = {}
        for node in network.nodes:
            for name in node.inputs:
                self.users.setdefault(name, []).append(node)
        self.place: dict[str, str] = dict(given)
        """Where a tensor lies: a pointer, ``@`` and the name of a buffer before all are placed."""
        self.local: dict[str, str] = {}
        """What is in a local variable now: a layer's result before it is stored."""
        self.lazy: set[str] = set()
        self.done: set[str] = set()
        """What a layer's loops have done already."""
        self._buffers: dict[str, tuple[str, int, int, int]] = {}
        """Name -> (type, length, the statement that fills it, the last that reads it)."""

    # What a tensor is.

    def shape(self, name: str) -> tuple[int, ...]:
        return self.net.shapes[name]

    def kind(self, name: str) -> str:
        return TYPES[self.net.dtypes[name]]

    def size(self, name: str) -> int:
        return math.prod(self.shape(name))

    def constant(self, name: str) -> Array | None:
        return self.net.constants.get(name)

    def only_user(self, name: str) -> Node | None:
        users = self.users.get(name, [])
        return users[0] if len(users) == 1 and name not in self.net.outputs else None

    # What a tensor is at an index.

    def at(self, name: str, index: Index) -> str:
        """Return the C expression of one number of a tensor."""
        if name in self.local:
            return self.local[name]
        if (value := self.constant(name)) is not None:
            if value.size == 1:
                return _number(value.ravel()[0])
            return f"{self.table(name, value)}[{self.flat(name, index)}]"
        if name in self.lazy:
            return POINTWISE[self.made[name].kind](self, self.made[name], index)
        return f"{self.read(name)}[{self.flat(name, index)}]"

    def broadcast(self, name: str, index: Index) -> str:
        """Return the same of a tensor that is broadcast to what has this index."""
        sides = self.shape(name)
        own = list(index)[len(index) - len(sides) :]
        return self.at(name, ["0" if side == 1 else i for side, i in zip(sides, own, strict=True)])

    def flat(self, name: str, index: Index) -> str:
        terms, step = [], 1
        for side, i in zip(reversed(self.shape(name)), reversed(list(index)), strict=True):
            if i != "0":
                terms.append(i if step == 1 else f"({i}) * {step}")
            step *= side
        return " + ".join(reversed(terms)) or "0"

    def table(self, name: str, value: Array) -> str:
        """Return the name of a constant array."""
        plain = "t_" + "".join(c if c.isalnum() else "_" for c in name)
        self.program.tables.setdefault(plain, value)
        return plain

    def read(self, name: str) -> str:
        """Return the pointer to a tensor that lies in memory."""
        place = self.place[name]
        if place.startswith("@"):
            kind, length, first, _ = self._buffers[place[1:]]
            self._buffers[place[1:]] = kind, length, first, len(self.program.statements)
            return f"{place}@"
        return place

    def store(self, name: str) -> str:
        """Return the pointer to a new buffer for a tensor."""
        now = len(self.program.statements)
        self._buffers[name] = self.kind(name), self.size(name), now, now
        self.place[name] = f"@{name}"
        return f"@{name}@"

    def say(self, text: str) -> None:
        self.program.statements.append(text)

    def materialised(self, name: str) -> str:
        """Return the pointer to a tensor, computing it if it is only an expression so far."""
        if (value := self.constant(name)) is not None:
            return self.table(name, value)
        if name in self.lazy:
            text = self.loops(self.shape(name), lambda index: self.at(name, index), name)
            self.lazy.discard(name)
            self.say(text)
        return self.read(name)

    def loops(self, shape: Sequence[int], value: Callable[[Index], str], name: str) -> str:
        """Return loops that fill a new buffer for ``name``."""
        index = [f"i{k}" if side > 1 else "0" for k, side in enumerate(shape)]
        body = value(index)
        to = self.store(name)
        head = "".join(
            f"for (int i{k} = 0; i{k} < {side}; i{k}++) "
            for k, side in enumerate(shape)
            if side > 1
        )
        return f"{head}{to}[{self.flat(name, index)}] = {body};"

    # The whole.

    def written(self) -> Program:
        for node in self.net.nodes:
            if node.output in self.done:
                continue
            if node.kind in ALIASES:
                if self._only_ones(node) and node.inputs[0] in self.lazy and self._may_wait(node):
                    self.lazy.add(node.output)
                else:
                    self._alias(node)
            elif node.kind in POINTWISE:
                self.lazy.add(node.output)
                if not self._may_wait(node):
                    self.materialised(node.output)
            elif node.kind in LOOPS:
                LOOPS[node.kind](self, node)
            else:
                raise UserError(f"the policy uses {node.kind}, which C has no loop for: {INSTEAD}")
        for name in self.net.outputs:
            self.materialised(name)
        self.program.statements += [
            f"OUTPUT({i}, {self.materialised(name)}, {self.size(name)})"
            for i, name in enumerate(self.net.outputs)
        ]
        self._place_buffers()
        return self.program

    def _only_ones(self, node: Node) -> bool:
        """Return whether a new shape differs from the old one in sides of one only."""
        old, new = (
            [side for side in self.shape(name) if side > 1]
            for name in (node.inputs[0], node.output)
        )
        return old == new

    def _alias(self, node: Node) -> None:
        source = node.inputs[0]
        if self.constant(source) is not None:
            raise AssertionError(f"{node.output} is a constant")
        self.materialised(source)
        self.place[node.output] = self.place[source]

    def _may_wait(self, node: Node) -> bool:
        """Return whether an expression is needed once only, where it is cheap to have it."""
        user = self.only_user(node.output)
        if node.kind == "DequantizeLinear":
            return True  # layers read the bytes themselves
        if user is None:
            return False
        if user.kind == "DequantizeLinear" and node.kind == "QuantizeLinear":
            return self._as_table(node, user)
        if user.kind in ALIASES:
            return self._only_ones(user) and self._may_wait(user)
        if user.kind in POINTWISE:
            grows = self.size(user.output) > self.size(node.output)
            return not grows or node.kind in CHEAP
        return user.kind == "Conv" and self._cheap(node)

    def _as_table(self, node: Node, user: Node) -> bool:
        """Return whether bytes of an image become bytes of a layer, so that a table says how."""
        layer = self.only_user(user.output)
        return layer is not None and layer.kind == "Conv" and self.byte_table(node) is not None

    def _cheap(self, node: Node) -> bool:
        return node.kind in CHEAP and all(
            self.constant(name) is not None or name not in self.lazy or self._cheap(self.made[name])
            for name in node.inputs
        )

    def byte_table(self, node: Node) -> tuple[str, Array] | None:
        """Return the image and the table, where a node is a function of a byte alone."""
        from onnx.reference import ReferenceEvaluator

        leaf = ""
        values: dict[str, Any] = {}
        chain: list[Node] = []
        wanted = [node.output]
        while wanted:
            name = wanted.pop()
            value = self.constant(name)
            if value is not None:
                if value.size != 1:
                    return None
            elif name in self.net.inputs and self.net.dtypes[name] == "uint8":
                leaf = name
            elif name in self.made and (name in self.lazy or name == node.output):
                chain.append(self.made[name])
                wanted += self.made[name].inputs
            else:
                return None
        if not leaf:
            return None
        values[leaf] = np.arange(256, dtype=np.uint8)
        for step in reversed(chain):
            fed = {
                name: values[name] if name in values else np.reshape(self.net.constants[name], ())
                for name in step.inputs
            }
            evaluator: Any = ReferenceEvaluator(step.about["proto"])
            values[step.output] = evaluator.run(None, fed)[0]
        return leaf, values[node.output]

    def _place_buffers(self) -> None:
        """Let buffers share memory whose times do not meet; the first place that fits is theirs."""
        offsets: dict[str, int] = {}
        for name, (kind, length, first, last) in sorted(
            self._buffers.items(), key=lambda item: -item[1][1]
        ):
            taken = sorted(
                (offsets[other], offsets[other] + its)
                for other, (its_kind, its, since, until) in self._buffers.items()
                if other in offsets and its_kind == kind and since <= last and first <= until
            )
            at = 0
            for start, end in taken:
                if at + length <= start:
                    break
                at = max(at, end)
            offsets[name] = at
            self.program.arenas[kind] = max(self.program.arenas.get(kind, 0), at + length)
        for name in sorted(self._buffers, key=len, reverse=True):
            kind, at = self._buffers[name][0], offsets[name]
            pointer = f"m_{kind}" if at == 0 else f"(m_{kind} + {at})"
            self.program.statements = [
                text.replace(f"@{name}@", pointer) for text in self.program.statements
            ]

    # Layers.

    def result(self, node: Node) -> tuple[str, Callable[[str, Index], str]]:
        """Return the last tensor that a layer's result goes into, and what is stored of it.

        Activations, and what makes bytes of the result, are done before it is stored.
        """
        last = node.output
        chain = []
        while (user := self.only_user(last)) is not None and user.kind in FOLLOWING:
            others = [name for name in user.inputs if name != last]
            values = [self.constant(name) for name in others]
            if any(value is None or value.size != 1 for value in values):
                break
            if self.shape(user.output) != self.shape(node.output):
                break
            chain.append(user)
            last = user.output
        names = {node.output, *(one.output for one in chain)}
        self.done |= names

        def stored(value: str, index: Index) -> str:
            self.local[node.output] = value
            self.lazy |= names
            text = self.at(last, index)
            del self.local[node.output]
            self.lazy -= names
            return text

        return last, stored

    def quantised(self, name: str) -> tuple[str, float, int] | None:
        """Return the bytes that a tensor is made of, with their scale and zero, if it is."""
        node = self.made.get(name)
        if node is None or node.kind != "DequantizeLinear" or self.constant(name) is not None:
            return None
        scale, zero = self.constant(node.inputs[1]), self.constant(node.inputs[2])
        assert scale is not None
        assert zero is not None
        return node.inputs[0], float(scale.ravel()[0]), int(zero.ravel()[0])

    def weights(self, name: str, axis: int) -> tuple[Array, Array | None]:
        """Return a layer's weights, and their scales per result if they are bytes."""
        node = self.made.get(name)
        value = self.constant(name)
        if value is not None:
            return value, None
        if node is None or node.kind != "DequantizeLinear":
            raise UserError(f"a layer multiplies by what is no constant ({name}): {INSTEAD}")
        small, scale = self.constant(node.inputs[0]), self.constant(node.inputs[1])
        if small is None or scale is None:
            raise UserError(f"a layer multiplies by what is no constant ({name}): {INSTEAD}")
        return small, np.broadcast_to(scale.ravel(), (small.shape[axis],)).astype(np.float32)

    def multiplied(
        self, node: Node, layer: "Layer", x: str, stores: Sequence[tuple[str, str]]
    ) -> str:
        """Return the loops of ``y[m] = sum_k x[k] weight[m,k] + bias[m]`` of one x, or of several.

        Each of ``stores`` is a place and what is put there. Of bytes, each result is a sum of its
        own: y = s_x s_m sum_k (x_k - zero) w_mk + bias_m. Of floats, a block of results is summed
        up at once, and the weights lie in blocks as well.
        """
        name, (M, K) = node.output, layer.weight.shape
        biases = np.zeros(M) if layer.bias is None else np.broadcast_to(layer.bias.ravel(), (M,))
        b = self.table(f"{name}_b", biases.astype(np.float32))
        n = len(stores)
        if layer.scales is not None and layer.bits is not None:
            scale, zero = layer.bits
            begin = (-zero * layer.weight.astype(np.int64).sum(axis=1)).astype(np.int32)
            z, w = self.table(f"{name}_z", begin), self.table(f"{name}_w", layer.weight)
            s = self.table(f"{name}_s", np.float32(scale) * layer.scales)
            (place, value) = stores[0]
            return (
                f"for (int m = 0; m < {M}; m++) {{\n"
                f"        const int8_t *w = {w} + m * {K};\n"
                f"        int32_t a = {z}[m];\n"
                f"        for (int k = 0; k < {K}; k++) a += {x}[k] * w[k];\n"
                f"        const float r = (float)a * {s}[m] + {b}[m];\n"
                f"        {place} = {value};\n    }}"
            )
        weight = layer.weight.astype(np.float32)
        if layer.scales is not None:
            weight = weight * layer.scales[:, None]
        width = WIDE if n == 1 else WIDTH
        blocks = [np.ascontiguousarray(weight[m : m + width].T).ravel() for m in range(0, M, width)]
        w = self.table(f"{name}_w", np.concatenate(blocks))
        lines = []
        for start, size in ((0, width), (M - M % width, M % width)):
            end = M - M % width if size == width else M
            if size == 0 or start == end:
                continue
            sums = ", ".join(f"a{t}[{size}]" for t in range(n))
            begins = " = ".join(f"a{t}[j]" for t in range(n))
            values = ", ".join(f"v{t} = {x}[{f'{t} * {K} + ' * (n > 1)}k]" for t in range(n))
            adds = " ".join(f"a{t}[j] += v{t} * u;" for t in range(n))
            kept = "".join(
                f"        {{ const float r = a{t}[j]; {place} = {value}; }}\n"
                if t == 0
                else f"        if (o + {t} < {layer.rows}) {{ const float r = a{t}[j]; "
                f"{place} = {value}; }}\n"
                for t, (place, value) in enumerate(stores)
            )
            lines.append(
                f"for (int m = {start}; m < {end}; m += {size}) {{\n"
                f"        float {sums};\n        const float *w = {w} + m * {K};\n"
                f"        for (int j = 0; j < {size}; j++) {begins} = {b}[m + j];\n"
                f"        for (int k = 0; k < {K}; k++, w += {size}) {{\n"
                f"            const float {values};\n"
                f"            for (int j = 0; j < {size}; j++) "
                f"{{ const float u = w[j]; {adds} }}\n        }}\n"
                f"        for (int j = 0; j < {size}; j++) {{\n{kept}        }}\n    }}"
            )
        return "\n    ".join(lines)


@dataclass(frozen=True)
class Layer:
    """What a layer multiplies by and adds."""

    weight: Array
    """``[M,K]``."""
    scales: Array | None
    """``[M]``, if the weights are bytes."""
    bias: Array | None
    bits: tuple[float, int] | None
    """The scale and zero of what goes in, if that is bytes."""
    rows: int = 1
    """How many x there are altogether."""


def _number(value: Any) -> str:
    """Return a constant as C spells it, exactly."""
    if isinstance(value, np.bool_ | np.integer):
        return f"({int(value)})" if int(value) < 0 else str(int(value))
    if math.isinf(value):
        return "(-INFINITY)" if value < 0 else "INFINITY"
    single = isinstance(value, np.float32)
    text = f"{float(value):.9g}" if single else f"{float(value):.17g}"
    if not any(c in text for c in ".en"):
        text += ".0"
    text += "f" * single
    return f"({text})" if text.startswith("-") else text


# What works number by number.


def _infix(sign: str) -> Pointwise:
    def said(w: _Writer, node: Node, index: Index) -> str:
        x, y = (w.broadcast(name, index) for name in node.inputs)
        return f"({x} {sign} {y})"

    return said


def _call(text: str) -> Pointwise:
    """Return a function of one number; ``F`` stands for the suffix of C's float functions."""

    def said(w: _Writer, node: Node, index: Index) -> str:
        f = "f" if w.kind(node.output) == "float" else ""
        return text.replace("F(", f"{f}(").replace("$", w.broadcast(node.inputs[0], index))

    return said


def _two(name: str) -> Pointwise:
    def said(w: _Writer, node: Node, index: Index) -> str:
        kind = w.kind(node.output)
        first, *rest = (w.broadcast(one, index) for one in node.inputs)
        f = {"float": f"f{name}f", "double": f"f{name}"}.get(kind, f"p_{name}")
        for other in rest:
            first = f"{f}({first}, {other})"
        return first

    return said


def _power(w: _Writer, node: Node, index: Index) -> str:
    exponent = w.constant(node.inputs[1])
    x = w.broadcast(node.inputs[0], index)
    if exponent is not None and exponent.size == 1 and float(exponent.ravel()[0]) == 2.0:
        return f"p_square{'f' if w.kind(node.output) == 'float' else ''}({x})"
    f = "powf" if w.kind(node.output) == "float" else "pow"
    return f"{f}({x}, {w.broadcast(node.inputs[1], index)})"


def _clip(w: _Writer, node: Node, index: Index) -> str:
    x, *bounds = (w.broadcast(name, index) for name in node.inputs if name)
    f = "f" if w.kind(node.output) == "float" else ""
    text = x
    for function, bound in zip((f"fmax{f}", f"fmin{f}"), bounds, strict=False):
        text = f"{function}({text}, {bound})"
    return text


def _where(w: _Writer, node: Node, index: Index) -> str:
    test, x, y = (w.broadcast(name, index) for name in node.inputs)
    return f"({test} ? {x} : {y})"


def _cast(w: _Writer, node: Node, index: Index) -> str:
    x = w.broadcast(node.inputs[0], index)
    if w.net.dtypes[node.output] == "bool":
        return f"({x} != 0)"
    return f"(({w.kind(node.output)}){x})"


def _elu(w: _Writer, node: Node, index: Index) -> str:
    alpha = _number(np.float32(node.about.get("alpha", 1.0)))
    return f"p_elu({w.broadcast(node.inputs[0], index)}, {alpha})"


def _leaky(w: _Writer, node: Node, index: Index) -> str:
    slope = _number(np.float32(node.about.get("alpha", 0.01)))
    return f"p_leaky({w.broadcast(node.inputs[0], index)}, {slope})"


def _ones(w: _Writer, node: Node, index: Index) -> str:
    """Return the same number: only sides of one have come or gone."""
    sides = zip(w.shape(node.output), index, strict=True)
    left = iter([i for side, i in sides if side > 1])
    return w.at(node.inputs[0], ["0" if n == 1 else next(left) for n in w.shape(node.inputs[0])])


def _expand(w: _Writer, node: Node, index: Index) -> str:
    return w.broadcast(node.inputs[0], index)


def _transpose(w: _Writer, node: Node, index: Index) -> str:
    order = node.about.get("perm") or range(len(index))[::-1]
    inside = [""] * len(index)
    for axis, i in zip(order, index, strict=True):
        inside[axis] = i
    return w.at(node.inputs[0], inside)


def _slice(w: _Writer, node: Node, index: Index) -> str:
    given = [w.constant(name) for name in node.inputs[1:]]
    if any(one is None for one in given):
        raise UserError(f"the policy slices by what is no constant: {INSTEAD}")
    starts, _, *rest = [one.ravel().tolist() for one in given if one is not None]
    sides = w.shape(node.inputs[0])
    axes = rest[0] if rest else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    inside = list(index)
    for start, axis, step in zip(starts, axes, steps, strict=True):
        if step < 1:
            raise UserError(f"the policy slices backwards: {INSTEAD}")
        begin = min(start if start >= 0 else start + sides[axis], sides[axis])
        inside[axis] = _shifted(inside[axis], begin, step)
    return w.at(node.inputs[0], inside)


def _shifted(i: str, start: int, step: int) -> str:
    scaled = i if step == 1 or i == "0" else f"{i} * {step}"
    if start == 0:
        return scaled
    return str(start) if i == "0" else f"({scaled} + {start})"


def _gather(w: _Writer, node: Node, index: Index) -> str:
    picked = w.constant(node.inputs[1])
    axis = int(node.about.get("axis", 0)) % len(w.shape(node.inputs[0]))
    before, after = list(index)[:axis], list(index)[axis:]
    if picked is None:
        raise UserError(f"the policy looks up what it does not know yet: {INSTEAD}")
    side = w.shape(node.inputs[0])[axis]
    picked = np.where(picked < 0, picked + side, picked).astype(np.int32)
    if picked.ndim == 0:
        return w.at(node.inputs[0], [*before, str(int(picked)), *after])
    if picked.ndim != 1:
        raise UserError(f"the policy looks up by a table of {picked.ndim} sides: {INSTEAD}")
    table = w.table(f"{node.output}_i", picked)
    return w.at(node.inputs[0], [*before, f"{table}[{after[0]}]", *after[1:]])


def _quantise(w: _Writer, node: Node, index: Index) -> str:
    found = w.byte_table(node) if node.output in w.lazy and not w.local else None
    if found is not None:
        leaf, values = found
        return f"{w.table(f'{node.output}_q', values)}[{w.at(leaf, index)}]"
    scale, zero = (w.constant(name) for name in node.inputs[1:])
    assert scale is not None
    assert zero is not None
    x = w.broadcast(node.inputs[0], index)
    return f"p_byte({x} / {_number(np.float32(scale.ravel()[0]))}, {int(zero.ravel()[0])})"


def _dequantise(w: _Writer, node: Node, index: Index) -> str:
    scale, zero = (w.constant(name) for name in node.inputs[1:])
    assert scale is not None
    assert zero is not None
    x = w.at(node.inputs[0], index)
    return f"((float)({x} - {int(zero.ravel()[0])}) * {_number(np.float32(scale.ravel()[0]))})"


ALIASES = frozenset(("Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"))
"""What changes a shape and no number."""
POINTWISE: Mapping[str, Pointwise] = {
    **{
        kind: _infix(sign)
        for kind, sign in {
            **{"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Greater": ">", "Less": "<"},
            **{"GreaterOrEqual": ">=", "LessOrEqual": "<=", "Equal": "==", "And": "&&", "Or": "||"},
        }.items()
    },
    **{
        kind: _call(text)
        for kind, text in {
            "Relu": "p_relu($)",
            "Tanh": "tanhF($)",
            "Sigmoid": "(1.0f / (1.0f + expF(-$)))",
            "Exp": "expF($)",
            "Log": "logF($)",
            "Sqrt": "sqrtF($)",
            "Neg": "(-$)",
            "Abs": "fabsF($)",
            "Erf": "erfF($)",
            "Floor": "floorF($)",
            "Ceil": "ceilF($)",
            "Round": "rintF($)",
            "Sin": "sinF($)",
            "Cos": "cosF($)",
            "Reciprocal": "(1.0f / $)",
            "Softplus": "p_softplus($)",
            "Not": "(!$)",
        }.items()
    },
    **dict.fromkeys(ALIASES, _ones),
    "Max": _two("max"),
    "Min": _two("min"),
    "Pow": _power,
    "Clip": _clip,
    "Where": _where,
    "Cast": _cast,
    "Elu": _elu,
    "LeakyRelu": _leaky,
    "Expand": _expand,
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "QuantizeLinear": _quantise,
    "DequantizeLinear": _dequantise,
}
CHEAP = ALIASES | {
    *("Add", "Sub", "Mul", "Div", "Cast", "Expand", "Transpose", "Slice", "Gather"),
    "DequantizeLinear",
}
"""What may be done again for each number of a result."""
FOLLOWING = frozenset(
    (
        *("Relu", "Tanh", "Sigmoid", "Elu", "LeakyRelu", "Softplus", "Clip", "Max", "Min", "Add"),
        *("Mul", "Sub", "Div", "QuantizeLinear"),
    )
)
"""What may be done to a layer's result before it is stored."""


# What needs loops of its own.


def _gemm(w: _Writer, node: Node) -> None:
    x, by, *bias = node.inputs
    transposed = bool(node.about.get("transB", 0))
    weight, scales = w.weights(by, 0 if transposed else 1)
    weight = weight if transposed else weight.T
    alpha, beta = (float(node.about.get(name, 1.0)) for name in ("alpha", "beta"))
    if node.about.get("transA", 0) or weight.ndim != 2 or math.prod(w.shape(x)[:-1]) != 1:
        raise UserError(f"the policy multiplies matrices that C has no loop for here: {INSTEAD}")
    if alpha != 1.0 and scales is not None:
        scales = np.float32(alpha) * scales
    elif alpha != 1.0:
        weight = np.float32(alpha) * weight
    bits = w.quantised(x) if scales is not None else None
    source = w.materialised(bits[0] if bits else x)
    added = _added(w, bias)
    last, stored = w.result(node)
    value = stored("r", [*["0"] * (len(w.shape(node.output)) - 1), "m + j"])
    into = w.store(last)
    at = "m" if bits else "m + j"
    layer = Layer(
        weight, scales, None if added is None else beta * added, bits[1:] if bits else None
    )
    w.say(w.multiplied(node, layer, source, [(f"{into}[{at}]", value)]))


def _added(w: _Writer, bias: Sequence[str]) -> Array | None:
    added = w.constant(bias[0]) if bias else None
    if bias and added is None:
        raise UserError(f"a layer adds what is no constant: {INSTEAD}")
    return added


def _conv(w: _Writer, node: Node) -> None:
    x, by, *bias = node.inputs
    weight, scales = w.weights(by, 0)
    bits = w.quantised(x) if scales is not None else None
    source = bits[0] if bits else x
    sides = w.shape(source)
    if int(node.about.get("group", 1)) != 1 or len(sides) not in (3, 4):
        raise UserError(f"the policy uses a convolution of groups or volumes: {INSTEAD}")
    flat = len(sides) == 3  # along one side only
    usual = len(sides) - 2
    strides, apart = (list(node.about.get(n) or [1] * usual) for n in ("strides", "dilations"))
    pads = list(node.about.get("pads") or [0] * 2 * usual)
    if flat:
        strides, apart, pads = [1, *strides], [1, *apart], [0, pads[0], 0, pads[1]]
    channels, (height, width) = sides[1], (1, sides[2]) if flat else sides[2:]
    kernel = (1, weight.shape[2]) if flat else weight.shape[2:]
    rows, columns = (1, w.shape(node.output)[2]) if flat else w.shape(node.output)[2:]
    pixels = rows * columns
    if source not in w.lazy:
        w.materialised(source)
    number = w.kind(source) if bits else "float"
    seen = w.at(source, ["0", "c", "x"] if flat else ["0", "c", "y", "x"])
    if any(pads):
        blank = str(bits[2]) if bits else "0.0f"
        seen = f"(y >= 0 && y < {height} && x >= 0 && x < {width}) ? {seen} : {blank}"
    K = channels * kernel[0] * kernel[1]
    at_once = 1 if bits else ROWS
    w.program.stack = max(w.program.stack, K * (1 if bits else 4 * at_once) + 64 * 4)
    last, stored = w.result(node)
    value = stored("r", ["0", "m", "o"] if flat else ["0", "m", "0", "o"])
    into = w.store(last)
    at = "m" if bits else "(m + j)"
    stores = [(f"{into}[{at} * {pixels} + o + {t}]", value) for t in range(at_once)]
    flattened = np.ascontiguousarray(weight.reshape(weight.shape[0], -1))
    layer = Layer(flattened, scales, _added(w, bias), bits[1:] if bits else None, pixels)
    begin = (
        f"const int i = o + t < {pixels} ? o + t : {pixels - 1}, "
        if at_once > 1
        else "const int i = o, "
    )
    w.say(
        f"for (int o = 0; o < {pixels}; o += {at_once}) {{\n    {number} p[{at_once * K}];\n"
        f"    int n = 0;\n    for (int t = 0; t < {at_once}; t++) {{\n"
        f"        {begin}oy = i / {columns}, ox = i % {columns};\n"
        f"        for (int c = 0; c < {channels}; c++) "
        f"for (int ky = 0; ky < {kernel[0]}; ky++) {{\n"
        f"            const int y = oy * {strides[0]} - {pads[0]} + ky * {apart[0]};\n"
        f"            (void)y;\n"
        f"            for (int kx = 0; kx < {kernel[1]}; kx++) {{\n"
        f"                const int x = ox * {strides[1]} - {pads[1]} + kx * {apart[1]};\n"
        f"                p[n++] = {seen};\n            }}\n        }}\n    }}\n"
        f"    {w.multiplied(node, layer, 'p', stores)}\n    }}"
    )


def _reduce(begin: str, step: str, end: str = "a") -> Callable[[_Writer, Node], None]:
    def said(w: _Writer, node: Node) -> None:
        source = node.inputs[0]
        sides = w.shape(source)
        axes = node.about.get("axes")
        if axes is None:
            given = w.constant(node.inputs[1]) if len(node.inputs) > 1 else None
            axes = range(len(sides)) if given is None else given.ravel().tolist()
        reduced = {int(axis) % len(sides) for axis in axes}
        w.materialised(source)
        inside = [f"r{k}" if k in reduced else f"i{k}" for k in range(len(sides))]
        kept = [k for k in range(len(sides)) if k not in reduced]
        outside = [f"i{k}" for k in kept]
        whole = len(w.shape(node.output)) == len(sides)
        index = ["0" if k in reduced else f"i{k}" for k in range(len(sides))] if whole else outside
        value = w.at(source, inside)
        number = w.kind(node.output)
        into = w.store(node.output)
        over = "".join(f"for (int r{k} = 0; r{k} < {sides[k]}; r{k}++) " for k in sorted(reduced))
        first = w.at(source, ["0" if k in reduced else f"i{k}" for k in range(len(sides))])
        n = math.prod(sides[k] for k in reduced)
        head = "".join(f"for (int i{k} = 0; i{k} < {sides[k]}; i{k}++) " for k in kept)
        w.say(
            f"{head}{{ {number} a = {begin.replace('$', first)}; "
            f"{over}{{ const {number} v = {value}; {step} }} "
            f"{into}[{w.flat(node.output, index)}] = {end.replace('#', str(n))}; }}"
        )

    return said


def _arg(sign: str) -> Callable[[_Writer, Node], None]:
    def said(w: _Writer, node: Node) -> None:
        source = node.inputs[0]
        sides = w.shape(source)
        axis = int(node.about.get("axis", 0)) % len(sides)
        w.materialised(source)
        inside = ["r" if k == axis else f"i{k}" for k in range(len(sides))]
        kept = [k for k in range(len(sides)) if k != axis]
        whole = len(w.shape(node.output)) == len(sides)
        index = ["0" if k == axis else f"i{k}" for k in range(len(sides)) if whole or k != axis]
        best = w.at(source, ["b" if k == axis else f"i{k}" for k in range(len(sides))])
        value = w.at(source, inside)
        into = w.store(node.output)
        head = "".join(f"for (int i{k} = 0; i{k} < {sides[k]}; i{k}++) " for k in kept)
        w.say(
            f"{head}{{ int b = 0; for (int r = 1; r < {sides[axis]}; r++) "
            f"if ({value} {sign} {best}) b = r; {into}[{w.flat(node.output, index)}] = b; }}"
        )

    return said


def _softmax(w: _Writer, node: Node) -> None:
    source = node.inputs[0]
    sides = w.shape(source)
    axis = int(node.about.get("axis", -1)) % len(sides)
    w.materialised(source)
    inside = ["r" if k == axis else f"i{k}" for k in range(len(sides))]
    value, first = w.at(source, inside), w.at(source, ["0" if i == "r" else i for i in inside])
    into = w.store(node.output)
    place = f"{into}[{w.flat(node.output, inside)}]"
    kept = [k for k in range(len(sides)) if k != axis]
    head = "".join(f"for (int i{k} = 0; i{k} < {sides[k]}; i{k}++) " for k in kept)
    over = f"for (int r = 0; r < {sides[axis]}; r++)"
    w.say(
        f"{head}{{ float most = {first}, sum = 0.0f; {over} most = fmaxf(most, {value}); "
        f"{over} sum += {place} = expf({value} - most); {over} {place} /= sum; }}"
    )


def _concat(w: _Writer, node: Node) -> None:
    axis = int(node.about.get("axis", 0)) % len(w.shape(node.output))
    for name in node.inputs:
        if w.constant(name) is None and name not in w.lazy:
            w.materialised(name)
    parts, start = [], 0
    for name in node.inputs:
        sides = w.shape(name)
        index = [f"i{k}" if side > 1 else "0" for k, side in enumerate(sides)]
        value = w.at(name, index)
        place = list(index)
        place[axis] = _shifted(index[axis], start, 1)
        parts.append((sides, value, place))
        start += sides[axis]
    into = w.store(node.output)
    lines = []
    for sides, value, place in parts:
        head = "".join(
            f"for (int i{k} = 0; i{k} < {side}; i{k}++) "
            for k, side in enumerate(sides)
            if side > 1
        )
        lines.append(f"{head}{into}[{w.flat(node.output, place)}] = {value};")
    w.say("\n    ".join(lines))


def _pool(w: _Writer, node: Node) -> None:
    source = node.inputs[0]
    sides, out = w.shape(source), w.shape(node.output)
    kernel = node.about["kernel_shape"]
    strides = node.about.get("strides") or [1, 1]
    pads = node.about.get("pads") or [0] * 4
    if len(sides) != 4:
        raise UserError(f"the policy pools along {len(sides) - 2} sides: {INSTEAD}")
    w.materialised(source)
    value = w.at(source, ["0", "c", "y", "x"])
    into = w.store(node.output)
    w.say(
        f"for (int c = 0; c < {sides[1]}; c++) for (int oy = 0; oy < {out[2]}; oy++) "
        f"for (int ox = 0; ox < {out[3]}; ox++) {{ float a = -INFINITY; "
        f"for (int ky = 0; ky < {kernel[0]}; ky++) for (int kx = 0; kx < {kernel[1]}; kx++) {{ "
        f"const int y = oy * {strides[0]} - {pads[0]} + ky; "
        f"const int x = ox * {strides[1]} - {pads[1]} + kx; "
        f"if (y >= 0 && y < {sides[2]} && x >= 0 && x < {sides[3]}) a = fmaxf(a, {value}); }} "
        f"{into}[{w.flat(node.output, ['0', 'c', 'oy', 'ox'])}] = a; }}"
    )


LOOPS: Mapping[str, Callable[[_Writer, Node], None]] = {
    "Gemm": _gemm,
    "MatMul": _gemm,
    "Conv": _conv,
    "Concat": _concat,
    "Softmax": _softmax,
    "MaxPool": _pool,
    "ReduceSum": _reduce("0", "a += v;"),
    "ReduceMean": _reduce("0", "a += v;", "a / #"),
    "ReduceMax": _reduce("$", "if (v > a) a = v;"),
    "ReduceMin": _reduce("$", "if (v < a) a = v;"),
    "ArgMax": _arg(">"),
    "ArgMin": _arg("<"),
}
