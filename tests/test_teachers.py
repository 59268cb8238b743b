"""Teachers: each labels the states of its own environments, and what one does wrong is named."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.fakes import Counter
from tests.players import cartpole_model
from tutelage.domains import EnvironmentConfig, make
from tutelage.errors import UserError
from tutelage.files import pack_state, unpack_state
from tutelage.heads import Categorical, Gaussian, Head, Point, QValues
from tutelage.importers import import_model
from tutelage.policies import Function, Memoryless, Model, Policy
from tutelage.recipes.assembly import check_fits
from tutelage.schema import build
from tutelage.teachers import Ensemble, Teacher, TeacherError, load_teachers, parse_teacher
from tutelage.text import words_of
from tutelage.wrappers import parse_wrapper


@dataclass
class Counted(Memoryless):
    """A policy of two actions that counts: q = (sign * the state's number, 1)."""

    sign: float = 1.0
    broken: float | None = None
    """The state for which it says NaN."""
    head: Head = field(default_factory=lambda: QValues(2))
    calls: list[int] = field(default_factory=list)

    def __call__(self, obs: Tensor) -> Tensor:
        self.calls.append(len(obs))
        state = obs[:, -1, 0].float()
        q = torch.stack([self.sign * state, torch.ones(len(obs))], dim=1)
        if self.broken is not None:
            q[state == self.broken, 1] = torch.nan
        return q


def staff_of(*teachers: tuple[Policy, str], seed: int = 0) -> Ensemble:
    """Return an ensemble of policies with their wrappers, such as ``+negate``."""
    return Ensemble(
        [
            Teacher(f"{i}{text}", policy, tuple(parse_wrapper(w, {}) for w in text.split("+")[1:]))
            for i, (policy, text) in enumerate(teachers)
        ],
        seed=seed,
    )


def states(*numbers: int) -> Tensor:
    """Return ``obs[N,2,1]``: each number and before it its hundredfold."""
    return torch.tensor([[[100.0 * n], [float(n)]] for n in numbers])


def arms(*of: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(of, np.int64)


def test_copies_of_a_network_share_one_pass_and_only_those_asked_do_anything() -> None:
    mine, yours, idle = Counted(), Counted(sign=2.0), Counted()
    ensemble = staff_of((mine, ""), (yours, ""), (mine, "+negate"), (idle, ""), (mine, "+delay:1"))
    q = ensemble(states(1, 2, 3, 4, 5, 6), np.array([2, 1, 0, 4, 2, 1]), 0)
    assert q[:, 0].tolist() == [-1.0, 4.0, 3.0, 400.0, -5.0, 12.0]
    assert q[:, 1].tolist() == [-1.0, 1.0, 1.0, 1.0, -1.0, 1.0]
    assert (mine.calls, yours.calls, idle.calls) == ([4], [2], [])
    ensemble(states(7), np.array([3]), 8)
    assert (mine.calls, yours.calls, idle.calls) == ([4], [2], [1])


@given(arm=st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_rows_come_back_in_their_order(arm: list[int]) -> None:
    mine, yours = Counted(), Counted(sign=2.0)
    ensemble = staff_of((yours, "+scale:3"), (mine, ""), (mine, "+negate"), (yours, ""), (mine, ""))
    sign = np.array([6.0, 1.0, -1.0, 2.0, 1.0])
    q = ensemble(states(*range(len(arm))), np.array(arm), 0)
    np.testing.assert_array_equal(q[:, 0], sign[arm] * np.arange(len(arm)))
    assert len(mine.calls) == int(any(k in (1, 2, 4) for k in arm))
    assert len(yours.calls) == int(any(k in (0, 3) for k in arm))


def test_a_teachers_noise_does_not_depend_on_who_else_is_asked() -> None:
    mine = Counted()
    ensemble = staff_of((mine, "+noise:1"), (mine, "+noise:1"), (Counted(), ""))
    together = ensemble(states(1, 2, 3, 4), np.array([0, 1, 2, 0]), 64)
    alone = ensemble(states(1, 4), np.array([0, 0]), 64)
    torch.testing.assert_close(together[[0, 3]], alone, rtol=0, atol=0)


def test_the_teacher_that_says_nan_is_named() -> None:
    mine = Counted(broken=3.0)
    ensemble = staff_of((Counted(), ""), (mine, ""), (mine, "+negate"), (mine, "+noise:1"))
    obs = states(1, 2, 3, 4)
    for culprit in (1, 2, 3):
        arm = np.array([1, 2, culprit, 3])
        with pytest.raises(TeacherError, match=r"NaN .* env step 24") as raised:
            ensemble(obs, arm, 24)
        assert raised.value.arm == culprit
    assert ensemble(obs, np.array([1, 2, 0, 3]), 24).isfinite().all()


def test_a_teacher_that_says_infinity_through_its_wrapper_alone_is_named() -> None:
    big = Counted(sign=1e38)
    ensemble = staff_of((big, ""), (big, "+scale:100"))
    with pytest.raises(TeacherError) as raised:
        ensemble(states(1, 2), np.array([0, 1]), 0)
    assert raised.value.arm == 1


def test_the_teacher_that_raises_is_named() -> None:
    def broken(obs: Tensor) -> Tensor:
        raise ZeroDivisionError("no luck")

    policy = Function(broken, QValues(2))
    ensemble = staff_of((Counted(), ""), (Counted(), ""), (policy, "+negate"), (policy, ""))
    for arm, culprit in ([0, 1, 2], 2), ([3, 1, 0], 3), ([3, 1, 2], 2):
        with pytest.raises(TeacherError, match=r"ZeroDivisionError\('no luck'\)") as raised:
            ensemble(states(1, 2, 3), np.array(arm), 0)
        assert raised.value.arm == culprit
        assert isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("shape", [(0, 2), (1, 2), (3, 2), (2, 3), (2,)])
def test_a_teacher_that_answers_in_another_shape_is_named(shape: tuple[int, ...]) -> None:
    odd = Function(lambda obs: torch.zeros(shape), QValues(2))
    ensemble = staff_of((Counted(), ""), (odd, ""))
    with pytest.raises(TeacherError) as raised:
        ensemble(states(1, 2, 3), np.array([0, 1, 1]), 0)
    assert raised.value.arm == 1


def test_a_wrapper_that_does_not_fit_is_the_users_mistake() -> None:
    ensemble = staff_of((Counted(), ""), (Counted(), "+delay:2"))
    with pytest.raises(UserError, match="stack of 2") as raised:
        ensemble(states(1, 2), np.array([0, 1]), 0)
    assert not isinstance(raised.value, TeacherError)
    with pytest.raises(UserError, match="stack of 2"):
        ensemble.check(states(1, 2))


def test_a_check_asks_every_teacher_and_lets_it_fail() -> None:
    networks = Counted(broken=1.0), Counted(), Counted()
    staff_of(*((network, "+delay:1") for network in networks)).check(states(1, 2))
    assert [network.calls for network in networks] == [[1], [1], [1]]


def test_a_teacher_alone_plays_with_a_noise_that_is_another_in_each_call() -> None:
    ensemble = staff_of((Counted(), ""), (Counted(sign=3.0), "+noise:1"), seed=4)
    obs = states(*range(200))
    one, again = ensemble.alone(1), ensemble.alone(1)
    first, second = (one.step(obs, ())[0] for _ in range(2))
    assert torch.equal(again.step(obs, ())[0], first)
    assert torch.equal(again.step(obs, ())[0], second)
    noise = torch.stack(
        [q - torch.stack([obs[:, 1, 0] * 3.0, torch.ones(200)], 1) for q in (first, second)]
    )
    assert abs(np.corrcoef(noise.flatten(1).numpy())[0, 1]) < 0.2
    assert ensemble.alone(0).step(states(7), ())[0].tolist() == [[7.0, 1.0]]


def test_actions_that_a_teacher_rules_out_stay_so_and_all_of_them_are_no_label() -> None:
    masked = Function(lambda obs: torch.tensor([[-torch.inf, 2.0]] * len(obs)), QValues(2))
    ensemble = staff_of((masked, "+negate+noise:1+scale:3"))
    label = ensemble(states(1, 2), arms(0, 0), 0)
    assert label[:, 0].tolist() == [-torch.inf] * 2
    assert label[:, 1].isfinite().all()
    nothing = Function(lambda obs: torch.full((len(obs), 2), -torch.inf), QValues(2))
    with pytest.raises(TeacherError):
        staff_of((nothing, ""))(states(1), arms(0), 0)


# What they say, in one language.


def test_a_student_of_another_temperature_teaches_values() -> None:
    """Q / tau, as a network taught at tau says it, becomes Q again."""
    cold = Counted(head=QValues(2, temperature=0.1))
    ensemble = staff_of((cold, "+scale:2"), (Counted(), ""))
    label = ensemble(states(5, 5), arms(0, 1), 0)
    torch.testing.assert_close(label, torch.tensor([[1.0, 0.2], [5.0, 1.0]]))
    assert ensemble.head == QValues(2)


def test_values_beside_logits_become_logits_and_distributions_the_action_meant() -> None:
    ensemble = staff_of((Counted(), "+scale:3"), (Counted(head=Categorical(2)), ""))
    assert ensemble.head == Categorical(2)
    label = ensemble(states(2, 2), arms(0, 1), 0)
    torch.testing.assert_close(label, torch.tensor([[60.0, 30.0], [2.0, 1.0]]))  # of tau 0.1
    wide = Function(lambda obs: torch.tensor([[3.0, 0.0]] * len(obs)), Gaussian(1, squashed=True))
    ensemble = staff_of((wide, ""), (Function(lambda obs: obs[:, -1] / 4.0, Point(1)), ""))
    assert ensemble.head == Point(1)
    label = ensemble(states(1, 2), arms(0, 1), 0)
    torch.testing.assert_close(label, torch.tensor([[np.tanh(3.0)], [0.5]]).float())


@pytest.mark.parametrize("other", [QValues(3), Point(2), Gaussian(1)])
def test_teachers_of_different_actions_are_refused(other: Head) -> None:
    with pytest.raises(UserError, match="different actions"):
        staff_of((Counted(), ""), (Counted(head=other), ""))
    with pytest.raises(UserError, match="no teachers"):
        Ensemble([])


# Teachers with a memory.


def test_a_memory_sees_every_state_though_another_teacher_is_asked() -> None:
    mine, other = Counter(), Counted()
    ensemble = staff_of((mine, ""), (other, ""), (mine, "+negate"))
    obs = states(1, 2, 3)
    ensemble(obs, arms(1, 1, 1), 0)
    ensemble(obs, arms(1, 1, 1), 3)
    # Asked twice in one env step, as where a teacher leads, it remembers the step once.
    for arm in (arms(1, 1, 1), arms(0, 2, 1)):
        label = ensemble(obs, arm, 6)
    assert label[:2].tolist() == [[0.0, 3.0], [0.0, -3.0]]
    ensemble.ended(np.array([False, True, False]))
    label = ensemble(obs, arms(0, 0, 2), 9)
    assert label[:, 1].tolist() == [4.0, 1.0, -4.0]


def test_a_memory_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    one, two = (staff_of((Counter(), ""), (Counted(), "")) for _ in range(2))
    for step in range(5):
        one(states(1, 2), arms(1, 1), step)
        one.ended(np.array([step == 2, False]))
    (tmp_path / "state").write_bytes(pack_state(one.state()))
    two.restore(unpack_state(tmp_path / "state"))
    label = two(states(1, 2), arms(0, 0), 5)
    assert label[:, 1].tolist() == [3.0, 6.0]
    assert torch.equal(label, one(states(1, 2), arms(0, 0), 5))


def test_a_memory_that_fails_matters_once_it_is_asked_and_then_always(tmp_path: Path) -> None:
    ensemble = staff_of((Counter(failing_at=2), ""), (Counted(), ""))
    obs = states(1, 2)
    for step in range(4):  # at the second step it fails, unasked
        assert ensemble(obs, arms(1, 1), step)[:, 0].tolist() == [1.0, 2.0]
    (tmp_path / "state").write_bytes(pack_state(ensemble.state()))
    again = staff_of((Counter(failing_at=2), ""), (Counted(), ""))
    again.restore(unpack_state(tmp_path / "state"))
    for one in (ensemble, again):
        for _ in range(2):
            with pytest.raises(TeacherError, match="lost count") as raised:
                one(obs, arms(0, 1), 4)
            assert raised.value.arm == 0
        assert one(obs, arms(1, 1), 4)[:, 0].tolist() == [1.0, 2.0]


def test_a_check_leaves_no_memory_behind() -> None:
    ensemble = staff_of((Counter(), ""), (Counter(failing_at=1), ""))
    ensemble.check(states(1, 2))
    assert ensemble(states(1, 2), arms(0, 0), 0)[:, 1].tolist() == [1.0, 1.0]


# By their names.


def load(*names: str) -> tuple[Ensemble, dict[str, Model]]:
    return load_teachers(names, device=torch.device("cpu"), seed=3, regions=lambda model: {})


def test_a_model_is_loaded_once_for_all_of_its_copies(tmp_path: Path) -> None:
    one, two = (cartpole_model(tmp_path / f"{name}.safetensors") for name in "ab")
    names = (f"{one}+noise:1", two, one, f"{one}+negate")
    ensemble, models = load(*names)
    assert list(models) == [one, two]
    assert tuple(teacher.name for teacher in ensemble.teachers) == names
    policies = [teacher.policy for teacher in ensemble.teachers]
    assert [policies.index(policy) for policy in policies] == [0, 1, 0, 0]
    obs = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0))
    expected, _ = import_model(one).policy.step(obs, ())
    torch.testing.assert_close(ensemble(obs, arms(2, 3), 0)[1], -expected[1])


def test_a_name_and_its_wrappers_are_written_with_plus_signs(tmp_path: Path) -> None:
    assert parse_teacher("pong") == ("pong", ())
    assert parse_teacher("runs/x.y+noise:0.5+negate") == ("runs/x.y", ("noise:0.5", "negate"))
    # What is no wrapper is an option of the file's.
    own = "tests.fakes:shout:2"
    assert parse_teacher(f"a.zip+{own}+head:q") == ("a.zip+head:q", (own,))
    assert parse_teacher("a.zip+heads:q") == ("a.zip+heads:q", ())  # a slip: no such module
    assert parse_teacher("a.zip+negate+activation:tanh") == ("a.zip+activation:tanh", ("negate",))
    path = cartpole_model(tmp_path / "t.safetensors")
    for name, words in (
        ("", "no model"),
        ("+negate", "no model"),
        (f"{path}+loud", "'loud'"),
        (f"{path}+noise:-1", "noise"),
        (f"{path}+restrict:ball-top", "no region"),
        ("nobody+negate", "'nobody'"),
    ):
        with pytest.raises(UserError, match=words):
            load(name)


@pytest.mark.parametrize(
    ("head", "env", "words"),
    [
        (QValues(2), "CartPole-v1", []),
        (Categorical(2), "CartPole-v1", []),
        (QValues(2), "Acrobot-v1", ["sees 4 numbers", "gives 6 numbers"]),
        (QValues(3), "CartPole-v1", ["chooses among 3 actions", "has 2 actions"]),
        (Point(2), "CartPole-v1", ["acts by 2 numbers", "has 2 actions"]),
    ],
)
def test_a_model_fits_what_it_was_made_for_and_is_refused_showing_both(
    head: Head, env: str, words: Sequence[str], tmp_path: Path
) -> None:
    model = import_model(cartpole_model(tmp_path / "t.safetensors", head=head))
    config = build(EnvironmentConfig, {"env": env, "num_envs": 1})
    envs = make(config, seed=1)
    if not words:
        check_fits(model, config, envs)
        return
    with pytest.raises(UserError) as caught:
        check_fits(model, config, envs)
    assert all(word in str(caught.value) for word in (*words, model.name, env))


def test_a_plus_may_be_part_of_a_files_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x+y").mkdir()
    for name in ("a.zip", "a+b.zip", "x+y/c+1.pt", "s+1.pkl", "s.pkl"):
        (tmp_path / name).touch()
    for words in (
        ["a.zip", "noise:1", "negate"],
        ["a+b.zip", "noise:1"],
        ["torchscript:x+y/c+1.pt", "head:q"],
        ["my.module:read:a+b.zip", "vecnormalize:s+1.pkl", "negate"],
        ["a.zip", "vecnormalize:s.pkl", "noise:1"],
        ["x+y"],
        ["gone+b.zip", "noise:0.5"],  # what is not there
    ):
        assert words_of("+".join(words)) == words
