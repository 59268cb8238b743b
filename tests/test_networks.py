import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tutelage.errors import UserError
from tutelage.networks import SIZES, QNetwork, Size, count_parameters, parse_size

WIDTH = st.integers(1, 2000)
CONVOLUTIONAL = st.builds(
    lambda channels, hidden, padded: Size(channels, (hidden,), padded),
    st.tuples(WIDTH, WIDTH, WIDTH),
    WIDTH,
    st.booleans(),
)
PERCEPTRON = st.builds(
    lambda hidden: Size((), tuple(hidden)), st.lists(WIDTH, min_size=1, max_size=4)
)


def build(size: str, obs_shape: tuple[int, ...] = (4, 84, 84), *, seed: int = 0) -> QNetwork:
    generator = torch.Generator().manual_seed(seed)
    return QNetwork(parse_size(size), obs_shape, 6, generator=generator)


def frames(batch: int, *, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(256, size=(batch, 4, 84, 84), dtype=np.uint8)
    return torch.from_numpy(pixels)


@pytest.mark.parametrize(
    ("name", "side", "actions", "parameters"),
    [
        ("teacher", 84, 6, 3_358_374),
        ("teacher", 80, 6, 3_358_374),
        ("student", 84, 6, 216_246),
        ("student", 80, 6, 216_246),
        ("net1", 84, 18, 427_874),
        ("net2", 84, 18, 113_346),
        ("net3", 84, 18, 61_954),
        ("nature", 84, 6, 1_687_206),
    ],
)
def test_the_named_sizes_have_the_published_numbers_of_parameters(
    name: str, side: int, actions: int, parameters: int
) -> None:
    assert count_parameters(SIZES[name], (4, side, side), actions) == parameters


def test_with_their_target_copies_they_are_the_papers_figures() -> None:
    paper = {"teacher": 6_716_748, "student": 432_492}
    assert {n: 2 * count_parameters(SIZES[n], (4, 80, 80), 6) for n in paper} == paper


def test_counting_agrees_with_building() -> None:
    network = build("2/3/4/5")
    weights = 4 * 2 * 64 + 2 + 2 * 3 * 16 + 3 + 3 * 4 * 9 + 4 + 400 * 5 + 5 + 5 * 6 + 6
    assert network.num_parameters() == count_parameters(network.size, (4, 84, 84), 6) == weights


@pytest.mark.parametrize(
    ("size", "side", "last_map"),
    [("1/1/5/8", 84, 10), ("1/1/5/8", 80, 10), ("1/1/5/8:valid", 84, 7)],
)
def test_the_last_map_is_ten_by_ten_where_padded(size: str, side: int, last_map: int) -> None:
    network = build(size, (4, side, side))
    convolutions = network.body[: list(map(type, network.body)).index(nn.Flatten)]
    assert convolutions(torch.zeros(1, 4, side, side)).shape == (1, 5, last_map, last_map)
    assert network(torch.zeros(2, 4, side, side, dtype=torch.uint8)).shape == (2, 6)


@given(CONVOLUTIONAL | PERCEPTRON | st.sampled_from(list(SIZES.values())))
def test_a_size_is_parsed_back_from_its_spelling(size: Size) -> None:
    assert parse_size(str(size)) == size


@pytest.mark.parametrize("name", SIZES)
def test_a_name_stands_for_its_size(name: str) -> None:
    assert parse_size(name) is SIZES[name]


@pytest.mark.parametrize(
    "text",
    ["", "huge", "16/16/16", "16/16/16/0", "1/2/3/4:same", "mlp:", "mlp:0", "mlp:8/", "-1/2/3/4"],
)
def test_what_spells_no_size_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(UserError, match=r"unknown network size .* choose from teacher, student"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "obs_shape"), [("student", (1, 4)), ("nature", (4, 30, 84)), ("student", (4, 84, 3))]
)
def test_observations_that_do_not_fit_the_size_are_refused(
    size: str, obs_shape: tuple[int, ...]
) -> None:
    with pytest.raises(UserError, match=r"this environment gives .* choose a size such as mlp"):
        build(size, obs_shape)


@pytest.mark.parametrize(
    ("obs", "shift", "scale"),
    [
        ([0, 0, 0, 8], 0.0, 1 / np.sqrt(12.0)),
        ([4, 7, 7, 8, 9], 7.0, 1 / np.sqrt(2.8)),
        ([5, 5, 5], 5.0, 1.0),
    ],
)
def test_calibration_takes_the_median_and_the_standard_deviation(
    obs: list[int], shift: float, scale: float
) -> None:
    network = build("mlp:2", (1, 3))
    network.calibrate(np.array(obs, np.uint8))
    assert (network.shift.item(), network.scale.item()) == pytest.approx((shift, scale))
    assert network.num_parameters() == build("mlp:2", (1, 3)).num_parameters()


def test_unit_scaling_brings_pixels_between_zero_and_one() -> None:
    network = build("mlp:2", (1, 3))
    network.calibrate(np.array([4, 7, 9], np.uint8), "unit")
    assert (network.shift.item(), network.scale.item()) == pytest.approx((0.0, 1 / 255))


def test_observations_that_are_no_frames_are_left_in_their_own_units() -> None:
    network = build("mlp:2", (1, 3))
    network.calibrate(np.array([4.0, 7.0, 9.0], np.float32))
    assert (network.shift.item(), network.scale.item()) == (0.0, 1.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_unknown_scaling_is_refused_whatever_the_observations(dtype: type) -> None:
    with pytest.raises(UserError, match="unknown input scaling 'gray': choose from standard, unit"):
        build("mlp:2", (1, 3)).calibrate(np.zeros(3, dtype), "gray")


def test_shift_and_scale_fold_into_the_first_layer() -> None:
    network, plain = build("4/4/4/8:valid").double(), build("4/4/4/8:valid").double()
    obs = frames(3)
    network.calibrate(obs.numpy())
    shift, scale, first = network.shift, network.scale, plain.body[0]
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    first.bias.data -= shift * scale * first.weight.data.sum(dim=(1, 2, 3))
    first.weight.data *= scale
    plain_q = plain.head(plain.body(obs.double()))
    torch.testing.assert_close(network.head(network.body((obs - shift) * scale)), plain_q)
    single = network.float()(obs)
    torch.testing.assert_close(single, plain_q.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_scaling_leaves_the_observations_as_they_are(dtype: torch.dtype, autocast: bool) -> None:
    network, obs = build("4/4/4/8:valid"), frames(3).to(dtype)
    network.calibrate(frames(3).numpy())
    shown = obs.clone()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        network(obs)
        network.hidden(obs)
    assert torch.equal(obs, shown)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_scaling_is_its_formula_bit_for_bit(dtype: torch.dtype, autocast: bool) -> None:
    network, obs = build("4/4/4/8:valid"), frames(3).to(dtype)
    network.calibrate(frames(3).numpy())
    given: list[torch.Tensor] = []
    network.body.register_forward_pre_hook(lambda body, inputs: given.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        network(obs)
    wanted = torch.bfloat16 if autocast else torch.float32
    shift, scale = network.shift.to(wanted), network.scale.to(wanted)
    assert given[0].dtype == wanted
    assert torch.equal(given[0], (obs.to(wanted) - shift) * scale)


def test_under_bf16_autocast_q_is_float32_and_close() -> None:
    network, obs = build("4/4/4/32"), frames(8)
    network.calibrate(obs.numpy())
    with torch.no_grad():
        exact = network(obs)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(obs)
            assert network.hidden(obs).dtype == torch.bfloat16
    assert rounded.dtype == exact.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.0, atol=0.05 * exact.abs().max().item())


def test_weights_follow_from_the_generator_alone() -> None:
    torch_before = torch.get_rng_state()
    first, again, other = (build("4/4/4/8", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), torch_before)
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    assert not torch.equal(first.head.weight, other.head.weight)


def test_weights_start_he_normal_with_a_small_head_and_no_bias() -> None:
    network = build("mlp:500", (1, 200))
    hidden, head = network.body[1], network.head
    assert isinstance(hidden, nn.Linear)
    assert hidden.weight.std().item() == pytest.approx(np.sqrt(2 / 200), rel=0.02)
    assert head.weight.std().item() == pytest.approx(0.1 * np.sqrt(2 / 500), rel=0.05)
    assert not hidden.bias.any()
    assert not head.bias.any()
