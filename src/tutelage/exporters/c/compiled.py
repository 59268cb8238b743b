"""C as the machine's compiler has it: what it takes of flash and RAM, and how it runs here."""

import ctypes
import math
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.base import Portable, Run, Written
from tutelage.exporters.c.file import HEADER, SOURCE, memory
from tutelage.exporters.c.writer import Program
from tutelage.types import Array

FAST = "-std=c99 -O3 -march=native"
"""By which the proof compiles; any C99 compiler will do."""
SMALL = "-std=c99 -Os -c"
"""By which flash and stack are measured."""
BYTES = {"float": 4, "double": 8, "int64_t": 8, "int32_t": 4}
"""Of a number of working memory; of any other type it is one."""


PATIENCE = 600.0
"""Seconds that ``cc`` may take; large networks take it some."""


def sizes(policy: Portable, program: Program, folder: Path) -> dict[str, Any]:
    """Return what a file takes of flash and RAM: its arrays counted, its code measured by ``cc``.

    What no tool here measures is left out.
    """
    static = sum(BYTES.get(kind, 1) * n for kind, n in program.arenas.items())
    static += BYTES["float"] * sum(math.prod(sides) for sides in policy.memory)
    tables = sum(value.nbytes for value in program.tables.values())
    about: dict[str, Any] = {"table_bytes": tables, "static_ram_bytes": static}
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "policy.o"
        if _compile(folder, compiled, (*SMALL.split(), "-fstack-usage")) is not None:
            return about
        about["flash_compiled"] = f"cc {SMALL}, for this machine"
        if shutil.which("size"):
            done = subprocess.run(
                ["size", str(compiled)], capture_output=True, text=True, check=False
            )
            if not done.returncode:
                code, data, *_ = done.stdout.splitlines()[1].split()
                about["flash_bytes"] = int(code) + int(data)
        if (frames := compiled.with_suffix(".su")).is_file():
            about["stack_bytes"] = deepest(frames.read_text())
    return about


def deepest(frames: str) -> int:
    """Return the bytes of stack that ``policy_act`` takes with all that it calls in this file.

    ``frames`` is what ``-fstack-usage`` writes, a line of ``FILE:LINE:COLUMN:FUNCTION``, bytes and
    kind for each function. ``policy_act`` calls ``policy_run``; that calls helpers, each of which
    calls none. Those of the C library are not known.
    """
    words = (line.split("\t") for line in frames.splitlines())
    used = {name.rsplit(":", 1)[1]: int(taken) for name, taken, *_ in words}
    begins = {name: used.pop(name) for name in ("policy_act", "policy_run")}
    used.pop("policy_reset", None)
    return sum(begins.values()) + max(used.values(), default=0)


def _compile(
    folder: Path, target: Path, flags: Sequence[str], libraries: Sequence[str] = ()
) -> str | None:
    """Compile; return what the compiler complains of, if it does."""
    if shutil.which("cc") is None:
        return "no C compiler: the command cc is not found"
    try:
        done = subprocess.run(
            ["cc", *flags, SOURCE, "-o", str(target.absolute()), *libraries],
            cwd=folder,  # so that nothing it writes of the file has the folder's name in it
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"the command cc did not end within {PATIENCE:g} s"
    return done.stderr.strip().partition("\n")[0] or "cc failed" if done.returncode else None


def open_file(folder: Path, written: Written, flags: str = FAST) -> Run:
    """Compile the file with ``cc`` and return it as it runs in this process."""
    scratch = Path(tempfile.mkdtemp())
    library = scratch / "policy.so"
    if said := _compile(folder, library, (*flags.split(), "-shared", "-fPIC"), ["-lm"]):
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
            held = (ctypes.c_float * size).in_dll(library, memory(i))
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
