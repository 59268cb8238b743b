from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tutelage.evaluation import Abandoned, Evaluation
from tutelage.files import pack_state, unpack_state
from tutelage.session import Examiner
from tutelage.types import Row


@dataclass
class Exam:
    """An examiner of target 20 whose evaluations come out at ``means``, one after another.

    Those given as Abandoned are.
    """

    means: Sequence[float | Abandoned] = ()
    readiness: float = -np.inf
    begin: int = 100
    played: list[tuple[int, str]] = field(default_factory=list)
    kept: list[tuple[int, float | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.examiner = Examiner(
            self.play,
            self.keep,
            target=20.0,
            episodes=10,
            confirm_episodes=30,
            begin=self.begin,
            every=100,
            readiness=self.readiness,
        )

    def play(self, episodes: int, stream: str) -> Evaluation | Abandoned:
        mean = self.means[len(self.played)]
        self.played.append((episodes, stream))
        if isinstance(mean, Abandoned):
            return mean
        return Evaluation(np.full(episodes, mean), np.full(episodes, 50), cut=2)

    def keep(self, env_steps: int, evaluation: Evaluation | None) -> None:
        self.kept.append((env_steps, None if evaluation is None else evaluation.mean))

    def look(self, env_steps: int, rate: float | None = None) -> dict[str, float]:
        metrics = {} if rate is None else {"rollout/reward_per_step": rate}
        return dict(self.examiner.look(Row(env_steps, 0, metrics)))


def test_evaluates_only_when_due_counting_from_the_last_evaluation() -> None:
    exam = Exam([1.0, 2.0])
    looked = {steps: bool(exam.look(steps)) for steps in (1, 99, 150, 200, 249, 250, 349)}
    assert [steps for steps, evaluated in looked.items() if evaluated] == [150, 250]
    assert exam.played == [(10, "evaluation-150"), (10, "evaluation-250")]


def test_the_first_evaluation_has_a_date_of_its_own() -> None:
    exam = Exam([1.0, 2.0], begin=300)
    looked = {steps: bool(exam.look(steps)) for steps in (100, 299, 310, 409, 410)}
    assert [steps for steps, evaluated in looked.items() if evaluated] == [310, 410]


def test_waits_until_two_rounds_are_rewarding_enough() -> None:
    exam = Exam([1.0], readiness=0.5)
    rates = {100: 2.0, 200: -1.5, 300: 2.0, 400: -0.9, 499: 3.0}
    looked = {steps: bool(exam.look(steps, rate)) for steps, rate in rates.items()}
    # Means of two rounds: none yet, 0.25, 0.25, 0.55, then not due.
    assert [steps for steps, evaluated in looked.items() if evaluated] == [400]


def test_does_not_wait_where_the_reward_is_unknown() -> None:
    exam = Exam([1.0, 1.0], readiness=0.5)
    assert exam.look(100)
    assert exam.look(200)


def test_reports_what_it_measured() -> None:
    assert Exam([7.0]).look(100) == {
        "eval/mean_reward": 7.0,
        "eval/ci_low": 7.0,
        "eval/ci_high": 7.0,
        "eval/mean_ep_length": 50.0,
        "eval/episodes": 10.0,
        "eval/env_steps": 500.0,
        "eval/passed": 0.0,
    }


def test_passes_a_student_that_holds_the_target_in_further_episodes() -> None:
    exam = Exam([3.0, 20.0, 20.0])
    assert exam.look(100)["eval/passed"] == 0.0
    measured = exam.look(200)
    assert exam.played[1:] == [(10, "evaluation-200"), (30, "confirmation-200")]
    assert (measured["eval/passed"], measured["eval/episodes"]) == (1.0, 30.0)
    assert measured["eval/env_steps"] == (10 + 30) * 50.0
    assert (exam.examiner.done, exam.examiner.passed_at) == (True, 200)


def test_does_not_pass_one_that_is_not_confirmed() -> None:
    exam = Exam([21.0, 19.5, 20.0, 20.5])
    measured = exam.look(100)
    assert (measured["eval/passed"], measured["eval/mean_reward"]) == (0.0, 19.5)
    assert (exam.examiner.done, exam.examiner.passed_at) == (False, None)
    assert exam.kept == [(100, 19.5)]
    exam.look(200)
    assert exam.examiner.passed_at == 200
    assert exam.kept[-1] == (200, 20.5)


def test_keeps_a_student_only_if_it_is_the_best_so_far() -> None:
    exam = Exam([-3.0, -5.0, 4.0, 4.0, 9.0])
    for steps in range(100, 600, 100):
        exam.look(steps)
    assert exam.kept == [(100, -3.0), (300, 4.0), (500, 9.0)]


def test_an_abandoned_evaluation_says_what_could_have_become_of_it() -> None:
    exam = Exam([Abandoned(12.5, -0.01, 200), 7.0])
    assert exam.look(100) == {
        "eval/at_most": 12.5,
        "eval/env_steps": 200.0,
        "eval/passed": 0.0,
    }
    assert (exam.examiner.done, exam.examiner.best) == (False, None)
    assert exam.look(199) == {}
    assert exam.look(200)["eval/mean_reward"] == 7.0


def test_of_abandoned_ones_the_most_rewarding_is_kept_until_one_is_played_to_its_end() -> None:
    abandoned = [
        Abandoned(10.0, -0.02, 200),
        Abandoned(15.0, -0.03, 200),
        Abandoned(9.0, -0.01, 200),
    ]
    exam = Exam([*abandoned, -5.0, Abandoned(19.0, 0.5, 200), 6.0])
    for steps in range(100, 700, 100):
        exam.look(steps)
    assert exam.kept == [(100, None), (300, None), (400, -5.0), (600, 6.0)]


def test_an_abandoned_confirmation_confirms_nothing() -> None:
    exam = Exam([20.5, Abandoned(19.0, 0.01, 200)])
    measured = exam.look(100)
    assert [stream for _, stream in exam.played] == ["evaluation-100", "confirmation-100"]
    assert (measured["eval/passed"], measured["eval/mean_reward"]) == (0.0, 20.5)
    assert measured["eval/env_steps"] == 10 * 50.0 + 200.0
    assert (exam.examiner.done, exam.examiner.passed_at) == (False, None)
    assert exam.kept == [(100, 20.5)]


def test_the_one_that_passes_is_kept_however_lucky_one_before_it_was() -> None:
    exam = Exam([20.75, Abandoned(19.0, 0.01, 200), 20.0, 20.25])
    exam.look(100)
    exam.look(200)
    assert exam.examiner.passed_at == 200
    assert exam.kept == [(100, 20.75), (200, 20.25)]
    best = exam.examiner.best
    assert best is not None
    assert (best.mean, len(best.returns)) == (20.25, 30)


def restored(exam: Exam, twin: Exam, folder: Path) -> Exam:
    (folder / "state").write_bytes(pack_state(exam.examiner.state()))
    twin.examiner.restore(unpack_state(folder / "state"))
    return twin


@pytest.mark.parametrize("looks", [0, 1, 3, 5])
def test_a_restored_examiner_goes_on_as_the_first_would(looks: int, tmp_path: Path) -> None:
    rows = [(150, 2.0), (200, -1.5), (300, 3.0), (390, 3.0), (410, -3.0), (520, 6.5)]
    means = [5.0, 4.0]
    whole, exam = Exam(means, readiness=0.5), Exam(means, readiness=0.5)
    expected = [whole.look(*row) for row in rows]
    first = [exam.look(*row) for row in rows[:looks]]
    twin = restored(exam, Exam(means[len(exam.played) :], readiness=0.5), tmp_path)
    assert first + [twin.look(*row) for row in rows[looks:]] == expected
    assert exam.kept + twin.kept == whole.kept
    assert twin.examiner.state() == whole.examiner.state()


@pytest.mark.parametrize("looks", range(6))
def test_a_restored_examiner_knows_what_was_abandoned(looks: int, tmp_path: Path) -> None:
    hopeless = [Abandoned(9.0, -0.02, 200), Abandoned(8.0, -0.03, 200), Abandoned(9.0, -0.01, 200)]
    means: list[float | Abandoned] = [*hopeless, 20.5, Abandoned(19.0, 0.01, 200), 20.0, 20.25]
    whole, exam = Exam(means), Exam(means)
    rows = range(100, 600, 100)
    expected = [whole.look(steps) for steps in rows]
    first = [exam.look(steps) for steps in rows[:looks]]
    twin = restored(exam, Exam(means[len(exam.played) :]), tmp_path)
    assert first + [twin.look(steps) for steps in rows[looks:]] == expected
    assert (
        exam.kept + twin.kept
        == whole.kept
        == [
            *[(100, None), (300, None)],
            *[(400, 20.5), (500, 20.25)],
        ]
    )
    assert twin.examiner.state() == whole.examiner.state()


def test_the_best_evaluation_outlives_a_resume_in_which_nothing_beats_it(tmp_path: Path) -> None:
    exam, twin = Exam([5.0]), Exam([4.0])
    exam.look(100)
    restored(exam, twin, tmp_path).look(200)
    assert (twin.played, twin.kept) == ([(10, "evaluation-200")], [])
    best = twin.examiner.best
    assert best is not None
    assert (best.returns.tolist(), best.lengths.tolist()) == ([5.0] * 10, [50] * 10)
    assert best.cut == 2


def test_what_it_passed_is_restored(tmp_path: Path) -> None:
    exam = Exam([20.0, 20.0])
    exam.look(100)
    twin = restored(exam, Exam(), tmp_path)
    assert (twin.examiner.done, twin.examiner.passed_at) == (True, 100)
