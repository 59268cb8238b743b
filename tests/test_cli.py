"""The command line as a person meets it: results, and bad input."""

import json
import pickle
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from tests.players import cartpole_model
from tutelage import models
from tutelage.cli import main
from tutelage.heads import QValues
from tutelage.networks import SIZES, Network, Size

QUICK = ["--threads", "1", "--num-envs", "2", "--env-steps", "512", "--round-steps", "128"]


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; return its one line."""
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("init", "words"),
    [("nobody", ["no model 'nobody'", "pong"]), ("pong", ["CartPole-v1", "pong"])],
)
def test_a_model_that_cannot_be_trained_on_is_refused_in_one_line(
    init: str, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["teach", "--out", str(tmp_path / "run"), "--env", "CartPole-v1", "--init", init]
    line = refusal(given, capsys)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--loss", "kll"], ["kll", "kl, mse, mse-prob, nll"]),
        (["--loss", "mse:half"], ["half", "number"]),
        (["--tau", "0"], ["tau", "above 0", "0"]),
        (["--tau", "-1"], ["tau", "-1"]),
        (["--student-tau", "0"], ["student_tau", "above 0", "0"]),
        (["--target", "soft"], ["target", "soft", "divide, softmax"]),
        (["--explore", "curious"], ["curious", "boltzmann"]),
        (["--explore", "epsilon"], ["epsilon:0.05"]),
        (["--explore", "epsilon:2"], ["epsilon:2", "0", "1"]),
        (["--student", "huge"], ["huge", "student", "mlp:64/64"]),
        (["--teacher", "nobody"], ["nobody", "pong"]),
        (["--td-loss", "l1"], ["td-loss", "l1", "huber", "mse"]),
        (["--teacher", ""], ["teacher ''", "names no model"]),
        (["--teacher", "+negate"], ["teacher '+negate'", "names no model"]),
        (["--loss", "mse:0+kl:0"], ["'mse:0+kl:0' is 0", "nothing would be learnt"]),
        (["--distill-weight", "0"], ["distill_weight and reward_weight are both 0"]),
        (["--learning-starts", "512"], ["nothing would be learnt", "env_steps 512", "first 512"]),
        (["--batch-size", "9999"], ["nothing would be learnt", "4096 samples", "9999"]),
        (["--student", "mlp:65536/65536"], ["65536/65536", "parameters", "100,000,000"]),
        (["--student", "mlp:65537"], ["mlp:65537", "no width above 65,536"]),
        (["--selector", "ucb2"], ["unknown selector 'ucb2'"]),
        (["--measure", "joy"], ["unknown measure 'joy'"]),
        (["--precision", "fp8"], ["fp8", "bf16, fp32"]),
        (["--device", "abacus"], ["abacus"]),
        (["--loss", "kl:-1"], ["-1", "from 0 up"]),
        (["--learning-rate", "fast"], ["learning_rate", "fast", "number"]),
        (["--learning-rate", "-1"], ["learning_rate", "-1", "from 0 up"]),
        (["--learning-rate", "1e-3:-1:100"], ["learning_rate", "1e-3:-1:100", "from 0 up"]),
        (["--distill-weight", "-1"], ["distill_weight", "-1", "from 0 up"]),
        (["--reward-weight", "-1"], ["reward_weight", "-1", "from 0 up"]),
        (["--teacher-acts", "1.5"], ["teacher_acts", "1.5", "from 0 to 1"]),
        (["--batch-size", "0"], ["batch_size", "0"]),
        (["--samples-per-step", "-1"], ["samples_per_step", "-1"]),
        (["--samples-per-step", "0"], ["samples_per_step", "above 0", "0"]),
        (["--max-grad-norm", "0"], ["max_grad_norm", "above 0", "0"]),
        (["--average", "1"], ["average", "[0, 1)", "1"]),
        (["--eval-readiness", "-1"], ["eval_readiness", "at least 0", "-1"]),
        (["--noop-max", "-1"], ["noop_max", "at least 0", "-1"]),
        (["--samples-per-step", "inf"], ["samples_per_step", "finite", "inf"]),
        (["--seed", "-1"], ["seed", "at least 0", "-1"]),
        (["--sticky", "0.25"], ["sticky", "Atari", "CartPole-v1"]),
        (["--clip-rewards"], ["clip_rewards", "Atari", "CartPole-v1"]),
        (["--dataset", "nowhere"], ["nowhere", "dataset.json"]),
        (["--dataset", "nowhere", "--only", "ball-top"], ["only", "offline"]),
    ],
)
def test_bad_flags_of_distill_are_refused_in_one_line(
    flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    teacher = cartpole_model(tmp_path / "t.safetensors")
    given = ["distill", "--out", str(tmp_path / "run"), "--student", "mlp:4", *QUICK]
    if "--teacher" not in flags:
        given += ["--teacher", teacher]
    line = refusal([*given, *flags], capsys)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["teach", "distill"])
def test_a_training_that_diverges_ends_in_one_line(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = {
        "distill": ["--teacher", cartpole_model(tmp_path / "t.safetensors"), "--student", "mlp:4"],
        "teach": ["--env", "CartPole-v1", "--size", "mlp:4", "--learning-starts", "64"],
    }[command]
    with pytest.raises(SystemExit) as exit_:
        main([command, *given, *QUICK, "--learning-rate", "1e30", "--out", str(tmp_path / "run")])
    assert exit_.value.code == 2
    assert "tutelage: training diverged" in capsys.readouterr().err.splitlines()[-1]


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"tutelage {version('tutelage')}\n"


def test_unknown_environments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(["teach", "--env", "ponk"], capsys)
    assert "ponk" in line
    assert "CartPole-v1" in line


@pytest.mark.parametrize(
    "words",
    [["teach", "--record", "data"], ["record", "--out", "data"]],
    ids=lambda words: words[0],
)
def test_a_data_set_of_half_a_court_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal([*words, "--only", "ball-top"], capsys)
    assert "a data set holds every state" in line
    assert "only" in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["evaluate", "pong", "--seed", "-1"], ["seed", "at least 0", "-1"]),
        (["evaluate", "pong", "--threads", "0"], ["threads", "at least 1", "0"]),
        (["evaluate", "pong", "--episodes", "0"], ["episodes", "at least 1", "0"]),
        (["evaluate", "pong", "--sticky", "2"], ["sticky", "[0, 1)", "2"]),
        (["watch", "pong", "--seed", "-1"], ["seed", "at least 0", "-1"]),
        (["watch", "pong+negate"], ["no model 'pong+negate'", "for teachers and 'evaluate'"]),
        (["record", "--out", "data", "--teacher", "pong+negate"], ["no model 'pong+negate'"]),
        (["teach", "--init", "pong", "--size", "mlp:64"], ["pong is of size 32/64/64/512"]),
        (["reproduce", "all", "extra"], ["unknown claim 'extra'", "losses"]),
        (["record", "--out", "data", "--env-steps", "0"], ["env_steps", "at least 1", "0"]),
        (["report", "run", "--video"], ["--video", "only with --all"]),
        (["report", "run", "--out", "page.html"], ["--out", "only with --all"]),
        (["report", "--all", "--no-video"], ["--no-video", "only with a run's folder"]),
    ],
)
def test_bad_flags_of_other_commands_are_refused_in_one_line(
    flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(flags, capsys)
    assert all(word in line for word in words), line


def test_models_of_frames_of_different_sizes_are_not_filmed_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = Network(SIZES["student"], (4, 80, 80), QValues(6))
    models.save(tmp_path / "small.safetensors", small, env="pong", card={})
    line = refusal(["watch", "pong", str(tmp_path / "small.safetensors")], capsys)
    assert "pong (84 pixels), pong (80 pixels)" in line


def test_a_data_set_is_learnt_from_on_its_own_game_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    teacher, data = cartpole_model(tmp_path / "t.safetensors"), str(tmp_path / "data")
    main(["record", "--teacher", teacher, "--num-envs", "2", "--env-steps", "256", "--out", data])
    capsys.readouterr()
    given = ["distill", "--dataset", data, "--env", "Acrobot-v1", "--out", str(tmp_path / "run")]
    line = refusal(given, capsys)
    assert "recorded on CartPole-v1, not Acrobot-v1" in line
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_game_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    teacher = cartpole_model(tmp_path / "t.safetensors")
    line = refusal(
        ["distill", "--teacher", teacher, "--env", "pong", "--out", str(tmp_path / "run")], capsys
    )
    assert "CartPole-v1" in line
    assert "pong" in line


def test_a_pickle_is_named_and_never_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(pickle.dumps({"weights": [1.0]}))
    line = refusal(["evaluate", str(path)], capsys)
    assert "pickle" in line
    assert "safetensors" in line


def test_a_teacher_whose_outputs_are_nan_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    network = Network(Size((), (4,)), (1, 4), QValues(2))
    with torch.no_grad():
        network.output.weight.fill_(3e38)
        network.output.bias.fill_(-3e38)
        network.body[1].bias.fill_(3e38)  # type: ignore[operator]
    models.save(tmp_path / "t.safetensors", network, env="CartPole-v1", card={})
    given = ["--teacher", str(tmp_path / "t.safetensors"), "--student", "mlp:4"]
    line = refusal(["distill", *given, *QUICK, "--out", str(tmp_path / "run")], capsys)
    assert "NaN or infinite" in line


def test_a_folder_of_another_run_is_refused_and_left_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.toml").write_text('command = "teach"\nseed = 7\n')
    teacher = cartpole_model(tmp_path / "t.safetensors")
    given = ["distill", "--teacher", teacher, "--student", "mlp:4", *QUICK, "--out", str(folder)]
    line = refusal(given, capsys)
    assert "another configuration" in line
    assert (folder / "config.toml").read_text() == 'command = "teach"\nseed = 7\n'


def test_unknown_keys_of_a_config_file_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("tauu = 0.1\n")
    line = refusal(["distill", "--config", str(tmp_path / "c.toml")], capsys)
    assert "tauu" in line
    assert "tau," in line
    (tmp_path / "c.toml").write_text('tau = "cold"\n')
    assert "a number" in refusal(["distill", f"--config={tmp_path / 'c.toml'}"], capsys)


def test_resume_of_no_run_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "config.toml" in refusal(["resume", str(tmp_path)], capsys)


def test_evaluate_prints_exactly_one_json_object(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = cartpole_model(tmp_path / "t.safetensors")
    main(["evaluate", model, "--episodes", "5", "--threads", "1", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["episodes"] == 5
    assert result["ci95"][0] <= result["mean_return"] <= result["ci95"][1]


def test_sizes_shows_the_figures_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sizes"])
    shown = capsys.readouterr().out
    assert "6,716,748" in shown
    assert "432,492" in shown


def test_record_then_distill_offline_and_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    teacher = cartpole_model(tmp_path / "t.safetensors")
    data = str(tmp_path / "data")
    record = ["record", "--teacher", teacher, "--num-envs", "2", "--threads", "1"]
    main([*record, "--env-steps", "1024", "--out", data, "--json"])
    assert json.loads(capsys.readouterr().out)["env_steps"] == 1024
    run = str(tmp_path / "run")
    flags = [
        "--dataset",
        data,
        "--student",
        "mlp:4",
        "--precision",
        "fp32",
        "--eval-every",
        "256",
        "--eval-from",
        "0",
    ]
    main(["distill", *flags, *QUICK, "--out", run, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["env_steps"] == 512
    assert {"mean_return", "ci95", "episodes", "env_steps_to_475", "parameters"} <= result.keys()
    for name in ("best.safetensors", "curve.png", "report.html", "metrics.jsonl", "config.toml"):
        assert (Path(run) / name).stat().st_size > 0
