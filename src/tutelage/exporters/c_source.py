"""C99 of an ONNX graph of one state: plain loops over static arrays, nothing allocated.

What works number by number (an activation, a shift, a cast, a slice) is no loop of its own but an
expression in the loop that needs it, so that it costs no memory. Layers keep a block of results in
registers and read their weights in the order in which they lie.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c_graph import INSTEAD, TYPES, Index, Layer, Network, Node, nest, number
from tutelage.exporters.c_loops import LOOPS, WIDE, WIDTH
from tutelage.exporters.c_pointwise import ALIASES, CHEAP, FOLLOWING, POINTWISE
from tutelage.types import Array


@dataclass
class Program:
    """The statements of a network, and the arrays that they need."""

    statements: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    """A pointer to each of the network's outputs."""
    tables: dict[str, Array] = field(default_factory=dict)
    """Constant arrays by name: what lies in flash."""
    arenas: dict[str, int] = field(default_factory=dict)
    """Type -> so many numbers of working memory."""


def program_of(network: Network, given: Mapping[str, str]) -> Program:
    """Return the network as C, its inputs as the expressions ``given``.

    Raises UserError, naming the formats that can, for an operator that C has no loop for here.
    """
    return Writer(network, given).written()


class Writer:
    """Writes the statements of a network, layer by layer."""

    def __init__(self, network: Network, given: Mapping[str, str]) -> None:
        self.net = network
        self.program = Program()
        self.made = {node.output: node for node in network.nodes}
        self.users: dict[str, list[Node]] = {}
        for node in network.nodes:
            for name in node.inputs:
                self.users.setdefault(name, []).append(node)
        self._given = set(given.values())
        self.place: dict[str, str] = dict(given)
        """Where a tensor lies: a pointer, ``@`` and the name of a buffer before all are placed."""
        self.local: dict[str, str] = {}
        """What is in a local variable now: a layer's result before it is stored."""
        self.lazy: set[str] = set()
        self.done: set[str] = set()
        """What a layer's loops have done already."""
        self._tables: dict[str, str] = {}
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
                return number(value.ravel()[0])
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
        if name not in self._tables:
            plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
            self._tables[name] = f"t{len(self._tables)}_{plain}"
            self.program.tables[self._tables[name]] = value
        return self._tables[name]

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
            text = self.loops(self.shape(name), partial(self.at, name), name)
            self.lazy.discard(name)
            self.say(text)
        return self.read(name)

    def loops(self, shape: Sequence[int], value: Callable[[Index], str], name: str) -> str:
        """Return loops that fill a new buffer for ``name``."""
        index = [f"i{k}" if side > 1 else "0" for k, side in enumerate(shape)]
        body = value(index)
        to = self.store(name)
        head = nest({i: side for i, side in zip(index, shape, strict=True) if side > 1})
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
            if self.place.get(name) in self._given:  # memory that another output may overwrite
                self.say(self.loops(self.shape(name), partial(self.at, name), name))
        self.program.outputs = [self.materialised(name) for name in self.net.outputs]
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
        self.materialised(node.inputs[0])
        self.place[node.output] = self.place[node.inputs[0]]

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
        for name, at in offsets.items():
            kind = self._buffers[name][0]
            pointer = f"m_{kind}" if at == 0 else f"(m_{kind} + {at})"
            for texts in (self.program.statements, self.program.outputs):
                texts[:] = [text.replace(f"@{name}@", pointer) for text in texts]

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
