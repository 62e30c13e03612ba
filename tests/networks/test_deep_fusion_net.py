from __future__ import annotations

import pytest
import torch
from fusion_cases import (
    SIZES,
    fused_voxel_by_voxel,
    fusion_input,
    hard_labels,
    one_hot,
    overlapping_blobs,
    soft_labels,
)
from torch import Tensor, nn

from mdl_monai.errors import InputError
from mdl_monai.networks import deep_fusion_net
from mdl_monai.networks.deep_fusion_net import DeepFusionNet
from mdl_monai.networks.fusion_border import split_fusion_input
from mdl_monai.networks.fusion_evidence import undecided_tiles

ANY_SIZE = pytest.mark.parametrize("size", SIZES)
LARGE = [(22, 19), (13, 14, 11)]  # of blobs, of which some tiles are decided
N_FEATURES = 4


def net(size: tuple[int, ...], n_labels: int = 3, **options: bool | int) -> DeepFusionNet:
    """One convolution as features."""
    n_outputs = N_FEATURES + n_labels * bool(options.get("prior"))
    convolution = (nn.Conv2d if len(size) == 2 else nn.Conv3d)(1, n_outputs, 3, padding=1)
    nn.init.normal_(convolution.weight, std=0.6)
    return DeepFusionNet(4, n_labels, convolution, N_FEATURES, **options).eval()


class Told(nn.Module):
    """Features and prior that do not depend on the image: [C, *spatial] for all N."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, image: Tensor) -> Tensor:
        return self.answer.expand(len(image), *self.answer.shape)


class Rounded(nn.Module):
    """A network in bfloat16, also where the rest is not."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.network(image)


def told(prior: Tensor | None, n_labels: int = 3, like: Tensor | None = None) -> DeepFusionNet:
    """All features alike, and a prior of one-hot labels [L, *spatial], which wins wherever it is heard."""
    size = (prior if prior is not None else like).shape[1:]
    answer = torch.zeros(N_FEATURES, *size)
    if prior is not None:
        answer = torch.cat((answer, 20 * prior))
    network = DeepFusionNet(3, n_labels, Told(answer), N_FEATURES, prior=prior is not None).eval()
    nn.init.constant_(network.null_score, 30.0)
    return network


def published(network: DeepFusionNet, image: Tensor, n_atlases: int, n_labels: int = 3) -> Tensor:
    """The paper's formula, by loops, for hard or soft validity; background where no atlas is valid."""
    parts = split_fusion_input(image.double(), n_atlases, n_labels)
    seen = parts.valid > 0
    images = torch.zeros_like(parts.images)
    for b in range(len(image)):
        for k in range(n_atlases):
            x = parts.images[b, k][seen[b, k]]
            images[b, k][seen[b, k]] = (x - x.mean()) / x.std(correction=0)
    axes = tuple(range(2, parts.target.ndim))
    target = parts.target - parts.target.mean(axes, keepdim=True)
    target /= target.square().mean(axes, keepdim=True).sqrt()
    features = network.features.double()
    keys = features(images.flatten(0, 1)[:, None]).unflatten(0, images.shape[:2])
    labels = torch.where(seen[:, :, None], parts.labels, 0.0)
    null, none = torch.full_like(parts.target[:, 0], -1e6), torch.zeros((), dtype=torch.float64)
    out = fused_voxel_by_voxel(features(target), keys, labels, parts.valid.log(), null, none, network.radius)
    features.float()
    out[:, 0] += out[:, -1]
    return out[:, :-1]


@ANY_SIZE
@pytest.mark.parametrize("n_atlases", [1, 3])
def test_published_variant_is_the_papers_formula(size: tuple[int, ...], n_atlases: int) -> None:
    network = net(size, learned_weights=False, radius=1)
    for valid in (None, torch.rand(2, n_atlases, *size) * (torch.rand(2, n_atlases, *size) < 0.7)):
        image = fusion_input(hard_labels(n_atlases, 3, size), valid)
        torch.testing.assert_close(
            network(image).double(), published(network, image, n_atlases), atol=2e-5, rtol=0
        )


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("learned_weights", [False, True])
def test_skipping_decided_tiles_is_exact(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, ...], learned_weights: bool
) -> None:
    labels, valid = overlapping_blobs(4, 3, size), torch.ones(2, 4, *size)
    valid[:, 0, : size[0] // 2] = 0
    valid[:, :, :, 0] = 0
    image, network = fusion_input(labels, valid), net(size, learned_weights=learned_weights, radius=1)
    found, computed = network(image), []

    def all_of_them(labels: Tensor, seen: Tensor, radius: int, tile: int) -> Tensor:
        computed.append(undecided_tiles(labels, seen, radius, tile))
        return torch.ones_like(computed[-1])

    monkeypatch.setattr(deep_fusion_net, "undecided_tiles", all_of_them)
    torch.testing.assert_close(found, network(image), atol=1e-6, rtol=0)
    assert computed[0].any() and not computed[0].all()


@ANY_SIZE
@pytest.mark.parametrize("prior", [False, True])
def test_one_network_takes_any_number_of_atlases_and_gives_probabilities(
    size: tuple[int, ...], prior: bool
) -> None:
    network = net(size, prior=prior)
    for n_atlases in (1, 2, 7):
        valid = torch.rand(2, n_atlases, *size) * (torch.rand(2, n_atlases, *size) < 0.5)
        pred = network(fusion_input(soft_labels(n_atlases, 3, size), valid))
        assert pred.shape == (2, 3, *size) and pred.dtype == torch.float32
        assert (pred >= 0).all()
        torch.testing.assert_close(pred.sum(dim=1), torch.ones(2, *size), atol=1e-5, rtol=0)


@ANY_SIZE
@pytest.mark.parametrize("prior", [False, True])
def test_order_of_atlases_changes_nothing(size: tuple[int, ...], prior: bool) -> None:
    image, network = fusion_input(soft_labels(5, 3, size), torch.rand(2, 5, *size)), net(size, prior=prior)
    atlases = image[:, 1:].unflatten(1, (5, -1))[:, [3, 0, 4, 2, 1]].flatten(1, 2)
    shuffled = network(torch.cat((image[:, :1], atlases), dim=1))
    torch.testing.assert_close(shuffled, network(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", SIZES + LARGE)
@pytest.mark.parametrize("learned_weights", [False, True])
def test_exchanged_labels_exchange_the_output(size: tuple[int, ...], learned_weights: bool) -> None:
    """Up to the last bit: matrix products round the columns of a matrix differently by their place."""
    labels = overlapping_blobs(4, 3, size) if size in LARGE else soft_labels(4, 3, size)
    image, network = fusion_input(labels, torch.rand(2, 4, *size)), net(size, learned_weights=learned_weights)
    atlases = image[:, 1:].unflatten(1, (4, -1))[:, :, [0, 1, 3, 2, 4]].flatten(1, 2)
    exchanged = network(torch.cat((image[:, :1], atlases), dim=1))[:, [0, 2, 1]]
    expected = network(image)
    torch.testing.assert_close(exchanged, expected, atol=5e-7, rtol=0)
    best, second = expected.topk(2, dim=1).values.unbind(dim=1)
    clear = best > second + 1e-6
    assert clear.float().mean() > 0.99
    assert torch.equal(exchanged.argmax(dim=1)[clear], expected.argmax(dim=1)[clear])
    assert (expected[:, 1] - expected[:, 2]).abs().amax() > 0.1


@ANY_SIZE
@pytest.mark.parametrize("prior", [False, True])
def test_atlases_that_are_not_valid_change_nothing_whatever_they_hold(
    size: tuple[int, ...], prior: bool
) -> None:
    network, kept = net(size, prior=prior), [0, 2, 3]
    image = fusion_input(soft_labels(5, 3, size), torch.rand(2, 5, *size) + 0.1)
    atlases = image[:, 1:].unflatten(1, (5, -1)).clone()
    atlases[:, [1, 4], -1] = 0
    expected = network(torch.cat((image[:, :1], atlases[:, kept].flatten(1, 2)), dim=1))
    for garbage in (torch.nan, torch.inf, 1e6):
        atlases[:, [1, 4], :-1] = garbage
        found = network(torch.cat((image[:, :1], atlases.flatten(1, 2)), dim=1))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_where_no_atlas_is_valid_the_answer_is_background_with_and_without_a_prior() -> None:
    size = (9, 17)
    valid = torch.zeros(2, 3, *size)
    valid[0, :, :, 12:] = 1
    image = fusion_input(soft_labels(3, 3, size), valid)
    background = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    for network in (net(size), told(hard_labels(1, 3, size)[0, 0])):
        pred = network(image)
        assert torch.equal(pred[0, :, :, :10], background.expand(3, 9, 10))
        assert torch.equal(pred[1], background.expand(3, *size))
        assert (pred[0, 0, :, 10:] < 1).any()


def block(label: Tensor | list[int], size: tuple[int, ...]) -> Tensor:
    """Two blocks beside one another of the two labels, one-hot [3, *spatial]."""
    out = torch.zeros(size, dtype=torch.long)
    inner = (slice(3, -3),) * (len(size) - 1)
    out[*inner, 3:8], out[*inner, 8:-3] = label
    return one_hot(out[None, None], 3)[0, 0]


@pytest.mark.parametrize("size", [(12, 16), (10, 11, 14)])
def test_prior_is_heard_in_the_images_where_it_agrees_with_the_atlases(size: tuple[int, ...]) -> None:
    prior, exchanged = block([1, 2], size), block([2, 1], size)
    shifted = prior.roll(1, dims=-1)
    labels = torch.stack((shifted, exchanged, block([1, 1], size)))[:, None].repeat(1, 3, *[1] * prior.ndim)
    labels[:, 0] = labels[:, 0].roll(1, dims=-1)  # so that the atlases differ
    image = fusion_input(labels)
    found, without = told(prior)(image), told(None, like=prior)(image)
    inside = (found[0] - prior).abs().amax(dim=0) < 1e-6
    undecided = (without[0] > 0.02).sum(dim=0) > 1
    assert inside[undecided].all() and undecided.sum() > 20
    assert (without[0] - prior).abs().amax() > 0.3
    torch.testing.assert_close(found[1:], without[1:], atol=1e-6, rtol=0)


@ANY_SIZE
def test_training_gives_the_prior_too_and_hears_it_in_every_second_sample(size: tuple[int, ...]) -> None:
    answer = hard_labels(1, 3, size)[0, 0]
    labels = soft_labels(3, 3, size, batch=40)
    network, image = told(answer).train(), fusion_input(labels)
    pred = network(image)
    assert pred.shape == (40, 6, *size)
    torch.testing.assert_close(pred[:, 3:], answer.expand(40, 3, *size), atol=1e-6, rtol=0)
    heard = (pred[:, :3] - answer).abs().flatten(1).amax(dim=1) < 1e-6
    assert 10 < heard.sum() < 30
    without = told(None, like=answer).train()(image)
    assert without.shape == (40, 3, *size)
    torch.testing.assert_close(pred[~heard, :3], without[~heard], atol=1e-6, rtol=0)


@ANY_SIZE
@pytest.mark.parametrize(("learned_weights", "prior"), [(False, False), (True, False), (True, True)])
def test_all_that_is_to_be_learned_has_a_finite_gradient(
    size: tuple[int, ...], learned_weights: bool, prior: bool
) -> None:
    network = net(size, learned_weights=learned_weights, prior=prior).train()
    pred = network(fusion_input(soft_labels(3, 3, size, batch=6)))
    pred[:, :3].square().sum().backward()
    learned = {name for name, p in network.named_parameters() if p.requires_grad}
    assert ("weights" in learned, "null_score" in learned) == (learned_weights, prior)
    for name in learned:
        grad = network.get_parameter(name).grad
        assert torch.isfinite(grad).all() and grad.abs().amax() > 0, name
    assert not learned_weights or network.weights.grad.all()


@ANY_SIZE
@pytest.mark.parametrize("constant", ["target", "atlas", "both"])
def test_constant_images_give_finite_outputs_and_gradients(size: tuple[int, ...], constant: str) -> None:
    image, network = fusion_input(soft_labels(3, 3, size)), net(size, prior=True)
    if constant != "atlas":
        image[:, 0] = 0.3
    if constant != "target":
        image[:, 1::5] = 0.7
    pred = network(image.requires_grad_())
    pred.square().sum().backward()
    assert torch.isfinite(pred).all() and torch.isfinite(image.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("size", LARGE)
def test_tiles_and_chunks_change_cost_alone(size: tuple[int, ...]) -> None:
    image, network = fusion_input(overlapping_blobs(3, 3, size), torch.rand(2, 3, *size)), net(size)
    expected = network(image)
    for tile, chunk in ((4, 1), (4, 100_000), (7, 2**25), (2, 2**25)):
        network.tile, network.chunk = tile, chunk
        torch.testing.assert_close(network(image), expected, atol=2e-5, rtol=0)


def test_images_that_the_feature_network_sees_at_once_are_bounded_by_the_chunk() -> None:
    size, counts = (10, 12, 9), []
    network, image = net(size, prior=True), fusion_input(soft_labels(5, 3, size))
    network.features.register_forward_pre_hook(lambda _, x: counts.append(len(x[0])))
    for chunk, expected in ((1, [1] * 12), (64 * 1080 * 5, [5, 5, 2]), (2**25, [12])):
        network.chunk = chunk
        counts.clear()
        network(image)
        assert counts == expected


@pytest.mark.parametrize("size", LARGE)
def test_a_failed_atlas_loses_weight_against_a_good_one(size: tuple[int, ...]) -> None:
    """The good one shows the target with a little noise, the failed one noise alone; they disagree everywhere."""
    labels = one_hot(torch.tensor([1, 2]).view(1, 2, *[1] * len(size)).expand(1, 2, *size), 3)
    image = fusion_input(labels)
    image[:, 1] = image[:, 0] + 0.1 * torch.randn(size)
    learned = net(size, radius=1)
    plain = DeepFusionNet(2, 3, learned.features, N_FEATURES, 1, learned_weights=False)
    shares = [network(image)[:, 2].mean().item() for network in (learned, plain)]
    assert 2 * shares[0] < shares[1] < 0.5 and shares[0] < 0.05


@ANY_SIZE
@pytest.mark.parametrize("prior", [False, True])
def test_one_label_in_all_atlases_is_the_answer_everywhere(size: tuple[int, ...], prior: bool) -> None:
    network = net(size, prior=prior)
    for number in range(3):
        labels = one_hot(torch.full((2, 3, *size), number), 3)
        assert torch.equal(network.eval()(fusion_input(labels)), labels[:, 0])
        network.train()(fusion_input(labels)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@ANY_SIZE
@pytest.mark.parametrize("prior", [False, True])
def test_scripted_network_agrees_for_any_number_of_atlases(size: tuple[int, ...], prior: bool) -> None:
    network = net(size, prior=prior)
    scripted = torch.jit.script(network)
    for n_atlases in (1, 4):
        image = fusion_input(soft_labels(n_atlases, 3, size), (torch.rand(2, n_atlases, *size) < 0.7).float())
        torch.testing.assert_close(scripted(image), network(image), atol=1e-6, rtol=0)


@ANY_SIZE
@pytest.mark.parametrize("prior", [False, True])
def test_autocast_costs_the_rounding_of_the_features_alone(size: tuple[int, ...], prior: bool) -> None:
    network, image = net(size, prior=prior), fusion_input(soft_labels(4, 3, size))
    exact, convolution = network(image), network.features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pred = network(image)
    torch.testing.assert_close(pred, exact, atol=0.05, rtol=0)
    network.features = Rounded(convolution)
    assert pred.dtype == torch.float32 and torch.equal(pred, network(image))


@pytest.mark.parametrize(("n_atlases", "n_labels"), [(0, 3), (4, 1)])
def test_no_atlases_or_labels_are_refused(n_atlases: int, n_labels: int) -> None:
    with pytest.raises(InputError, match="needs atlases and labels"):
        DeepFusionNet(n_atlases, n_labels, nn.Identity(), N_FEATURES)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(InputError, match=r"(?s)expected: \[B, 16, .* found: \[2, 17,"):
        net((6, 7))(torch.zeros(2, 17, 6, 7))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("size", LARGE)
def test_cuda_agrees_with_the_cpu(size: tuple[int, ...]) -> None:
    network, image = net(size), fusion_input(overlapping_blobs(4, 3, size), torch.rand(2, 4, *size))
    expected = network(image)
    torch.testing.assert_close(network.cuda()(image.cuda()).cpu(), expected, atol=1e-4, rtol=0)
