"""A student that is a person's own module: distilled, saved, resumed, loaded, refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tutelage as tt
from tests.players import SMALL, assert_same_bytes, controller
from tutelage.cli import main
from tutelage.commands import learning
from tutelage.configs import Record
from tutelage.errors import UserError
from tutelage.logs import read_metrics
from tutelage.own import Own
from tutelage.schema import build

RUN: dict[str, Any] = {
    **SMALL,
    "env": "CartPole-v1",
    "seed": 3,
    "eval_from": 10**6,
    "confirm_episodes": 2,
    "eval_max_steps": 100,
}


class Net(nn.Module):
    """Has layers that draw, remember what they saw, and are frozen."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.LazyLinear(width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(width, 2)
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, obs: Tensor) -> Tensor:
        assert obs.shape[1:] == (4,)
        assert obs.dtype == torch.float32
        out: Tensor = self.scale * self.last(self.drop(self.norm(self.first(obs)).relu()))
        return out


def distil(folder: Path, student: Any, **given: Any) -> tt.Distilled:
    teacher = controller(folder.parent / "teacher.safetensors")
    return tt.distill(teacher, student=student, out=folder, **{**RUN, **given})


def test_it_learns_what_the_teacher_knows(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    asked: dict[str, Any] = {"env_steps": 2_048, "round_steps": 512, "num_envs": 8}
    asked |= {"learning_rate": "1e-2:1e-3"}
    outcome = distil(tmp_path / "run", network, **asked, eval_max_steps=500)
    assert outcome.result["mean_return"] >= 400.0  # the teacher has 500, random play 22
    assert outcome.result["parameters"] == 4 * 16 + 16 + 16 * 2 + 2
    assert outcome.student.head == tt.QValues(2, temperature=0.1)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_the_same_module_is_loaded_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    asked = {"average": 0.0, "checkpoint_every": 128}
    whole = distil(tmp_path / "whole", Net, **asked)
    obs = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(0))
    own = whole.student
    assert isinstance(own, Own)
    assert isinstance(own.module, Net)
    assert own.module.norm.running_mean is not None
    assert own.module.norm.running_mean.abs().max() > 0.0  # it has learnt in training mode
    assert torch.equal(own(obs), own(obs))  # and acts in evaluation mode
    loaded = tt.load(whole.folder, module=Net())
    assert torch.equal(loaded.policy.step(obs, ())[0], own(obs))
    assert tt.evaluate(loaded, episodes=2, max_steps=50).returns.tolist() != []

    seen: list[tt.Row] = []

    def stop(row: tt.Row) -> None:
        seen.append(row)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distil(tmp_path / "cut", Net, **asked, watch=stop)
    with pytest.raises(SystemExit):
        main(["resume", str(tmp_path / "cut")])
    for other in (lambda: Net(9), nn.Linear(4, 2)):
        with pytest.raises(UserError, match="the student is not what"):
            distil(tmp_path / "cut", other, **asked, resume=True)
    distil(tmp_path / "cut", Net, **asked, resume=True)
    assert_same_bytes(tmp_path / "whole", tmp_path / "cut", "metrics.jsonl", "last.safetensors")


def test_a_run_in_python_is_gone_on_with_in_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = distil(tmp_path / "run", Net).folder
    for words in (["resume"], ["evaluate"]):
        with pytest.raises(SystemExit) as end:
            main([*words, str(folder)])
        assert end.value.code == 2
        line = capsys.readouterr().err
        assert "module" in line
        assert line.count("\n") == 1


def test_the_command_line_names_what_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(learning, "_write_report", lambda folder, video: None)  # takes long
    sys.modules.pop("my_nets", None)
    Path("my_nets.py").write_text(
        "from torch import nn\n\ndef small():\n"
        "    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))\n"
    )
    teacher = str(controller(tmp_path / "teacher.safetensors"))
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in RUN.items()]
    words = ["distill", "--teacher", teacher, "--student", "my_nets:small", *flags, "--out", "run"]
    main([*words, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["parameters"] == 58
    main(["evaluate", "run+module:my_nets:small", "--episodes", "2", "--json"])
    assert json.loads(capsys.readouterr().out)["env"] == "CartPole-v1"
    main(["export", "run+module:my_nets:small", "--to", "onnx", "--out", "onnx", "--json"])
    assert json.loads(capsys.readouterr().out)
    main(["resume", "run", "--json"])
    assert json.loads(capsys.readouterr().out)["returns"] == result["returns"]


def test_it_may_say_what_its_numbers_mean(tmp_path: Path) -> None:
    network = nn.Linear(4, 2)
    network.head = tt.Categorical(2)  # type: ignore[assignment]
    assert distil(tmp_path / "logits", network).student.head == tt.Categorical(2)
    network.head = tt.Point(1)  # type: ignore[assignment]
    with pytest.raises(UserError, match="Point"):
        distil(tmp_path / "point", network)
    assert not (tmp_path / "point").exists()


def test_it_learns_from_reward_and_from_a_data_set(tmp_path: Path) -> None:
    teacher = controller(tmp_path / "teacher.safetensors")
    asked = {"teacher": teacher, "env_steps": 512, "num_envs": 2, "threads": 1}
    tt.record(build(Record, asked), tmp_path / "data")
    for name, settings in (
        ("reward", {"reward_weight": "1", "distill_weight": "0.5"}),
        ("offline", {"dataset": str(tmp_path / "data")}),
    ):
        outcome = distil(tmp_path / name, Net, **settings)
        losses = [row["train/loss"] for row in read_metrics(outcome.folder) if "train/loss" in row]
        assert losses[-1] < losses[0]
    network = nn.Linear(4, 2)
    network.head = tt.Categorical(2)  # type: ignore[assignment]
    with pytest.raises(UserError, match="labels of .*QValues.*Categorical"):
        distil(tmp_path / "other", network, dataset=str(tmp_path / "data"))


def script(module: nn.Module) -> Any:
    compiled: Any = torch.jit
    return compiled.script(module)


def wrong(function: Callable[[Tensor], Any]) -> nn.Module:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 2))

        def forward(self, obs: Tensor) -> Any:
            return function(obs @ self.weight)

    return Wrong()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
@pytest.mark.parametrize(
    ("student", "settings", "says"),
    [
        (nn.Linear(5, 2), {}, r"observations \[4\]"),
        (nn.Linear(4, 3), {}, r"\[2, 3\].*expected \[2, 2\]"),
        (wrong(lambda out: [out]), {}, "a list"),
        (nn.Identity(), {}, "expected"),
        (lambda: script(nn.Linear(4, 2)), {}, "in Python"),
        (lambda: 5, {}, "is a int"),
        (lambda: nn.Linear(4), {}, "cannot be made: TypeError"),  # type: ignore[call-arg]
        (nn.Linear(4, 2).requires_grad_(False), {}, "no parameter"),
        (nn.Linear(4, 2), {"explore": "mc-dropout:0.1"}, "hidden units"),
        ("my_nets_of_nobody:Net", {}, "no module"),
        (5, {}, "a string"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_begins(
    student: Any, settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        distil(tmp_path / "run", student, **settings)
    assert not (tmp_path / "run").exists()
