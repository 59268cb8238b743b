"""Who teaches where, and what that is paid: by hand, against a naive model, and over draws."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from tutelage.assignment.alone import Alone
from tutelage.assignment.credit import Credit, LastReward, SegmentReturn
from tutelage.assignment.measures import MEASURES, Round
from tutelage.assignment.protocol import Assignment, Mask
from tutelage.assignment.round import PerRound
from tutelage.assignment.scales import KnownRange, Ranks
from tutelage.assignment.segment import PerSegment, not_worse
from tutelage.assignment.state import PerState
from tutelage.domains.base import Feature
from tutelage.environments import Step
from tutelage.errors import UserError
from tutelage.files import pack_state, unpack_state
from tutelage.selectors import build_selector
from tutelage.selectors.base import ContextualSelector
from tutelage.types import Array, Choice, Feedback, Floats, Ints, State

NAN = float("nan")
NAMES = ("ann", "bob", "cyd")
N = 4
OBS = np.full((N, 1, 2), 0.5)
READ = Feature(2, lambda obs: np.asarray(obs[:, 0], np.float64))
"""The context of these tests is the observation itself."""


class Scripted:
    """Chooses by script and writes on a tape; each choice has a probability of its own."""

    def __init__(self, script: Callable[[int], int], *, num_arms: int = 3) -> None:
        self.tape: list[str] = []
        self.learnt: list[Feedback] = []
        self.left = np.arange(num_arms)
        self.tried = True
        self._script = script
        self._choices = 0

    def choose(self, context: Array, draw: Array | None = None) -> Choice:
        assert context.shape == (1, 0)
        assert draw is None
        self._choices += 1
        self.tape.append(f"choose {self._choices}")
        arm = self._script(self._choices)
        return Choice(np.array([arm]), np.array([self.probability(self._choices)]))

    @staticmethod
    def probability(choice: int) -> float:
        return 1.0 / (1.0 + choice)

    def probabilities(self, context: Array) -> Array:
        raise AssertionError("nobody here asks for it")

    def exploit(self, context: Array) -> npt.NDArray[np.int64]:
        return self.choose(context).arm

    def update(self, feedback: Feedback) -> None:
        self.tape.append("update")
        self.learnt.append(feedback)

    def drop(self, arm: int) -> None:
        if list(self.left) == [arm]:
            raise UserError("the last one")
        self.left = self.left[self.left != arm]

    def state(self) -> State:
        raise AssertionError("nobody here asks for it")

    def restore(self, state: State) -> None:
        raise AssertionError("nobody here asks for it")


def step(
    reward: Sequence[float],
    *,
    terminated: Sequence[int] = (),
    truncated: Sequence[int] = (),
    returns: Sequence[float] = (),
) -> Step:
    """Return a step that gave ``reward[N]``; the other lists name environments that ended."""
    ends = [np.isin(np.arange(len(reward)), list(ended)) for ended in (terminated, truncated)]
    return Step(
        np.zeros((len(reward), 1, 2)),
        np.array(reward, np.float32),
        ends[0],
        ends[1],
        tuple((float(r), 9) for r in returns),
    )


def points_end(step: Step) -> Mask:
    """A segment ends with a reward that is not 0, or with the episode."""
    return np.asarray((step.reward != 0) | step.terminated | step.truncated)


def by_points() -> Credit:
    return LastReward(points_end)


# What a round is paid.


def played(
    *,
    won: float = 0.0,
    lost: float = 0.0,
    mean: float = NAN,
    previous: float = NAN,
    play: float = NAN,
) -> Round:
    return Round(won, lost, mean, previous, play=lambda: play)


@pytest.mark.parametrize(
    ("measure", "given_", "reward"),
    [
        ("points", played(won=3.0, lost=1.0), 0.75),
        ("points", played(won=0.0, lost=2.0), 0.0),
        ("points", played(won=2.5, lost=0.0), 1.0),
        ("points", played(), 0.5),
        ("return", played(mean=-20.0), 0.0),
        ("return", played(mean=-7.5), 0.25),
        ("return", played(mean=30.0), 1.0),
        ("improvement", played(mean=10.0, previous=10.0), 0.5),
        ("improvement", played(mean=30.0, previous=-20.0), 1.0),
        ("improvement", played(mean=-20.0, previous=30.0), 0.0),
        ("improvement", played(mean=0.0, previous=-10.0), 0.6),
        ("evaluation", played(play=5.0, mean=30.0), 0.5),
    ],
)
def test_a_measure_is_put_on_the_unit_interval_by_the_returns_there_are(
    measure: str, given_: Round, reward: float
) -> None:
    one = MEASURES[measure]
    scaled = one.scale((-20.0, 30.0))(np.array([one.of(given_)]))
    assert scaled.tolist() == [pytest.approx(reward)]


@pytest.mark.parametrize("name", ["return", "improvement", "evaluation"])
def test_where_no_returns_are_known_a_measure_is_ranked(name: str) -> None:
    measure = MEASURES[name]
    scale = measure.scale(None)
    rounds = [played(mean=m, previous=0.0, play=m) for m in (-500.0, 3.0, 1e6, 2.0, 3.0)]
    # Alone 1/2; above one of two 3/4; above two of three 5/6; above one of four 3/8; of five above
    # two, one equal: (2 + 1) / 5.
    expected = [1 / 2, 3 / 4, 5 / 6, 3 / 8, 3 / 5]
    given_ = [float(scale(np.array([measure.of(one)]))[0]) for one in rounds]
    assert given_ == pytest.approx(expected)


@pytest.mark.parametrize("value", [30.5, -20.5, NAN])
def test_a_return_that_there_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(UserError, match=f"{value:g} is outside"):
        KnownRange(-20.0, 30.0)(np.array([0.0, value]))


# What a segment is paid.


def test_the_last_reward_pays_1_for_a_segment_won_0_for_one_lost_and_one_half_else() -> None:
    outcome = step([3.0, 0.0, -0.5, 0.0, 0.25], terminated=[3])
    ends, came_to = by_points().take(outcome)
    assert ends.tolist() == [True, False, True, True, True]
    worth = by_points().worth(came_to[ends])
    assert worth is not None
    assert worth.tolist() == [1.0, 0.0, 0.5, 1.0]


def worth(credit: Credit, *came_to: float) -> Any:
    worth = credit.worth(np.array(came_to))
    return None if worth is None else pytest.approx(worth.tolist())


def test_an_episode_is_paid_the_mid_rank_of_its_return_among_the_latest_that_were_paid() -> None:
    credit = SegmentReturn(N)
    assert not credit.take(step([1.0, -1.0, 0.0, 7.0]))[0].any()  # dense rewards end nothing
    end = step([9.0, 21.0, -400.0, 23.0], terminated=[0, 2], truncated=[3])
    ends, came_to = credit.take(end)
    assert ends.tolist() == [True, False, True, True]
    assert came_to.tolist() == [10.0, 0.0, -400.0, 30.0]
    # One environment is still in the episode that it began with.
    assert worth(credit, 10.0, 30.0) is None
    assert credit.take(step([0.0] * N, truncated=[1]))[1].tolist() == [0.0, 20.0, 0.0, 0.0]
    # Ranked together; the episode of -400, of the student, is none of them.
    assert worth(credit, 10.0, 30.0, 20.0) == [1 / 6, 5 / 6, 1 / 2]
    # 10, 30, 20 and 30 again: above two of four, equal to two.
    assert worth(credit, 30.0) == [3 / 4]


def test_an_episode_without_an_end_does_not_hold_the_others_back_for_ever() -> None:
    credit = SegmentReturn(N)
    credit.take(step([1.0] * N, terminated=[0, 1, 2]))
    assert worth(credit, *[1.0] * 199) is None
    assert worth(credit, *[1.0] * 200) == [1 / 2] * 200
    assert worth(credit, 2.0) == [1.0 - 0.5 / 200]


def test_a_long_episode_is_cut_into_segments_that_are_paid_by_their_own_returns(
    tmp_path: Path,
) -> None:
    credit, restored = SegmentReturn(2, longest=3), SegmentReturn(2, longest=3)
    seen = [credit.take(step([1.0, 5.0])), credit.take(step([1.0, 5.0], terminated=[1]))]
    (tmp_path / "state").write_bytes(pack_state(credit.state()))
    restored.restore(unpack_state(tmp_path / "state"))
    for both in (credit, restored):
        ends, came_to = zip(*seen, *(both.take(step([2.0, -1.0])) for _ in range(4)), strict=True)
        # The first is cut at 3 and 6 steps; the second ended with its episode at 2, is cut at 5.
        assert np.array(ends).T.tolist() == [[0, 0, 1, 0, 0, 1], [0, 1, 0, 0, 1, 0]]
        assert np.array(came_to).T.tolist() == [[0, 0, 4, 0, 0, 6], [0, 10, 0, 0, -3, 0]]
        assert worth(both, 4.0, 6.0) == [1 / 4, 3 / 4]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), st.floats(0.1, 10.0))
def test_ranks_depend_on_the_order_alone(values: list[float], power: float) -> None:
    ranks, stretched = Ranks(), Ranks()
    for value in np.round(values, 3):
        u = ranks(np.array([value]))
        assert 0.0 < u[0] < 1.0
        assert stretched(np.sign([value]) * np.abs([value]) ** power).tolist() == u.tolist()


def test_ranks_forget_what_is_older_than_the_window_and_come_back_exactly(tmp_path: Path) -> None:
    ranks, restored = Ranks(window=3), Ranks(window=3)
    ranks(np.array([100.0, 200.0, 0.1]))
    restored(np.array([5.0, 6.0, 7.0]))
    (tmp_path / "state").write_bytes(pack_state(ranks.state()))
    restored.restore(unpack_state(tmp_path / "state"))
    for both in (ranks, restored):
        # 200, 0.1, 50: above one of three; 50 and 50: equal to two of 0.1, 50, 50.
        assert both(np.array([50.0])).tolist() == [pytest.approx(1 / 2)]
        assert both(np.array([50.0])).tolist() == [pytest.approx(2 / 3)]
    with pytest.raises(UserError, match="nan"):
        ranks(np.array([NAN]))


TEACHERS = ((100.0, 50.0), (150.0, 50.0), (-500.0, 10.0))
"""(mean, standard deviation) of the returns of an episode that each leads."""


@pytest.mark.parametrize("selector", ["thompson-beta", "ucb1", "linear-thompson"])
@pytest.mark.parametrize("unit", [1.0, 1e-3])
def test_selectors_find_the_teacher_of_the_best_dense_returns_in_whatever_unit(
    selector: str, unit: float
) -> None:
    found = []
    for seed in range(4):
        assignment: PerSegment | PerState = (
            per_state(real(selector, seed), credit=SegmentReturn(N), decay=1.0, names=NAMES)
            if selector == "linear-thompson"
            else per_segment(real(selector, seed), credit=SegmentReturn(N))
        )
        rng = np.random.default_rng(seed)
        playing = Playing(assignment)
        for t in range(240):
            # Every step of an episode gives a reward; its second one ends it.
            arm = playing.step(step([1.0] * N), obs=rng.random((N, 1, 2)))
            mean, deviation = np.array(TEACHERS)[arm].T
            returns = unit * rng.normal(mean, deviation)
            end = step((returns - 1.0).tolist(), truncated=range(N))
            playing.step(end, obs=rng.random((N, 1, 2)))
            if t % 2:
                playing.assignment.settle()
        late = np.stack(playing.arm)[len(playing.arm) // 2 :]
        found.append(np.bincount(late.ravel(), minlength=3) / late.size)
    # Of 1,000 choices of an arm at random a share of 0.4 would be 4 deviations off.
    share = np.mean(found, axis=0)
    assert share[1] > 0.65
    assert share[2] < 0.1


# One teacher for a whole round.


def per_round(
    selector: Any, measure: str | Callable[[Round], float] = "points", **settings: Any
) -> PerRound:
    return PerRound(
        selector,
        **{
            "names": NAMES,
            "measure": MEASURES[measure].of if isinstance(measure, str) else measure,
            "scale": MEASURES[measure].scale((0.0, 100.0))
            if isinstance(measure, str)
            else KnownRange(0.0, 1.0),
            "play": lambda number: NAN,
            **settings,
        },
    )


def test_a_round_is_choose_play_measure_update() -> None:
    selector = Scripted(lambda choice: choice % 3)
    tape = selector.tape

    def measure(played: Round) -> float:
        tape.append(f"measure {played.won:g} {played.lost:g} {played.play():g}")
        return 0.25 * played.won

    def play(number: int) -> float:
        tape.append(f"play {number}")
        return 7.0

    assignment = per_round(selector, measure, play=play)
    for won in (1.0, 2.0):
        assignment.begin()
        tape.append(f"arms {assignment.arms(OBS).tolist()}")
        assignment.paid(step([won, 0.0, -1.0, 0.0]))
        tape.append(f"arms {assignment.arms(OBS).tolist()}")
        assignment.paid(step([0.0, 0.0, 0.0, -0.5]))
        assignment.settle()
    assert tape == [
        "choose 1",
        "arms [1, 1, 1, 1]",
        "arms [1, 1, 1, 1]",
        "play 0",
        "measure 1 1.5 7",
        "update",
        "choose 2",
        "arms [2, 2, 2, 2]",
        "arms [2, 2, 2, 2]",
        "play 1",
        "measure 2 1.5 7",
        "update",
    ]


def one_round(assignment: Assignment, *steps: Step) -> Mapping[int, Feedback]:
    assignment.begin()
    for each in steps:
        assignment.leads(0.0, np.zeros(N))
        assignment.arms(OBS)
        assignment.paid(each)
    return assignment.settle()


def test_a_settled_round_has_a_number_its_arm_reward_and_probability() -> None:
    selector = Scripted(lambda choice: choice % 3)
    assignment = per_round(selector)
    for number in range(1, 5):
        settled = one_round(assignment, step([1.0, -1.0, 1.0, 0.0]), step([0.0, 0.0, 0.0, 1.0]))
        (feedback,) = settled.values()
        assert list(settled) == [number]
        assert feedback.context.shape == (1, 0)
        assert feedback.arm.tolist() == [number % 3]
        assert feedback.reward.tolist() == [0.75]
        assert feedback.probability.tolist() == [1.0 / (1.0 + number)]
        assert selector.learnt[-1] is feedback
        taught = {f"teachers/{k}": float(k == number % 3) for k in range(3)}
        assert assignment.metrics() == {**taught, "teachers/reward": 0.75}


def test_a_round_that_tells_nothing_settles_nothing_and_takes_no_number() -> None:
    selector = Scripted(lambda choice: choice % 3)
    assignment = per_round(selector, "return")
    assert one_round(assignment, step([1.0] * N)) == {}
    assert assignment.metrics() == {"teachers/0": 0.0, "teachers/1": 1.0, "teachers/2": 0.0}
    settled = one_round(assignment, step([1.0] * N, returns=[10.0, 40.0]), step([0.0] * N))
    assert {n: f.reward.tolist() for n, f in settled.items()} == {1: [0.25]}
    assert one_round(assignment, step([1.0] * N)) == {}
    assert list(one_round(assignment, step([0.0] * N, returns=[50.0]))) == [2]
    assert [f.arm[0] for f in selector.learnt] == [2, 1]


def test_improvement_is_over_the_last_round_in_which_an_episode_ended() -> None:
    assignment = per_round(Scripted(lambda choice: 0), "improvement")
    rounds = [[], [10.0, 20.0], [], [35.0], [5.0]]
    settled = [one_round(assignment, step([0.0] * N, returns=returns)) for returns in rounds]
    # 15 -> 35 -> 5; a rise from -100 to 100 is scaled to [0, 1].
    assert [[f.reward[0] for f in each.values()] for each in settled] == [
        [],
        [],
        [],
        [pytest.approx(0.6)],
        [pytest.approx(0.35)],
    ]


def test_in_a_round_a_coin_is_tossed_in_each_step() -> None:
    draw = np.array([0.0, 0.29, 0.3, 0.99])
    for assignment in (per_round(Scripted(lambda choice: 0)), Alone()):
        assignment.begin()
        assert assignment.leads(0.3, draw).tolist() == [True, True, False, False]
        assert assignment.leads(0.0, draw).tolist() == [False] * N
        assert assignment.leads(1.0, draw).tolist() == [True] * N


# One teacher for a segment.


def per_segment(selector: Any, *, names: tuple[str, ...] = NAMES, **settings: Any) -> PerSegment:
    given = {"names": names, "num_envs": N, "credit": by_points(), **settings}
    return PerSegment(selector, **given)


class Playing:
    """Drives an assignment step by step; keeps what it decided."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.arm: list[Ints] = []
        self.led: list[Mask] = []
        assignment.begin()

    def step(
        self,
        outcome: Step,
        *,
        obs: Array = OBS,
        beta: float = 1.0,
        draw: Array | None = None,
    ) -> Ints:
        self.led.append(self.assignment.leads(beta, np.zeros(N) if draw is None else draw).copy())
        self.arm.append(self.assignment.arms(obs).copy())
        self.assignment.paid(outcome)
        return self.arm[-1]


def test_a_segment_won_pays_1_lost_0_and_one_that_was_cut_short_one_half() -> None:
    selector = Scripted(lambda choice: (choice - 1) % 3)
    playing = Playing(per_segment(selector))
    playing.step(step([0.0] * N))
    playing.step(step([3.0, -0.5, 0.0, 0.0], terminated=[2]))
    playing.step(step([0.0, 0.0, 0.0, 0.0], truncated=[3]))
    settled = playing.assignment.settle()
    rows = {n: (f.arm.tolist(), f.reward.tolist()) for n, f in settled.items()}
    assert rows == {1: ([0], [1.0]), 2: ([1], [0.0]), 3: ([2], [0.5]), 4: ([0], [0.5])}
    assert [f.probability[0] for f in settled.values()] == [1 / 2, 1 / 3, 1 / 4, 1 / 5]
    (learnt,) = selector.learnt
    assert learnt.arm.tolist() == [0, 1, 2, 0]
    assert learnt.reward.tolist() == [1.0, 0.0, 0.5, 0.5]
    # Twelve states were taught: arm 0 in the first of three and the last environment, and so on.
    assert playing.assignment.metrics() == {
        "teachers/0": pytest.approx((2 + 3 + 1) / 12),  # its second segment is the fifth choice
        "teachers/1": pytest.approx((2 + 1) / 12),
        "teachers/2": pytest.approx((2 + 1) / 12),
        "teachers/reward": pytest.approx(0.5),
    }
    playing.assignment.begin()
    assert playing.assignment.settle() == {}
    assert "teachers/reward" not in playing.assignment.metrics()
    playing.step(step([1.0] * N))
    assert list(playing.assignment.settle()) == [5, 6, 7, 8]


class Segment:
    """A naive account of one environment's segments."""

    def __init__(self) -> None:
        self.arm: int | None = None
        self.led = False


OUTCOMES = st.lists(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 1.0, -1.0]), st.sampled_from(["", "", "done", "cut"])),
        min_size=N,
        max_size=N,
    ),
    min_size=1,
    max_size=20,
)


@given(outcomes=OUTCOMES, seed=st.integers(0, 99), pay_all=st.booleans(), rounds=st.integers(1, 5))
def test_segments_are_led_and_paid_as_a_naive_account_has_it(
    outcomes: list[list[tuple[float, str]]], seed: int, pay_all: bool, rounds: int
) -> None:
    # Every choice is another arm, so that an arm tells which choice it was.
    selector = Scripted(lambda choice: choice - 1)
    playing = Playing(per_segment(selector, names=("x",) * 100, pay_all=pay_all))
    rng, account = np.random.default_rng(seed), [Segment() for _ in range(N)]
    expected: list[tuple[int, float]] = []
    settled: dict[int, Feedback] = {}
    chosen: set[int] = set()
    for t, outcome in enumerate(outcomes):
        reward, end = zip(*outcome, strict=True)
        beta, draw = rng.random(), rng.random(N)
        arm = playing.step(
            step(
                reward,
                terminated=[i for i, e in enumerate(end) if e == "done"],
                truncated=[i for i, e in enumerate(end) if e == "cut"],
            ),
            beta=beta,
            draw=draw,
        )
        for i, segment in enumerate(account):
            if segment.arm is None:
                assert arm[i] not in chosen
                chosen.add(arm[i])
                segment.arm, segment.led = int(arm[i]), bool(draw[i] < beta)
            assert (arm[i], playing.led[-1][i]) == (segment.arm, segment.led)
            if reward[i] or end[i]:
                if segment.led or pay_all:
                    expected.append((segment.arm, {1.0: 1.0, -1.0: 0.0, 0.0: 0.5}[reward[i]]))
                segment.arm = None
        if t % rounds == rounds - 1 or t == len(outcomes) - 1:
            settled.update(playing.assignment.settle())
            playing.assignment.begin()
    assert list(settled) == list(range(1, len(expected) + 1))
    assert [(f.arm[0], f.reward[0]) for f in settled.values()] == expected
    assert all(
        f.probability[0] == selector.probability(int(f.arm[0]) + 1) for f in settled.values()
    )
    assert sum(len(f.arm) for f in selector.learnt) == len(expected)


@pytest.mark.parametrize("beta", [0.2, 0.75])
def test_who_begins_a_segment_finishes_it_and_the_teachers_begin_a_share_of_beta(
    beta: float,
) -> None:
    playing = Playing(per_segment(Scripted(lambda choice: 0)))
    rng = np.random.default_rng(1)
    segments = 400
    for _ in range(segments):
        for t in range(3):
            won = [1.0 if t == 2 else 0.0] * N
            playing.step(step(won), beta=beta, draw=rng.random(N))
    led = np.stack(playing.led).reshape(segments, 3, N)
    assert (led == led[:, :1]).all()
    assert binomtest(int(led[:, 0].sum()), segments * N, beta).pvalue > 1e-3
    # Independent over environments and over time.
    first = led[:, 0].astype(float)
    assert np.abs(np.corrcoef(first.T) - np.eye(N)).max() < 0.2
    assert abs(np.corrcoef(first[1:].ravel(), first[:-1].ravel())[0, 1]) < 0.1
    # What is led alone is paid.
    assert len(playing.assignment.settle()) == led[:, 0].sum()


@pytest.mark.parametrize("pay_all", [False, True])
def test_the_students_own_segments_get_the_best_teacher_unless_they_are_paid(pay_all: bool) -> None:
    selector = real("ucb1", 0)
    rewards = np.array([0.9] * 40 + [0.8] * 40 + [0.7])
    arms = np.array([0] * 40 + [1] * 40 + [2])
    one = np.ones(len(arms))
    selector.update(Feedback(np.zeros((len(arms), 0)), arms, rewards, one))
    assignment = per_segment(selector, num_envs=2, pay_all=pay_all)
    assignment.begin()
    assignment.leads(0.5, np.array([0.0, 0.9]))
    # The bound of the arm tried once is the largest, the mean of the first one is.
    assert assignment.arms(np.zeros((2, 1, 2))).tolist() == [2, 2 if pay_all else 0]


# A teacher for each state.


class Told(ContextualSelector):
    """Draws arm k with probability context[k] over their sum; learns nothing."""

    def __init__(self, rng: np.random.Generator, *, num_arms: int = 2) -> None:
        super().__init__(num_arms=num_arms, rng=rng, context_dim=2)
        self.learnt: list[Feedback] = []

    def _tried(self) -> npt.NDArray[np.bool_]:
        return np.ones(self.num_arms, np.bool_)

    def _distribution(self, context: Floats, arms: Ints) -> Floats:
        left = context[:, arms]
        return np.asarray(left / left.sum(axis=1, keepdims=True))

    def _worth(self, context: Floats, arms: Ints) -> Floats:
        return context[:, arms]

    def _learn(self, feedback: Feedback) -> None:
        self.learnt.append(feedback)

    def _memory(self) -> State:
        return {}

    def _recall(self, memory: State) -> None:
        pass


def per_state(
    selector: ContextualSelector | None = None, *, seed: int = 0, **settings: Any
) -> PerState:
    rng = np.random.default_rng(seed)
    return PerState(
        selector or Told(np.random.default_rng(1)),
        **{
            "names": NAMES[:2],
            "credit": by_points(),
            "feature": READ,
            "num_envs": N,
            "rng": rng,
            "decay": 0.5,
            **settings,
        },
    )


def seen(*context: Sequence[float]) -> Array:
    """Return observations of that context, ``[N,1,2]``; one stands for all environments."""
    rows = np.array(context, np.float64)
    return np.broadcast_to(rows, (N, 2))[:, np.newaxis]


def test_one_draw_decides_all_choices_of_a_segment() -> None:
    playing = Playing(per_state())
    even, uneven = seen([0.5, 0.5]), seen([0.8, 0.2])
    arms: dict[float, list[Ints]] = {0.5: [], 0.8: []}
    for _ in range(500):
        segment = [playing.step(step([0.0] * N), obs=obs) for obs in (even, uneven, even, uneven)]
        segment.append(playing.step(step([1.0] * N), obs=even))
        for later in segment[2::2]:
            np.testing.assert_array_equal(later, segment[0])
        np.testing.assert_array_equal(segment[3], segment[1])
        # Where arm 0 is chosen with probability 0.5, it is with 0.8 as well.
        assert (segment[1] <= segment[0]).all()
        arms[0.5].append(segment[0])
        arms[0.8].append(segment[1])
    for share, chosen in arms.items():
        drawn = np.stack(chosen)
        assert binomtest(int((drawn == 0).sum()), drawn.size, share).pvalue > 1e-3
        # Environments and successive segments have draws of their own.
        assert np.abs(np.corrcoef(drawn.T) - np.eye(N)).max() < 0.2
        assert abs(np.corrcoef(drawn[1:].ravel(), drawn[:-1].ravel())[0, 1]) < 0.1


def test_a_segments_end_in_one_environment_leaves_the_draws_of_the_others() -> None:
    playing = Playing(per_state(seed=3))
    first = playing.step(step([0.0] * N), obs=seen([0.5, 0.5]))
    changed = np.zeros(N, np.bool_)
    for _ in range(30):
        now = playing.step(step([1.0, 0.0, 0.0, 0.0]), obs=seen([0.5, 0.5]))
        np.testing.assert_array_equal(now[1:], first[1:])
        changed |= now != first
    assert changed.tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("decay", "reward", "paid"),
    [
        (0.5, 1.0, [0.625, 0.75, 1.0]),
        (0.5, -4.0, [0.375, 0.25, 0.0]),
        (0.5, 0.0, [0.5, 0.5, 0.5]),
        (1.0, 2.0, [1.0, 1.0, 1.0]),
        (1.0, -1.0, [0.0, 0.0, 0.0]),
        (0.0, 1.0, [0.5, 0.5, 1.0]),
        (0.0, -1.0, [0.5, 0.5, 0.0]),
    ],
)
def test_credit_falls_with_the_steps_before_the_point(
    decay: float, reward: float, paid: list[float]
) -> None:
    selector = Told(np.random.default_rng(1))
    playing = Playing(per_state(selector, decay=decay))
    contexts = [seen([p, 1.0 - p]) for p in (0.875, 0.5, 0.25)]
    for obs, last in zip(contexts, (False, False, True), strict=True):
        end = [2] if last else []
        playing.step(step([0, 0, reward * last, 0], terminated=end), obs=obs)
    settled = playing.assignment.settle()
    assert list(settled) == [1]
    (segment,) = settled.values()
    arm = np.stack(playing.arm)[:, 2]
    np.testing.assert_allclose(segment.reward, paid)
    np.testing.assert_array_equal(segment.context, [[0.875, 0.125], [0.5, 0.5], [0.25, 0.75]])
    np.testing.assert_array_equal(segment.arm, arm)
    np.testing.assert_allclose(
        segment.probability, np.where(arm == 0, [0.875, 0.5, 0.25], [0.125, 0.5, 0.75])
    )
    (learnt,) = selector.learnt
    np.testing.assert_array_equal(learnt.reward, segment.reward)
    assert playing.assignment.metrics()["teachers/reward"] == pytest.approx(np.mean(paid))


def test_segments_that_end_together_are_settled_apart_and_learnt_at_once() -> None:
    selector = Told(np.random.default_rng(1))
    playing = Playing(per_state(selector))
    playing.step(step([0.0, 0.0, 0.0, 1.0]))
    playing.step(step([1.0, -1.0, 0.0, 0.0]))
    settled = playing.assignment.settle()
    assert [f.reward.tolist() for f in settled.values()] == [[1.0], [0.75, 1.0], [0.25, 0.0]]
    (learnt,) = selector.learnt
    assert learnt.reward.tolist() == [1.0, 0.75, 1.0, 0.25, 0.0]
    # What goes on is not lost: two steps so far, a third wins.
    playing.step(step([0.0, 0.0, 1.0, 0.0]))
    assert [f.reward.tolist() for f in playing.assignment.settle().values()] == [[0.625, 0.75, 1.0]]


def test_a_segment_of_the_student_pays_no_choice_unless_all_are_paid() -> None:
    for pay_all, numbers in ((False, [1, 2]), (True, [1, 2, 3, 4])):
        playing = Playing(per_state(pay_all=pay_all))
        draw = np.array([0.1, 0.9, 0.2, 0.8])
        playing.step(step([0.0] * N), beta=0.5, draw=draw)
        playing.step(step([1.0] * N), beta=0.5, draw=1.0 - draw)
        settled = playing.assignment.settle()
        assert list(settled) == numbers
        assert all(len(f.arm) == 2 for f in settled.values())


@pytest.mark.parametrize("pay_all", [False, True])
def test_in_the_students_own_segments_each_state_gets_its_best_teacher_unless_they_are_paid(
    pay_all: bool,
) -> None:
    playing = Playing(per_state(pay_all=pay_all))
    contexts = {1: seen([0.4, 0.6]), 0: seen([0.6, 0.4])}
    led = np.array([0.0, 0.9, 0.0, 0.9])
    agree: list[npt.NDArray[np.bool_]] = []
    for _ in range(200):
        for best, obs in contexts.items():
            outcome = step([float(best == 0)] * N)  # the second step ends the segment
            agree.append(playing.step(outcome, obs=obs, beta=0.5, draw=led) == best)
    share = np.mean(agree, axis=0)
    drawn = np.array([True, pay_all, True, pay_all])
    assert (share[~drawn] == 1.0).all()
    assert (np.abs(share[drawn] - 0.6) < 0.1).all()


# How far labels are trusted.


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        # Beta(9, 1) and Beta(1, 4): 0.9 - 0.2 = 0.7 > 1.645 sqrt(9/1100 + 4/150) = 0.307.
        ([(8, 8), (3, 0)], [True, False]),
        # Beta(9, 1) and Beta(4, 1): 0.1 < 0.307.
        ([(8, 8), (3, 3)], [True, True]),
        # Never tried: Beta(1, 1), 0.4 < 1.645 sqrt(9/1100 + 1/12) = 0.498.
        ([(8, 8), (0, 0)], [True, True]),
        ([(0, 0), (0, 0), (0, 0)], [True, True, True]),
        # Beta(41, 11) and Beta(31, 21): 0.1923 > 1.645 sqrt(0.003147 + 0.004543) = 0.1443.
        ([(50, 30), (50, 40), (50, 39)], [False, True, True]),
        # Beta(36, 16) instead: 0.0962 < 1.645 sqrt(0.003147 + 0.004020) = 0.1393.
        ([(50, 35), (50, 40), (50, 39)], [True, True, True]),
    ],
)
def test_a_teacher_is_eliminated_once_its_mean_is_clearly_below_the_best(
    arms: list[tuple[float, float]], expected: list[bool]
) -> None:
    count, total = np.array(arms, np.float64).T
    assert not_worse(count, total, np.arange(len(arms))).tolist() == expected


def test_the_best_is_one_of_those_that_are_left() -> None:
    count, total = np.full(4, 50.0), np.array([50.0, 25.0, 24.0, 5.0])
    assert not_worse(count, total, np.arange(4)).tolist() == [True, False, False, False]
    assert not_worse(count, total, np.array([1, 2, 3])).tolist() == [True, True, True, False]


def pay(assignment: PerRound | PerSegment, arm: int, rewards: Sequence[float]) -> None:
    """Settle rounds, or one environment's segments, of which ``arm`` is paid so."""
    for reward in rewards:
        assert isinstance(assignment.selector, Scripted)
        assignment.selector._script = lambda choice: arm
        assignment.begin()
        obs = np.zeros((1, 1, 2))
        assignment.leads(1.0, np.zeros(1))
        assert assignment.arms(obs).tolist() == [arm]
        assignment.paid(step([2.0 * reward - 1.0]))
        assignment.settle()


def test_per_round_all_labels_are_trusted_since_pay_rises_with_the_student() -> None:
    assignment = per_round(Scripted(lambda choice: 0))
    pay(assignment, 0, [1.0] * 8)
    pay(assignment, 1, [0.0] * 8)
    assert assignment.trust(np.zeros((2, 1, 2)), np.array([0, 1])) is None


def test_labels_are_trusted_as_far_as_their_teachers_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assignment = per_segment(Scripted(lambda choice: 0), num_envs=1)
    obs, arm = np.zeros((5, 1, 2)), np.array([0, 1, 1, 2, 0])

    def trust() -> list[float]:
        trusted = assignment.trust(obs, arm)
        assert trusted is not None
        return list(trusted)

    assert trust() == [1.0] * 5
    pay(assignment, 0, [1.0] * 8)
    pay(assignment, 1, [0.0] * 3)
    assert trust() == [1.0, 0.0, 0.0, 1.0, 1.0]
    # Beta(9, 1) is gone; Beta(1, 1) and Beta(1, 4): 0.3 < 1.645 sqrt(1/12 + 4/150) = 0.546.
    assignment.drop(0, "ill")
    assert trust() == [1.0] * 5
    pay(assignment, 2, [1.0] * 4)
    assert trust() == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert capsys.readouterr().err == "warning: teacher ann is set aside: ill\n"


def test_per_state_a_label_is_trusted_by_the_odds_of_its_teacher_there() -> None:
    obs = np.array([[[0.5, 0.5]], [[0.8, 0.2]], [[0.8, 0.2]], [[0.1, 0.9]]])
    trust = per_state().trust(obs, np.array([1, 0, 1, 0]))
    assert trust is not None
    np.testing.assert_allclose(trust, [1.0, 1.0, 0.25, 1 / 9])


def test_per_state_all_labels_are_trusted_until_every_teacher_has_been_tried() -> None:
    selector = real("linear-thompson", 0, num_arms=2)
    assignment = per_state(selector)
    obs, arm = np.array([[[0.5, 0.5]], [[0.5, 0.5]]]), np.array([0, 1])
    assert assignment.trust(obs, arm) is None
    half = Feedback(np.array([[0.5, 0.5]]), np.array([0]), np.array([1.0]), np.array([0.5]))
    selector.update(half)
    assert assignment.trust(obs, arm) is None
    selector.update(replace(half, arm=np.array([1]), reward=np.array([0.0])))
    trust = assignment.trust(obs, arm)
    assert trust is not None
    assert trust[0] == 1.0 > trust[1] > 0.0


def test_per_state_the_best_is_trusted_though_a_bonus_passes_it_over() -> None:
    selector = real("linucb:alpha=2", 0, num_arms=2)
    arm = np.array([0] * 40 + [1])
    context = np.full((41, 2), 0.5)
    reward = np.array([0.9] * 40 + [0.5])
    selector.update(Feedback(context, arm, reward, np.ones(41)))
    obs = np.full((2, 1, 2), 0.5)
    assert selector.choose(context[:1]).arm.tolist() == [1]
    trust = per_state(selector).trust(obs, np.array([0, 1]))
    assert trust is not None
    assert trust.tolist() == [1.0, 1.0]


def test_alone_there_is_nothing_to_choose_or_to_trust() -> None:
    alone = Alone()
    assert one_round(alone, step([1.0] * N)) == {}
    assert alone.arms(OBS).tolist() == [0] * N
    assert alone.trust(OBS, np.zeros(N, np.int64)) is None
    assert alone.metrics() == alone.state() == {}
    with pytest.raises(UserError, match="the teacher failed: NaN at 3"):
        alone.drop(0, "NaN at 3")


# A teacher that fails.

Maker = Callable[[str, int], PerRound | PerSegment | PerState]
"""(selector, seed) -> assignment of three teachers."""


def real(text: str, seed: int, *, num_arms: int = 3) -> Any:
    rng = np.random.default_rng(seed)
    return build_selector(text, num_arms=num_arms, rng=rng, context_dim=2)


def real_per_round(text: str, seed: int) -> PerRound:
    return per_round(real(text, seed), "improvement")


def ranked_per_round(text: str, seed: int) -> PerRound:
    return per_round(real(text, seed), "improvement", scale=Ranks())


def real_per_segment(text: str, seed: int) -> PerSegment:
    return per_segment(real(text, seed))


def ranked_per_segment(text: str, seed: int) -> PerSegment:
    return per_segment(real(text, seed), credit=SegmentReturn(N))


def real_per_state(text: str, seed: int) -> PerState:
    return per_state(real(text, seed), seed=seed + 50, names=NAMES)


def ranked_per_state(text: str, seed: int) -> PerState:
    return per_state(real(text, seed), seed=seed, names=NAMES, credit=SegmentReturn(N), decay=1.0)


MAKERS: list[tuple[Maker, str]] = [
    *((real_per_round, name) for name in ("thompson-beta", "sliding-window-ucb:window=5", "exp3")),
    (ranked_per_round, "thompson-beta"),
    *((real_per_segment, name) for name in ("thompson-beta", "discounted-ucb", "best-first")),
    (ranked_per_segment, "thompson-beta"),
    *((real_per_state, name) for name in ("direct:explore=squarecb", "linear-thompson")),
    (ranked_per_state, "doubly-robust"),
]
each_assignment = pytest.mark.parametrize(("make", "selector"), MAKERS)


def outcomes(seed: int, steps: int) -> list[tuple[Array, Array, Step]]:
    """Return (obs, draw, step) of a game where few steps bring a point or an end."""
    rng = np.random.default_rng(seed)

    def one() -> tuple[Array, Array, Step]:
        reward = rng.choice([0.0, 1.0, -1.0], N, p=[0.7, 0.2, 0.1])
        ends = [np.flatnonzero(rng.random(N) < 0.05).tolist() for _ in range(2)]
        ends[1] = [i for i in ends[1] if i not in ends[0]]
        returns = rng.uniform(0.0, 100.0, len(ends[0]) + len(ends[1])).tolist()
        outcome = step(reward.tolist(), terminated=ends[0], truncated=ends[1], returns=returns)
        return rng.random((N, 1, 2)), rng.random(N), outcome

    return [one() for _ in range(steps)]


def drive(assignment: Assignment, *, seed: int, rounds: int) -> list[Any]:
    """Return all that an assignment says in rounds of ten steps."""
    said: list[Any] = []
    for number in range(rounds):
        assignment.begin()
        for obs, draw, outcome in outcomes(100 * seed + number, 10):
            said.append(assignment.leads(0.6, draw).tolist())
            said.append(assignment.arms(obs).tolist())
            assert assignment.arms(obs).tolist() == said[-1]
            assignment.paid(outcome)
        for n, f in assignment.settle().items():
            said.append((n, *(part.tolist() for part in vars(f).values())))
        said.append(assignment.metrics())
        trust = assignment.trust(np.random.default_rng(7).random((6, 1, 2)), np.arange(6) % 3)
        said.append(None if trust is None else trust.tolist())
    return said


@each_assignment
def test_asking_for_the_teachers_again_draws_no_more(make: Maker, selector: str) -> None:
    once, often = make(selector, 0), make(selector, 0)
    for assignment, times in ((once, 1), (often, 4)):
        for number in range(3):
            assignment.begin()
            for obs, draw, outcome in outcomes(number, 20):
                assignment.leads(0.6, draw)
                for _ in range(times):
                    assignment.arms(obs)
                assignment.paid(outcome)
            assignment.settle()
    assert pack_state(often.state()) == pack_state(once.state())


@pytest.mark.parametrize("make", [real_per_segment, real_per_state])
def test_what_is_asked_out_of_order_is_an_error_where_it_would_matter(make: Maker) -> None:
    assignment = make("thompson-beta" if make is real_per_segment else "direct", 0)
    assignment.begin()
    with pytest.raises(RuntimeError, match="leads"):
        assignment.arms(OBS)
    with pytest.raises(RuntimeError, match="leads"):
        assignment.paid(step([0.0] * N))
    led = assignment.leads(0.5, np.array([0.1, 0.9, 0.2, 0.8])).tolist()
    # Who acts in a segment that has begun is settled.
    assert assignment.leads(0.5, np.array([0.9, 0.1, 0.8, 0.2])).tolist() == led
    if isinstance(assignment, PerState):
        with pytest.raises(RuntimeError, match="arms"):
            assignment.paid(step([0.0] * N))
    assignment.arms(OBS)
    assignment.paid(step([0.0, 0.0, 1.0, 0.0]))
    with pytest.raises(RuntimeError, match="leads"):
        assignment.arms(OBS)


@each_assignment
def test_a_teacher_that_fails_is_set_aside_with_a_warning_and_another_takes_its_place(
    make: Maker, selector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assignment = make(selector, 0)
    drive(assignment, seed=1, rounds=3)
    assignment.begin()
    obs, draw, outcome = outcomes(5, 1)[0]
    assignment.leads(1.0, draw)
    before = assignment.arms(obs)
    gone = int(before[0])
    assignment.drop(gone, "NaN at env step 9")
    assert capsys.readouterr().err == (
        f"warning: teacher {NAMES[gone]} is set aside: NaN at env step 9\n"
    )
    after = assignment.arms(obs)
    assert gone not in after
    assignment.paid(outcome)
    for obs, draw, outcome in outcomes(6, 60):
        assignment.leads(1.0, draw)
        assert gone not in assignment.arms(obs)
        assignment.paid(outcome)
    for f in assignment.settle().values():
        assert np.isfinite(f.reward).all()
    second, third = (k for k in range(3) if k != gone)
    assignment.drop(second, "ill")
    assignment.leads(1.0, draw)
    assert (assignment.arms(obs) == third).all()
    with pytest.raises(UserError, match=f"teacher {NAMES[third]} failed, and no other is left: c"):
        assignment.drop(third, "cold")


def test_a_segment_goes_on_with_another_teacher_and_pays_that_one() -> None:
    arms = iter([0, 1, 1, 2, 2, 0])
    playing = Playing(per_segment(Scripted(lambda choice: next(arms))))
    assert playing.step(step([0.0] * N)).tolist() == [0, 1, 1, 2]
    playing.assignment.drop(1, "ill")
    assert playing.step(step([1.0] * N)).tolist() == [0, 2, 0, 2]
    settled = playing.assignment.settle()
    assert [f.arm[0] for f in settled.values()] == [0, 2, 0, 2]
    assert [f.probability[0] for f in settled.values()] == [1 / 2, 1 / 6, 1 / 7, 1 / 5]


def test_in_a_segment_of_states_the_choices_of_a_failed_teacher_are_still_paid() -> None:
    selector = Told(np.random.default_rng(1))
    playing = Playing(per_state(selector))
    first = playing.step(step([0.0] * N), obs=seen([0.5, 0.5])).copy()
    playing.assignment.drop(0, "ill")
    playing.step(step([1.0] * N), obs=seen([0.5, 0.5]))
    settled = playing.assignment.settle()
    assert [f.arm.tolist() for f in settled.values()] == [[arm, 1] for arm in first]
    assert {f.probability[1] for f in settled.values()} == {1.0}


# Going on.


@pytest.mark.parametrize("dropped", [False, True])
@each_assignment
def test_a_restored_assignment_goes_on_identically(
    make: Maker, selector: str, dropped: bool, tmp_path: Path
) -> None:
    assignment, restored = make(selector, 0), make(selector, 9)
    drive(assignment, seed=1, rounds=1 if dropped else 7)  # after one, segments wait to be paid
    if dropped:
        assignment.drop(1, "ill")
    drive(restored, seed=2, rounds=2)  # what it did before must not shine through
    state = assignment.state()
    if not isinstance(assignment, PerRound):  # segments are under way
        assert not state["fresh"].all()
    (tmp_path / "state").write_bytes(pack_state(state))
    restored.restore(unpack_state(tmp_path / "state"))
    assert pack_state(restored.state()) == pack_state(assignment.state())
    assert drive(restored, seed=3, rounds=5) == drive(assignment, seed=3, rounds=5)
    assert pack_state(restored.state()) == pack_state(assignment.state())


@each_assignment
def test_a_state_is_a_copy_and_may_be_of_the_very_beginning(
    make: Maker, selector: str, tmp_path: Path
) -> None:
    assignment = make(selector, 0)
    (tmp_path / "state").write_bytes(pack_state(assignment.state()))
    live, saved = assignment.state(), unpack_state(tmp_path / "state")
    said = drive(assignment, seed=1, rounds=3)
    for state in (live, saved):
        again = make(selector, 9)
        again.restore(state)
        assert drive(again, seed=1, rounds=3) == said


def test_arms_of_a_segment_are_drawn_as_often_as_their_probabilities_say() -> None:
    assignment = real_per_state("direct:explore=squarecb", 0)
    drive(assignment, seed=1, rounds=2)
    obs = np.broadcast_to([[0.3, 0.8]], (N, 1, 2))
    expected = assignment.selector.probabilities(READ.of(obs[:1]))[0]
    counts = np.zeros(3)
    for _ in range(600):
        assignment.leads(1.0, np.zeros(N))
        counts += np.bincount(assignment.arms(obs), minlength=3)
        assignment.paid(step([1.0] * N))
    assert chisquare(counts, expected * counts.sum()).pvalue > 1e-3
