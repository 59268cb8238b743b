"""The paper's cars: traffic that repeats itself, the oracle, and what the page says of rows."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from reproduction.cars import page
from reproduction.cars.oracle import Oracle
from reproduction.cars.play import Scale
from reproduction.cars.roads import ROADS, SEEN, VEHICLES, all_cars, env_of, own
from reproduction.cars.teachers import place_of
from tests.rows import row
from tutelage import load
from tutelage.types import Array

ROOT = Path(__file__).parent.parent
CARS = VEHICLES * len(SEEN)


def episode(env: Any, seed: int | None, actions: Array) -> tuple[list[Any], list[float]]:
    obs, _ = env.reset(seed=seed)
    seen, rewards = [obs["cars"]], []
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        seen.append(obs["cars"])
        rewards.append(reward)
        if terminated or truncated:
            break
    return seen, rewards


def test_an_episode_of_traffic_is_a_function_of_its_seed_whatever_was_before() -> None:
    behavior = pytest.importorskip("highway_env.vehicle.behavior")
    used, fresh = (gymnasium.make("reproduction.cars.env:Traffic-v0") for _ in range(2))
    actions = np.random.default_rng(0).integers(5, size=6)
    drawn: set[int] = set()
    for _ in range(20):  # the same environment, its traffic as it comes
        obs, _ = used.reset(seed=None if drawn else 0)
        drawn.add(int(obs["traffic"]))
        assert used.observation_space.contains(obs)
    assert drawn == set(range(4))
    # An intersection has made its own cars brisker, no others.
    assert behavior.IDMVehicle.COMFORT_ACC_MAX == 3.0
    for seed in range(4):
        ours, theirs = episode(used, seed, actions), episode(fresh, seed, actions)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1] == theirs[1]


def test_a_driver_sees_its_own_place_and_others_from_there() -> None:
    pytest.importorskip("highway_env")
    env = gymnasium.make(env_of("merge"))
    obs, _ = env.reset(seed=0)
    inner = env.unwrapped._envs[0]  # type: ignore[attr-defined]
    seen = obs["cars"].reshape(VEHICLES, len(SEEN))
    # It starts 30 m into the right lane, 4 m below the left one, at 30 m/s.
    np.testing.assert_allclose(seen[0], [1.0, 0.3, 0.2, 1.5, 0.0, 1.0, 0.0], atol=1e-6)
    nearest = min(
        inner.road.vehicles[1:], key=lambda one: np.linalg.norm(one.position - [30.0, 4.0])
    )
    apart = [*(nearest.position - [30.0, 4.0]), *(nearest.velocity - [30.0, 0.0])]
    np.testing.assert_allclose(seen[1, 1:5] * [100.0, 20.0, 20.0, 20.0], apart, atol=1e-4)


def test_contexts_are_the_own_car_and_all() -> None:
    obs = np.arange(2 * CARS, dtype=np.float32).reshape(2, 1, CARS)
    assert own.of(obs)[1].tolist() == [43.0, 44.0, 45.0, 46.0, 47.0, 48.0]
    assert all_cars.of(obs)[0].tolist() == [float(i) for i in range(1, CARS)]
    assert (own.dim, all_cars.dim) == (6, CARS - 1)


def test_the_oracle_says_what_each_traffics_own_teacher_says() -> None:
    cars = torch.randn(8, 1, CARS, generator=torch.Generator().manual_seed(0))
    which = torch.arange(8) % 4
    seen = torch.cat([cars, torch.eye(4)[which][:, None]], dim=-1)
    out, _ = Oracle().step(seen, ())
    for i, name in enumerate(ROADS):
        theirs, _ = load(place_of(name)).policy.step(cars, ())
        torch.testing.assert_close(out[which == i], theirs[which == i])


def played(own_return: float) -> list[dict[str, Any]]:
    return [
        {
            "player": player,
            "traffic": traffic,
            "returns": [own_return, own_return] if player == traffic else [0.0, 0.2],
        }
        for player in ("random", *ROADS)
        for traffic in ROADS
    ]


def student(method: str, seed: int, means: list[float], share: float | None = None) -> Any:
    scores = {f"return {name}": mean for name, mean in zip(ROADS, means, strict=True)}
    if share is not None:
        for traffic in ROADS:
            for name in ROADS:
                scores[f"{traffic} by {name}"] = share if name == traffic else (1.0 - share) / 3.0
    command = row(seed).command
    return row(seed, methods=(("cars", method),), command=command, scores=scores)


def test_what_is_kept_is_the_way_from_random_play_to_each_traffics_own_teacher() -> None:
    rows = [
        student("random", 2, [0.3, 0.3, 0.3, 0.3], 0.25),
        student("random", 1, [0.1, 0.1, 0.1, 0.1], 0.25),
        student("oracle", 1, [0.5, 0.5, 0.5, 0.3]),
        student("oracle", 2, [0.5, 0.5, 0.5, 0.5]),
    ]
    found = page.by_method(rows, ["oracle", "linucb", "random"])
    assert [[one.seed for one in of] for of in found.values()] == [[1, 2], [1, 2]]
    took = [{"traffic": name, "steps": 1000, "seconds": 60.4} for name in ROADS]
    text = page.page(took, played(0.5), found)
    assert "| random play | 0.10: 0% | 0.10: 0% |" in text
    # Random play returns 0.1, a teacher 0.5 in its own traffic, the same as random elsewhere.
    assert (
        "| teacher of highway | 0.50: 100% | 0.10: 0% | 0.10: 0% | 0.10: 0% | 1,000 | 60 |" in text
    )
    assert "| oracle | 100% | 100% | 100% | 75% | 94% | 88%, 100% |" in text
    assert "| random | 25% | 25% | 25% | 25% | 25% | 0%, 50% | \N{MINUS SIGN}69 (" in text
    # Only who chooses among teachers has choices.
    assert text.endswith("| random | 25% | 25% | 25% | 25% | 25% |")


def test_the_scale_is_zero_for_random_play_and_one_for_the_teacher() -> None:
    scale = Scale(played(0.6))
    assert scale.of("random", "merge") == 0.0
    assert scale.of("merge", "merge") == pytest.approx(1.0)
    assert scale.kept("merge", 0.35) == pytest.approx(0.5)


def test_the_page_has_what_the_rows_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    begin, end = page.MARKS
    text = (ROOT / "docs" / "cars.md").read_text()
    assert text.split(begin)[1].split(end)[0].strip() == page.page(*page.at_hand())
