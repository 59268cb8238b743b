"""The command line as a person meets it: results, and bad input."""

import json
import pickle
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch

from tests.players import QUICK, assert_same_bytes, cartpole_model, controller, refusal
from tutelage import Network, QValues, evaluate, load, models
from tutelage.cli import COMMANDS, main
from tutelage.exploration import EXPLORATIONS
from tutelage.losses import LOSSES
from tutelage.networks import SIZES, Size
from tutelage.schema import settings_of
from tutelage.selectors import SELECTORS
from tutelage.targets import TARGETS

# What is refused, in one line and before anything is written.


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--loss", "kll"], ["'kll'", "kl, mse, mse-prob, nll"]),
        (["--loss", "mse:half"], ["'half'", "number"]),
        (["--loss", "kl:-1"], ["'-1'"]),
        (["--loss", "mse:0+kl:0"], ["mse:0+kl:0", "nothing would be learnt"]),
        (["--target", "soft"], ["soft", "divide"]),
        (["--explore", "curious"], ["'curious'", "boltzmann"]),
        (["--explore", "epsilon"], ["epsilon"]),
        (["--explore", "epsilon:2"], ["epsilon:2", "from 0 to 1"]),
        (["--student", "huge"], ["'huge'", "student", "mlp:64/64"]),
        (["--student", "mlp:65536/65536"], ["65536/65536", "100,000,000"]),
        (["--student", "mlp:65537"], ["mlp:65537", "65,536"]),
        (["--student", "16/16/16/128"], ["[1, 4]", "mlp:"]),
        (["--student", "32/32"], ["did you mean mlp:32/32?"]),
        (["--teacher", "nobody"], ["'nobody'", "pong"]),
        (["--teacher", ""], ["''", "no model"]),
        (["--teacher", "+negate"], ["'+negate'", "no model"]),
        (["--td-loss", "l1"], ["l1", "huber"]),
        (["--distill-weight", "0"], ["distill_weight", "nothing would be learnt"]),
        (["--learning-starts", "512"], ["nothing would be learnt", "512"]),
        (["--batch-size", "99999"], ["nothing would be learnt", "16384 samples", "99999"]),
        (["--selector", "ucb2"], ["'ucb2'", "ucb1"]),
        (["--measure", "joy"], ["'joy'", "points"]),
        (["--features", "smell"], ["'smell'", "hidden"]),
        (["--device", "abacus"], ["abacus"]),
        (["--learning-rate", "fast"], ["learning_rate", "fast"]),
        (["--batch-size", "0"], ["batch_size", "0"]),
        (["--samples-per-step", "1e308"], ["samples_per_step", "10,000"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--seed", "one"], ["one"]),
        (["--sticky", "0.25"], ["sticky", "atari", "CartPole-v1"]),
        (["--env", "Acrobot-v1"], ["sees 4 numbers; Acrobot-v1 gives 6"]),
        (["--env", "pong"], ["sees 4 numbers; pong gives 4 x 84 x 84"]),
        (["--dataset", "nowhere"], ["nowhere", "dataset.json"]),
        (["--dataset", "nowhere", "--only", "ball-top"], ["only", "offline"]),
        (["--dataset", "nowhere", "--reward-weight", "1"], ["reward_weight", "offline"]),
        (["--tauu", "1"], ["--tauu", "did you mean --tau?"]),
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


def leaving(obs: Any) -> Any:
    raise SystemExit(7)


def raising(obs: Any) -> Any:
    raise ValueError("not today")


def outdated() -> gymnasium.Env[Any, Any]:
    class Outdated(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (4,))
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, **_: Any) -> Any:
            return self.observation_space.sample()

    return Outdated()


def branching(obs: torch.Tensor) -> torch.Tensor:
    flat = obs.flatten(1)[:, :2]
    return flat if flat.sum() > 0 else -flat


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "tests.test_cli:leaving", "--env", "CartPole-v1"], "SystemExit(7)"),
        (
            ["evaluate", "tests.test_cli:raising", "--env", "CartPole-v1"],
            "tests.test_cli:raising: ValueError('not today')",
        ),
        (["evaluate", "tests.test_cli:branching", "--env", "tests.test_cli:outdated"], "unpack"),
        (
            ["export", "tests.test_cli:branching", "--env", "CartPole-v1", "--to", "onnx"],
            "cannot be traced",
        ),
    ],
)
def test_what_code_of_ones_own_does_wrong_is_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")] if words[0] == "export" else []
    assert said in refusal([*words, *out], capsys)


def chatty() -> gymnasium.Env[Any, Any]:
    class Chatty(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            print("I step")
            return super().step(action)

    return Chatty(gymnasium.make("CartPole-v1"))


def test_under_json_stdout_holds_one_object_whatever_an_environment_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = models.load_network(Path(cartpole_model(tmp_path / "t.safetensors")))
    network: Any = teacher.policy
    models.save(tmp_path / "t.safetensors", network, env="tests.test_cli:chatty", card={})
    main(["evaluate", str(tmp_path / "t.safetensors"), "--episodes", "1", "--json"])
    out, err = capsys.readouterr()
    assert "mean_return" in out
    assert isinstance(json.loads(out), dict)
    assert "I step" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["teach", "--env", "ponk"], ["'ponk'", "CartPole-v1"]),
        (["teach", "--env", "CartPole-v1", "--init", "nobody"], ["'nobody'", "pong"]),
        (["teach", "--env", "CartPole-v1", "--init", "pong"], ["CartPole-v1", "pong"]),
        (["teach", "--init", "pong", "--size", "mlp:64"], ["32/64/64/512", "mlp:64"]),
        (["teach", "--env", "MountainCarContinuous-v0"], ["Box", "discrete"]),
        (["teach", "--record", "data", "--only", "ball-top"], ["record", "only"]),
        (["record", "--out", "data", "--only", "ball-top"], ["only"]),
        (["record", "--out", "data", "--env-steps", "0"], ["env_steps", "0"]),
        (["record", "--out", "data", "--teacher", "pong+negate"], ["negate"]),
        (["evaluate", "pong", "--seed", "-1"], ["seed", "-1"]),
        (["evaluate", "pong", "--threads", "1025"], ["threads", "1,024", "1025"]),
        (["evaluate", "pong", "--episodes", "0"], ["episodes", "0"]),
        (["evaluate", "pong", "--sticky", "2"], ["sticky", "2"]),
        (["evaluate", "pong", "--max-steps", "0"], ["max_steps", "0"]),
        (["evaluate", "pong", "--teacher-view", "state"], ["teacher_view", "--student-view"]),
        (
            ["evaluate", "pong", "--env", "breakout", "--threads", "1"],
            ["pong", "6", "breakout", "4"],
        ),
        (
            ["evaluate", "pong", "--env", "CartPole-v1", "--threads", "1"],
            ["pong", "84", "CartPole-v1"],
        ),
        (["watch", "pong", "--seed", "-1"], ["seed", "-1"]),
        (["watch", "pong+negate"], ["negate"]),
        (["resume", "nowhere"], ["nowhere", "config.toml"]),
        (["report", "nowhere"], ["nowhere"]),
        (["offpolicy", "nowhere", "--seed", "-1"], ["seed", "-1"]),
        (["sizes", "--env", "ponk"], ["'ponk'"]),
        (["fly"], ["'fly'", *COMMANDS]),
        (["distil"], ["did you mean distill?"]),
        (["evaluate", "pong", "--max_stepss=3"], ["--max_stepss: did you mean --max-steps?"]),
        (["evaluate", "pong", "again"], ["unexpected 'again'"]),
        (["sizes", "--env", "LunarLander-v2"], ["LunarLander-v2", "name LunarLander-v3"]),
        (["sizes", "--env", "Pong-v5"], ["name pong"]),
        (["evaluate", "tests.fakes:Counter"], ["name it by --env"]),
    ],
)
def test_bad_flags_of_other_commands_are_refused_in_one_line(
    flags: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if flags[0] in ("teach", "record"):
        flags = [*flags, "--threads", "1"]
    line = refusal(flags, capsys)
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["teach", "distill"])
def test_a_training_that_diverges_ends_in_one_line(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = {
        "distill": ["--teacher", cartpole_model(tmp_path / "t.safetensors"), "--student", "mlp:4"],
        "teach": ["--env", "CartPole-v1", "--size", "mlp:4", "--learning-starts", "64"],
    }[command]
    words = [command, *given, *QUICK, "--learning-rate", "1e30", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("tutelage: training diverged")


def test_models_of_frames_of_different_sizes_are_not_filmed_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = Network(SIZES["student"], (4, 80, 80), QValues(6))
    models.save(tmp_path / "small.safetensors", small, env="pong", card={})
    line = refusal(["watch", "pong", str(tmp_path / "small.safetensors")], capsys)
    assert "84" in line
    assert "80" in line


def test_a_pickle_is_named_and_never_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(pickle.dumps({"weights": [1.0]}))
    assert str(path) in refusal(["evaluate", str(path)], capsys)


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
    before = 'command = "teach"\nseed = 7\n'
    (folder / "config.toml").write_text(before)
    teacher = cartpole_model(tmp_path / "t.safetensors")
    given = ["distill", "--teacher", teacher, "--student", "mlp:4", *QUICK, "--out", str(folder)]
    line = refusal(given, capsys)
    assert "seed" in line
    assert line.endswith("name another folder by --out")  # in Python: by `out`
    assert (folder / "config.toml").read_text() == before


# Settings from a file.


def test_a_file_of_settings_is_read_flat_or_in_groups_and_flags_go_before_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    teacher = cartpole_model(tmp_path / "t.safetensors")
    top = f'command = "distill"\nteachers = ["{teacher}"]\nstudent = "mlp:4"\nthreads = 1\n'
    top += "env_steps = 512\nround_steps = 128\n"
    rest = 'num_envs = 2\nprecision = "fp32"\nconfirm_episodes = 3\n'
    groups = "[environment]\nnum_envs = 2\n[learning]\nprecision = 'fp32'\n"
    groups += "[examination]\nconfirm_episodes = 3\n"
    results = []
    for name, text in (("flat", top + rest), ("nested", top + groups)):
        (tmp_path / f"{name}.toml").write_text(text)
        run = str(tmp_path / name)
        asked = f"--config={tmp_path / name}.toml"
        main(["distill", asked, "--seed", "3", "--round-steps", "256", "--out", run, "--json"])
        results.append(json.loads(capsys.readouterr().out))
    flat, nested = tmp_path / "flat", tmp_path / "nested"
    assert_same_bytes(flat, nested, "metrics.jsonl", "config.toml", "last.safetensors")
    assert [result["episodes"] for result in results] == [3, 3]
    # A run's own configuration is such a file as well.
    main(["distill", "--config", f"{flat}/config.toml", "--out", str(tmp_path / "again"), "--json"])
    assert_same_bytes(flat, tmp_path / "again", "metrics.jsonl", "last.safetensors")


@pytest.mark.parametrize(
    ("command", "text", "words"),
    [
        ("distill", "tauu = 0.1", ["'tauu'", "did you mean tau?"]),
        ("distill", 'tau = "cold"', ["'cold'", "a number"]),
        ("distill", "[learning]\nbatch_size = 0", ["batch_size", "0"]),
        ("distill", 'command = "teach"', ["teach", "distill"]),
        ("distill", "teachers = []", ["teachers"]),
        ("distill", 'choice_per = "rally"', ["rally", "segment"]),
        ("distill", "tau = = 1", ["TOML"]),
        ("evaluate", "", ["--config"]),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_its_name(
    command: str,
    text: str,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    line = refusal([command, "--config", str(path)], capsys)
    assert all(word in line for word in words), line
    assert str(path) in line or command == "evaluate"
    assert "--config" in refusal([command, "--config"], capsys)


# What comes of a command.


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"tutelage {version('tutelage')}\n"


def test_without_a_command_the_help_is_shown_as_of_bad_input(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--help"])
    asked = capsys.readouterr().out
    assert all(command in asked for command in COMMANDS)
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr() == ("", asked)


def test_every_setting_is_a_flag_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    from tutelage.commands.learning import LEARNING

    for command in ("distill", "teach"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = capsys.readouterr().out
        for name in settings_of(LEARNING[command][0]):
            assert f"--{name.replace('_', '-')}" in shown


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_breaks_no_sentence_and_offers_what_the_tables_have(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit):
        main(["distill", "--help"])
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    text = " ".join(lines)
    for table in (LOSSES, TARGETS, SELECTORS):
        assert f"Choose from {', '.join(table)}." in text
    assert all(name in text for name in EXPLORATIONS)
    assert "config" not in "".join(line for line in lines if line.startswith("╭"))
    # A line ends where the next word has no room.
    at = next(i for i, line in enumerate(lines) if line.startswith("--student STR"))
    for line, following in pairwise(lines[at + 1 : at + 4]):
        assert len(line) + len(following.split()[0]) > columns - 28


def test_evaluate_prints_exactly_one_json_object_of_the_figures_that_python_gets(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = cartpole_model(tmp_path / "t.safetensors")
    for name in (model, f"{model}+negate"):
        main(["evaluate", name, "--episodes", "5", "--threads", "1", "--seed", "4", "--json"])
        result = json.loads(capsys.readouterr().out)
        expected = evaluate(name, episodes=5, seed=4)
        assert result == {"model": name, "env": "CartPole-v1", **expected.summary()}


def test_sticky_actions_are_a_second_column_where_there_are_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["evaluate", "pong-small-1", "--episodes", "1", "--max-steps", "40", "--threads", "1"]
    main([*asked, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["sticky"]["probability"] == 0.25
    assert result["cut_episodes"] == result["sticky"]["cut_episodes"] == 1
    main([*asked, "--sticky", "0", "--json"])
    assert json.loads(capsys.readouterr().out).keys() == result.keys() - {"sticky"}


def test_sizes_shows_the_figures_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sizes"])
    shown = capsys.readouterr().out
    assert "6,716,748" in shown
    assert "432,492" in shown
    main(["sizes", "--env", "CartPole-v1", "--json"])
    assert json.loads(capsys.readouterr().out) == {"mlp": 4 * 128 + 128 + 128 * 129 + 2 * 129}


def test_teach_then_record_then_distill_offline(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each way through the house, by the files that the one before left."""
    taught, data, run = (str(tmp_path / name) for name in ("taught", "data", "run"))

    def result_of(*words: str) -> dict[str, Any]:
        main([*words, "--json"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    good = controller(tmp_path / "good.safetensors")
    teach = ["teach", "--env", "CartPole-v1", "--init", good, "--learning-starts", "64"]
    result = result_of(*teach, *QUICK, "--out", taught)
    assert (result["env"], result["env_steps"], result["episodes"]) == ("CartPole-v1", 512, 30)
    assert load(taught).card["mean_return"] == result["mean_return"]

    record = ["record", "--teacher", taught, "--num-envs", "2", "--threads", "1", "--out", data]
    assert result_of(*record, "--env-steps", "1024")["env_steps"] == 1024
    assert refusal(record, capsys)

    offline = ["distill", "--dataset", data, "--student", "mlp:4", "--confirm-episodes", "2"]
    words = [*offline, "--threads", "1", "--env", "Acrobot-v1", "--out", run]
    assert "CartPole-v1" in refusal(words, capsys)
    assert not Path(run).exists()
    result = result_of(*offline, *QUICK, "--eval-every", "256", "--eval-from", "0", "--out", run)
    assert result["env_steps"] == 512
    assert {"mean_return", "ci95", "episodes", "env_steps_to_475", "parameters"} <= result.keys()
    for name in ("best.safetensors", "report.html", "metrics.jsonl", "config.toml"):
        assert (Path(run) / name).stat().st_size > 0
    # Its folder is a model: it plays, and teaches.
    assert load(run).policy.head == QValues(2, temperature=0.1)
