"""Every policy that comes with the package, and those of others, prove themselves in every format.

Policies of others are looked for in ``../shared/teachers``, beside the repository: files of
``reproduction.policies`` and ``reproduction.generated``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import tutelage as tt
from reproduction import generated, policies
from tutelage.exporters import EXPORTERS

FOLDER = Path(__file__).parents[2] / "shared" / "teachers"
PIXELS = 8
"""Episodes of a game of Atari, instead of 30: those are thousands of frames long."""


@dataclass(frozen=True)
class Case:
    """A policy and where it plays."""

    policy: str
    env: str = "auto"
    episodes: int = 30
    settings: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    **{name: Case(name, episodes=PIXELS) for name in tt.bundled_names()},
    **{
        name: Case(
            policies.teacher_of(case, FOLDER), case.env, PIXELS if case.env == "pong" else 30
        )
        for name, case in policies.CASES.items()
    },
    **{
        name: Case(
            generated.teacher_of(case, FOLDER),
            case.env,
            settings={
                "env_wrappers": generated.settings_of(case, str(FOLDER / case.file))["env_wrappers"]
            },
        )
        for name, case in generated.CASES.items()
    },
}
FILES: dict[str, str] = {
    **{name: case.file for name, case in policies.CASES.items()},
    **{name: case.file for name, case in generated.CASES.items()},
}
REFUSED = {
    ("go1", "torch"): "is an ONNX file, which torch.export cannot trace: choose onnx",
    **{("g1", to): "is TorchScript, which cannot be traced again" for to in EXPORTERS},
    # Its environment is made up and pays nothing, so that agreement alone counts.
    **{
        ("go1", to): "nothing is paid here that returns could be compared by"
        for to in ("onnx-int8", "c-int8")
    },
    # Q-values lie too close together for bytes, or more episodes would be needed to tell.
    **{
        (name, to): "the file is not the policy: .* --student-precision int8"
        for name in ("dqn-lunarlander", "pong-sticky-student")
        for to in ("onnx-int8", "c-int8")
    },
}
"""What a format cannot say, and the line that says so."""


@pytest.mark.slow
@pytest.mark.parametrize("to", EXPORTERS)
@pytest.mark.parametrize("name", CASES)
def test_a_policy_proves_itself_or_is_refused_in_one_line(
    name: str, to: str, tmp_path: Path
) -> None:
    if name in FILES and not (FOLDER / FILES[name]).is_file():
        pytest.skip(f"{FILES[name]} is not in {FOLDER}")
    case, out = CASES[name], tmp_path / "out"
    asked: dict[str, Any] = {"env": case.env, "episodes": case.episodes, **case.settings}
    if (name, to) in REFUSED:
        with pytest.raises(tt.UserError, match=REFUSED[name, to]) as refused:
            tt.export(case.policy, to, out, **asked)
        assert "\n" not in str(refused.value)
        assert not list(tmp_path.iterdir())
        return
    proof = tt.export(case.policy, to, out, **asked)["proof"]
    assert proof["states"] >= 10_000
    if to.endswith("int8"):
        least = proof["return"] - 0.05 * abs(proof["return"])
        assert proof["agreement"] >= 0.99 or proof["return_exported"] >= least
    else:
        assert proof["agreement"] >= 0.999
