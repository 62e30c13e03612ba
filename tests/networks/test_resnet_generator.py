from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mdl_monai.errors import InputError
from mdl_monai.networks.padded import Padded
from mdl_monai.networks.resnet_generator import STRIDE, UPSAMPLING, ResnetGenerator

SHAPES = [(12, 20), (8, 12, 16)]


def generator(shape: tuple[int, ...], **options: object) -> ResnetGenerator:
    torch.manual_seed(0)
    network = ResnetGenerator(len(shape), features=4, n_blocks=2, **options)  # type: ignore[arg-type]
    for p in network.parameters():
        nn.init.normal_(p, std=0.2)  # the true start is so small that outputs would hardly differ
    return network.eval()


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("shape", SHAPES)
def test_shape_and_range(shape: tuple[int, ...], upsampling: str) -> None:
    out = generator(shape, in_channels=2, out_channels=3, upsampling=upsampling)(torch.randn(2, 2, *shape))
    assert out.shape == (2, 3, *shape)
    assert out.abs().max() <= 1 and out.std() > 0.05


def test_published_size() -> None:
    """pytorch-CycleGAN's resnet_9blocks of one channel has 11.366 M weights, norm-cancelled biases included."""
    weights = sum(p.numel() for p in ResnetGenerator().parameters())
    cancelled = 64 + 128 + 256 + 9 * 2 * 256 + 128 + 64
    assert weights + cancelled == 11_365_633


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_its_description_in_functional_form(shape: tuple[int, ...]) -> None:
    """Written from the paper: weights taken in their order."""
    network, x = generator(shape), torch.randn(1, 1, *shape)
    *weights, bias = list(network.parameters())
    dims = len(shape)
    convolution = (functional.conv2d, functional.conv3d)[dims - 2]
    transposed = (functional.conv_transpose2d, functional.conv_transpose3d)[dims - 2]

    def conv(x: torch.Tensor, w: torch.Tensor, stride: int = 1) -> torch.Tensor:
        margin = w.shape[-1] // 2
        return convolution(functional.pad(x, [margin] * 2 * dims, mode="reflect"), w, stride=stride)

    def norm(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)
        flat = (flat - flat.mean(2, True)) / (flat.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return flat.view(x.shape)

    y = norm(conv(x, weights[0])).relu()
    y = norm(conv(y, weights[1], 2)).relu()
    y = norm(conv(y, weights[2], 2)).relu()
    for a, b in (weights[3:5], weights[5:7]):
        y = y + norm(conv(norm(conv(y, a)).relu(), b))
    for w in weights[7:9]:
        y = norm(transposed(y, w, stride=2, padding=1, output_padding=1)).relu()
    assert len(weights) == 10
    torch.testing.assert_close(network(x), (conv(y, weights[9]) + bias).tanh(), rtol=1e-4, atol=1e-4)


def test_resizing_leaves_no_checkerboard() -> None:
    """Of a flat deep map a transposed convolution makes a pattern of period 2 inside; resizing cannot."""
    flat = torch.full((1, 16, 6, 7), 0.7)
    spread = {}
    for upsampling in UPSAMPLING:
        up = generator((12, 20), upsampling=upsampling).layers[5][0]
        spread[upsampling] = up(flat)[..., 2:-2, 2:-2].flatten(2).std(-1).mean().item()
    assert spread["resize"] < 1e-5 and spread["transposed"] > 0.1


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("shape", SHAPES)
def test_script_and_export_give_the_same(shape: tuple[int, ...], upsampling: str) -> None:
    network, x = generator(shape, upsampling=upsampling), torch.randn(2, 1, *shape)
    torch.testing.assert_close(torch.jit.script(network)(x), network(x))
    sizes = {n: STRIDE * torch.export.Dim(f"n{n}", min=2, max=64) for n in range(2, x.ndim)}
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO, **sizes},))
    other = torch.randn(1, 1, *(n + STRIDE for n in shape))
    torch.testing.assert_close(exported.module()(other), network(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_channels_last_gives_the_same(upsampling: str) -> None:
    network, x = generator((12, 20), upsampling=upsampling), torch.randn(2, 1, 12, 20)
    expected = network(x)
    network = network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        network(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5
    )


def test_other_sizes_pass_through_padding_and_every_weight_learns() -> None:
    network, x = generator((12, 20)), torch.randn(1, 1, 13, 18)
    out = Padded(network, STRIDE)(x)
    assert out.shape == x.shape
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_an_unknown_upsampling_is_refused() -> None:
    with pytest.raises(InputError, match="(?s)no such up-sampling.*transposed or resize.*bilinear"):
        ResnetGenerator(upsampling="bilinear")
