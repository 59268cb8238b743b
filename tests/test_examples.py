"""Every example is run as a person runs it: in a process and a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
ALONE = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
}


def run(name: str, folder: Path) -> str:
    script = EXAMPLES / name
    assert len(script.read_text().splitlines()) <= 60
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=ALONE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(output: str, pattern: str) -> list[float]:
    found = [float(number) for number in re.findall(pattern, output, flags=re.MULTILINE)]
    assert found, output
    return found


@pytest.mark.slow
def test_a_policy_of_stable_baselines3_becomes_a_small_student(tmp_path: Path) -> None:
    output = run("sb3_policy.py", tmp_path)
    teacher, student = said(output, r"^(?:teacher|student): ([\d.]+)")
    assert student > 0.9 * teacher > 300.0
    assert min(said(output, r"of your own: ([\d.]+)")) > 300.0


def test_a_bandit_tells_the_good_teacher_from_the_others(tmp_path: Path) -> None:
    output = run("several_teachers.py", tmp_path)
    pay = dict(re.findall(r"^(\w+): \d+ episodes, pay ([\d.]+)", output, flags=re.MULTILINE))
    assert set(pay) == {"good", "hasty", "stubborn", "adversary"}
    assert max(pay, key=lambda name: float(pay[name])) == "good"
    assert min(said(output, r"^student: ([\d.]+)")) > 400.0


def test_a_loss_from_outside_teaches_as_well(tmp_path: Path) -> None:
    output = run("own_loss.py", tmp_path)
    assert min(said(output, r"^(?:kl|own_loss:confident): ([\d.]+)")) > 400.0
    assert output.count(":confident") == 1


def test_an_exported_file_plays_without_tutelage(tmp_path: Path) -> None:
    assert min(said(run("export_onnx.py", tmp_path), r"^without Tutelage: ([\d.]+)")) > 400.0


def test_a_student_without_meters_of_speed_learns_of_a_teacher_with_them(tmp_path: Path) -> None:
    output = run("privileged_teacher.py", tmp_path)
    assert min(said(output, r"sees sensors: ([\d.]+)")) > 400.0


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    files = [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")]
    assert [name for name in files if f"({name})" not in listed] == []


def test_the_notebook_runs_and_is_kept_without_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "PYTHONPATH"):
        monkeypatch.setenv(name, ALONE[name])
    path = EXAMPLES / "distil.ipynb"
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs or cell.execution_count for cell in code] == [None] * len(code)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    last = code[-1].outputs[-1]["data"]["text/plain"]
    assert float(last) > 400.0
