"""Does it learn? A gain that cannot be luck, on CartPole, in seconds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import permutation_test

from tutelage import Distill, EnvironmentConfig, QNetwork, Record, Teach, teachers
from tutelage.dataset import Dataset
from tutelage.domains.atari import RETURNS
from tutelage.evaluation import evaluate
from tutelage.learner import Learner
from tutelage.networks import Size
from tutelage.recipes import assembly, distill, record, teach
from tutelage.runs import read_config, read_rows
from tutelage.types import Batch

CARTPOLE = EnvironmentConfig(env="CartPole-v1")
TEACH = Teach(
    env="CartPole-v1",
    size="mlp:128/128",
    env_steps=12_000,
    num_envs=8,
    batch_size=64,
    samples_per_step=16.0,
    learning_rate="5e-4:1e-4",
    epsilon="1:0.05:5000",
    n_step=1,
    target_every=200,
    learning_starts=500,
    precision="fp32",
    threads=1,
    milestones=(),
)
DISTILL = Distill(
    env="CartPole-v1",
    student="mlp:16/16",
    env_steps=6_000,
    num_envs=8,
    batch_size=64,
    precision="fp32",
    threads=1,
    target_return=450.0,
    eval_from=0,
    eval_every=2_000,
)


def controller(path: Path, *, env: str = "CartPole-v1") -> Path:
    """Write a teacher by hand: push towards where the pole falls. It balances all 500 steps."""
    network = QNetwork(Size((), (2,)), (1, 4), 2)
    lean = torch.tensor([0.05, 0.2, 1.0, 0.6])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.body[1].weight.copy_(torch.stack([-lean, lean]))  # type: ignore[operator]
        network.head.weight.copy_(torch.eye(2))
    teachers.save(path, network, env=env, card={})
    return path


def untrained_returns() -> npt.NDArray[np.float64]:
    network = QNetwork(Size((), (16, 16)), (1, 4), 2, generator=torch.Generator().manual_seed(0))
    return evaluate(network, CARTPOLE, episodes=20).returns


def assert_gain(
    trained: npt.NDArray[np.float64], before: npt.NDArray[np.float64], *, at_least: float
) -> None:
    """Assert a difference of means that is large and, by permutation, no chance."""
    test = permutation_test(
        (trained, before),
        lambda a, b: np.mean(a) - np.mean(b),
        alternative="greater",
        n_resamples=2_000,
        rng=np.random.default_rng(0),
    )
    assert test.pvalue < 0.01
    assert trained.mean() - before.mean() >= at_least


def test_double_q_learning_gains_on_cartpole(tmp_path: Path) -> None:
    network = teach(TEACH, tmp_path / "run")
    trained = evaluate(network, CARTPOLE, episodes=20)
    assert_gain(trained.returns, untrained_returns(), at_least=80.0)


def test_a_teacher_is_trained_on_from_a_model(tmp_path: Path) -> None:
    path = controller(tmp_path / "controller.safetensors")
    before = {name: w.clone() for name, w in teachers.load(str(path)).network.named_parameters()}
    short = replace(TEACH, init=str(path), size=Teach.size, env_steps=1_024, epsilon="0.05")

    stays = teach(replace(short, learning_rate="1e-50"), tmp_path / "stays")
    assert str(stays.size) == read_config(tmp_path / "stays")["size"] == "mlp:2"
    assert all(torch.equal(w, before[name]) for name, w in stays.named_parameters())

    learns = teach(replace(short, record=str(tmp_path / "data")), tmp_path / "learns")
    assert not any(torch.equal(w, before[name]) for name, w in learns.named_parameters())
    fragment = Dataset(tmp_path / "data")[0]
    obs = torch.tensor(fragment.frames[:1])
    expected = teachers.load(str(path)).network(obs[None]).detach().numpy()
    np.testing.assert_allclose(fragment.columns["label"][:1], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "target", "tau"),
    [("kl", "divide", 0.1), ("mse", "raw", 1.0), ("nll", "raw", 1.0), ("mse-prob", "divide", 0.1)],
)
def test_every_loss_distils_a_controller_online(
    tmp_path: Path, loss: str, target: str, tau: float
) -> None:
    teacher = str(controller(tmp_path / "teacher.safetensors"))
    config = replace(DISTILL, teachers=(teacher,), loss=loss, target=target, tau=tau)
    outcome = distill(config, tmp_path / "run")
    trained = evaluate(outcome.student, CARTPOLE, episodes=20)
    assert_gain(trained.returns, untrained_returns(), at_least=150.0)


def test_the_students_temperature_is_that_of_its_loss(tmp_path: Path) -> None:
    teacher = str(controller(tmp_path / "teacher.safetensors"))
    config = replace(DISTILL, teachers=(teacher,), env_steps=1_024, eval_from=10**9)
    norms = []
    for tau in (1.0, 1e9):
        distill(replace(config, student_tau=tau), tmp_path / f"{tau}")
        norms.append(read_rows(tmp_path / f"{tau}")[-1]["train/grad_norm"])
    # A student so hot is uniform whatever it learns, so nothing pulls at it.
    assert norms[0] > 1e-3
    assert norms[1] < 1e-6


def test_a_recording_is_enough_to_distil_from(tmp_path: Path) -> None:
    teacher = str(controller(tmp_path / "teacher.safetensors"))
    recording = Record(
        teacher=teacher, env_steps=6_000, num_envs=8, explore="epsilon:0.3", threads=1
    )
    record(recording, tmp_path / "data")
    Path(teacher).unlink()
    config = replace(DISTILL, dataset=str(tmp_path / "data"), tau=0.1)
    outcome = distill(config, tmp_path / "run")
    trained = evaluate(outcome.student, CARTPOLE, episodes=20)
    assert_gain(trained.returns, untrained_returns(), at_least=150.0)


def test_kickstarting_learns_from_reward_and_teacher_at_once(tmp_path: Path) -> None:
    teacher = str(controller(tmp_path / "teacher.safetensors"))
    config = replace(
        DISTILL, teachers=(teacher,), tau=0.02, distill_weight="5:1:1000", reward_weight="0.1"
    )
    outcome = distill(config, tmp_path / "run")
    trained = evaluate(outcome.student, CARTPOLE, episodes=20)
    assert_gain(trained.returns, untrained_returns(), at_least=100.0)


def test_a_distillation_stops_once_the_target_is_confirmed(tmp_path: Path) -> None:
    teacher = str(controller(tmp_path / "teacher.safetensors"))
    outcome = distill(replace(DISTILL, teachers=(teacher,), tau=0.1), tmp_path / "run")
    assert outcome.passed_at is not None
    assert outcome.env_steps == outcome.passed_at < 50_000
    assert outcome.evaluation is not None
    assert outcome.evaluation.mean >= 450.0
    assert len(outcome.evaluation.returns) == 30


def test_abandoning_evaluations_changes_neither_what_is_learnt_nor_what_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RETURNS, "CartPole-v1", (0.0, 500.0))
    teacher = str(controller(tmp_path / "teacher.safetensors"))
    config = replace(
        DISTILL,
        teachers=(teacher,),
        eval_every=1_000,
        eval_episodes=4,
        confirm_episodes=8,
        round_steps=512,
    )
    folders = tmp_path / "stopped", tmp_path / "whole"
    outcomes = [
        distill(replace(config, eval_whole=whole), folder)
        for whole, folder in zip((False, True), folders, strict=True)
    ]
    stopped, whole = map(read_rows, folders)
    assert any("eval/at_most" in row for row in stopped)
    assert not any("eval/at_most" in row for row in whole)
    for a, b in zip(stopped, whole, strict=True):
        assert unexamined(a) == unexamined(b)
        assert a.get("eval/at_most", np.inf) >= b.get("eval/mean_reward", -np.inf)
        assert ("eval/passed" in a) == ("eval/passed" in b)
    assert outcomes[0].passed_at == outcomes[1].passed_at is not None
    best = [outcome.evaluation for outcome in outcomes]
    assert best[0] is not None
    assert best[1] is not None
    assert best[0].returns.tolist() == best[1].returns.tolist()
    weights = [outcome.student.state_dict() for outcome in outcomes]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


class Rated(Learner):
    """A learner that notes the rate of each update."""

    rates: ClassVar[list[float]] = []

    def update(self, batch: Batch) -> dict[str, torch.Tensor]:
        measured = super().update(batch)
        self.rates.append(self._optimizer.param_groups[0]["lr"])
        return measured


def test_a_learning_rate_over_the_whole_run_comes_to_its_end_however_late_learning_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "Learner", Rated)
    Rated.rates.clear()
    teach(
        replace(TEACH, learning_starts=2_048, env_steps=4_096, learning_rate="1e-3:1e-4"), tmp_path
    )
    assert len(Rated.rates) == 512  # of 64 samples each, 16 per env step
    assert Rated.rates[0] == 1e-3
    assert Rated.rates[256] == pytest.approx(5.5e-4)
    assert Rated.rates[-1] == pytest.approx(1e-4, rel=0.05)


def unexamined(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not name.startswith("eval/")}


@pytest.fixture
def dropouts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Return a list to which every pass with dropout adds its use and its probability."""
    seen: list[tuple[str, float]] = []
    original = QNetwork.dropped

    def dropped(
        self: QNetwork, obs: torch.Tensor, probability: float, generator: torch.Generator
    ) -> torch.Tensor:
        use = "acting" if torch.is_inference_mode_enabled() else "learning"
        seen.append((use, probability))
        return original(self, obs, probability, generator)

    monkeypatch.setattr(QNetwork, "dropped", dropped)
    return seen


@pytest.mark.parametrize(("samples_per_step", "learning_starts"), [(16.0, 256), (3.0, 300)])
def test_a_scheduled_dropout_is_the_same_acting_and_learning(
    samples_per_step: float,
    learning_starts: int,
    tmp_path: Path,
    dropouts: list[tuple[str, float]],
) -> None:
    config = replace(
        DISTILL,
        teachers=(str(controller(tmp_path / "teacher.safetensors")),),
        explore="mc-dropout:0.5:0:1000",
        samples_per_step=samples_per_step,
        learning_starts=learning_starts,
        env_steps=1_024,
        eval_from=10_000,
    )
    distill(config, tmp_path / "run")
    acting, gaps = 0.0, []
    for use, probability in dropouts:
        if use == "acting":
            acting = probability
        else:
            gaps.append(abs(probability - acting))
    assert dropouts[0] == ("acting", 0.5)
    assert acting < 0.01
    assert len(gaps) == pytest.approx((1_024 - learning_starts) * samples_per_step / 64, abs=2)
    assert max(gaps) <= 0.5 * 8 / 1000 + 1e-9  # 8 environments step together


def test_a_scheduled_dropout_goes_over_env_steps_offline_too(
    tmp_path: Path, dropouts: list[tuple[str, float]]
) -> None:
    teacher = str(controller(tmp_path / "teacher.safetensors"))
    record(Record(teacher=teacher, env_steps=512, num_envs=8, threads=1), tmp_path / "data")
    config = replace(
        DISTILL,
        dataset=str(tmp_path / "data"),
        explore="mc-dropout:0.5:0:2000",
        env_steps=1_000,
        round_steps=100,
        eval_from=10_000,
    )
    distill(config, tmp_path / "run")
    assert {use for use, _ in dropouts} == {"learning"}
    assert [dropouts[i][1] for i in (0, -1)] == pytest.approx([0.5, 0.25], abs=0.002)


def test_a_resumed_distillation_returns_the_best_evaluation_there_ever_was(tmp_path: Path) -> None:
    teacher = str(controller(tmp_path / "teacher.safetensors"))
    config = replace(DISTILL, teachers=(teacher,), env_steps=2_048, eval_every=1_024)
    first = distill(config, tmp_path / "run").evaluation
    again = distill(config, tmp_path / "run", resume=True).evaluation
    assert first is not None
    assert again is not None
    assert again.returns.tolist() == first.returns.tolist()
