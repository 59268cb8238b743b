"""Does it learn? A gain that cannot be luck, on CartPole, in seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import permutation_test

import tutelage as tt
from tests.fakes import controller
from tutelage import Distill, EnvironmentConfig, Network, QValues, Record, Teach
from tutelage.dataset import Dataset
from tutelage.domains import About
from tutelage.domains.gym import GymDomain, GymSettings
from tutelage.environments import Environments
from tutelage.errors import UserError
from tutelage.evaluation import evaluate
from tutelage.heads import Categorical, Head
from tutelage.importers import import_model
from tutelage.learner import Learner
from tutelage.logs import read_metrics
from tutelage.networks import Size
from tutelage.recipes import assembly, distill, record, teach
from tutelage.runs import read_config
from tutelage.schema import build, changed
from tutelage.teachers import load_teachers
from tutelage.types import Batch

CARTPOLE = EnvironmentConfig(env="CartPole-v1")
TEACH = build(
    Teach,
    {
        "env": "CartPole-v1",
        "size": "mlp:64/64",
        "env_steps": 8_000,
        "num_envs": 8,
        "batch_size": 64,
        "samples_per_step": 8.0,
        "learning_rate": "1e-3:1e-4",
        "epsilon": "1:0.05:4000",
        "target_every": 200,
        "learning_starts": 500,
        "precision": "fp32",
        "threads": 1,
        "milestones": [],
    },
)
DISTILL = build(
    Distill,
    {
        "env": "CartPole-v1",
        "student": "mlp:16/16",
        "env_steps": 6_000,
        "num_envs": 8,
        "batch_size": 64,
        "precision": "fp32",
        "threads": 1,
        "target_return": 450.0,
        "eval_from": 0,
        "eval_every": 2_000,
    },
)


def taught(folder: Path, *, head: Head | None = None, **settings: Any) -> Distill:
    """Return a distillation from the controller, whose file is written in ``folder``."""
    path = controller(folder / "teacher.safetensors", head=head)
    return changed(DISTILL, teachers=[str(path)], **settings)


def untrained_returns() -> npt.NDArray[np.float64]:
    generator = torch.Generator().manual_seed(0)
    network = Network(Size((), (16, 16)), (1, 4), QValues(2), generator=generator)
    return evaluate(network, CARTPOLE, episodes=10).returns


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
    teacher = import_model(path).policy
    assert isinstance(teacher, Network)
    short = changed(TEACH, init=str(path), size=Teach.size, env_steps=1_024, epsilon="0.05")

    stays = teach(changed(short, learning_rate="1e-50"), tmp_path / "stays")
    assert str(stays.size) == read_config(tmp_path / "stays")["size"] == "mlp:2"
    for now, before in zip(stays.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(now, before)

    learns = teach(changed(short, record=str(tmp_path / "data")), tmp_path / "learns")
    for now, before in zip(learns.parameters(), teacher.parameters(), strict=True):
        assert not torch.equal(now, before)
    fragment = Dataset(tmp_path / "data")[0]
    expected = teacher(torch.tensor(fragment.frames[:1])[None]).detach().numpy()
    np.testing.assert_allclose(fragment.columns["label"][:1], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "target", "tau", "head"),
    [
        ("auto", "auto", None, QValues(2)),
        ("mse", "raw", None, QValues(2)),
        ("nll", "raw", None, QValues(2)),
        ("mse-prob", "divide", 0.1, QValues(2)),
        ("auto", "auto", 0.1, Categorical(2)),
    ],
)
def test_every_loss_distils_a_controller_online(
    tmp_path: Path, loss: str, target: str, tau: float | None, head: Head
) -> None:
    config = taught(
        tmp_path, head=head, loss=loss, target=target, tau=tau, env_steps=1_500, eval_from=10**9
    )
    outcome = distill(config, tmp_path / "run")
    trained = evaluate(outcome.student, CARTPOLE, episodes=10)
    assert_gain(trained.returns, untrained_returns(), at_least=150.0)
    scaled = target != "raw" and isinstance(head, QValues)
    assert outcome.student.head == (QValues(2, temperature=0.1) if scaled else head)


def test_a_student_is_a_teacher_whose_labels_are_values_at_its_own_temperature(
    tmp_path: Path,
) -> None:
    config = taught(tmp_path, env_steps=512, tau=0.5, student_tau=0.25, eval_from=10**9)
    student = distill(config, tmp_path / "run").student
    assert student.head == QValues(2, temperature=2.0)
    ensemble, _ = load_teachers(
        [str(tmp_path / "run")], device=torch.device("cpu"), seed=1, regions=lambda model: {}
    )
    obs = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(0))
    expected = 2.0 * student(obs)
    assert torch.equal(ensemble(obs, np.zeros(5, np.int64), 0), expected)
    recording = Record(teacher=str(tmp_path / "run"), env_steps=64, threads=1)
    record(recording, tmp_path / "data")
    fragment = Dataset(tmp_path / "data")[0]
    own = 2.0 * student(torch.tensor(fragment.frames[:1])[None]).detach().numpy()
    np.testing.assert_allclose(fragment.columns["label"][:1], own, rtol=1e-5)


def test_the_students_temperature_is_that_of_its_loss(tmp_path: Path) -> None:
    norms = []
    for tau in (1.0, 1e9):
        config = taught(tmp_path, env_steps=512, eval_from=10**9, student_tau=tau)
        distill(config, tmp_path / f"{tau}")
        norms.append(read_metrics(tmp_path / f"{tau}")[-1]["train/grad_norm"])
    # A student so hot is uniform whatever it learns, so nothing pulls at it.
    assert norms[0] > 1e-3
    assert norms[1] < 1e-6


def test_a_recording_is_enough_to_distil_from(tmp_path: Path) -> None:
    teacher = controller(tmp_path / "teacher.safetensors")
    settings = {"env_steps": 2_000, "num_envs": 8, "explore": "epsilon:0.3", "threads": 1}
    record(build(Record, {"teacher": str(teacher), **settings}), tmp_path / "data")
    teacher.unlink()
    config = changed(DISTILL, dataset=str(tmp_path / "data"), env_steps=2_000, eval_from=10**9)
    with pytest.raises(UserError, match=r"\[1, 4\], CartPole-v1 .* gives \[3, 4\].*stack"):
        distill(changed(config, stack=3), tmp_path / "stacked")
    outcome = distill(config, tmp_path / "run")
    trained = evaluate(outcome.student, CARTPOLE, episodes=10)
    assert_gain(trained.returns, untrained_returns(), at_least=150.0)


def test_kickstarting_learns_from_reward_and_teacher_at_once(tmp_path: Path) -> None:
    config = taught(
        tmp_path,
        tau=0.02,
        distill_weight="5:1:1000",
        reward_weight="0.1",
        env_steps=2_000,
        eval_from=10**9,
    )
    outcome = distill(config, tmp_path / "run")
    trained = evaluate(outcome.student, CARTPOLE, episodes=10)
    assert_gain(trained.returns, untrained_returns(), at_least=100.0)


class Bounded(GymDomain):
    """Gymnasium, and that an episode of CartPole comes to 500 at most."""

    def about(self, env: str) -> About:
        return About(target=450.0, most=500.0)

    def make(self, env: str, *, settings: Any, **given: Any) -> Environments:
        return super().make(env, settings=GymSettings(), **given)


def test_abandoning_evaluations_changes_neither_what_is_learnt_nor_what_passes(
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {
        "eval_every": 1_000,
        "eval_episodes": 4,
        "confirm_episodes": 8,
        "round_steps": 512,
    }
    config = taught(tmp_path, domain=f"{__name__}:Bounded", **settings)
    folders = tmp_path / "stopped", tmp_path / "whole"
    outcomes = [
        distill(changed(config, eval_whole=whole), folder)
        for whole, folder in zip((False, True), folders, strict=True)
    ]
    stopped, whole = map(read_metrics, folders)
    assert any("eval/at_most" in row for row in stopped)
    assert not any("eval/at_most" in row for row in whole)
    for a, b in zip(stopped, whole, strict=True):
        assert unexamined(a) == unexamined(b)
        assert a.get("eval/at_most", np.inf) >= b.get("eval/mean_reward", -np.inf)
        assert ("eval/passed" in a) == ("eval/passed" in b)
    assert outcomes[0].passed_at == outcomes[1].passed_at == outcomes[0].env_steps < 6_000
    best = [outcome.evaluation for outcome in outcomes]
    assert best[0] is not None
    assert best[1] is not None
    assert best[0].returns.tolist() == best[1].returns.tolist()
    assert len(best[0].returns) == 8
    assert best[0].mean >= 450.0
    weights = [outcome.student.state_dict() for outcome in outcomes]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    again = distill(changed(config, eval_whole=False), folders[0], resume=True).evaluation
    assert again is not None
    assert again.returns.tolist() == best[0].returns.tolist()


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
    late = changed(TEACH, learning_starts=1_024, env_steps=2_048)
    teach(late, tmp_path)
    assert len(Rated.rates) == 128  # of 64 samples each, 8 per env step
    assert Rated.rates[0] == 1e-3
    assert Rated.rates[64] == pytest.approx(5.5e-4)
    assert Rated.rates[-1] == pytest.approx(1e-4 + 9e-4 / 128)


def unexamined(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not name.startswith("eval/")}


@pytest.fixture
def dropouts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Return a list to which every pass with dropout adds its use and its probability."""
    seen: list[tuple[str, float]] = []
    original = Network.dropped

    def dropped(
        self: Network, obs: torch.Tensor, probability: float, generator: torch.Generator
    ) -> torch.Tensor:
        use = "acting" if torch.is_inference_mode_enabled() else "learning"
        seen.append((use, probability))
        return original(self, obs, probability, generator)

    monkeypatch.setattr(Network, "dropped", dropped)
    return seen


@pytest.mark.parametrize(("samples_per_step", "learning_starts"), [(16.0, 256), (3.0, 300)])
def test_a_scheduled_dropout_is_the_same_acting_and_learning(
    samples_per_step: float,
    learning_starts: int,
    tmp_path: Path,
    dropouts: list[tuple[str, float]],
) -> None:
    config = taught(
        tmp_path,
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
    record(Record(teacher=teacher, env_steps=512, threads=1), tmp_path / "data")
    config = changed(
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


def test_what_explores_and_who_acts_are_in_the_metrics(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"env_steps": 512, "round_steps": 256, "eval_from": 10_000}
    config = taught(tmp_path, explore="epsilon:1:0:512", teacher_acts="1:0:512", **settings)
    distill(config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    assert [row["rollout/epsilon"] for row in rows] == [0.5, 0.0]
    # beta falls from 1 to 1/2, then to 0: its mean over a round, within four deviations of a share.
    shares = [row["rollout/teacher_acts"] for row in rows]
    assert shares == pytest.approx([0.75, 0.25], abs=4 * (0.75 * 0.25 / 256) ** 0.5)


@pytest.mark.slow
def test_a_student_learns_pong_to_its_teachers_return(tmp_path: Path) -> None:
    """The main job as a person runs it: minutes, for this network and these games."""
    taught = tt.distill(env_steps=50_000, seed=1, threads=1, out=tmp_path / "run")
    assert taught.result["env_steps_to_20"] is not None
    played = tt.evaluate(tmp_path / "run", episodes=30)
    assert played.mean >= 20.0
