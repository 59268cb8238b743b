"""DistillBench: settings chosen, runs resumed, students handed over, a page made by known sums."""

import json
import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.policies import ActorCriticPolicy

from reproduction.peers import running
from reproduction.peers.drivers.common import Clock, Spec, student
from reproduction.peers.drivers.sb3 import Acting, network_of
from reproduction.peers.jobs import JOBS, METHODS, Job
from reproduction.peers.page import mean_of, page
from reproduction.peers.running import ROWS, TUNING, Place, Run, carry_out, chosen, runs_of
from reproduction.records import read
from tutelage.errors import UserError

ROOT = Path(__file__).parent.parent
JOB = "ppo-lunarlander"
VERSIONS = {"commit": "c" * 40, "machine": "a machine"}
PEER = {"gymnasium": "1.0"}


def row(method: str, seed: int, value: float, **more: Any) -> dict[str, Any]:
    return {
        "job": JOB,
        "method": method,
        "seed": seed,
        "settings": {},
        "budget": 2_000,
        "env_steps": 2_048,
        "seconds": 9.0,
        "cpu_seconds": 3.0,
        "parameters": 916,
        "returns": [value - 1.0, value + 1.0],
        "peer": PEER,
        "versions": VERSIONS,
        **more,
    }


def references(teacher: float, random: float) -> list[dict[str, Any]]:
    return [
        {"job": JOB, "what": what, "returns": [value], "versions": VERSIONS}
        for what, value in (("teacher", teacher), ("random", random))
    ]


def tried(method: str, values: list[float]) -> list[dict[str, Any]]:
    at = {"budget": JOBS[JOB].tuned_at}
    choices = METHODS[method].choices
    return [
        row(method, 0, value, settings=of, **at) for of, value in zip(choices, values, strict=True)
    ]


def test_the_first_choice_of_every_method_is_its_own_settings() -> None:
    for name, method in METHODS.items():
        first, *others = method.choices
        assert first == {}
        assert all(others)
        assert len(others) == (0 if name == "tutelage-4" else 3)  # all have the same trials


def test_settings_are_chosen_once_all_were_tried() -> None:
    rows = tried("d3rlpy-bc", [1.0, 4.0, 3.0, 4.0])
    assert chosen(JOB, "d3rlpy-bc", rows[:3]) is None
    assert chosen(JOB, "d3rlpy-bc", rows) == {"n_steps": 30_000}  # the first of two equal ones
    other = [{**one, "budget": 2_000} for one in rows]
    assert chosen(JOB, "d3rlpy-bc", other) is None
    settings = [one.settings for one in runs_of(JOB, "d3rlpy-bc", 1, rows)]
    assert settings == [{}, {"n_steps": 30_000}]
    own = tried("d3rlpy-bc", [5.0, 4.0, 3.0, 4.0])
    assert [one.settings for one in runs_of(JOB, "d3rlpy-bc", 1, own)] == [{}]


def test_the_mean_over_seeds_has_a_t_interval() -> None:
    found = mean_of([1.0, 2.0, 3.0])
    assert found.middle == 2.0
    assert found.high - 2.0 == pytest.approx(4.302653 / math.sqrt(3.0))  # t of 2, sd of 1
    assert not math.isfinite(mean_of([1.0]).high)


def test_the_page_says_first_where_another_library_is_better() -> None:
    ours = [row("tutelage", seed, 100.0 + seed) for seed in (1, 2, 3)]
    better = [row("d3rlpy-bc", seed, 150.0 + seed) for seed in (1, 2, 3)]
    worse = [row("imitation-bc", seed, 50.0 + seed) for seed in (1, 2, 3)]
    even = [row("sb3-distill-ppd", seed, 100.5 + seed) for seed in (1, 2, 3)]
    alone = [row("imitation-dagger", 1, 10.0)]
    text = page([*references(200.0, -100.0), *ours, *better, *worse, *even, *alone], [])
    told = " ".join(text.split())
    assert (
        "Of 4 comparisons another library is better in 1, Tutelage is better in 1, they are as "
        "good as equal in 1, nothing is settled in 1."
    ) in told
    at = "d3rlpy, BC on PPO, LunarLander-v3 at 2,000 env steps: 152.0 to 102.0, 50.0 (47.7 … 52.3)"
    assert at in told
    assert text.index("d3rlpy, BC on PPO") < text.index("What was decided")
    assert "the margin is 15.0" in text
    assert "| imitation, DAgger | 1 | 10.0 |" in text
    assert "| d3rlpy, BC | **-50.0 (-52.3 … -47.7)** |" in text
    assert "| imitation, DAgger | 92.0 |" in text  # one seed settles nothing
    assert "| Tutelage | 3 | 102.0 (99.5 … 104.5) |" in text


def test_tuned_methods_stand_beside_their_own_settings() -> None:
    tuning = tried("d3rlpy-bc", [1.0, 4.0, 3.0, 2.0])
    rows = [
        *references(200.0, -100.0),
        *(row("tutelage", seed, 100.0 + seed) for seed in (1, 2)),
        *(row("d3rlpy-bc", seed, 50.0 + seed) for seed in (1, 2)),
        *(row("d3rlpy-bc", seed, 120.0 + seed, settings={"n_steps": 30_000}) for seed in (1, 2)),
    ]
    text = page(rows, [*tuning, *tried("tutelage", [9.0, 8.0, 7.0, 6.0])])
    assert "| d3rlpy, BC | 2 | 51.5 " in text
    assert "| d3rlpy, BC, tuned | 2 | 121.5 " in text
    by_own, as_tuned = " ".join(text.split()).split("**Each as tuned.**")
    assert "Tutelage is better in 1" in by_own
    assert "d3rlpy, BC, tuned on PPO" in as_tuned  # Tutelage's own settings were chosen for it
    assert "| n_steps=30000 | its own 1.0; n_steps=30000 4.0;" in text


@pytest.mark.parametrize("space", [Discrete(4), Box(-1.0, 1.0, (3,), np.float32)])
def test_what_is_written_of_a_student_acts_as_its_library_does(space: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = ActorCriticPolicy(
        Box(-3.0, 3.0, (5,), np.float32), space, lambda _: 1e-3, net_arch=[7, 6], log_std_init=1.0
    )
    with torch.no_grad():
        next(policy.action_net.parameters()).mul_(
            300.0
        )  # so that some actions are beyond their bounds
    acting = Acting(policy)
    obs = torch.randn(50, 5)
    spec = Spec("", "PPO", "", (7, 6), (10,), 1, {}, str(tmp_path))
    left = student(spec, 10, acting=acting, obs=obs[:1], env_steps=12, clock=Clock())
    last = 4 if isinstance(space, Discrete) else 3
    assert left["parameters"] == 5 * 7 + 7 + 7 * 6 + 6 + 6 * last + last
    assert (left["budget"], left["env_steps"]) == (10, 12)
    said = torch.jit.load(str(tmp_path / "10.pt"))(obs)  # type: ignore[no-untyped-call]
    theirs, _ = policy.predict(obs.numpy(), deterministic=True)
    if isinstance(space, Discrete):
        np.testing.assert_array_equal(said.argmax(dim=1).numpy(), theirs)
    else:
        np.testing.assert_allclose(said.detach().numpy(), theirs, rtol=1e-5)
        assert (np.abs(theirs) == 1.0).any()


def test_a_student_of_images_is_written_with_their_scaling(tmp_path: Path) -> None:
    torch.manual_seed(0)
    space = Box(0, 255, (4, 84, 84), np.uint8)
    told = network_of((3, 4, 5, 16), space)
    policy = ActorCriticPolicy(space, Discrete(6), lambda _: 1e-3, **told)
    acting = Acting(policy)
    obs = torch.randint(0, 256, (8, 4, 84, 84), dtype=torch.uint8)
    spec = Spec("", "script", "pong", (3, 4, 5, 16), (10,), 1, {}, str(tmp_path))
    student(spec, 10, acting=acting, obs=obs[:1], env_steps=10, clock=Clock())
    said = torch.jit.load(str(tmp_path / "10.pt"))(obs)  # type: ignore[no-untyped-call]
    theirs: Any = policy.get_distribution(obs).distribution
    torch.testing.assert_close(said.log_softmax(dim=1), theirs.logits)


def test_a_spec_is_read_as_it_was_written() -> None:
    spec = Spec("t.zip", "PPO", "CartPole-v1", (8, 8), (100, 200), 3, {"n_steps": 5}, "out")
    assert Spec.read(json.dumps(vars(spec))) == spec


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    env = gymnasium.make("CartPole-v1")
    stable_baselines3.PPO("MlpPolicy", env, device="cpu").save(tmp_path / "ppo.zip")
    job = Job(
        title="a job",
        teacher="ppo.zip",
        algorithm="PPO",
        env="CartPole-v1",
        widths=(8,),
        budgets=(300, 600),
        episodes=2,
    )
    monkeypatch.setitem(JOBS, "cartpole", job)
    return Place(
        teachers=tmp_path,
        pythons=tmp_path / "envs",
        runs=tmp_path / "runs",
        rows=tmp_path / "rows.jsonl",
        tuning=tmp_path / "tuning.jsonl",
    )


def test_a_run_leaves_a_row_for_each_budget_and_is_not_run_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(job="cartpole", method="tutelage", seed=1, settings={}, budgets=(300, 600))
    carry_out(place, run, place.rows)
    made = read(place.rows)
    assert [one["budget"] for one in made] == [300, 600]
    assert all(one["env_steps"] >= one["budget"] for one in made)
    assert all(one["parameters"] == 4 * 8 + 8 + 8 * 2 + 2 for one in made)
    assert all(len(one["returns"]) == 2 for one in made)
    assert made[0]["peer"]["torch"] == torch.__version__
    assert set(made[0]["files"]) == {"ppo.zip"}

    def never(*_: Any) -> Any:
        raise AssertionError("it was run again")

    monkeypatch.setattr(running, "distilled", never)
    carry_out(place, run, place.rows)
    assert read(place.rows) == made


def test_a_library_that_is_not_installed_is_named(place: Place) -> None:
    run = Run(job="cartpole", method="d3rlpy-bc", seed=1, settings={}, budgets=(300,))
    with pytest.raises(UserError, match="d3rlpy/bin/python: no such Python"):
        carry_out(place, run, place.rows)


def test_the_page_is_what_the_rows_in_the_repository_give() -> None:
    rows, tuning = read(ROOT / ROWS), read(ROOT / TUNING)
    text = (ROOT / "docs" / "distillbench.md").read_text()
    assert text == page(rows, tuning)
    every = [*rows, *tuning]
    assert all(len(one["returns"]) == JOBS[one["job"]].episodes for one in every)
    drawn = [name for name in JOBS if f"images/distillbench-{name}.png" in text]
    assert drawn
    assert all((ROOT / "docs" / "images" / f"distillbench-{name}.png").is_file() for name in drawn)
