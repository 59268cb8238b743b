"""Header and source of a policy: what stands around the statements of its network."""

import math

from tutelage.exporters.base import Portable
from tutelage.exporters.c.graph import Network
from tutelage.exporters.c.spelling import TYPES, spelled
from tutelage.exporters.c.writer import Program
from tutelage.types import Array

HEADER, SOURCE = "policy.h", "policy.c"
ROW = 12
"""Numbers on a line of a table."""


def memory(i: int) -> str:
    """Return what a part of the memory is called."""
    return f"policy_memory_{i}"


def _types(policy: Portable, network: Network) -> tuple[str, str]:
    """Return the types of an observation's numbers and of an action's."""
    action = "float" if network.dtypes["action"].startswith("float") else "int32_t"
    return TYPES[network.dtypes["obs"]], action


def header(policy: Portable, network: Network) -> str:
    """Return what a program includes."""
    obs, action = _types(policy, network)
    sizes = [math.prod(network.shapes[name]) for name in ("obs", "action", policy.output)]
    remembered = "".join(
        f"extern float {memory(i)}[{math.prod(sides)}];\n" for i, sides in enumerate(policy.memory)
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
{remembered}#ifdef __cplusplus
}}
#endif
#endif
"""


# By itself GCC takes vectors of half the width that AVX-512 has, and a loop of few apart before it
# could make vectors of it.
VECTORS = """\
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("prefer-vector-width=512")
#endif
#if defined(__GNUC__) && __GNUC__ >= 8 && !defined(__clang__)
#define VECTORS _Pragma("GCC unroll 1")
#else
#define VECTORS
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
static inline int16_t p_pixel(
    int x, int low, uint16_t slope, uint16_t half, int shift, int16_t first, int16_t most) {
    const uint16_t above = (uint16_t)((uint8_t)(x - (x < low ? x : low)) << 8);
    const uint16_t rise = (uint16_t)((uint32_t)above * slope >> 16);
    const int16_t q = (int16_t)(first + (int16_t)((uint16_t)(rise + half) >> shift));
    return q < most ? q : most;
}
/* A sum of 1.5 * 2^23 ends in the whole number, rounded to even; its bits are as ordered as it. */
static inline int8_t p_byte(float x, int zero) {
    const union { float sum; int32_t bits; } y = {x + 12582912.0f};
    const int32_t least = 0x4B400000 - 128 - zero, most = least + 255;
    return (int8_t)((y.bits < least ? least : y.bits > most ? most : y.bits) - least - 128);
}
"""


def source(policy: Portable, network: Network, program: Program) -> str:
    """Return the file of tables, working memory and functions."""
    obs, action = _types(policy, network)
    body = "\n".join(program.statements)
    used = [
        part
        for part in HELPERS.replace("\nstatic", "\n\0static").split("\0")
        if f"{part.split('(')[0].split()[-1]}(" in body
    ]
    names = ["action", "numbers", *(memory(i) for i in range(len(policy.memory)))]
    copied = [
        _copied(name, pointer, math.prod(network.shapes[output]), action)
        for name, pointer, output in zip(names, program.outputs, network.outputs, strict=True)
    ]
    arenas = [f"static {kind} m_{kind}[{size}];" for kind, size in program.arenas.items()]
    remembered = [
        f"float {memory(i)}[{math.prod(sides)}];" for i, sides in enumerate(policy.memory)
    ]
    forget = [
        f"for (int i = 0; i < {math.prod(sides)}; i++) {memory(i)}[i] = 0.0f;"
        for i, sides in enumerate(policy.memory)
    ]
    return "\n".join(
        [
            "/* Made by Tutelage: loops over static arrays, nothing is allocated. */",
            f'#include "{HEADER}"',
            "#include <math.h>",
            VECTORS,
            *(_table(name, value) for name, value in program.tables.items()),
            "",
            *arenas,
            *remembered,
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
