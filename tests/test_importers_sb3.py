"""Zips of Stable-Baselines3 and sb3-contrib: every algorithm says what the library says."""

import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib as contrib
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor, nn

from tutelage.cli import main
from tutelage.errors import PolicyWarning, UserError
from tutelage.heads import Categorical, Gaussian, MultiCategorical, to_space
from tutelage.importers import import_model, vecnormalize
from tutelage.policies import Model, begin_again

N = 1_000
VECTOR = spaces.Box(-3.0, 3.0, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (44, 36, 3), np.uint8)
BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32))
DICT = spaces.Dict(
    picture=IMAGE,
    speed=VECTOR,
    gear=spaces.Discrete(4),
    doors=spaces.MultiDiscrete([2, 3]),
    lamps=spaces.MultiBinary(3),
)


class Anything(gym.Env[Any, Any]):
    def __init__(self, observations: gym.Space[Any], actions: gym.Space[Any]) -> None:
        self.observation_space = observations
        self.action_space = actions

    def reset(self, **_: Any) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 1.0, False, False, {}


def made(kind: Any, policy: str, obs: gym.Space[Any], act: gym.Space[Any], **given: Any) -> Any:
    """Return a model with weights at random, so that its actions differ between states."""
    if issubclass(kind, sb3.common.off_policy_algorithm.OffPolicyAlgorithm):
        given["buffer_size"] = 1
    elif kind is not contrib.ARS:
        given |= {"n_steps": 2} if kind is sb3.A2C else {"n_steps": 8, "batch_size": 8}
    model = kind(policy, Anything(obs, act), device="cpu", seed=1, **given)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


CASES: dict[str, Callable[[], Any]] = {
    "dqn": lambda: made(
        sb3.DQN,
        "MlpPolicy",
        VECTOR,
        spaces.Discrete(4),
        policy_kwargs={"net_arch": [16, 8], "activation_fn": nn.ELU},
    ),
    "dqn, images": lambda: made(sb3.DQN, "CnnPolicy", IMAGE, spaces.Discrete(3)),
    "dqn, a number": lambda: made(sb3.DQN, "MlpPolicy", spaces.Discrete(7), spaces.Discrete(3)),
    "dqn, parts": lambda: made(sb3.DQN, "MultiInputPolicy", DICT, spaces.Discrete(3)),
    "qr-dqn": lambda: made(
        contrib.QRDQN, "MlpPolicy", VECTOR, spaces.Discrete(4), policy_kwargs={"n_quantiles": 7}
    ),
    "ppo": lambda: made(sb3.PPO, "MlpPolicy", VECTOR, spaces.Discrete(4)),
    "ppo, box": lambda: made(sb3.PPO, "MlpPolicy", VECTOR, BOX),
    "ppo, images": lambda: made(
        sb3.PPO,
        "CnnPolicy",
        IMAGE,
        spaces.MultiDiscrete([3, 2]),
        policy_kwargs={"net_arch": [8], "features_extractor_kwargs": {"features_dim": 16}},
    ),
    "ppo, images as numbers": lambda: made(
        sb3.PPO, "MlpPolicy", IMAGE, spaces.Discrete(3), policy_kwargs={"normalize_images": False}
    ),
    "ppo, parts": lambda: made(sb3.PPO, "MultiInputPolicy", DICT, spaces.MultiBinary(3)),
    "ppo, extractors apart": lambda: made(
        sb3.PPO,
        "MultiInputPolicy",
        DICT,
        spaces.Discrete(3),
        policy_kwargs={"share_features_extractor": False, "net_arch": {"pi": [], "vf": [4]}},
    ),
    "ppo, sde": lambda: made(sb3.PPO, "MlpPolicy", VECTOR, BOX, use_sde=True),
    "ppo, sde squashed": lambda: made(
        sb3.PPO,
        "MlpPolicy",
        VECTOR,
        BOX,
        use_sde=True,
        policy_kwargs={"squash_output": True, "full_std": False, "use_expln": True},
    ),
    "a2c": lambda: made(
        sb3.A2C, "MlpPolicy", VECTOR, spaces.Discrete(4), policy_kwargs={"activation_fn": nn.ReLU}
    ),
    "trpo": lambda: made(contrib.TRPO, "MlpPolicy", VECTOR, spaces.Discrete(4)),
    "maskable ppo": lambda: made(contrib.MaskablePPO, "MlpPolicy", VECTOR, spaces.Discrete(4)),
    "maskable ppo, bits": lambda: made(
        contrib.MaskablePPO, "MlpPolicy", VECTOR, spaces.MultiBinary(4)
    ),
    "ppo, a table of bits": lambda: made(
        sb3.PPO,
        "MlpPolicy",
        spaces.MultiBinary([2, 3]),
        spaces.Discrete(3),
        policy_kwargs={"activation_fn": nn.Identity},
    ),
    "ppo, odd keys": lambda: made(
        sb3.PPO,
        "MultiInputPolicy",
        spaces.Dict({"it's": VECTOR, "a\\b, 'Box(": VECTOR, '"': BOX}),
        spaces.Discrete(3),
        policy_kwargs={"activation_fn": nn.LogSigmoid},
    ),
    "sac": lambda: made(
        sb3.SAC, "MlpPolicy", VECTOR, BOX, policy_kwargs={"net_arch": {"pi": [8], "qf": [4]}}
    ),
    "sac, sde": lambda: made(sb3.SAC, "MlpPolicy", VECTOR, BOX, use_sde=True),
    "sac, sde not limited": lambda: made(
        sb3.SAC, "MlpPolicy", VECTOR, BOX, use_sde=True, policy_kwargs={"clip_mean": 0.0}
    ),
    "sac, images": lambda: made(sb3.SAC, "CnnPolicy", IMAGE, BOX),
    "td3": lambda: made(sb3.TD3, "MlpPolicy", VECTOR, BOX, policy_kwargs={"net_arch": [8]}),
    "ddpg": lambda: made(sb3.DDPG, "MlpPolicy", VECTOR, BOX, policy_kwargs={"net_arch": []}),
    "tqc": lambda: made(contrib.TQC, "MlpPolicy", VECTOR, BOX),
    "crossq": lambda: made(contrib.CrossQ, "MlpPolicy", VECTOR, BOX),
    "ars": lambda: made(contrib.ARS, "MlpPolicy", VECTOR, spaces.Discrete(4)),
    "ars, box": lambda: made(contrib.ARS, "MlpPolicy", VECTOR, BOX),
    "ars, linear": lambda: made(contrib.ARS, "LinearPolicy", VECTOR, BOX),
}


def states(space: gym.Space[Any]) -> tuple[Any, Any]:
    """Return observations as Stable-Baselines3 takes them, and as our environments give them."""
    space.seed(3)
    if isinstance(space, spaces.Dict):
        parts = {key: states(part) for key, part in space.spaces.items()}
        return {k: p[0] for k, p in parts.items()}, {k: p[1] for k, p in parts.items()}
    obs = np.stack([space.sample() for _ in range(N)])
    return obs, torch.from_numpy(obs)[:, None]


def numbers(model: Any, obs: Any) -> Any:
    """Return what the library's own network says, in the units of our heads."""
    seen, _ = model.policy.obs_to_tensor(obs)
    policy = model.policy
    if isinstance(model, contrib.QRDQN):
        return policy.quantile_net(seen).mean(dim=1)
    if isinstance(model, sb3.DQN):
        return policy.q_net(seen)
    if isinstance(model, contrib.ARS):
        features = policy.extract_features(seen, policy.features_extractor)
        out = policy.action_net(features)
        return out if policy.squash_output or out.shape[1] == 4 else in_range(out)
    if isinstance(model, sb3.TD3):
        return policy.actor(seen)
    if isinstance(model, sb3.SAC | contrib.TQC | contrib.CrossQ):
        mean, log_sd, more = policy.actor.get_action_dist_params(seen)
        dist = policy.actor.action_dist.proba_distribution(mean, log_sd, **more).distribution
        return torch.cat([dist.mean, dist.stddev.log()], dim=1)
    if isinstance(model, contrib.MaskablePPO) and isinstance(
        model.action_space, spaces.MultiBinary
    ):
        bits = policy.get_distribution(seen).distributions
        return torch.stack([bit.logits[:, 1] - bit.logits[:, 0] for bit in bits], dim=1)
    dist = policy.get_distribution(seen).distribution
    if isinstance(dist, list):
        return torch.cat([one.logits for one in dist], dim=1)
    if not hasattr(dist, "stddev") or not isinstance(dist, torch.distributions.Normal):
        return dist.logits
    if policy.squash_output:
        return torch.cat([dist.mean, dist.stddev.log()], dim=1)
    half = torch.from_numpy(BOX.high - BOX.low) / 2.0
    return torch.cat([in_range(dist.mean), (dist.stddev / half).log()], dim=1)


def in_range(action: Tensor) -> Tensor:
    low, high = torch.from_numpy(BOX.low), torch.from_numpy(BOX.high)
    return 2.0 * (action - low) / (high - low) - 1.0


def as_probabilities(model: Model, out: Tensor) -> Tensor:
    """Return logits shifted to log p, as torch.distributions keeps them; others as they are."""
    head = model.policy.head
    if isinstance(head, Categorical):
        return out.log_softmax(dim=1)
    if isinstance(head, MultiCategorical):
        return torch.cat(
            [part.log_softmax(dim=1) for part in torch.split(out, list(head.sizes), dim=1)], dim=1
        )
    return out


def seen_by(model: Any) -> gym.Space[Any]:
    """Return the observations of its environment, before any transposing."""
    space: gym.Space[Any] = model.env.unwrapped.envs[0].observation_space
    return space


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_and_actions_are_the_librarys(case: str, tmp_path: Path) -> None:
    model = CASES[case]()
    model.policy.set_training_mode(False)
    model.save(tmp_path / "model")
    ours = import_model(tmp_path / "model.zip", space=model.action_space)
    theirs_see, we_see = states(seen_by(model))
    with torch.no_grad():
        out, _ = ours.policy.step(we_see, ours.policy.initial(N))
        expected = numbers(model, theirs_see)
    assert (as_probabilities(ours, out) - as_probabilities(ours, expected)).abs().max() <= 1e-5
    action = to_space(ours.policy.head.mode(out).numpy(), model.action_space)
    wanted, _ = model.predict(theirs_see, deterministic=True)
    if isinstance(model.action_space, spaces.Box):
        np.testing.assert_allclose(action, wanted, atol=1e-5)
    else:
        np.testing.assert_array_equal(action, wanted)
        assert len(np.unique(action)) > 1


@pytest.mark.parametrize("layers", [1, 2])
def test_the_memory_of_recurrent_ppo_begins_anew_with_each_episode(
    layers: int, tmp_path: Path
) -> None:
    settings = {"lstm_hidden_size": 8, "n_lstm_layers": layers, "net_arch": {"pi": [8], "vf": []}}
    model = made(
        contrib.RecurrentPPO, "MlpLstmPolicy", VECTOR, spaces.Discrete(4), policy_kwargs=settings
    )
    model.save(tmp_path / "model")
    policy = import_model(str(tmp_path / "model.zip")).policy
    obs, rng = states(VECTOR)[0].reshape(250, 4, 5), np.random.default_rng(1)
    theirs, ours = None, policy.initial(4)
    for seen in obs:
        begins = rng.random(4) < 0.1
        wanted, theirs = model.predict(seen, theirs, begins, deterministic=True)
        out, ours = policy.step(torch.from_numpy(seen)[:, None], begin_again(policy, ours, begins))
        np.testing.assert_array_equal(policy.head.mode(out).numpy(), wanted)
        for part, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(part.transpose(0, 1).numpy(), other, atol=1e-5)


def test_a_stack_and_any_order_of_channels_are_those_of_the_librarys_wrappers(
    tmp_path: Path,
) -> None:
    model = made(
        sb3.DQN, "CnnPolicy", spaces.Box(0, 255, (40, 36, 6), np.uint8), spaces.Discrete(3)
    )
    model.save(tmp_path / "model")
    policy = import_model(str(tmp_path / "model.zip")).policy
    obs = torch.from_numpy(states(seen_by(model))[0][:10])
    stacked = obs.reshape(10, 40, 36, 2, 3).movedim(-2, 1)  # two frames of three channels
    readings = [obs[:, None], stacked, stacked.movedim(-1, 2), obs.movedim(-1, 1)]
    said = [policy.step(reading, ())[0] for reading in readings]
    assert [tuple(reading.shape[1:]) for reading in readings] == [
        *((1, 40, 36, 6), (2, 40, 36, 3), (2, 3, 40, 36), (6, 40, 36)),
    ]
    assert all(torch.equal(said[0], other) for other in said)


def test_parts_without_an_image_may_come_flattened(tmp_path: Path) -> None:
    space = spaces.Dict({key: part for key, part in DICT.spaces.items() if key != "picture"})
    model = made(sb3.PPO, "MultiInputPolicy", space, spaces.Discrete(3))
    model.save(tmp_path / "model")

    def as_in_2021(about: dict[str, Any]) -> None:
        pairs = ", ".join(f"('{key}', {part})" for key, part in space.spaces.items())
        about["observation_space"]["spaces"] = f"OrderedDict([{pairs}])"

    name = edited(tmp_path / "model.zip", tmp_path / "old.zip", as_in_2021)
    obs, seen = states(space)
    flatten: Any = spaces.flatten
    flat = np.stack([flatten(space, {k: part[i] for k, part in obs.items()}) for i in range(N)])
    whole: Any = import_model(tmp_path / "model.zip").policy
    expected, _ = whole.step(seen, ())
    for policy in (whole, import_model(name).policy):
        assert torch.equal(policy.step(torch.from_numpy(flat)[:, None], ())[0], expected)


def test_observations_are_normalised_as_in_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actions = spaces.Discrete(3)
    env = VecNormalize(DummyVecEnv([lambda: Anything(VECTOR, actions)] * 2), clip_obs=1.5)
    model: Any = sb3.A2C("MlpPolicy", env, seed=1, device="cpu").learn(20)
    model.save(tmp_path / "model")
    env.save(str(tmp_path / "statistics.pkl"))
    name = str(tmp_path / "model.zip")
    ours = import_model(f"{name}+vecnormalize:{tmp_path / 'statistics.pkl'}")
    obs, seen = states(VECTOR)
    normalised: Any = env.normalize_obs(obs)
    assert (np.abs(normalised) == 1.5).any()
    with torch.no_grad():
        expected = model.policy.get_distribution(torch.from_numpy(normalised)).distribution.logits
    out, _ = ours.policy.step(seen, ())
    assert (out.log_softmax(dim=1) - expected).abs().max() <= 1e-5
    assert len(ours.files) == 2
    with pytest.warns(UserWarning, match="vecnormalize"):
        import_model(name)
    capsys.readouterr()
    main(["inspect", name, "--json"])
    line = capsys.readouterr().err
    assert line.startswith(f"tutelage: warning: {name} was trained behind VecNormalize")
    assert line.count("\n") == 1


def test_statistics_of_a_dict_are_of_the_keys_that_were_normalised(tmp_path: Path) -> None:
    space = spaces.Dict(speed=VECTOR, gear=spaces.Discrete(4))
    env = VecNormalize(
        DummyVecEnv([lambda: Anything(space, spaces.Discrete(3))]), norm_obs_keys=["speed"]
    )
    model = sb3.PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, device="cpu").learn(8)
    model.save(tmp_path / "model")
    env.save(str(tmp_path / "statistics.pkl"))
    obs, seen = states(space)
    ours = import_model(f"{tmp_path / 'model.zip'}+vecnormalize:{tmp_path / 'statistics.pkl'}")
    wanted, _ = model.predict(env.normalize_obs(obs), deterministic=True)
    out, _ = ours.policy.step(seen, ())
    np.testing.assert_array_equal(ours.policy.head.mode(out).numpy(), wanted)


def test_a_pickle_of_statistics_runs_nothing(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "statistics.pkl"
    for content in (Hostile(), {"obs_rms": Hostile()}, [1, 2]):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(UserError):
            vecnormalize.read(path)
    assert not (tmp_path / "ran").exists()
    imports = b"\x80\x04cnumpy\nload\n."
    far = b"\x80\x04}r\xff\xff\xff\x7f."  # remembers at a place two billion long
    long = b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"."  # says it has a terabyte
    for data in (imports, far, long, b""):
        path.write_bytes(data)
        with pytest.raises(UserError):
            vecnormalize.read(path)


def edited(
    source: Path,
    target: Path,
    about: Callable[[dict[str, Any]], None] = lambda about: None,
    tensors: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] = lambda tensors: tensors,
    leave: str = "",
) -> str:
    """Write a zip again with changes to its text or its tensors, or without a part."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name != leave}
    text = json.loads(parts["data"])
    about(text)
    parts["data"] = json.dumps(text).encode()
    if "policy.pth" in parts:
        buffer = io.BytesIO()
        saved = torch.load(io.BytesIO(parts["policy.pth"]), weights_only=True)
        torch.save(tensors(saved), buffer)
        parts["policy.pth"] = buffer.getvalue()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return str(target)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Return a small PPO with two layers, and its zip."""
    model = made(
        sb3.PPO,
        "MlpPolicy",
        VECTOR,
        spaces.Discrete(4),
        policy_kwargs={"net_arch": {"pi": [8, 6], "vf": [4]}},
    )
    path = tmp_path_factory.mktemp("saved") / "model.zip"
    model.save(path)
    return model, path


def test_a_zip_of_2021_with_shared_layers_says_the_same(
    saved: tuple[Any, Path], tmp_path: Path
) -> None:
    model, path = saved

    def old_text(about: dict[str, Any]) -> None:
        for name in ("observation_space", "action_space"):
            space = about[name]
            space[":type:"] = space[":type:"].replace("gymnasium", "gym")
            space["shape"] = space.pop("_shape")
        about["action_space"]["n"] = 4

    def shared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        places = {"policy_net.0": "shared_net.0", "policy_net.2": "policy_net.0"}
        for new, old in places.items():
            tensors = {name.replace(new, old): value for name, value in tensors.items()}
        return tensors

    old = import_model(edited(path, tmp_path / "old.zip", old_text, shared))
    obs, seen = states(VECTOR)
    wanted, _ = model.predict(obs, deterministic=True)
    np.testing.assert_array_equal(old.policy.head.mode(old.policy.step(seen, ())[0]), wanted)
    assert old.card["algorithm"] == "PPO"


def _own_class(about: dict[str, Any]) -> None:
    about["policy_class"]["__module__"] = "__main__"


def _own_extractor(about: dict[str, Any]) -> None:
    about["policy_kwargs"]["features_extractor_class"] = "<class '__main__.MyCNN'>"


def _own_activation(about: dict[str, Any]) -> None:
    about["policy_kwargs"]["activation_fn"] = "<class '__main__.Snake'>"


def _more_actions(about: dict[str, Any]) -> None:
    about["action_space"]["n"] = "5"


def _unbounded(about: dict[str, Any]) -> None:
    about["action_space"] = {
        ":type:": "<class 'gym.spaces.box.Box'>",
        **{"dtype": "float32", "shape": [4], "low": "[-inf -1. -1. -1.]", "high": "[2. 1. 1. 1.]"},
    }


def _not_written_out(about: dict[str, Any]) -> None:
    _unbounded(about)
    about["action_space"]["low"] = "[-1. -2. ... -3.]"


def _spread(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"log_std": torch.zeros(4)}


def _more(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"mlp_extractor.attention.weight": torch.zeros(2, 2)}


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"world_model.{name}": value for name, value in tensors.items()}


def _damaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"action_net.bias": torch.full((4,), torch.nan)}


def _sees(**space: Any) -> Callable[[dict[str, Any]], None]:
    kind = space.pop("kind")
    name = f"<class 'gymnasium.spaces.{kind.lower()}.{kind}'>"
    return lambda about: about.update(observation_space={":type:": name, **space})


def _table(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"action_net.bias": torch.zeros(1).expand(2**34)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"leave": "policy.pth"}, "without policy.pth"),
        ({"about": _own_class}, "policy class of its own"),
        ({"about": _own_extractor}, "MyCNN"),
        ({"about": _own_activation}, "Snake"),
        ({"about": lambda about: about.clear()}, "policy_class"),
        ({"about": lambda about: about.update(action_space=[1])}, "actions"),
        ({"about": _not_written_out, "tensors": _spread}, "bounds"),
        ({"tensors": _more}, "attention"),
        ({"tensors": _renamed}, "not known"),
        ({"tensors": _damaged}, "NaN"),
        ({"tensors": lambda tensors: [1]}, "not known"),
        ({"about": _more_actions}, "says 4 numbers"),
        ({"tensors": _table}, "most of which are not in the file"),
        ({"tensors": lambda tensors: tensors | {1: torch.zeros(2)}}, "layer's name"),
        ({"tensors": lambda tensors: {n: t.bool() for n, t in tensors.items()}}, "tensor of bool"),
        ({"about": _sees(kind="Discrete", n=2**40)}, "sizes"),
        ({"about": _sees(kind="MultiDiscrete", nvec=f"[{10**23} 3]")}, "sizes"),
        ({"about": _sees(kind="MultiBinary", n=2**45)}, "sizes"),
        ({"about": _sees(kind="MultiBinary", n=5, _shape=[2**20] * 3)}, "have 1.15e"),
        ({"about": _sees(kind="Dict", spaces="{'a': Box(" + ", " * 200_000 + ")}")}, "Box"),
        ({"about": _sees(kind="Dict", spaces="{" + "'a\\'" * 200_000)}, "spaces"),
        ({"about": _sees(kind="Dict", spaces="{'a': Box(-1.0, 1.0, (5,), float32)")}, "spaces"),
    ],
)
def test_what_is_not_the_librarys_own_is_refused(
    change: dict[str, Any], says: str, saved: tuple[Any, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says) as error:
        import_model(edited(saved[1], tmp_path / "other.zip", **change))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_file_is_known_by_its_content(saved: tuple[Any, Path], tmp_path: Path) -> None:
    other = tmp_path / "policy.onnx"
    other.write_bytes(saved[1].read_bytes())
    assert import_model(other).format == import_model(f"sb3:{other}").format == "sb3"
    with pytest.raises(UserError, match="ONNX Runtime"):
        import_model(f"onnx:{other}")
    other.write_bytes(b"What is this?")
    with pytest.raises(UserError, match="sb3, torchscript"):
        import_model(other)
    with pytest.raises(UserError, match="no model"):
        import_model(tmp_path / "nothing.zip")


def test_an_activation_is_named_where_the_file_does_not_say_and_not_against_it(
    saved: tuple[Any, Path], tmp_path: Path
) -> None:
    own = edited(saved[1], tmp_path / "own.zip", _own_activation)
    assert import_model(f"{own}+activation:tanh").policy.head.size == 4

    def elu(about: dict[str, Any]) -> None:
        kind = "<class 'torch.nn.modules.activation.ELU'>"
        about["policy_kwargs"]["activation_fn"] = kind

    with pytest.raises(UserError, match="elu"):
        import_model(edited(saved[1], tmp_path / "elu.zip", elu) + "+activation:relu")
    with pytest.raises(UserError, match="choose from"):
        import_model(f"{saved[1]}+activation:snake")


def test_actions_without_bounds_are_in_their_own_units(
    saved: tuple[Any, Path], tmp_path: Path
) -> None:
    policy = import_model(edited(saved[1], tmp_path / "box.zip", _unbounded, _spread)).policy
    assert policy.head == Gaussian(4, bounded=False)
    raw = import_model(str(saved[1])).policy.step(states(VECTOR)[1], ())[0]  # its logits
    assert torch.allclose(policy.step(states(VECTOR)[1], ())[0][:, :4], raw)


def test_bounds_that_are_not_written_out_are_the_environments(tmp_path: Path) -> None:
    high = np.ones(1_100, np.float32)
    high[500] = 3.0  # NumPy shows the first and last three
    model = made(sb3.PPO, "MlpPolicy", VECTOR, spaces.Box(-high, high))
    model.save(tmp_path / "many")
    with pytest.raises(UserError, match="together with its environment"):
        import_model(tmp_path / "many.zip")
    with pytest.warns(PolicyWarning, match="those of the environment are taken"):
        policy = import_model(tmp_path / "many.zip", space=model.action_space).policy
    theirs_see, we_see = states(VECTOR)
    wanted, _ = model.predict(theirs_see, deterministic=True)
    action = to_space(policy.head.mode(policy.step(we_see, ())[0]).numpy(), model.action_space)
    np.testing.assert_allclose(action, wanted, atol=1e-5)


def test_what_does_not_fit_the_environment_is_refused(
    saved: tuple[Any, Path], tmp_path: Path
) -> None:
    policy: Any = import_model(str(saved[1])).policy
    with pytest.raises(UserError, match="sees 5 numbers; the environment gives 6"):
        policy.step(torch.zeros(2, 1, 6), ())
    with pytest.raises(UserError, match="parts: a"):
        policy.step({"a": torch.zeros(2, 1, 5)}, ())
    model = made(sb3.TD3, "MlpPolicy", VECTOR, BOX)
    model.save(tmp_path / "td3")
    with pytest.raises(UserError, match="from"):
        import_model(str(tmp_path / "td3.zip"), space=spaces.Box(-1.0, 1.0, (2,)))
    model = made(sb3.DQN, "MultiInputPolicy", DICT, spaces.Discrete(3))
    model.save(tmp_path / "parts")
    parts: Any = import_model(str(tmp_path / "parts.zip")).policy
    with pytest.raises(UserError, match="speed"):
        parts.step({"speed": torch.zeros(2, 1, 5)}, ())


@pytest.mark.parametrize("damage", range(40))
def test_a_damaged_zip_is_refused_in_one_line(
    damage: int, saved: tuple[Any, Path], tmp_path: Path
) -> None:
    data = bytearray(saved[1].read_bytes())
    rng = np.random.default_rng(damage)
    if damage < 10:
        data = data[: int(rng.integers(1, len(data)))]
    else:
        for at in rng.integers(0, len(data), 30):
            data[at] = int(rng.integers(256))
    path = tmp_path / "damaged.zip"
    path.write_bytes(data)
    with contextlib.suppress(UserError):  # none where the damage was to what nothing reads
        assert import_model(str(path)).policy.step(torch.zeros(1, 1, 5), ())[0].shape == (1, 4)
