"""C99 of an ONNX graph of one state: plain loops over static arrays, nothing allocated.

What works number by number (an activation, a shift, a cast, a slice) is no loop of its own but an
expression in the loop that needs it, so that it costs no memory. Layers keep a block of results in
registers and read their weights in the order in which they lie.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.errors import UserError
from tutelage.exporters.c.buffers import Buffer, placed
from tutelage.exporters.c.graph import INSTEAD, Index, Network, Node
from tutelage.exporters.c.loops import LOOPS
from tutelage.exporters.c.pointwise import ALIASES, CHEAP, FOLLOWING, POINTWISE
from tutelage.exporters.c.quantised import byte_table
from tutelage.exporters.c.spelling import TYPES, nest, number
from tutelage.types import Array


@dataclass(frozen=True)
class Program:
    """The statements of a network, and the arrays that they need."""

    statements: Sequence[str]
    outputs: Sequence[str]
    """A pointer to each of the network's outputs."""
    tables: Mapping[str, Array]
    """Constant arrays by name: what lies in flash."""
    arenas: Mapping[str, int]
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
        self.made = {node.output: node for node in network.nodes}
        self.users: dict[str, list[Node]] = {}
        for node in network.nodes:
            for name in node.inputs:
                self.users.setdefault(name, []).append(node)
        self._given = set(given.values())
        self.place: dict[str, str] = dict(given)
        """Where a tensor lies: a pointer; ``@NAME@`` before all buffers are placed."""
        self.local: dict[str, str] = {}
        """What is in a local variable now: a layer's result before it is stored."""
        self.lazy: set[str] = set()
        self.done: set[str] = set()
        """What a layer's loops have done already."""
        self._statements: list[str] = []
        self._tables: dict[str, str] = {}
        self._arrays: dict[str, Array] = {}
        self._stored: list[str] = []
        """Tensors that have a buffer of their own."""

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
        return f"{self.place[name]}[{self.flat(name, index)}]"

    def broadcast(self, name: str, index: Index) -> str:
        """Return the same of a tensor that is broadcast to what has this index."""
        sides = self.shape(name)
        own = [*["0"] * len(sides), *index][len(index) :]
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
            self._arrays[self._tables[name]] = value
        return self._tables[name]

    def store(self, name: str) -> str:
        """Return the pointer to the buffer of a tensor."""
        if name not in self._stored:
            self._stored.append(name)
            self.place[name] = f"@{name}@"
        return self.place[name]

    def slot(self, name: str, index: Index) -> str:
        """Return where one number of a tensor is put."""
        return f"{self.store(name)}[{self.flat(name, index)}]"

    def materialised(self, name: str) -> str:
        """Return the pointer to a tensor, computing it if it is only an expression so far."""
        if (value := self.constant(name)) is not None:
            return self.table(name, value)
        if name in self.lazy:
            self._statements.append(self._copied(name))
            self.lazy.discard(name)
        return self.place[name]

    def _copied(self, name: str) -> str:
        """Return loops that put what a tensor is into a new buffer."""
        index = [f"i{k}" if side > 1 else "0" for k, side in enumerate(self.shape(name))]
        value = self.at(name, index)
        head = nest({i: n for i, n in zip(index, self.shape(name), strict=True) if n > 1})
        return f"{head}{self.slot(name, index)} = {value};"

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
                self._statements.append(LOOPS[node.kind](self, node))
            else:
                raise UserError(f"the policy uses {node.kind}, which C has no loop for: {INSTEAD}")
        for name in self.net.outputs:
            self.materialised(name)
            if self.place.get(name) in self._given:  # memory that another output may overwrite
                self._statements.append(self._copied(name))
        return self._placed([self.materialised(name) for name in self.net.outputs])

    def _placed(self, outputs: Sequence[str]) -> Program:
        """Return the program with pointers in place of the names of buffers."""
        texts = [*self._statements, " ".join(outputs)]
        buffers = {}
        for name in self._stored:
            used = [i for i, text in enumerate(texts) if f"@{name}@" in text]
            buffers[name] = Buffer(self.kind(name), self.size(name), used[0], used[-1])
        arenas: dict[str, int] = {}
        pointers = {}
        for name, at in placed(buffers).items():
            kind, length = buffers[name].kind, buffers[name].length
            arenas[kind] = max(arenas.get(kind, 0), at + length)
            pointers[f"@{name}@"] = f"m_{kind}" if at == 0 else f"(m_{kind} + {at})"

        def said(text: str) -> str:
            for name, pointer in pointers.items():
                text = text.replace(name, pointer)
            return text

        statements = list(map(said, self._statements))
        return Program(statements, list(map(said, outputs)), self._arrays, arenas)

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
        return layer is not None and layer.kind == "Conv" and byte_table(self, node) is not None

    def _cheap(self, node: Node) -> bool:
        return node.kind in CHEAP and all(
            self.constant(name) is not None or name not in self.lazy or self._cheap(self.made[name])
            for name in node.inputs
        )

    def result(self, node: Node, index: Index) -> tuple[str, str]:
        """Return the pointer that a layer's result ``r`` goes to, and what is put there of it.

        Activations, and what makes bytes of the result, are done before it is stored.
        """
        last, value = node.output, "r"
        while (user := self.only_user(last)) is not None:
            others = [self.constant(name) for name in user.inputs if name != last]
            if user.kind in FOLLOWING and all(one is not None and one.size == 1 for one in others):
                self.local[last] = value
                value = POINTWISE[user.kind](self, user, index)
            elif user.kind not in ALIASES:
                break
            self.done.add(user.output)
            last = user.output
        self.local.clear()
        return self.store(last), value
