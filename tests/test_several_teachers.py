"""Learning from several teachers, from end to end: in seconds, on CartPole with and without points.

The team is a good controller, a copy of it that noise makes useless, and one that is negated.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tests import point_pole
from tests.point_pole import POINTS, controller
from tutelage import recipes
from tutelage.choice_log import Log, read_log
from tutelage.cli import main
from tutelage.configs import Distill
from tutelage.domains import Region
from tutelage.errors import UserError
from tutelage.evaluation import evaluate
from tutelage.learner import Learner
from tutelage.logs import read_metrics
from tutelage.networks import Network
from tutelage.policies import Carry, Memoryless, Model, Policy
from tutelage.recipes import Hooks, Outcome, assigning, closing, distilling
from tutelage.recipes.closing import favourite
from tutelage.report.summary import remarks
from tutelage.schema import build
from tutelage.teachers import Ensemble, load_teachers
from tutelage.types import Batch, Row

NOISY, GOOD, NEGATED = range(3)


def no_regions(model: Model) -> dict[str, Region]:
    return {}


def team(folder: Path, env: str = point_pole.ENV) -> tuple[str, ...]:
    good = str(controller(folder / f"good-{env}.safetensors", env=env))
    return (f"{good}+noise:1", good, f"{good}+negate")


def config(folder: Path, **settings: Any) -> Distill:
    usual = {
        "env": point_pole.ENV,
        "domain": point_pole.DOMAIN,
        "teachers": team(folder),
        "student": "mlp:16/16",
        "env_steps": 2_048,
        "round_steps": 128,
        "num_envs": 8,
        "batch_size": 64,
        "samples_per_step": 2.0,
        "teacher_acts": "1:0:4096",
        "eval_from": 10**9,
        "checkpoint_every": 512,
        "precision": "fp32",
        "threads": 1,
    }
    return build(Distill, {**usual, **settings})


def distill(config: Distill, folder: Path, **how: Any) -> Outcome:
    watch = how.pop("watch", lambda row: None)
    return recipes.distill(config, folder, hooks=Hooks(watch=watch), **how)


CHOICES: dict[str, dict[str, Any]] = {
    "round": {"choice_per": "round", "selector": "thompson-gaussian:noise=0.2"},
    "segment": {"choice_per": "segment", "selector": "thompson-beta"},
    "state": {"selector": "doubly-robust", "features": "hidden"},
}
each_choice = pytest.mark.parametrize("choice", CHOICES)


def shares(log: Log) -> npt.NDArray[np.float64]:
    """Return how often each of three teachers was picked in the later half of a log."""
    late = log.feedback.arm[len(log.round) // 2 :]
    return np.bincount(late, minlength=3) / len(late)


# Whether it learns.

BY_STATE = {"selector": "linear-thompson", "features": "hidden"}
BY_EPISODE = {"domain": "auto", "env_steps": 8_192, "teacher_acts": "1:0:8192"}

LEARNING: dict[str, dict[str, Any]] = {
    "round, by return": {
        **CHOICES["round"],
        "measure": "return",
        "num_envs": 4,
        "round_steps": 512,
        "env_steps": 8_192,
        "teacher_acts": "1:0:8192",
    },
    "round, by points": {
        **CHOICES["round"],
        "round_steps": 256,
        "env_steps": 6_144,
        "teacher_acts": "1:0:6144",
    },
    "segment": {**CHOICES["segment"], "env_steps": 4_096},
    "state": {**BY_STATE, "env_steps": 4_096},
    "episode": {**CHOICES["segment"], **BY_EPISODE},
    "state, by episode": {**BY_STATE, **BY_EPISODE},
}


@pytest.mark.parametrize("case", LEARNING)
def test_a_selector_finds_the_good_teacher_and_the_student_learns(
    case: str, tmp_path: Path
) -> None:
    outcome = distill(config(tmp_path, samples_per_step=4.0, **LEARNING[case]), tmp_path / "run")
    log = read_log(tmp_path / "run" / "selections.jsonl")
    share = shares(log)
    assert share[GOOD] > 0.55
    assert share[NEGATED] < 1 / 6
    assert list(np.unique(log.round)) == list(range(1, log.round[-1] + 1))
    paid = [log.feedback.reward[log.feedback.arm == k].mean() for k in range(3)]
    assert paid[GOOD] == max(paid)
    assert isinstance(outcome.student, Network)
    assert isinstance(outcome.student, Network)
    before = Network(
        outcome.student.size,
        (1, 4),
        outcome.student.head,
        generator=torch.Generator().manual_seed(0),
    )
    trained, untrained = (
        evaluate(network, POINTS, episodes=20).returns for network in (outcome.student, before)
    )
    # Returns are from -1 to 4.
    assert trained.mean() > untrained.mean() + 3.0


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Return a list to which every batch that is learnt from is added."""
    learnt: list[Batch] = []
    update = Learner.update

    def noted(self: Learner, batch: Batch) -> dict[str, Tensor]:
        learnt.append(batch)
        return update(self, batch)

    monkeypatch.setattr(Learner, "update", noted)
    return learnt


@pytest.mark.parametrize("forget", [False, True])
def test_labels_of_teachers_found_worse_are_forgotten_if_asked(
    forget: bool, tmp_path: Path, batches: list[Batch]
) -> None:
    settings = config(tmp_path, env_steps=3_072, selector="random", forget=forget)
    distill(settings, tmp_path / "run")
    late = batches[-5:]
    arm = torch.cat([batch.arm for batch in late if batch.arm is not None])
    assert set(arm.tolist()) == {NOISY, GOOD, NEGATED}
    if forget:
        weight = torch.cat([batch.weight for batch in late if batch.weight is not None])
        assert torch.equal(weight, (arm == GOOD).float())
    else:
        assert all(batch.weight is None for batch in batches)


def test_what_is_learnt_beside_each_state_is_what_its_own_teacher_says(
    tmp_path: Path, batches: list[Batch]
) -> None:
    settings = config(tmp_path, env_steps=1_024, selector="random", reward_weight="0.1")
    distill(settings, tmp_path / "run")
    good = load_teachers(
        settings.teachers[GOOD : GOOD + 1], device=torch.device("cpu"), seed=0, regions=no_regions
    )[0].alone(0)
    seen = set()
    for batch in batches[-9:]:
        assert batch.arm is not None
        q, _ = good.step(batch.obs, ())
        torch.testing.assert_close(batch.label[batch.arm == GOOD], q[batch.arm == GOOD])
        torch.testing.assert_close(batch.label[batch.arm == NEGATED], -q[batch.arm == NEGATED])
        noise = (batch.label - q)[batch.arm == NOISY]
        assert noise.abs().max() > 0.5
        seen |= set(batch.arm.tolist())
    assert seen == {NOISY, GOOD, NEGATED}


# Going on after an interruption.

RESUMED: dict[str, dict[str, Any]] = {
    **CHOICES,
    "round, by evaluation": {
        "choice_per": "round",
        "selector": "exp3-s",
        "measure": "evaluation",
        "measure_episodes": 1,
        "round_steps": 256,
    },
    "best-first": {"selector": "best-first", "measure_episodes": 1},
    "episode": {"domain": "auto"},
    "state, by episode": {"domain": "auto", **CHOICES["state"]},
}


class PowerCutError(Exception):
    pass


def interrupt(at: int) -> Callable[[Row], None]:
    def watch(row: Row) -> None:
        if row.env_steps >= at:
            raise PowerCutError

    return watch


def same_results(one: Path, other: Path) -> None:
    for name in ("metrics.jsonl", "selections.jsonl", "last.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("case", RESUMED)
def test_an_interrupted_run_goes_on_to_the_very_bytes_of_an_undisturbed_one(
    case: str, tmp_path: Path
) -> None:
    settings = config(tmp_path, **RESUMED[case])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    distill(settings, whole)
    for at, resume in ((900, False), (1_700, True)):
        with pytest.raises(PowerCutError):
            distill(settings, broken, resume=resume, watch=interrupt(at))
    distill(settings, broken, resume=True)
    assert len(read_log(whole / "selections.jsonl").round) > 7
    same_results(whole, broken)


# Teachers that fail.


class Failing(Memoryless):
    """Answers so many queries, then raises or says NaN."""

    def __init__(self, policy: Policy, *, queries: int, raises: bool) -> None:
        self.head = policy.head
        self._policy = policy
        self._left = queries
        self._raises = raises

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        self._left -= 1
        if self._left < 0 and self._raises:
            raise RuntimeError("out of luck")
        out, after = self._policy.step(obs, carry)
        return (out if self._left >= 0 else out * torch.nan), after


Fail = Callable[..., None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Return a function that lets some teachers fail after so many queries each."""

    def let(*arms: int, queries: int = 40, raises: bool = False) -> None:
        def loaded(*given: Any, **options: Any) -> Any:
            ensemble, models = load_teachers(*given, **options)
            team = [
                replace(t, policy=Failing(t.policy, queries=queries, raises=raises))
                if k in arms
                else t
                for k, t in enumerate(ensemble.teachers)
            ]
            return Ensemble(team, seed=options["seed"]), models

        for room in (distilling, closing):
            monkeypatch.setattr(room, "load_teachers", loaded)

    return let


@pytest.mark.parametrize(
    ("raises", "reason"), [(False, "NaN or infinite numbers at env step "), (True, "RuntimeErr")]
)
@each_choice
def test_a_teacher_that_fails_is_set_aside_and_the_run_goes_on(
    choice: str,
    raises: bool,
    reason: str,
    tmp_path: Path,
    fail: Fail,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail(NOISY, queries=30 if choice == "segment" else 12, raises=raises)
    settings = config(tmp_path, **CHOICES[choice], round_steps=64)
    outcome = distill(settings, tmp_path / "run")
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: teacher {settings.teachers[NOISY]} is set aside: {reason}")
    assert outcome.env_steps == 2_048
    rows = read_metrics(tmp_path / "run")
    taught = [row["teachers/0"] > 0 for row in rows]
    last = max(i for i, did in enumerate(taught) if did)
    assert last < len(rows) // 2
    log = read_log(tmp_path / "run" / "selections.jsonl")
    picks = np.flatnonzero(log.feedback.arm == NOISY)
    assert len(picks) > 0
    assert picks[-1] < len(log.round) / 2
    assert {GOOD, NEGATED} <= set(log.feedback.arm[picks[-1] :])


def test_a_teacher_set_aside_stays_so_when_the_run_goes_on(
    tmp_path: Path, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, selector="exp3")
    fail(GOOD)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    distill(settings, whole)
    with pytest.raises(PowerCutError):
        distill(settings, broken, watch=interrupt(1_700))
    monkeypatch.setattr(distilling, "load_teachers", load_teachers)
    distill(settings, broken, resume=True)
    same_results(whole, broken)
    assert shares(read_log(whole / "selections.jsonl"))[GOOD] == 0.0


def test_after_the_best_teacher_has_failed_the_student_learns_from_the_others(
    tmp_path: Path, fail: Fail
) -> None:
    fail(GOOD, queries=100)
    # The replay forgets what the good teacher said.
    distill(config(tmp_path, selector="random", replay_size=512), tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    log = read_log(tmp_path / "run" / "selections.jsonl")
    assert log.feedback.reward[log.feedback.arm == GOOD].mean() > 0.9
    assert [row["teachers/1"] for row in rows[-5:]] == [0.0] * 5
    assert min(row["train/loss"] for row in rows[-5:]) > 0.0
    assert np.mean([row["train/grad_norm"] for row in rows[-5:]]) > 1e-3


@pytest.mark.parametrize("raises", [False, True])
@each_choice
def test_if_all_teachers_fail_the_run_ends_in_one_line_that_says_so(
    choice: str, raises: bool, tmp_path: Path, fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(NOISY, GOOD, NEGATED, raises=raises)
    with pytest.raises(UserError, match="no other is left") as refused:
        distill(config(tmp_path, **CHOICES[choice]), tmp_path / "run")
    before = capsys.readouterr().err.strip().splitlines()
    assert sum("is set aside: " in warning for warning in before) == 2
    assert str(refused.value).startswith(f"teacher {tmp_path}")
    assert ("out of luck" if raises else "NaN or infinite") in str(refused.value)


# The naive baseline: a trial of each teacher, then the best.


def test_the_env_steps_of_a_trial_are_counted_and_the_best_is_used(tmp_path: Path) -> None:
    settings = config(tmp_path, selector="best-first", measure_episodes=3)
    outcome = distill(settings, tmp_path / "run")
    ensemble, _ = load_teachers(
        settings.teachers, device=torch.device("cpu"), seed=1, regions=no_regions
    )
    trials = [
        evaluate(ensemble.alone(k), settings.environment, episodes=3, seed=1, stream="trial")
        for k in range(3)
    ]
    spent = sum(int(trial.lengths.sum()) for trial in trials)
    assert spent > 300
    assert [trial.mean == 4.0 for trial in trials] == [False, True, False]
    rows = read_metrics(tmp_path / "run")
    assert [row["env_steps"] for row in rows] == [spent + 128 * (i + 1) for i in range(len(rows))]
    assert 2_048 <= outcome.env_steps < 2_048 + 128
    log = read_log(tmp_path / "run" / "selections.jsonl")
    assert set(log.feedback.arm) == {GOOD}
    assert set(log.feedback.probability) == {1.0}


def test_a_trial_is_not_played_again_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, selector="best-first", checkpoint_every=128)
    whole = distill(settings, tmp_path / "whole")

    def stop(row: Row) -> None:
        if row.env_steps > 1_500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(settings, tmp_path / "run", watch=stop)
    monkeypatch.setattr(assigning, "evaluate", None)
    assert distill(settings, tmp_path / "run", resume=True).env_steps == whole.env_steps
    for name in ("metrics.jsonl", "selections.jsonl"):
        there, here = (tmp_path / folder / name for folder in ("whole", "run"))
        assert there.read_bytes() == here.read_bytes()


def test_a_schedule_begins_after_the_trial(tmp_path: Path) -> None:
    settings = config(tmp_path, selector="best-first", measure_episodes=10, teacher_acts="1:0:1000")
    distill(settings, tmp_path / "run")
    assert read_metrics(tmp_path / "run")[0]["env_steps"] > 1_000 + 128
    # Segments are led, though the trial alone takes longer than the schedule.
    log = read_log(tmp_path / "run" / "selections.jsonl")
    assert len(log.round) > 10
    assert log.feedback.reward.mean() > 0.9


def test_a_teacher_that_fails_in_its_trial_is_set_aside(
    tmp_path: Path, fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(GOOD, queries=3)
    distill(config(tmp_path, selector="best-first", env_steps=512), tmp_path / "run")
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"teacher {team(tmp_path)[GOOD]} is set aside: NaN" in warning
    log = read_log(tmp_path / "run" / "selections.jsonl")
    assert set(log.feedback.arm) == {NOISY}


# What may not be asked for.

NO_POINTS = {"env": "CartPole-v1", "domain": "auto"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"selector": "ucb2"}, ["'ucb2'", "ucb1-tuned", "linucb"]),
        ({"selector": "ucb1:c=2"}, ["'c=2'"]),
        ({"selector": "exp3:horizon=many"}, ["horizon", "many", "whole number"]),
        ({"selector": "vdbe:sigma=0", "choice_per": "round"}, ["sigma", "'0'"]),
        ({"measure": "joy"}, ["'joy'", "evaluation, improvement, points, return"]),
        ({"features": "smell"}, ["smell", "hidden"]),
        ({"selector": "linucb", "features": "ball-half"}, [point_pole.ENV, "ball-half", "hidden"]),
        ({"choice_per": "round", **NO_POINTS}, ["points", "return, improvement, evaluation"]),
        ({"teacher_acts": "0"}, ["pay led", "teacher_acts", "pay all"]),
        ({"teacher_acts": "0:0:99"}, ["pay led", "teacher_acts", "pay all"]),
        ({"segment_steps": 9}, ["segment_steps", point_pole.ENV, "ends with a point"]),
        ({"dataset": "anywhere"}, ["several teachers cannot be used offline"]),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line_before_a_run_begins(
    settings: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    teachers = team(tmp_path, env=settings.get("env", point_pole.ENV))
    with pytest.raises(UserError) as refused:
        distill(config(tmp_path, **{"teachers": teachers, **settings}), tmp_path / "run")
    line = str(refused.value)
    assert "\n" not in line
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrapper", "word"), [("noise", "noise"), ("noise:-1", "-1"), ("delay:1", "stack of 1")]
)
def test_a_wrapper_that_does_not_fit_is_refused_before_a_run_begins(
    wrapper: str, word: str, tmp_path: Path
) -> None:
    _, good, _ = team(tmp_path)
    with pytest.raises(UserError, match=word):
        distill(config(tmp_path, teachers=(good, f"{good}+{wrapper}")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


DENSE: dict[str, dict[str, Any]] = {
    "segment": {},
    "segments of 50 steps": {"segment_steps": 50},
    "every selector's default options": {"selector": "ucb1"},
    "state": {"selector": "linear-thompson"},
    "best-first": {"selector": "best-first", "measure_episodes": 1},
    "return": {"choice_per": "round", "measure": "return"},
    "improvement": {"choice_per": "round", "measure": "improvement"},
    "evaluation": {"choice_per": "round", "measure": "evaluation", "measure_episodes": 1},
    "from outside": {"selector": "tests.outside:softmax:tau=0.2"},
    "from outside, by state": {"selector": "tests.outside:Nearest"},
}


@pytest.mark.parametrize("case", DENSE)
def test_no_environment_is_refused_and_no_range_of_returns_is_asked_for(
    case: str, tmp_path: Path
) -> None:
    teachers = team(tmp_path, env="CartPole-v1")[GOOD:]
    settings = {**NO_POINTS, "teachers": teachers, "env_steps": 8_192, "samples_per_step": 0.1}
    settings |= {"teacher_acts": "1", "learning_starts": 0, "round_steps": 1_024}
    distill(config(tmp_path, **settings, **DENSE[case]), tmp_path / "run")
    log = read_log(tmp_path / "run" / "selections.jsonl").feedback
    assert len(log.arm) > 1
    # A reward of 1 in each step is no point won: the worse teacher is not paid as the better one.
    if case == "segment":
        good, negated = (log.reward[log.arm == k].mean() for k in range(2))
        assert good > negated + 0.4


@pytest.mark.parametrize(
    "settings",
    [
        {"choice_per": "round", "teacher_acts": "0"},
        {"choice_per": "segment", "teacher_acts": "0", "pay": "all"},
        {"choice_per": "segment", "teacher_acts": "0:1:999"},
    ],
)
def test_teachers_that_never_act_can_be_chosen_where_the_students_segments_pay(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    distill(config(tmp_path, env_steps=512, **settings), tmp_path / "run")
    assert len(read_log(tmp_path / "run" / "selections.jsonl").round) >= 4


def test_a_return_that_there_cannot_be_ends_the_run_naming_it(tmp_path: Path) -> None:
    wrong = config(
        tmp_path, choice_per="round", measure="return", return_range=(0.0, 4.0), round_steps=512
    )
    with pytest.raises(UserError, match=r"-1 is outside of \[0, 4\]"):
        distill(replace(wrong, teachers=wrong.teachers[2:] * 2), tmp_path / "run")


# On the command line.


def test_the_teacher_shown_is_the_one_that_was_chosen_most(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    assert favourite(tmp_path, names) is None  # no choice was paid
    assert favourite(tmp_path, names[:1]) == "a"
    (tmp_path / "selections.jsonl").write_text("")
    assert favourite(tmp_path, names) is None
    rows = [
        {"round": i, "context": [], "arm": arm, "probability": 0.5, "reward": 1.0}
        for i, arm in enumerate([0, 2, 1, 2])
    ]
    (tmp_path / "selections.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert favourite(tmp_path, names) == "c"


@pytest.mark.parametrize("choice_per", ["segment", "round"])
def test_a_run_on_the_command_line_closes_with_the_favourite_teacher(
    choice_per: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # By return, no round of this run is paid: none of its episodes ends.
    words = ["distill", "--teachers", *team(tmp_path)[1:], "--choice-per", choice_per]
    words += ["--domain", point_pole.DOMAIN, "--measure", "return", "--confirm-episodes", "1"]
    words += ["--threads", "1", "--num-envs", "8", "--student", "mlp:4", "--precision", "fp32"]
    steps = {"segment": "1024", "round": "32"}[choice_per]
    words += ["--learning-starts", "0", "--n-step", "1", "--batch-size", "32"]
    words += ["--env-steps", steps, "--round-steps", "16", "--json", "--out", str(tmp_path / "run")]
    main(words)
    result = json.loads(capsys.readouterr().out)
    if choice_per == "segment":
        assert result["teacher"]["name"] == team(tmp_path)[GOOD]
        assert result["teacher"]["mean_return"] == 4.0
        assert result["paid"] == len(read_log(tmp_path / "run" / "selections.jsonl").feedback.arm)
        (line,) = remarks({**result, "paid": 29})
        assert "29, too few to tell them apart" in line
        assert remarks({**result, "paid": 30}) == []
        return
    # Nobody was paid, so nobody is shown as the best.
    assert result["unpaid"] == [*team(tmp_path)[1:]]
    assert "teacher" not in result
    names = [Path(name).name for name in team(tmp_path)[1:]]
    (line,) = remarks(result)
    assert f"{', '.join(names[:-1])} and {names[-1]} was paid" in line.replace(f"{tmp_path}/", "")
    assert line in (tmp_path / "run" / "report.html").read_text()


def test_a_favourite_that_failed_is_not_shown_beside_the_student(
    tmp_path: Path, fail: Fail
) -> None:
    # One query checks its wrappers, 100 are its trial, 90 are of the run; the closing
    # evaluation needs 200.
    fail(0, queries=191)
    settings = {"selector": "best-first", "measure_episodes": 1, "confirm_episodes": 2}
    settings |= {"env_steps": 900, "round_steps": 64, "teachers": team(tmp_path)[1:]}
    outcome = distill(config(tmp_path, **settings), tmp_path / "run")
    result = recipes.close_distillation(outcome)
    assert "teacher" not in result
    assert "NaN or infinite" in result["teacher_failed"]
