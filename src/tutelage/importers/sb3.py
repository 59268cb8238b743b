"""Policies of Stable-Baselines3 and sb3-contrib: zips of ``data``, in JSON, and ``policy.pth``.

What is pickled inside of ``data`` is left alone. The layers are read off the names and shapes in
``policy.pth``; what these do not show (the activation, spaces, a few constants) is in the readable
part of ``data``, or is the library's default. Raffin et al. 2021, JMLR 22(268).
"""

import ast
import io
import json
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from tutelage.errors import MisfitError, PolicyWarning, UserError
from tutelage.heads import (
    Bernoulli,
    Categorical,
    Gaussian,
    Head,
    MultiCategorical,
    Point,
    QValues,
)
from tutelage.importers.base import (
    Observation,
    Space,
    ToRange,
    assembling,
    checked_weights,
    count_parameters,
    few,
    found,
    line_of,
    members,
    quoted,
    read_bytes,
    read_tensors,
)
from tutelage.importers.layers import (
    Constant,
    Frames,
    Layers,
    Mapped,
    Parts,
    Recurrent,
    Several,
    Weights,
    activation_named,
    filled,
)
from tutelage.policies import Model
from tutelage.types import Array

ALGORITHMS = (
    "DQN, QR-DQN, PPO, A2C, TRPO, SAC, TD3, DDPG, TQC, CrossQ, ARS, MaskablePPO, RecurrentPPO"
)
EXTRACTORS = ("FlattenExtractor", "NatureCNN", "CombinedExtractor")
LARGEST = 2**30
"""Bytes of the largest part of a zip that is unpacked."""
LARGEST_SPACE = 2**25
"""Numbers of the largest observation: more than an image of 4K has."""
SIDES = 64
"""Sides of the largest shape, as in NumPy."""
LONGEST = 2**20
"""Characters of the longest text of a space: NumPy writes out a thousand numbers at most."""
ELSEWHERE = "export it to ONNX or TorchScript, or name it as MODULE:NAME"


def recognises(path: Path) -> bool:
    """Return whether a zip has the parts that Stable-Baselines3 writes."""
    names = members(path)
    return "data" in names and bool(
        {"policy.pth", "pytorch_variables.pth", "_stable_baselines3_version"} & set(names)
    )


def load(path: Path, *, space: Space | None = None, activation: str = "") -> Model:
    """Return the acting network of a zip.

    ``activation`` names the function between layers where the zip's text does not. Raises UserError
    for a zip without a policy, an algorithm, policy class or features extractor that is not the
    library's own, and actions that are not those of ``space``.
    """
    packed, files = read_bytes(path)
    about, tensors, version = _unpack(path, packed)
    settings = _settings(about, str(path))
    saved = _Saved(
        where=str(path),
        observations=_space(about.get("observation_space"), f"{path}: its observations"),
        actions=_space(about.get("action_space"), f"{path}: its actions"),
        settings=settings,
        activation=activation,
    )
    if isinstance(space, spaces.Box):
        saved = saved.within(space)
    with assembling(str(path)):
        policy, algorithm = saved.build(Weights(tensors, str(path)), about)
        policy(saved.observations.zeros())  # layers that do not meet are refused now
    observations = saved.observations
    return Model(
        policy,
        name=str(path),
        format="sb3",
        card={
            "algorithm": algorithm,
            "observations": observations.described(),
            "library": f"stable-baselines3 {version}".strip(),
            "env_steps": about.get("num_timesteps"),
            # On-policy algorithms keep raw observations only beside normalised ones.
            "needs_vecnormalize": "buffer_size" not in about
            and about.get("_last_original_obs") is not None,
        },
        parameters=count_parameters(policy),
        files=files,
        path=path,
    )


def _unpack(path: Path, packed: bytes) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Return ``data``'s readable text, the policy's tensors and the library's version."""

    def part(archive: zipfile.ZipFile, name: str) -> bytes:
        if archive.getinfo(name).file_size > LARGEST:
            raise UserError(f"{path}: its part {name} is larger than {LARGEST:,} bytes")
        return archive.read(name)

    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            names = set(archive.namelist())
            if "policy.pth" not in names:
                raise UserError(
                    f"{path} is a zip of Stable-Baselines3 without policy.pth: no policy"
                )
            about = json.loads(part(archive, "data"))
            saved = read_tensors(part(archive, "policy.pth"), f"{path}, policy.pth")
            version = "_stable_baselines3_version"
            found = part(archive, version).decode() if version in names else ""
    except UserError:
        raise
    except Exception as error:  # a damaged archive fails in more ways than zipfile says
        raise UserError(f"{path} is damaged: {line_of(error)}") from error
    if not isinstance(about, dict):
        raise UserError(f"{path} is damaged: data is no JSON object")
    weights = checked_weights(saved, str(path))
    plain = {name.replace("_orig_mod.", ""): value for name, value in weights.items()}
    return about, plain, found.strip()


def _settings(about: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the policy's own settings; raise UserError for a class that is not the library's."""
    kind, given = about.get("policy_class"), about.get("policy_kwargs")
    if not isinstance(kind, dict) or not isinstance(given, dict):
        raise UserError(f"{where} does not say what its policy is: no policy_class")
    module = str(kind.get("__module__"))
    if not re.fullmatch(r"(stable_baselines3|sb3_contrib)\.[\w.]*policies", module):
        raise UserError(
            f"{where} has a policy class of its own, from {quoted(module)}, which only its code "
            f"knows: {ELSEWHERE}"
        )
    extractor = str(given.get("features_extractor_class", ""))
    name = re.search(r"stable_baselines3\.common\.torch_layers\.(\w+)'>", extractor)
    if extractor and (name is None or name[1] not in EXTRACTORS):
        raise UserError(
            f"{where} has a features extractor of its own, {quoted(extractor)}, which only its "
            f"code knows (known: {', '.join(EXTRACTORS)}): {ELSEWHERE}"
        )
    return {**given, "linear": "ARSLinearPolicy" in str(kind.get("__init__"))}


@dataclass(frozen=True)
class _Space:
    """A space as the text of a zip describes it."""

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    low: Array | None = None
    high: Array | None = None
    hidden: bool = False
    """Whether NumPy left out some of the bounds: those written out may not be all there are."""
    sizes: tuple[int, ...] = ()
    parts: Mapping[str, "_Space"] | None = None

    @property
    def numbers(self) -> int:
        """How many numbers an observation is, one for each choice of a Discrete one."""
        if self.parts is not None:
            return sum(part.numbers for part in self.parts.values())
        return sum(self.sizes) or math.prod(self.shape)

    def described(self) -> Any:
        """Return the space as plain data: a shape, sizes, or one of these by each key."""
        if self.parts is not None:
            return {key: part.described() for key, part in self.parts.items()}
        return list(self.sizes or self.shape)

    def zeros(self) -> Observation:
        """Return an observation ``[1,stack,*frame]``."""
        if self.parts is not None:
            return {key: part.zero() for key, part in self.parts.items()}
        return self.zero()

    def zero(self) -> Tensor:
        """Return an observation of one part."""
        shape = (len(self.sizes),) if self.sizes else self.shape
        return torch.zeros(1, *(shape if len(shape) == 3 else (1, *shape)))

    @property
    def image(self) -> bool:
        """Whether Stable-Baselines3 takes it for an image, in [0, 255]."""
        return (
            self.dtype == "uint8"
            and len(self.shape) == 3
            and self.low is not None
            and self.high is not None
            and bool((self.low == 0).all() and (self.high == 255).all())
        )


_NUMBER = r"[-+]?(?:inf|nan|\d+\.?\d*(?:e[-+]?\d+)?)"
_BEGIN = re.compile(r"(?:OrderedDict\()?(?:\{|\[\()")
_KEY = re.compile(r"""('(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")(?:: |, )""")
_PART = re.compile(r"(Box|Discrete|MultiDiscrete|MultiBinary)\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_BOX = re.compile(r"([^,]+), ([^,]+), \(([\d, ]*)\), \w+")
_NEXT = re.compile(r"\), \(|, ")
_END = re.compile(r"(?:\}|\)\])\)?$")


def _space(about: Any, where: str) -> _Space:
    """Return the space that ``about``, a part of ``data``, describes."""
    try:
        space = _described(about)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        SyntaxError,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(
            f"{where} are not described in a way that is known: {line_of(error)}"
        ) from error
    if space is None:
        raise UserError(
            f"{where} are a {quoted(about[':type:'])}, expected Box, Discrete, MultiDiscrete, "
            "MultiBinary or Dict"
        )
    if space.numbers > LARGEST_SPACE:
        raise UserError(
            f"{where} have {space.numbers:.3g} numbers, expected at most {LARGEST_SPACE:,}"
        )
    return space


def _described(about: Any) -> _Space | None:
    """Return the space, None of an unknown kind; raise ValueError for what makes no sense."""
    kind = str(about[":type:"]).rsplit(".", 1)[-1].removesuffix("'>")
    shape = tuple(int(side) for side in about.get("_shape", about.get("shape")) or ())
    if kind == "Box":
        dtype = str(about["dtype"])
        return _box(_text(about["low"]), _text(about["high"]), shape, dtype)
    if kind == "Discrete":
        return _whole(kind, [int(about["n"])])
    if kind == "MultiDiscrete":
        return _whole(kind, _integers(_text(about["nvec"])))
    if kind == "MultiBinary":
        return _whole(kind, shape or [int(about["n"])])
    return _Space(kind, parts=_parts(_text(about["spaces"]))) if kind == "Dict" else None


def _text(value: Any) -> str:
    text = str(value)
    if len(text) > LONGEST:
        raise ValueError(f"a text of {len(text):,} characters")
    return text


def _integers(text: str) -> list[int]:
    if "..." in text:
        raise ValueError(f"sizes that are not written out: {quoted(text)}")
    return [int(number) for number in re.findall(r"\d+", text)]


def _sound(sides: Sequence[int]) -> tuple[int, ...]:
    """Return the sides of a shape or the sizes of choices, which may be thousands."""
    if min(sides, default=1) < 1 or max(sides, default=1) > LARGEST_SPACE:
        raise ValueError(f"sizes {few(sides)}, expected from 1 to {LARGEST_SPACE:,}")
    return tuple(sides)


def _whole(kind: str, sizes: Sequence[int]) -> _Space:
    """Return a space of whole numbers. Bits have no shape: they are seen as one vector."""
    sizes = _sound(sizes)
    if kind != "MultiBinary":
        return _Space(kind, sizes=sizes)
    return _Space(kind, (_product(sizes),))


def _product(shape: Sequence[int]) -> int:
    if len(shape) > SIDES:
        raise ValueError(f"a shape of {len(shape)} sides")
    return math.prod(shape)


def _box(low: str, high: str, shape: Sequence[int], dtype: str) -> _Space:
    shape = _sound(shape) or (1,)  # a single number is seen as a vector of one
    if _product(shape) > LARGEST_SPACE:
        raise ValueError(f"a Box of shape {few(shape)}")
    hidden = "..." in low or "..." in high
    return _Space("Box", shape, dtype, _array(low, shape), _array(high, shape), hidden)


def _array(text: str, shape: tuple[int, ...]) -> Array | None:
    """Return the array that NumPy printed as ``text``; None where it left out what differs."""
    numbers = [float(number) for number in re.findall(_NUMBER, text)]
    if numbers and len(set(numbers)) == 1:
        return np.broadcast_to(np.float64(numbers[0]), shape)
    whole = "..." not in text and len(numbers) == math.prod(shape)
    return np.array(numbers).reshape(shape) if whole else None


def _parts(text: str) -> dict[str, _Space]:
    """Return the spaces of ``{'a': Box(0, 255, (3, 64, 64), uint8), 'b': Discrete(4), …}``.

    Read from left to right, each character once: it may be a hostile text.
    """
    parts: dict[str, _Space] = {}
    sign: re.Match[str] | None = _BEGIN.match(text)
    at = 0
    while sign is not None:
        key = _KEY.match(text, sign.end())
        part = _PART.match(text, key.end()) if key else None
        if key is None or part is None:
            at = sign.end()
            break
        parts[ast.literal_eval(key[1])] = _part(part[1], part[2])
        at = part.end()
        sign = _NEXT.match(text, at)
    if not parts or not _END.match(text, at):
        raise ValueError(f"spaces {quoted(text[at:])}")
    return parts


def _part(kind: str, inside: str) -> _Space:
    if kind != "Box":
        return _whole(kind, _integers(re.split(r", (?:start|dtype)=", inside)[0]))
    box = _BOX.fullmatch(inside)
    if box is None:
        raise ValueError(f"Box({quoted(inside)})")
    return _box(box[1], box[2], _integers(box[3]), inside.rsplit(", ", 1)[1])


@dataclass(frozen=True)
class _Saved:
    """What ``data`` says that ``policy.pth`` does not."""

    where: str
    observations: _Space
    actions: _Space
    settings: Mapping[str, Any]
    activation: str

    def within(self, space: spaces.Box) -> "_Saved":
        """Return what acts in the range of ``space``, whose bounds fill in those left out here.

        Raises MisfitError for a policy that acts in another range.
        """
        low, high = self.actions.low, self.actions.high
        if self.actions.kind != "Box" or math.prod(self.actions.shape) != space.low.size:
            return self
        if self.actions.hidden:
            warnings.warn(
                f"{self.where} does not write out the bounds of its {space.low.size:,} actions: "
                "those of the environment are taken",
                PolicyWarning,
                stacklevel=2,
            )
            actions = replace(self.actions, low=space.low, high=space.high, hidden=False)
            return replace(self, actions=actions)
        if low is None or high is None:
            return self
        for mine, given in ((low, space.low), (high, space.high)):
            if not np.allclose(mine.ravel(), given.ravel(), rtol=1e-5):
                ours, theirs = (
                    f"from {few(least.ravel().tolist())} to {few(most.ravel().tolist())}"
                    for least, most in ((low, high), (space.low, space.high))
                )
                raise MisfitError(f"acts {ours}", f"takes actions {theirs}")
        return self

    def build(self, weights: Weights, about: Mapping[str, Any]) -> tuple[Layers, str]:
        """Return the acting network and the algorithm that trained it."""
        weights.drop(
            *("q_net_target.", "quantile_net_target.", "critic.", "critic_target."),
            *("actor_target.", "value_net.", "mlp_extractor.value_net.", "lstm_critic."),
            "vf_features_extractor.",
        )
        if weights.names("pi_features_extractor."):
            weights.drop("features_extractor.")
        for algorithm, shows, build in (
            ("DQN", "q_net.q_net.", self._dqn),
            ("QR-DQN", "quantile_net.quantile_net.", self._qr_dqn),
            ("SAC", "actor.log_std", self._sac),
            ("TD3 or DDPG", "actor.mu.", self._td3),
            ("A2C", "action_net.weight", self._actor_critic),
            ("ARS", "action_net.0.weight", self._ars),
        ):
            if weights.names(shows):
                policy = build(weights)
                weights.done()
                return policy, _algorithm(algorithm, about)
        raise UserError(
            f"{self.where} is of an algorithm that is not known (it has "
            f"{next(iter(weights.names()), 'no tensors')}): choose from {ALGORITHMS}"
        )

    def _activation(self, usual: str) -> Callable[[], nn.Module]:
        """Return what stands between layers: the file's, the one asked for, or ``usual``."""
        text = str(self.settings.get("activation_fn", ""))
        said = re.fullmatch(r"<class 'torch\.nn\.modules\.(?:activation|linear)\.(\w+)'>", text)
        if said and self.activation and self.activation.lower() != said[1].lower():
            raise UserError(
                f"{self.where} says its activation is {said[1].lower()}, not {self.activation}"
            )
        if text and not said and not self.activation:
            raise UserError(
                f"{self.where} has an activation of its own, {quoted(text)}: {ELSEWHERE}, or say "
                "which it is like, as in +activation:relu"
            )
        return activation_named(self.activation or (said[1] if said else usual))

    def _number(self, name: str, usual: float) -> float:
        value = self.settings.get(name, usual)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.where} has a {name} {quoted(value)}, expected a number")
        return float(value)

    def _encoder(self, weights: Weights, prefix: str) -> nn.Module:
        """Return what turns observations into features, a CNN where ``prefix`` has one."""
        scaled = self.settings.get("normalize_images", True) is not False

        def part(space: _Space, prefix: str) -> nn.Module:
            if space.kind in ("Discrete", "MultiDiscrete"):
                return OneHot(space.sizes)
            frames = Frames(space.shape, image=space.image and scaled)
            if f"{prefix}cnn.0.weight" not in weights:
                return nn.Sequential(frames, nn.Flatten())
            convolutions = [
                nn.Sequential(weights.convolution(f"{prefix}cnn.{i}", stride), nn.ReLU())
                for i, stride in ((0, 4), (2, 2), (4, 1))
            ]
            linear = weights.linear(f"{prefix}linear.0")
            return nn.Sequential(frames, *convolutions, nn.Flatten(), linear, nn.ReLU())

        parts = self.observations.parts
        if parts is None:
            return part(self.observations, prefix)
        images = any(at.image for at in parts.values())
        flat = self.observations.numbers
        built = {key: part(at, f"{prefix}extractors.{key}.") for key, at in parts.items()}
        return Parts(built, 0 if images else flat)

    def _discrete(self) -> int:
        if self.actions.kind != "Discrete":
            raise UserError(f"{self.where} has {self.actions.kind} actions, expected Discrete")
        return self.actions.sizes[0]

    def _box_size(self) -> int:
        if self.actions.kind != "Box":
            raise UserError(f"{self.where} has {self.actions.kind} actions, expected a Box")
        return int(np.prod(self.actions.shape))

    def _dqn(self, weights: Weights) -> Layers:
        body = weights.mlp("q_net.q_net", self._activation("relu"))
        head = QValues(self._discrete())
        return Layers(self._encoder(weights, "q_net.features_extractor."), body, head)

    def _qr_dqn(self, weights: Weights) -> Layers:
        """Say q = the mean of the quantiles ``[N,quantiles,A]``."""
        body = weights.mlp("quantile_net.quantile_net", self._activation("relu"))
        n = self._discrete()
        mean = Mapped(lambda x: x.view(x.shape[0], -1, n).mean(dim=1))
        encoder = self._encoder(weights, "quantile_net.features_extractor.")
        return Layers(encoder, nn.Sequential(body, mean), QValues(n))

    def _sac(self, weights: Weights) -> Layers:
        """Say the mean and log sd before tanh of SAC, TQC and CrossQ."""
        activation = self._activation("relu")
        renormalised = any("ra_mean" in name for name in weights.names("actor.latent_pi."))
        latent = (
            _renormalised(weights, activation, self._number("batch_norm_eps", 0.001))
            if renormalised
            else weights.mlp("actor.latent_pi", activation, last=True)
        )
        if "actor.log_std" in weights:
            said: nn.Module = self._state_dependent(weights, "actor.mu", "actor.log_std", 2.0)
        else:
            log_sd = weights.linear("actor.log_std")
            bounded = nn.Sequential(log_sd, nn.Hardtanh(-20.0, 2.0))
            said = Several([weights.linear("actor.mu"), bounded])
        encoder = self._encoder(weights, "actor.features_extractor.")
        head = Gaussian(self._box_size(), squashed=True)
        return Layers(encoder, nn.Sequential(latent, said), head)

    def _state_dependent(
        self, weights: Weights, mean: str, log_sd: str, clip: float
    ) -> "StateDependent":
        clip = self._number("clip_mean", clip)
        # With a limit the mean is the first layer of a Sequential.
        limited = f"{mean}.0.weight" in weights
        return StateDependent(
            weights.linear(f"{mean}.0" if limited else mean),
            weights.take(log_sd),
            limit=clip if limited else float("inf"),
            expln=self.settings.get("use_expln") is True,
        )

    def _td3(self, weights: Weights) -> Layers:
        body = weights.mlp("actor.mu", self._activation("relu"))
        encoder = self._encoder(weights, "actor.features_extractor.")
        return Layers(encoder, nn.Sequential(body, nn.Tanh()), Point(self._box_size()))

    def _actor_critic(self, weights: Weights) -> Layers:
        """Say logits, or mean and log sd: PPO, A2C, TRPO, MaskablePPO, RecurrentPPO."""
        activation = self._activation("tanh")
        memory: Recurrent | None = None
        if weights.names("lstm_actor."):
            weights.drop("critic")
            memory = weights.recurrent("lstm_actor")
        # Until version 1.8 actor and critic could share layers.
        latent = [
            weights.mlp(f"mlp_extractor.{net}", activation, last=True)
            for net in ("shared_net", "policy_net")
        ]
        head, said = self._say(weights)
        own = "pi_features_extractor." if weights.names("pi_features_extractor.") else ""
        encoder = self._encoder(weights, own or "features_extractor.")
        return Layers(encoder, nn.Sequential(*latent, *said), head, memory)

    def _say(self, weights: Weights) -> tuple[Head, list[nn.Module]]:
        """Return the head of an actor-critic's actions, and the layers that say its numbers."""
        kind, sizes = self.actions.kind, self.actions.sizes
        if kind == "Box":
            n = self._box_size()
            squashed = self.settings.get("squash_output") is True
            if len(weights.shape("log_std")) == 1:
                said: nn.Module = Several(
                    [weights.linear("action_net"), Constant(weights.take("log_std"))]
                )
            else:
                said = self._state_dependent(weights, "action_net", "log_std", float("inf"))
            if squashed:
                return Gaussian(n, squashed=True), [said]
            return Gaussian(n, bounded=self._bounded()), [said, ToRange(*self._bounds())]
        if kind == "Discrete":
            head: Head = Categorical(sizes[0])
        elif kind == "MultiDiscrete":
            head = MultiCategorical(sizes)
        else:
            head = Bernoulli(int(np.prod(self.actions.shape)))
        said = weights.linear("action_net")
        if isinstance(head, Bernoulli) and said.out_features == 2 * head.n:
            # MaskablePPO says two logits a bit, those of 0 and 1: what counts is their difference.
            return head, [said, Mapped(lambda x: x[:, 1::2] - x[:, ::2])]
        return head, [said]

    def _ars(self, weights: Weights) -> Layers:
        body = weights.mlp("action_net", self._activation("relu"))
        encoder = self._encoder(weights, "features_extractor.")
        if self.actions.kind == "Discrete":
            return Layers(encoder, body, Categorical(self._discrete()))
        squashed = self.settings.get("squash_output", not self.settings["linear"]) is True
        last = nn.Tanh() if squashed else ToRange(*self._bounds())
        head = Point(self._box_size(), bounded=squashed or self._bounded())
        return Layers(encoder, nn.Sequential(body, last), head)

    def _bounds(self) -> tuple[Array, Array]:
        """Return those of the actions."""
        low, high = self.actions.low, self.actions.high
        if low is None or high is None or self.actions.hidden:
            raise UserError(
                f"{self.where} does not write out the bounds of its actions: it can only be read "
                "together with its environment"
            )
        return low, high

    def _bounded(self) -> bool:
        return bool(np.isfinite(self._bounds()).all())


def _algorithm(name: str, about: Mapping[str, Any]) -> str:
    """Return the algorithm, told from others of the same networks by its settings."""
    module = str(about["policy_class"].get("__module__"))
    if name == "SAC":
        return next((a for a in ("TQC", "CrossQ") if f".{a.lower()}." in module), name)
    if name == "A2C":
        if "recurrent" in module:
            return "RecurrentPPO"
        if "maskable" in module:
            return "MaskablePPO"
        return "PPO" if "clip_range" in about else "TRPO" if "cg_max_steps" in about else name
    return name


def _renormalised(
    weights: Weights, activation: Callable[[], nn.Module], eps: float
) -> nn.Sequential:
    """Return CrossQ's layers with their batch renormalisation, as it is when acting."""
    parts: list[nn.Module] = []
    prefix = "actor.latent_pi"
    for i in weights.indices(f"{prefix}."):
        at = f"{prefix}.{i}"
        if f"{at}.ra_mean" not in weights:
            parts += [weights.linear(at), activation()]
            continue
        state = {
            "weight": weights.take(f"{at}.scale"),
            "bias": weights.take(f"{at}.bias"),
            "running_mean": weights.take(f"{at}.ra_mean"),
            "running_var": weights.take(f"{at}.ra_var"),
            "num_batches_tracked": weights.take(f"{at}.steps"),
        }
        with torch.device("meta"):
            norm = nn.BatchNorm1d(len(state["weight"]), eps=eps)
        parts.append(filled(norm, state))
    return nn.Sequential(*parts)


class OneHot(nn.Module):
    """Whole numbers ``obs[N,stack,*]``, each as one of its size: ``[N,sum]``."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, obs: Observation) -> Tensor:
        if not isinstance(obs, Tensor):
            raise UserError(f"the policy takes {len(self.sizes)} whole numbers, not a Dict")
        flat = obs.flatten(1)
        if flat.shape[1] == len(self.sizes):
            whole = flat.long()
            if found((whole < 0) | (whole >= whole.new_tensor(self.sizes))):
                raise UserError(f"the policy takes whole numbers below {list(self.sizes)}")
            hot = [nn.functional.one_hot(whole[:, i], n) for i, n in enumerate(self.sizes)]
            return torch.cat(hot, dim=1).float()
        if flat.shape[1] != sum(self.sizes):
            raise UserError(
                f"the policy takes {len(self.sizes)} whole numbers, this environment gives "
                f"{list(obs.shape[1:])}"
            )
        return flat.float()


class StateDependent(nn.Module):
    """State-dependent exploration (Raffin et al. 2021, arXiv:2005.05719) as one step sees it.

    sd^2 = latent^2 sigma^2 + 1e-6; ``latent[N,F] -> [mean, log sd]``.
    """

    def __init__(self, mean: nn.Linear, log_sd: Tensor, *, limit: float, expln: bool) -> None:
        super().__init__()
        self.mean = mean
        self.limit = limit
        sd = log_sd.exp()
        if expln:
            sd = torch.where(log_sd <= 0, sd, log_sd.clamp(min=0.0).add(1e-6).log1p() + 1.0)
        self.variance = nn.Parameter(sd.square().expand(-1, mean.out_features).contiguous())

    def forward(self, latent: Tensor) -> Tensor:
        mean = self.mean(latent).clamp(-self.limit, self.limit)
        variance = latent.square() @ self.variance
        return torch.cat([mean, (variance + 1e-6).log() / 2.0], dim=1)
