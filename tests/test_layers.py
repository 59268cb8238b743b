"""The house held to its plan: who may import whom, and that no global generator is touched."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tutelage

ROOT = Path(tutelage.__file__).parent
LEAVES = {
    "arm_statistics",
    "bandits",
    "chances",
    "configs",
    "contextual",
    "dataset",
    "environments",
    "episodes",
    "errors",
    "exploration",
    "features",
    "files",
    "losses",
    "measures",
    "networks",
    "offpolicy",
    "ranges",
    "replay",
    "schedules",
    "selection",
    "selectors",
    "targets",
    "types",
    "vw",
    "wrappers",
}
FOUNDATION = {
    "arm_statistics",
    "chances",
    "errors",
    "files",
    "ranges",
    "schedules",
    "selection",
    "types",
}
BESIDES = {
    "configs": {"environments"},
    "contextual": {"vw"},
    "environments": {"episodes", "features"},
    "episodes": {"features"},
    "selectors": {"bandits", "contextual"},
    "wrappers": {"features"},
}
"""What a leaf may import beside the foundation."""
LOOP = {"assignment", "learners", "sources", "types"}

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


def imported(tree: ast.Module) -> set[str]:
    """Return the modules of the package that ``tree`` imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in line {node.lineno}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    inside = {name.removeprefix("tutelage.") for name in names if name.startswith("tutelage.")}
    return {name if name in TREES else name.rpartition(".")[0] for name in inside}


GRAPH = {name: imported(tree) for name, tree in TREES.items()}


def random_faults(tree: ast.Module) -> list[str]:
    """Return what in ``tree`` draws from, or seeds, a generator that was not passed to it."""
    faults: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            faults += [a.name for a in node.names if a.name in ("random", "numpy.random")]
        elif isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            faults.append(ast.unparse(node))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np.random":
            faults += [ast.unparse(node)] * (node.attr not in NUMPY_ALLOWED)
        elif isinstance(node, ast.Call) and _draws_globally(node):
            faults.append(ast.unparse(node))
    return faults


def _draws_globally(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    unseeded = NUMPY_SEEDED.fullmatch(name) and not call.args and not call.keywords
    passed = any(keyword.arg == "generator" for keyword in call.keywords)
    return bool(
        unseeded or TORCH_GLOBAL.fullmatch(name) or (TORCH_DRAWS.fullmatch(name) and not passed)
    )


def test_the_plan_names_modules_that_exist() -> None:
    assert LEAVES | {"learners", "loop", "sources", "cli"} <= set(TREES)
    assert {name for name, of in GRAPH.items() if "types" in of} >= {"losses", "loop", "replay"}


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_a_leaf_imports_the_foundation_at_most(name: str) -> None:
    assert GRAPH[name] - FOUNDATION - BESIDES.get(name, set()) == set()


def test_the_loop_knows_selectors_sources_and_learners_only() -> None:
    assert GRAPH["loop"] <= LOOP


def test_nothing_imports_the_command_line() -> None:
    assert [name for name, of in GRAPH.items() if "cli" in of] == ["__main__"]


def test_only_commands_show_something() -> None:
    shown = {name for name, of in GRAPH.items() if "commands.display" in of}
    assert shown
    assert all(name.startswith("commands.") for name in shown)


def test_arrows_point_one_way() -> None:
    order = list(TopologicalSorter(GRAPH).static_order())
    assert order.index("types") < order.index("learners") < order.index("loop")


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
    ],
)
def test_passed_randomness_is_let_through(code: str) -> None:
    assert random_faults(ast.parse(code)) == []
