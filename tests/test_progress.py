"""How far a grid has come: worked out by hand from the folders of its runs."""

import json
from pathlib import Path

from tests.rows import toy
from tutelage.sweeps.jobs import Job, jobs
from tutelage.sweeps.progress import Progress

IT = toy(**{f"m{i}": {"env_steps": 1_000, "tau": float(i)} for i in (1, 2, 3)})
JOBS = jobs(IT, seeds=1)


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
    progress.note((one, ValueError()))
    progress.begin(three)
    progress.note((two, ValueError()))
    # Ten a second; of what is not over 600 steps are to go.
    line = "0 of 3 runs done, 1 running, 2 failed, 10 env steps/s, at most 1 min left"
    assert progress.line() == line
    now[0] = 100.0 + 3_600.0 * 50  # 1,000 steps in 50 hours: 600 more take 30
    assert progress.line().endswith("at most 30 h 00 min left")


def test_a_line_that_is_being_written_and_a_model_that_plays_have_no_env_steps(
    tmp_path: Path,
) -> None:
    now = [0.0]
    (plays,) = jobs(toy(plays={"command": "evaluate"}), seeds=1)
    progress = Progress([*JOBS[:1], plays], tmp_path, clock=lambda: now[0])
    now[0] = 1.0
    progress.begin(plays)
    came_to(JOBS[0], tmp_path, 500, cut=True)
    assert progress.line() == "0 of 2 runs done, 1 running, 0 failed, 0 env steps/s"
