"""The README's example is run as it stands, only shorter."""

import re
from pathlib import Path
from typing import Any

import torch

import tutelage as tt

README = Path(__file__).parent.parent / "README.md"


def test_the_example_is_short_and_teaches() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(code.splitlines()) <= 15
    shorter = code.replace("20_000", "3_200")
    assert shorter != code
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(compile(shorter, "README.md", "exec"), names)
    student, replay = names["student"], names["replay"]
    batch = replay.sample(256)
    fresh = tt.QNetwork(student.size, student.obs_shape, student.num_actions)
    fresh.calibrate(names["envs"].obs)

    def loss(network: tt.QNetwork) -> float:
        with torch.no_grad():
            return float(tt.kl(network(batch.obs), batch.label / 0.01).mean())

    assert loss(student) < 0.9 * loss(fresh)
