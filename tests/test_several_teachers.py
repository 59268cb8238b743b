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
from tests.test_cli import QUICK, cartpole_model, refusal
from tests.test_learning import assert_gain, controller
from tutelage import Distill, QNetwork, teachers
from tutelage.cli import main
from tutelage.commands import learning
from tutelage.domains.atari import EnvironmentConfig
from tutelage.errors import UserError
from tutelage.evaluation import evaluate
from tutelage.learner import Learner
from tutelage.networks import parse_size
from tutelage.recipes import appointment, distill
from tutelage.recipes.closing import favourite
from tutelage.runs import read_rows
from tutelage.selectors.base import scale_reward
from tutelage.selectors.offpolicy import Log, read_log
from tutelage.teachers import Ensemble
from tutelage.types import Batch, QFunction, Row

POINTS = EnvironmentConfig(env=point_pole.ENV)
NOISY, GOOD, NEGATED = range(3)


def team(folder: Path) -> tuple[str, ...]:
    good = str(controller(folder / "good.safetensors", env=point_pole.ENV))
    return (f"{good}+noise:1", good, f"{good}+negate")


def config(folder: Path, **settings: Any) -> Distill:
    return Distill(
        **{
            "env": point_pole.ENV,
            "teachers": team(folder),
            "return_range": point_pole.RANGE,
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
            **settings,
        }
    )


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
    "state": {**CHOICES["state"], "env_steps": 4_096},
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
    untrained = QNetwork(
        parse_size("mlp:16/16"), (1, 4), 2, generator=torch.Generator().manual_seed(0)
    )
    trained, before = (
        evaluate(network, POINTS, episodes=20).returns for network in (outcome.student, untrained)
    )
    assert_gain(trained, before, at_least=3.0)


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
    good = teachers.load(settings.teachers[GOOD]).network
    seen = set()
    for batch in batches[-9:]:
        assert batch.arm is not None
        q = good(batch.obs)
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


class Failing:
    """Answers so many queries, then raises or says NaN."""

    def __init__(self, network: QFunction, *, queries: int, raises: bool) -> None:
        self._network = network
        self._left = queries
        self._raises = raises

    def __call__(self, obs: Tensor) -> Tensor:
        self._left -= 1
        if self._left >= 0:
            return self._network(obs)
        if self._raises:
            raise RuntimeError("out of luck")
        return self._network(obs) * torch.nan


Fail = Callable[..., None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Return a function that lets some teachers fail after so many queries each."""
    load_teachers = teachers.load_teachers

    def let(*arms: int, queries: int = 40, raises: bool = False) -> None:
        def loaded(*given: Any, **options: Any) -> Any:
            ensemble, models = load_teachers(*given, **options)
            return Ensemble(
                [
                    replace(
                        teacher, network=Failing(teacher.network, queries=queries, raises=raises)
                    )
                    if k in arms
                    else teacher
                    for k, teacher in enumerate(ensemble.teachers)
                ],
                seed=options["seed"],
            ), models

        monkeypatch.setattr(teachers, "load_teachers", loaded)

    return let


@pytest.mark.parametrize(
    ("raises", "reason"), [(False, "NaN or infinite Q-values at env step "), (True, "RuntimeErr")]
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
    rows = read_rows(tmp_path / "run")
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
    healthy = teachers.load_teachers
    settings = config(tmp_path, selector="exp3")
    fail(GOOD)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    distill(settings, whole)
    with pytest.raises(PowerCutError):
        distill(settings, broken, watch=interrupt(1_700))
    monkeypatch.setattr(teachers, "load_teachers", healthy)
    distill(settings, broken, resume=True)
    same_results(whole, broken)
    assert shares(read_log(whole / "selections.jsonl"))[GOOD] == 0.0


def test_after_the_best_teacher_has_failed_the_student_learns_from_the_others(
    tmp_path: Path, fail: Fail
) -> None:
    fail(GOOD, queries=100)
    # The replay forgets what the good teacher said.
    distill(config(tmp_path, selector="random", replay_size=512), tmp_path / "run")
    rows = read_rows(tmp_path / "run")
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
    words = ["distill", "--teachers", *team(tmp_path), "--return-range", "-1", "4"]
    for name, value in CHOICES[choice].items():
        words += [f"--{name.replace('_', '-')}", value]
    with pytest.raises(SystemExit) as exit_:
        main([*words, *QUICK, "--student", "mlp:4", "--out", str(tmp_path / "run")])
    assert exit_.value.code == 2
    *before, line = capsys.readouterr().err.strip().splitlines()
    assert sum("is set aside: " in warning for warning in before) == 2
    assert line.startswith(f"tutelage: teacher {tmp_path}")
    assert " failed, and no other is left: " in line
    assert ("RuntimeError('out of luck')" if raises else "NaN or infinite Q-values") in line


# The naive baseline: a trial of each teacher, then the best.


def test_the_env_steps_of_a_trial_are_counted_and_the_best_is_used(tmp_path: Path) -> None:
    settings = config(tmp_path, selector="best-first", measure_episodes=3)
    outcome = distill(settings, tmp_path / "run")
    trials = [
        evaluate(
            teachers.load_teachers(settings.teachers, device=torch.device("cpu"), seed=1)[0].alone(
                k
            ),
            settings,
            episodes=3,
            seed=1,
            stream="trial",
        )
        for k in range(3)
    ]
    spent = sum(int(trial.lengths.sum()) for trial in trials)
    assert spent > 300
    assert [scale_reward(t.mean, *point_pole.RANGE) == 1.0 for t in trials] == [False, True, False]
    rows = read_rows(tmp_path / "run")
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
    monkeypatch.setattr(appointment, "evaluate", None)
    assert distill(settings, tmp_path / "run", resume=True).env_steps == whole.env_steps
    for name in ("metrics.jsonl", "selections.jsonl"):
        there, here = (tmp_path / folder / name for folder in ("whole", "run"))
        assert there.read_bytes() == here.read_bytes()


def test_a_schedule_begins_after_the_trial(tmp_path: Path) -> None:
    settings = config(tmp_path, selector="best-first", measure_episodes=10, teacher_acts="1:0:1000")
    distill(settings, tmp_path / "run")
    assert read_rows(tmp_path / "run")[0]["env_steps"] > 1_000 + 128
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

PONG80 = parse_size("1/1/1/1"), (4, 80, 80), 6


def test_teachers_with_other_actions_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    two = cartpole_model(tmp_path / "two.safetensors")
    three = cartpole_model(tmp_path / "three.safetensors", num_actions=3)
    words = ["distill", "--teachers", two, f"{three}+negate", "--out", str(tmp_path / "run")]
    line = refusal([*words, *QUICK, "--student", "mlp:4"], capsys)
    assert f"teacher '{three}' plays CartPole-v1" in line
    assert "3 actions); this run plays CartPole-v1" in line
    assert not (tmp_path / "run").exists()


def test_teachers_of_other_frames_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "crop.safetensors"
    teachers.save(path, QNetwork(*PONG80), env="pong", card={})
    words = ["distill", "--teachers", "pong-small-1", str(path), "--out", str(tmp_path / "run")]
    line = refusal([*words, *QUICK], capsys)
    assert f"teacher '{path}' plays pong (observations [4, 80, 80], 6 actions); this run" in line
    assert "observations [4, 84, 84]" in line
    assert not (tmp_path / "run").exists()


BY_RETURN = ["--choice-per", "round", "--measure", "return", "--return-range", "0", "500"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--selector", "ucb2"], ["unknown selector 'ucb2'", "ucb1-tuned", "linucb"]),
        (["--selector", "ucb1:c=2"], ["selector ucb1: unknown option 'c=2'"]),
        (["--selector", "exp3:horizon=many"], ["horizon", "many", "whole number"]),
        (["--selector", "epsilon-greedy:epsilon=2"], ["'2'", "from 0 to 1"]),
        ([*BY_RETURN, "--selector", "vdbe:sigma=0"], ["sigma 0.0", "above 0"]),
        (
            ["--measure", "joy"],
            ["unknown measure 'joy'", "evaluation, improvement, points, return"],
        ),
        (["--choice-per", "game"], ["unknown choice_per 'game'", "segment, round"]),
        (["--pay", "well"], ["unknown pay 'well'", "all, led"]),
        (["--selector", "linucb", "--features", "smell"], ["unknown features 'smell'", "hidden"]),
        (["--choice-per", "round"], ["by points won and lost", "with its return_range"]),
        ([], ["by points won and lost, and CartPole-v1 has none", "choice_per round", "measure"]),
        (
            ["--selector", "linucb"],
            ["by points won and lost, and CartPole-v1 has none", "without a context"],
        ),
        (["--features", "smell"], ["unknown features 'smell'"]),
        (["--return-range", "5"], ["return_range must be LOW HIGH", "got 5"]),
        (["--return-range", "5", "-5"], ["return_range must be LOW HIGH", "got 5 -5"]),
        (["--return-range", "1", "1"], ["LOW < HIGH", "got 1 1"]),
        (["--return-range", "1", "nan"], ["LOW < HIGH", "got 1 nan"]),
        (["--return-range", "1", "2", "3"], ["LOW HIGH", "got 1 2 3"]),
        (
            ["--choice-per", "round", "--measure", "return"],
            ["the returns of CartPole-v1 are not known", "return_range"],
        ),
        (
            ["--choice-per", "round", "--selector", "best-first"],
            ["the returns of CartPole-v1 are not known"],
        ),
        (["--teacher-acts", "0"], ["pay led, but teacher_acts is 0", "pay all"]),
        (["--teacher-acts", "0:0:99"], ["pay led, but teacher_acts is 0"]),
        (["--measure-episodes", "0"], ["measure_episodes", "at least 1"]),
        (["--credit-decay", "1.5"], ["credit_decay", "1.5"]),
        (["--credit-decay", "nan"], ["credit_decay", "nan"]),
        (["--dataset", "anywhere"], ["several teachers cannot be used offline"]),
    ],
)
def test_bad_flags_are_refused_in_one_line_before_a_run_begins(
    flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    teacher = cartpole_model(tmp_path / "t.safetensors")
    given = ["--teachers", teacher, f"{teacher}+noise:1", "--student", "mlp:4", *QUICK]
    line = refusal(["distill", *given, *flags, "--out", str(tmp_path / "run")], capsys)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_features_of_pong_are_refused_elsewhere(tmp_path: Path) -> None:
    message = f"features 'ball-half' are of pong, this is {point_pole.ENV}: choose hidden"
    with pytest.raises(UserError, match=message):
        distill(config(tmp_path, selector="linucb"), tmp_path / "run")


@pytest.mark.parametrize(
    ("wrapper", "words"),
    [
        ("blind", ["unknown wrapper of a teacher 'blind'", "delay, negate, noise"]),
        ("noise", ["noise ''", "noise:1"]),
        ("noise:-1", ["noise '-1'", "0 or more"]),
        ("delay:1", ["a stack of 1 frames"]),
        ("restrict:ball-top", ["ball cannot be read", "float32 of shape (1, 1, 4)"]),
        ("restrict:net", ["unknown region 'net'"]),
    ],
)
def test_a_wrapper_that_does_not_fit_is_refused_before_a_run_begins(
    wrapper: str, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    teacher = cartpole_model(tmp_path / "t.safetensors")
    given = ["--teachers", teacher, f"{teacher}+{wrapper}", "--student", "mlp:4", *QUICK]
    line = refusal(["distill", *given, "--out", str(tmp_path / "run")], capsys)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_no_teachers_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["distill", *QUICK, "--out", str(tmp_path / "run"), "--teachers"]
    assert "teachers: none given, expected at least one" in refusal(words, capsys)
    (tmp_path / "c.toml").write_text("teachers = []\n")
    line = refusal(["distill", "--config", str(tmp_path / "c.toml")], capsys)
    assert "none given" in line


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
    with pytest.raises(UserError, match=r"reward -1\.0 is outside \[0\.0, 4\.0\]"):
        distill(replace(wrong, teachers=wrong.teachers[2:] * 2), tmp_path / "run")


# On the command line.


def test_the_teacher_shown_is_the_one_that_was_chosen_most(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    assert favourite(tmp_path, names) == "a"  # no choice was paid
    (tmp_path / "selections.jsonl").write_text("")
    assert favourite(tmp_path, names) == "a"
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
    words += ["--measure", "return", "--return-range", "-1", "4", "--confirm-episodes", "1"]
    words += ["--threads", "1", "--num-envs", "8", "--student", "mlp:4", "--precision", "fp32"]
    steps = {"segment": "1024", "round": "32"}[choice_per]
    words += ["--learning-starts", "0", "--n-step", "1", "--batch-size", "32"]
    words += ["--env-steps", steps, "--round-steps", "16", "--json", "--out", str(tmp_path / "run")]
    main(words)
    result = json.loads(capsys.readouterr().out)
    assert result["teacher"]["name"] == team(tmp_path)[GOOD]
    assert result["teacher"]["mean_return"] == 4.0
    assert (tmp_path / "run" / "selections.jsonl").exists() == (choice_per == "segment")
    assert (tmp_path / "run" / "report.html").stat().st_size > 0


def test_a_favourite_that_failed_is_left_out_of_the_closing_table(
    tmp_path: Path, fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    # One query checks its wrappers, 100 are its trial, 90 are of the run; the closing
    # evaluation needs 200.
    fail(0, queries=191)
    words = ["distill", "--teachers", *team(tmp_path)[1:], "--selector", "best-first"]
    words += ["--measure-episodes", "1", "--return-range", "-1", "4", "--confirm-episodes", "2"]
    words += ["--threads", "1", "--num-envs", "8", "--student", "mlp:4", "--precision", "fp32"]
    main(
        [
            *words,
            "--env-steps",
            "900",
            "--round-steps",
            "64",
            "--json",
            "--out",
            str(tmp_path / "run"),
        ]
    )
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert result["mean_return"] <= 4.0
    assert "teacher" not in result
    assert f"warning: teacher {team(tmp_path)[GOOD]} is not shown: NaN or infinite" in shown.err
    assert (tmp_path / "run" / "report.html").stat().st_size > 0


def test_a_runs_folder_can_be_named_as_a_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []
    monkeypatch.setattr(
        learning, "_distill", lambda config, folder, **options: folders.append(folder)
    )
    main(["distill", "--teachers", "best/pong.safetensors+delay:2+noise:0.5", "pong"])
    (folder,) = folders
    assert teachers.parse_teacher(str(folder)) == (str(folder), ())
    assert folder.name.startswith("distill__pong__1__")


def test_evaluating_a_teacher_that_fails_says_so_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fail: Fail
) -> None:
    fail(0, queries=3)
    model = cartpole_model(tmp_path / "t.safetensors")
    assert "NaN or infinite Q-values" in refusal(["evaluate", model, "--threads", "1"], capsys)
