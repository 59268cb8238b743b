"""The package as a person installs it: a wheel, outside of the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.players import cartpole_model

ROOT = Path(__file__).parent.parent


def test_a_wheel_distils_outside_of_the_checkout(tmp_path: Path) -> None:
    wheels, place, elsewhere = (tmp_path / name for name in ("wheels", "place", "elsewhere"))
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(place), str(wheel)], check=True
    )
    teacher = cartpole_model(elsewhere / "teacher.safetensors")
    program = "import sys, tutelage, tutelage.cli as c; print(tutelage.__file__); c.main()"
    flags = f"distill --env CartPole-v1 --teacher {teacher} --student mlp:4 --env-steps 512"
    quick = "--round-steps 256 --num-envs 2 --threads 1 --confirm-episodes 2 --json --out run"
    done = subprocess.run(
        [sys.executable, "-c", program, *flags.split(), *quick.split()],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=True,
    )
    where, result = done.stdout.splitlines()
    assert Path(where).is_relative_to(place)
    assert json.loads(result)["env_steps"] == 512
    assert (elsewhere / "run" / "report.html").is_file()
    assert not (place / "reproduction").exists()
