"""What a person adds from outside of the package: a file of a few lines, named on the command line.

A claim from outside is in ``test_claims``, an importer in ``test_importers_programs``.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.players import QUICK, controller, refusal
from tutelage.choice_log import read_log
from tutelage.cli import main
from tutelage.commands import learning
from tutelage.heads import HEADS
from tutelage.logs import read_metrics

Run = Callable[..., Path]
Add = Callable[[str], str]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Return a function that writes a module where one works, and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("mine", None)

    def write(code: str) -> str:
        lines = code.strip().splitlines()
        assert len(lines) < 20
        Path("mine.py").write_text("\n".join(lines))
        return "mine"

    return write


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that distils a student of CartPole's controller; it returns the folder."""
    monkeypatch.setattr(learning, "_write_report", lambda folder, video: None)  # takes long
    usual = {
        "--teacher": controller(tmp_path / "teacher.safetensors"),
        "--student": "mlp:4",
        "--confirm-episodes": "2",
        "--eval-max-steps": "100",
        "--eval-from": "1000000",
        "--learning-starts": "64",
    }

    def distil(name: str, **flags: str) -> Path:
        asked = {**usual, **{f"--{flag.replace('_', '-')}": value for flag, value in flags.items()}}
        words = [word for flag, value in asked.items() for word in (flag, *value.split())]
        main(["distill", *QUICK, *words, "--out", name, "--json"])
        capsys.readouterr()
        return Path(name)

    return distil


def result_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_a_loss(add: Add, run: Run) -> None:
    mine = add(
        """
from tutelage import kl

def thrice(out, target, head):
    return 3.0 * kl(out, target, head)
"""
    )
    still = {"learning_rate": "1e-30", "teacher_acts": "1"}
    ours, theirs = run("ours", loss=f"{mine}:thrice:2+mse:0.5", **still), run("kl", **still)
    mse = run("mse", loss="mse:0.5", **still)
    losses = [
        [row["train/loss"] for row in read_metrics(folder)[1:]] for folder in (ours, theirs, mse)
    ]
    assert losses[0] == pytest.approx(6.0 * np.array(losses[1]) + losses[2], rel=1e-5)


def test_a_wrapper_of_a_teacher(add: Add, run: Run, tmp_path: Path) -> None:
    mine = add(
        """
from tutelage import Wrapper

def louder(factor: float, offset: float = 0.0) -> Wrapper:
    return Wrapper(say=lambda label, obs, generator: factor * label + offset)
"""
    )
    teacher = f"{tmp_path / 'teacher.safetensors'}"
    ours = run("ours", teacher=f"{teacher}+{mine}:louder:factor=2,offset=1+negate")
    theirs = run("theirs", teacher=f"{teacher}+scale:2+negate")
    # A constant added to every value changes no action.
    assert result_of(ours)["teacher"]["mean_return"] < 20.0
    assert result_of(ours)["teacher"]["returns"] == result_of(theirs)["teacher"]["returns"]


def test_an_exploration(add: Add, run: Run) -> None:
    mine = add(
        """
import numpy as np
from tutelage import Exploration
from tutelage.specs import ProbabilitySchedule

def leaning(share: ProbabilitySchedule) -> Exploration:
    def select(head, out, env_steps, rng):
        return np.where(rng.random(len(out)) < share(env_steps), 1, head.mode(out).numpy())

    return Exploration(select, shown={"leaning": share})
"""
    )
    rows = read_metrics(run("run", explore=f"{mine}:leaning:1:0.5:512", teacher_acts="0"))
    # Who always pushes to one side falls within ten steps.
    assert rows[0]["rollout/ep_len_mean"] < 11.0
    assert [row["rollout/leaning"] for row in rows] == [0.875, 0.75, 0.625, 0.5]


def test_a_selector(add: Add, run: Run, tmp_path: Path) -> None:
    mine = add(
        """
import numpy as np
from tutelage.selectors.base import Bandit

def last(*, num_arms, rng, share: float = 1.0) -> Bandit:
    def policy(statistics):
        rest = np.full(num_arms - 1, (1.0 - share) / (num_arms - 1))
        return np.append(rest, share)

    return Bandit(num_arms=num_arms, rng=rng, policy=policy)
"""
    )
    good = str(tmp_path / "teacher.safetensors")
    teachers = f"{good}+noise:1 {good} {good}+negate"
    rounds = {"choice_per": "round", "round_steps": "32", "measure": "evaluation"}
    folder = run("run", teacher=teachers, selector=f"{mine}:last:share=0.5", **rounds)
    log = read_log(folder / "selections.jsonl").feedback
    assert len(log.arm) == 16
    assert set(log.arm[:3]) == {0, 1, 2}  # each is tried once before
    expected = np.where(log.arm == 2, 0.5, 0.25)
    np.testing.assert_array_equal(log.probability[3:], expected[3:])


def test_a_domain(add: Add, run: Run, tmp_path: Path) -> None:
    mine = add(
        """
from tutelage.domains import About
from tutelage.domains.gym import GymDomain, GymSettings

class Carts(GymDomain):
    def knows(self, env):
        return env == "cart"

    def about(self, env):
        return About(target=30.0, regions={"left": lambda obs: obs[:, -1, 0] < 0.0})

    def make(self, env, *, settings, **options):
        return super().make("CartPole-v1", settings=GymSettings(), **options)
"""
    )
    teacher = controller(tmp_path / "cart.safetensors", env="cart")
    asked = {"env": "cart", "domain": f"{mine}:Carts", "teacher": teacher, "eval_from": "0"}
    result = result_of(run("whole", **asked))
    assert result["env"] == "cart"
    assert "env_steps_to_30" in result
    assert result["teacher"]["mean_return"] == 100.0
    half = result_of(run("half", **asked, only="left"))
    assert half["teacher"]["mean_return"] < 100.0


def test_a_head(add: Add, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    mine = add(
        """
from dataclasses import dataclass
import torch
from tutelage import HEADS, Categorical, Function

@dataclass(frozen=True)
class Regrets(Categorical):
    def mode(self, out):
        return out.argmin(dim=1)

HEADS["regrets"] = Regrets

def lean(obs):
    out = obs[:, -1] @ torch.tensor([0.05, 0.2, 1.0, 0.6])
    return torch.stack([out, -out], dim=1)

expert = Function(lean, Regrets(2))
"""
    )
    try:
        folder = run("run", teacher=f"{mine}:expert", env="CartPole-v1")
        assert result_of(folder)["teacher"]["mean_return"] == 100.0
        main(["inspect", str(folder), "--json"])
        head = json.loads(capsys.readouterr().out)["head"]
        assert head == {"kind": "regrets", "n": 2, "module": "mine:Regrets"}
        # In another process, its module is imported only where a person names it.
        del HEADS["regrets"], sys.modules["mine"]
        evaluate = ["--episodes", "2", "--threads", "1", "--json"]
        line = refusal(["evaluate", str(folder), *evaluate], capsys)
        assert "import mine first" in line
        assert "mine" not in sys.modules
        _, named = line.split("as in ")
        main(["evaluate", f"{folder}{named}", *evaluate])
        assert json.loads(capsys.readouterr().out)["episodes"] == 2
    finally:
        HEADS.pop("regrets", None)


def test_an_exporter(add: Add, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = add(
        """
import numpy as np
from tutelage import Exporter
from tutelage.exporters import Written

def write(policy, folder, states):
    weights = [np.asarray(p) for p in policy.policy.parameters()]
    np.savez(folder / "policy.npz", *weights)
    return Written("policy.npz", {"format": "NumPy"})

def load(folder, written):
    w, b, v, c = np.load(folder / written.file).values()
    def run(obs):
        q = np.maximum(obs @ w.T + b, 0.0) @ v.T + c
        return q.argmax(1), q
    return run

numpy = Exporter(write, load)
"""
    )
    teacher = controller(tmp_path / "teacher.safetensors")
    words = ["--out", "out", "--states", "64", "--episodes", "2", "--json"]
    main(["export", teacher, "--to", f"{mine}:numpy", *words])
    proof = json.loads(capsys.readouterr().out)["proof"]
    assert (proof["agreement"], proof["return_exported"]) == (1.0, 500.0)


def test_a_context(add: Add, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = add(
        """
from tutelage import Feature

leans = Feature(1, lambda obs: (obs[:, -1, 2:3] > 0.0).astype(float))
side = "left"
"""
    )
    # Who falls within ten steps is paid soon.
    bad = f"{tmp_path / 'teacher.safetensors'}+negate"
    folder = run("run", teacher=f"{bad} {bad}+scale:2", selector="linucb", features=f"{mine}:leans")
    assert set(read_log(folder / "selections.jsonl").feedback.context.ravel()) == {0.0, 1.0}
    words = ["--student", "mlp:4", "--teachers", bad, f"{bad}+scale:2", "--selector", "linucb"]
    line = refusal(["distill", *QUICK, *words, "--features", f"{mine}:side"], capsys)
    assert "'mine:side': expected a tutelage.Feature, got a str" in line
