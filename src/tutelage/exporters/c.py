"""C: one header and one C99 file without dependencies, in floating point or in eight bits."""

import ctypes
import math
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters import onnx_int8
from tutelage.exporters.base import Portable, Run, States, Written
from tutelage.exporters.c_graph import TYPES, Network, Node, spelled
from tutelage.exporters.c_source import Program, program_of
from tutelage.exporters.onnx import model_of, needed
from tutelage.files import write_atomic
from tutelage.importers.base import line_of
from tutelage.types import Array

HEADER, SOURCE = "policy.h", "policy.c"
FLAGS = {
    "float32": "-std=c99 -O2 -ftree-vectorize -march=native",
    "int8": "-std=c99 -O3 -march=native",
}
"""By which the proof compiles; any C99 compiler will do. GCC makes less of sums at -O3."""
ROW = 12
"""Numbers on a line of a table."""


def write(policy: Portable, folder: Path, states: States) -> Written:
    """Write header and source; raise UserError for an operator that C has no loop for."""
    return _write(policy, model_of(policy), folder)


def write_int8(policy: Portable, folder: Path, states: States) -> Written:
    """Write the same with layers of eight bits, as ``onnx-int8`` quantises them."""
    return _write(policy, onnx_int8.quantised(policy, states), folder)


def _write(policy: Portable, model: Any, folder: Path) -> Written:
    kinds = {node.op_type for node in model.graph.node}
    precision = "int8" if "QuantizeLinear" in kinds else "float32"
    network = network_of(model, policy)
    given = {"obs": "obs", **{name: _memory(i) for i, name in enumerate(policy.inputs()[1:])}}
    program = program_of(network, given)
    write_atomic(folder / HEADER, _header(policy, network).encode())
    write_atomic(folder / SOURCE, _source(policy, network, program).encode())
    about = {"format": "C99", "precision": precision, "compiled": f"cc {FLAGS[precision]}"}
    return Written(SOURCE, {**about, **_bytes(policy, program, folder)})


def network_of(model: Any, policy: Portable) -> Network:
    """Return an ONNX model of one state: shapes known, constants computed."""
    onnx = needed("onnx")
    runtime = needed("onnxruntime")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for one in (*fixed.graph.input, *fixed.graph.output):
        for side in one.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_value = 1
    outputs = [one.name for one in fixed.graph.output]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(fixed)
    del exposed.graph.value_info[:]
    exposed.graph.output.extend(
        onnx.ValueInfoProto(name=name)
        for node in fixed.graph.node
        for name in node.output
        if name and name not in outputs
    )
    settings = runtime.SessionOptions()
    settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4
    try:
        session = runtime.InferenceSession(
            exposed.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        fed = dict(zip(policy.inputs(), (one.numpy() for one in policy.examples(1)), strict=True))
        names = [one.name for one in session.get_outputs()]
        values = {**fed, **dict(zip(names, session.run(None, fed), strict=True))}
    except Exception as error:  # ONNX Runtime has a class of its own for each of its failures
        raise UserError(f"ONNX Runtime cannot run the policy: {line_of(error)}") from error
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in fixed.graph.initializer}
    nodes = []
    for proto in fixed.graph.node:
        name = proto.output[0]
        known = all(one in constants for one in proto.input if one)
        bytes_of_a_layer = (
            proto.op_type == "DequantizeLinear"
            and known
            and constants[proto.input[0]].dtype == np.int8
        )
        if (known and not bytes_of_a_layer) or proto.op_type == "Shape":
            constants.update({one: values[one] for one in proto.output if one})
            continue
        if proto.op_type == "Split":
            nodes += _slices(onnx, proto, values, constants)
            continue
        about = {one.name: onnx.helper.get_attribute_value(one) for one in proto.attribute}
        nodes.append(Node(proto.op_type, list(proto.input), name, {**about, "proto": proto}))
    known_values = {**values, **constants}
    return Network(
        nodes,
        constants,
        {name: value.shape for name, value in known_values.items()},
        {name: str(value.dtype) for name, value in known_values.items()},
        policy.inputs(),
        outputs,
    )


def _slices(
    onnx: Any, proto: Any, values: Mapping[str, Array], constants: dict[str, Array]
) -> list[Node]:
    """Return a slice for each part that a tensor is split into."""
    axis = next(
        (onnx.helper.get_attribute_value(a) for a in proto.attribute if a.name == "axis"), 0
    )
    nodes, start = [], 0
    for name in proto.output:
        end = start + values[name].shape[axis]
        bounds = [f"{name}_{which}" for which in ("start", "end", "axis")]
        constants.update(
            {b: np.array([n], np.int64) for b, n in zip(bounds, (start, end, axis), strict=True)}
        )
        nodes.append(Node("Slice", [proto.input[0], *bounds], name, {"proto": None}))
        start = end
    return nodes


def _memory(i: int) -> str:
    return f"policy_memory_{i}"


def _types(policy: Portable, network: Network) -> tuple[str, str]:
    """Return the types of an observation's numbers and of an action's."""
    action = "float" if network.dtypes["action"].startswith("float") else "int32_t"
    return TYPES[network.dtypes["obs"]], action


def _header(policy: Portable, network: Network) -> str:
    obs, action = _types(policy, network)
    sizes = [math.prod(network.shapes[name]) for name in ("obs", "action", policy.output)]
    memory = "".join(
        f"extern float {_memory(i)}[{math.prod(sides)}];\n" for i, sides in enumerate(policy.memory)
    )
    about = " * ".join(map(str, policy.shape))
    return f"""\
/* A policy, made by Tutelage. contract.json says what it sees and does. Not reentrant. */
#ifndef POLICY_H
#define POLICY_H
#include <stdint.h>

#define POLICY_OBS {sizes[0]} /* numbers of an observation: {about} */
#define POLICY_ACTION {sizes[1]} /* numbers of an action */
#define POLICY_NUMBERS {sizes[2]} /* numbers that the action is read from: {policy.output} */

#ifdef __cplusplus
extern "C" {{
#endif
/* Choose an action; return 0, or 1 where a number is NaN. */
int policy_act(const {obs} *obs, {action} *action);
/* The same; the numbers are written as well, unless that is a null pointer. */
int policy_run(const {obs} *obs, {action} *action, float *numbers);
/* Begin an episode: forget what is remembered. */
void policy_reset(void);
{memory}#ifdef __cplusplus
}}
#endif
#endif
"""


HELPERS = """\
static inline float p_relu(float x) { return x < 0.0f ? 0.0f : x; } /* NaN stays */
static inline float p_elu(float x, float alpha) { return x > 0.0f ? x : alpha * expm1f(x); }
static inline float p_leaky(float x, float slope) { return x > 0.0f ? x : slope * x; }
static inline float p_softplus(float x) {
    return x > 0.0f ? x + log1pf(expf(-x)) : log1pf(expf(x));
}
static inline float p_squaref(float x) { return x * x; }
static inline double p_square(double x) { return x * x; }
static inline int64_t p_max(int64_t x, int64_t y) { return x > y ? x : y; }
static inline int64_t p_min(int64_t x, int64_t y) { return x < y ? x : y; }
static inline int8_t p_byte(float x, int zero) {
    const float q = rintf(x) + (float)zero;
    return (int8_t)(q < -128.0f ? -128.0f : q > 127.0f ? 127.0f : q);
}
"""


def _source(policy: Portable, network: Network, program: Program) -> str:
    obs, action = _types(policy, network)
    body = "\n".join(program.statements)
    used = [
        part
        for part in HELPERS.replace("\nstatic", "\n\0static").split("\0")
        if f"{part.split('(')[0].split()[-1]}(" in body
    ]
    names = ["action", "numbers", *(_memory(i) for i in range(len(policy.memory)))]
    copied = [
        _copied(name, pointer, math.prod(network.shapes[output]), action)
        for name, pointer, output in zip(names, program.outputs, network.outputs, strict=True)
    ]
    arenas = [f"static {kind} m_{kind}[{size}];" for kind, size in program.arenas.items()]
    memory = [f"float {_memory(i)}[{math.prod(sides)}];" for i, sides in enumerate(policy.memory)]
    forget = [
        f"for (int i = 0; i < {math.prod(sides)}; i++) {_memory(i)}[i] = 0.0f;"
        for i, sides in enumerate(policy.memory)
    ]
    return "\n".join(
        [
            "/* Made by Tutelage: loops over static arrays, nothing is allocated. */",
            f'#include "{HEADER}"',
            "#include <math.h>",
            "",
            *(_table(name, value) for name, value in program.tables.items()),
            "",
            *arenas,
            *memory,
            "",
            "".join(used),
            f"int policy_run(const {obs} *obs, {action} *action, float *numbers) {{",
            *(f"    {line}" for line in (*program.statements, *copied)),
            "    return wrong;",
            "}",
            "",
            f"int policy_act(const {obs} *obs, {action} *action) {{",
            "    return policy_run(obs, action, 0);",
            "}",
            "",
            "void policy_reset(void) {",
            *(f"    {line}" for line in forget),
            "}",
            "",
        ]
    )


def _copied(name: str, pointer: str, size: int, action: str) -> str:
    """Return the loop that hands out what the network says."""
    loop = f"for (int i = 0; i < {size}; i++)"
    if name == "numbers":
        return (
            f"int wrong = 0;\n    {loop} {{ const float v = {pointer}[i]; wrong |= v != v; "
            f"if (numbers) numbers[i] = v; }}"
        )
    return f"{loop} {name}[i] = ({action if name == 'action' else 'float'}){pointer}[i];"


def _table(name: str, value: Array) -> str:
    """Return a constant array."""
    words = spelled(value)
    lines = ",\n".join(",".join(words[i : i + ROW]) for i in range(0, len(words), ROW))
    return f"static const {TYPES[str(value.dtype)]} {name}[{len(words)}] = {{\n{lines}}};"


def _bytes(policy: Portable, program: Program, folder: Path) -> dict[str, Any]:
    """Return what the policy takes of flash and RAM: tables and arrays counted, code measured."""
    sizes = {"float": 4, "double": 8, "int64_t": 8, "int32_t": 4}
    tables = sum(value.nbytes for value in program.tables.values())
    static = sum(sizes.get(kind, 1) * n for kind, n in program.arenas.items())
    static += 4 * sum(math.prod(sides) for sides in policy.memory)
    about: dict[str, Any] = {"table_bytes": tables, "static_ram_bytes": static}
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "policy.o"
        flags = ("-std=c99", "-Os", "-c", "-fstack-usage")
        if _compile(folder, compiled, flags) is None and shutil.which("size"):
            said = subprocess.run(
                ["size", str(compiled)], capture_output=True, text=True, check=False
            ).stdout.splitlines()
            if len(said) == 2:
                about["flash_bytes"] = sum(int(word) for word in said[1].split()[:2])
                about["flash_compiled"] = "cc -std=c99 -Os -c, for this machine"
            # A line is FILE:LINE:COLUMN:FUNCTION, bytes, kind; policy_act calls policy_run.
            used = [
                line.split("\t") for line in compiled.with_suffix(".su").read_text().splitlines()
            ]
            frames = {name.rsplit(":", 1)[1]: int(size) for name, size, *_ in used}
            about["stack_bytes"] = frames["policy_act"] + frames["policy_run"]
    return about


def _compile(
    folder: Path, target: Path, flags: Sequence[str], libraries: Sequence[str] = ()
) -> str | None:
    """Compile; return what the compiler complains of, if it does."""
    if shutil.which("cc") is None:
        return "no C compiler: the command cc is not found"
    done = subprocess.run(
        ["cc", *flags, str(folder / SOURCE), "-o", str(target), *libraries],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip().partition("\n")[0] or "cc failed" if done.returncode else None


def open_file(folder: Path, written: Written) -> Run:
    """Compile the file with ``cc`` and return it as it runs in this process."""
    scratch = Path(tempfile.mkdtemp())
    library = scratch / "policy.so"
    flags = FLAGS[written.about["precision"]].split()
    if said := _compile(folder, library, (*flags, "-shared", "-fPIC"), ["-lm"]):
        shutil.rmtree(scratch, ignore_errors=True)
        raise UserError(f"the C file cannot be proved: {said}")
    loaded = ctypes.CDLL(str(library))
    compiled = Compiled(loaded, (folder / HEADER).read_text())
    weakref.finalize(compiled, _release, loaded._handle, scratch)
    return compiled


def _release(handle: int, scratch: Path) -> None:
    """Unload a library before its file goes: else the next file of its inode is taken for it."""
    close = ctypes.CDLL(None).dlclose
    close.argtypes = [ctypes.c_void_p]
    close(handle)
    shutil.rmtree(scratch, ignore_errors=True)


class Compiled:
    """A compiled policy, asked of one state after the other."""

    def __init__(self, library: Any, header: str) -> None:
        """``header`` says how many numbers there are, and of which types."""
        words = {
            line.split()[1]: int(line.split()[2])
            for line in header.splitlines()
            if line.startswith("#define POLICY_") and len(line.split()) > 2
        }
        declared = next(line for line in header.splitlines() if line.startswith("int policy_run("))
        self._whole = "int32_t *action" in declared
        self._kind = np.int32 if self._whole else np.float32
        self._sizes = words["POLICY_ACTION"], words["POLICY_NUMBERS"]
        self._run = library.policy_run
        self._run.argtypes = [ctypes.c_void_p] * 3
        self._act = library.policy_act
        self._act.argtypes = [ctypes.c_void_p] * 2
        self._memory: list[Array] = []
        self._kept: list[Array] = []
        for i in range(header.count("extern float policy_memory_")):
            size = int(header.split(f"policy_memory_{i}[")[1].split("]")[0])
            held = (ctypes.c_float * size).in_dll(library, _memory(i))
            self._memory.append(np.ctypeslib.as_array(held))

    def ready(self, obs: Array, *memory: Array) -> Callable[[], Any]:
        """Return what acts on one state, with as little around it as can be."""
        action = np.empty(self._sizes[0], self._kind)
        self._kept += [obs, action]
        return partial(self._act, obs.ctypes.data, action.ctypes.data)

    def __call__(self, obs: Array, *memory: Array) -> list[Array]:
        n = len(obs)
        actions, numbers = self._sizes
        action = np.empty((n, actions), self._kind)
        said = np.empty((n, numbers), np.float32)
        after = [np.empty_like(part) for part in memory]
        for i in range(n):
            for held, part in zip(self._memory, memory, strict=True):
                held[:] = part[i].ravel()
            self._run(
                obs.ctypes.data + i * obs.strides[0],
                action.ctypes.data + i * action.strides[0],
                said.ctypes.data + i * said.strides[0],
            )
            for held, left in zip(self._memory, after, strict=True):
                left[i] = held.reshape(left[i].shape)
        return [action, said, *after]
