"""The house held to its plan: who may import whom, and that no global generator is touched."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import tutelage

ROOT = Path(tutelage.__file__).parent
NUMPY_ALLOWED = {"Generator", "PCG64", "SeedSequence", "default_rng"}
NUMPY_SEEDED = re.compile(r"np\.random\.(default_rng|SeedSequence)")
TORCH_GLOBAL = re.compile(
    r"torch\.(\w+\.)?(manual_seed|manual_seed_all|seed)|torch\.rand(n|int)?_like|\w+\.[Dd]ropout"
)
TORCH_DRAWS = re.compile(
    r"torch\.(bernoulli|multinomial|normal|poisson|rand|randint|randn|randperm)"
    r"|.*\.(bernoulli|cauchy|exponential|geometric|log_normal|normal|random|uniform)_"
    r"|.*\.(kaiming_normal|kaiming_uniform|orthogonal|trunc_normal|xavier_normal|xavier_uniform)_"
)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


TREES = {name_of(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def random_faults(tree: ast.Module) -> list[str]:
    """Return what in ``tree`` draws from, or seeds, a generator that was not passed to it.

    Where PyTorch's own is put back afterwards it may: a person's module knows no other.
    """
    faults: list[str] = []
    forked = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and "torch.random.fork_rng" in ast.unparse(node.items[0])
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            faults += [a.name for a in node.names if a.name in ("random", "numpy.random")]
        elif isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            faults.append(ast.unparse(node))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np.random":
            faults += [ast.unparse(node)] * (node.attr not in NUMPY_ALLOWED)
        elif isinstance(node, ast.Call) and node not in forked and _draws_globally(node):
            faults.append(ast.unparse(node))
    return faults


def _draws_globally(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    unseeded = NUMPY_SEEDED.fullmatch(name) and not call.args and not call.keywords
    passed = any(keyword.arg == "generator" for keyword in call.keywords)
    return bool(
        unseeded or TORCH_GLOBAL.fullmatch(name) or (TORCH_DRAWS.fullmatch(name) and not passed)
    )


def test_the_floors_hold(tmp_path: Path) -> None:
    """The layers of pyproject.toml; and an arrow that points upwards is noticed."""
    house = ROOT.parent.parent
    assert lint_imports(str(house / "pyproject.toml"), no_cache=True) == 0
    built = tmp_path / "src"
    shutil.copytree(house / "src", built, ignore=shutil.ignore_patterns("bundled", "__pycache__"))
    with (built / "tutelage" / "heads.py").open("a") as file:
        file.write("import tutelage.recipes.assembly\n")
    linted = subprocess.run(
        [sys.executable, "-c", LINT, str(house / "pyproject.toml")],
        env={**os.environ, "PYTHONPATH": f"{built}{os.pathsep}{house}"},
        capture_output=True,
        text=True,
    )
    assert linted.returncode == 1
    assert "tutelage.heads is not allowed to import tutelage.recipes" in linted.stdout


LINT = (
    "import sys; from importlinter.cli import lint_imports; "
    "sys.exit(lint_imports(sys.argv[1], no_cache=True))"
)


def test_the_core_names_no_game() -> None:
    """Only domains do, and what is shown of the bundled models' names."""
    named = {}
    for path in ROOT.rglob("*.py"):
        if "domains" in path.parts:
            continue
        lines = [line for line in path.read_text().splitlines() if GAME.search(line)]
        if lines := [line for line in lines if not NAMED.search(line)]:
            named[path.name] = lines
    assert named == {}


GAME = re.compile(r"pong|rally|rallies|\bball", re.IGNORECASE)
NAMED = re.compile(r'"pong(-sticky)?"|``pong``')


@pytest.mark.parametrize("name", sorted(TREES))
def test_randomness_is_passed(name: str) -> None:
    assert random_faults(TREES[name]) == []


@pytest.mark.parametrize(
    "code",
    [
        "import random",
        "from random import choice",
        "from numpy.random import rand",
        "np.random.rand(3)",
        "shuffle = np.random.shuffle",
        "np.random.seed(0)",
        "np.random.default_rng()",
        "torch.manual_seed(0)",
        "torch.cuda.manual_seed(0)",
        "torch.rand(3)",
        "torch.randn_like(x)",
        "x.normal_()",
        "nn.init.kaiming_normal_(weight)",
        "nn.Dropout(0.5)",
        "F.dropout(x)",
    ],
)
def test_global_randomness_is_recognised(code: str) -> None:
    assert random_faults(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "np.random.default_rng(seeded(1))",
        "rng: np.random.Generator",
        "rng.normal(size=3)",
        "torch.rand(3, generator=generator)",
        "torch.Generator().manual_seed(0)",
        "x.normal_(generator=generator)",
        "with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)",
    ],
)
def test_passed_randomness_is_let_through(code: str) -> None:
    assert random_faults(ast.parse(code)) == []
