"""How far a grid has come: worked out by hand from the folders of its runs."""

import json
from pathlib import Path

import pytest

from tutelage.configs import Distill
from tutelage.experiments.jobs import Job
from tutelage.experiments.progress import Progress
from tutelage.experiments.tasks import Play, Study

JOBS = [Job("toy", f"m{i}", 1, Study(Distill(env_steps=1_000, tau=float(i)))) for i in (1, 2, 3)]


def came_to(job: Job, runs: Path, env_steps: int, *, cut: bool = False) -> None:
    folder = job.folder(runs)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "timing.jsonl").open("a") as file:
        file.write(json.dumps({"env_steps": env_steps}) + "\n")
        file.write('{"env_st' if cut else "")


def test_the_line_counts_runs_and_env_steps_and_says_how_long_the_rest_may_take(
    tmp_path: Path,
) -> None:
    one, two, three = JOBS
    now = [100.0]
    came_to(three, tmp_path, 400)  # by an earlier grid that was interrupted
    progress = Progress(JOBS, tmp_path, clock=lambda: now[0])
    assert progress.line() == "0 of 3 runs done, 0 running, 0 failed, 0 env steps/s"
    now[0] = 110.0
    progress.begin(one)
    progress.begin(two)
    came_to(one, tmp_path, 500)
    came_to(one, tmp_path, 700)
    came_to(two, tmp_path, 300)
    # 1,000 steps in 10 s; to go 300, 700 and 600.
    line = "0 of 3 runs done, 2 running, 0 failed, 100 env steps/s, at most 0 min left"
    assert progress.line() == line
    now[0] = 200.0
    progress.note((one, {}))
    progress.begin(three)
    progress.note((two, ValueError()))
    # Ten a second; of what is not over 600 steps are to go.
    line = "1 of 3 runs done, 1 running, 1 failed, 10 env steps/s, at most 1 min left"
    assert progress.line() == line


@pytest.mark.parametrize(("minutes", "left"), [(30, "50 min"), (60, "1 h 40 min")])
def test_the_time_left_is_of_hours_and_minutes(tmp_path: Path, minutes: int, left: str) -> None:
    now = [0.0]
    progress = Progress(JOBS[:1], tmp_path, clock=lambda: now[0])
    now[0] = 60.0 * minutes
    came_to(JOBS[0], tmp_path, 375)
    assert progress.line().endswith(f"at most {left} left")


def test_a_line_that_is_being_written_and_a_model_that_plays_have_no_env_steps(
    tmp_path: Path,
) -> None:
    now = [0.0]
    plays = Job("toy", "plays", 1, Play("pong"))
    progress = Progress([*JOBS[:1], plays], tmp_path, clock=lambda: now[0])
    now[0] = 1.0
    progress.begin(plays)
    came_to(JOBS[0], tmp_path, 500, cut=True)
    assert progress.line() == "0 of 2 runs done, 1 running, 0 failed, 0 env steps/s"
