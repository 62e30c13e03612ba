from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from monai.networks.nets.vnet import DownTransition as MonaiDownTransition

from mdl_monai.networks.vnet import DownTransition, VNet


@pytest.mark.parametrize(("dims", "size"), [(3, (13, 18, 6)), (3, (8, 16, 8)), (2, (17, 30)), (3, (1, 9, 5))])
def test_any_size_comes_back_with_a_channel_a_class(dims: int, size: tuple[int, ...]) -> None:
    network = VNet(dims, 1, 3, (4, 6, 8)).eval()
    assert network(torch.randn(2, 1, *size)).shape == (2, 3, *size)


def test_padding_repeats_the_border_and_is_cut_off_again() -> None:
    torch.manual_seed(0)
    network = VNet(3, 1, 2, (4, 6, 8)).eval()
    image = torch.randn(1, 1, 7, 10, 13)
    padded = torch.nn.functional.pad(image, (1, 2, 1, 1, 0, 1), mode="replicate")
    expected = network(padded)[..., :7, 1:11, 1:14]
    torch.testing.assert_close(network(image), expected)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = VNet(3, 1, 3, (4, 6, 8, 10))
    label = torch.randint(0, 3, (2, 1, 12, 9, 11))
    DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True)(
        network(torch.randn(2, 1, 12, 9, 11)), label
    ).backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


def test_a_stage_that_doubles_its_channels_is_that_of_monai() -> None:
    torch.manual_seed(0)
    theirs = MonaiDownTransition(3, 4, 2, "prelu").eval()
    ours = DownTransition(3, 4, 8, 2, dropout=0.0).eval()
    state = theirs.state_dict()
    names = {
        "down.conv.weight": "down_conv.weight",
        "down.adn.N": "bn1",
        "down.adn.A.weight": "act_function1.weight",
        "act.weight": "act_function2.weight",
        "residual": "ops",
    }
    ours.load_state_dict(
        {
            key: state[next(key.replace(a, b) for a, b in names.items() if key.startswith(a))]
            for key in ours.state_dict()
        }
    )
    x = torch.randn(1, 4, 6, 8, 4)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_papers_network_has_its_convolutions() -> None:
    network = VNet()
    kernels = [m.kernel_size for m in network.modules() if isinstance(m, torch.nn.Conv3d)]
    assert kernels.count((5, 5, 5)) == 1 + (2 + 3 + 3 + 3) + (3 + 3 + 2 + 1) + 1
    assert kernels.count((2, 2, 2)) == 4


def test_it_scripts_and_runs_in_half_precision_and_on_the_meta_device() -> None:
    torch.manual_seed(0)
    network = VNet(3, 1, 3, (4, 6, 8)).eval()
    image = torch.randn(1, 1, 7, 10, 5)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(image)
    assert torch.isfinite(half).all()
    meta = VNet(3, 1, 3, (4, 6, 8)).to("meta")
    assert meta(torch.empty(1, 1, 7, 10, 5, device="meta")).shape == (1, 3, 7, 10, 5)


def test_widths_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="two widths or more"):
        VNet(features=(8,))
    with pytest.raises(ValueError, match="multiple of 3"):
        VNet(in_channels=3, features=(8, 16))
