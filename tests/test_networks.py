import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tutelage.convolution import FrameConv2d
from tutelage.errors import UserError
from tutelage.heads import Gaussian, QValues
from tutelage.networks import SIZES, Network, Size, count_parameters, parse_size

WIDTH = st.integers(1, 2000)
CONVOLUTIONAL = st.builds(
    lambda channels, hidden, padded, norm: Size(channels, (hidden,), padded, norm),
    st.tuples(WIDTH, WIDTH, WIDTH),
    WIDTH,
    st.booleans(),
    st.booleans(),
)
PERCEPTRON = st.builds(
    lambda hidden, norm: Size((), tuple(hidden), norm=norm),
    st.lists(WIDTH, min_size=1, max_size=4),
    st.booleans(),
)


def build(size: str, obs_shape: tuple[int, ...] = (4, 84, 84), *, seed: int = 0) -> Network:
    generator = torch.Generator().manual_seed(seed)
    return Network(parse_size(size), obs_shape, QValues(6), generator=generator)


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
    assert count_parameters(SIZES[name], (4, side, side), QValues(actions)) == parameters


def test_with_their_target_copies_they_are_the_papers_figures() -> None:
    paper = {"teacher": 6_716_748, "student": 432_492}
    assert {n: 2 * count_parameters(SIZES[n], (4, 80, 80), QValues(6)) for n in paper} == paper


def test_counting_agrees_with_building() -> None:
    network = build("2/3/4/5")
    weights = 4 * 2 * 64 + 2 + 2 * 3 * 16 + 3 + 3 * 4 * 9 + 4 + 400 * 5 + 5 + 5 * 6 + 6
    counted = count_parameters(network.size, (4, 84, 84), network.head)
    assert network.num_parameters() == counted == weights


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


@pytest.mark.parametrize(
    "text",
    [
        *("", "huge", "16/16/16", "16/16/16/0", "1/2/3/4:same", "mlp:0", "mlp:8/", "mlp:65537"),
        *(":norm", "mlp:8:norm:norm", "1/2/3/4:norm:valid"),
    ],
)
def test_what_spells_no_size_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(UserError, match="teacher, student"):
        parse_size(text)


def test_a_layer_is_normalised_over_its_units_before_its_relu() -> None:
    network = build("mlp:4:norm", (1, 1))
    first, norm = network.body[1], network.body[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(norm, nn.LayerNorm)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [6.0]]))
        norm.weight.copy_(torch.tensor([1.0, 1.0, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([5.0, 0.0, 1.0, 0.5]))
    # Of 1, 2, 3, 6 the mean is 3 and the variance 3.5; whatever the input's scale.
    units = torch.tensor([[5.0 - 2.0 / 3.5**0.5, 0.0, 1.0, 2.0 * 3.0 / 3.5**0.5 + 0.5]])
    for scale in (1.0, 100.0):
        torch.testing.assert_close(
            network.hidden(torch.full((1, 1, 1), scale)), units, atol=1e-4, rtol=1e-4
        )


def test_a_convolution_is_normalised_over_channels_and_places_of_one_state() -> None:
    network, plain = build("2/3/4/5:norm"), build("2/3/4/5")
    obs = frames(2)
    first = plain.body[0]
    assert isinstance(first, nn.Conv2d)
    first.load_state_dict(network.body[0].state_dict())
    maps = first(obs.float())
    wanted = (maps - maps.mean((1, 2, 3), keepdim=True)) / maps.var(
        (1, 2, 3), correction=0, keepdim=True
    ).add(1e-5).sqrt()
    torch.testing.assert_close(network.body[:2](obs.float()), wanted, atol=1e-4, rtol=1e-4)
    # A gain and a bias for each channel and each unit.
    assert network.num_parameters() - plain.num_parameters() == 2 * (2 + 3 + 4 + 5)


@pytest.mark.parametrize(
    ("size", "obs_shape"), [("student", (1, 4)), ("nature", (4, 30, 84)), ("student", (4, 84, 3))]
)
def test_observations_that_do_not_fit_the_size_are_refused(
    size: str, obs_shape: tuple[int, ...]
) -> None:
    with pytest.raises(UserError, match="mlp:64/64"):
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


def test_an_unknown_scaling_is_refused_even_where_nothing_is_scaled() -> None:
    with pytest.raises(UserError, match="standard, unit"):
        build("mlp:2", (1, 3)).calibrate(np.zeros(3, np.float32), "gray")


@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
def test_frames_with_channels_are_convolved_as_that_many_frames_each(last: bool) -> None:
    pixels = torch.rand(2, 3, 40, 48, 3, generator=torch.Generator().manual_seed(0))
    coloured = pixels if last else pixels.movedim(-1, 2)
    network = build("2/2/2/4", tuple(coloured.shape[1:]))
    grey = build("2/2/2/4", (9, 40, 48))
    grey.load_state_dict({k: v for k, v in network.state_dict().items() if "body" not in k}, False)
    for own, theirs in zip(grey.body, list(network.body)[1:], strict=True):
        own.load_state_dict(theirs.state_dict())
    planes = torch.stack([pixels[:, t, :, :, c] for t in range(3) for c in range(3)], dim=1)
    torch.testing.assert_close(network(coloured), grey(planes))


def test_a_head_says_how_many_numbers_there_are() -> None:
    network = Network(parse_size("mlp:5"), (1, 3), Gaussian(2))
    assert network(torch.zeros(7, 1, 3)).shape == (7, 4)
    assert network.initial(7) == ()
    out, carry = network.step(torch.zeros(7, 1, 3), ())
    assert (out.shape, carry) == ((7, 4), ())


def test_shift_and_scale_fold_into_the_first_layer() -> None:
    network, plain = build("4/4/4/8:valid").double(), build("4/4/4/8:valid").double()
    obs = frames(3)
    network.calibrate(obs.numpy())
    shift, scale, first = network.shift, network.scale, plain.body[0]
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    first.bias.data -= shift * scale * first.weight.data.sum(dim=(1, 2, 3))
    first.weight.data *= scale
    plain_q = plain.output(plain.body(obs.double()))
    torch.testing.assert_close(network.output(network.body((obs - shift) * scale)), plain_q)
    single = network.float()(obs)
    torch.testing.assert_close(single, plain_q.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_scaling_is_its_formula_bit_for_bit_and_leaves_the_observations_as_they_are(
    dtype: torch.dtype, autocast: bool
) -> None:
    network, obs = build("4/4/4/8:valid"), frames(3).to(dtype)
    network.calibrate(frames(3).numpy())
    shown = obs.clone()
    given: list[torch.Tensor] = []
    network.body.register_forward_pre_hook(lambda body, inputs: given.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        network(obs)
    wanted = torch.bfloat16 if autocast else torch.float32
    shift, scale = network.shift.to(wanted), network.scale.to(wanted)
    assert given[0].dtype == wanted
    assert torch.equal(given[0], (obs.to(wanted) - shift) * scale)
    assert torch.equal(obs, shown)


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
    assert not torch.equal(first.output.weight, other.output.weight)


def test_weights_start_he_normal_with_a_small_head_and_no_bias() -> None:
    network = build("mlp:500", (1, 200))
    hidden, output = network.body[1], network.output
    assert isinstance(hidden, nn.Linear)
    assert hidden.weight.std().item() == pytest.approx(np.sqrt(2 / 200), rel=0.02)
    assert output.weight.std().item() == pytest.approx(0.1 * np.sqrt(2 / 500), rel=0.05)
    assert not hidden.bias.any()
    assert not output.bias.any()


@pytest.mark.parametrize(("stack", "side", "padding"), [(4, 84, 0), (1, 20, 2), (12, 36, 1)])
def test_frames_are_convolved_in_three_dimensions_as_in_two(
    stack: int, side: int, padding: int
) -> None:
    ours = FrameConv2d(stack, 8, 8, 4, padding).double()
    plain = nn.Conv2d(stack, 8, 8, 4, padding).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(3, stack, side, side, dtype=torch.float64)
    learnt = []
    for layer in (ours, plain):
        seen = x.clone().requires_grad_()
        out = layer(seen)
        out.sin().sum().backward()
        assert layer.weight.grad is not None
        assert layer.bias is not None
        learnt.append((out.detach(), seen.grad, layer.weight.grad, layer.bias.grad))
    for ours_, plain_ in zip(*learnt, strict=True):
        torch.testing.assert_close(ours_, plain_, rtol=0.0, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), learnt[1][0], rtol=0.0, atol=1e-10)
