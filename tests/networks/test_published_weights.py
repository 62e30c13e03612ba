"""The authors' weights in our networks, on every tenth image of their test set; values measured with this code.

All fifty images: `benchmarks/equivalence_published_weights.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.metrics.reconstruction import reconstruction_metrics
from mdl_monai.networks.admm_csnet import ADMMCSNet
from mdl_monai.networks.admm_net import ADMMNet
from mdl_monai.networks.published_weights import admm_csnet_state_dict, admm_net_state_dict
from mdl_monai.networks.reconstruction_border import adjoint_border
from mdl_monai.physics.fourier import fft2c
from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.orthonormal import Fourier


@pytest.fixture(scope="module")
def brain(data_root: Path) -> Tensor:
    """Five slices scaled to peak 1, [5, 1, H, W]."""
    folder = data_root / "csmri"
    records = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["brain50_test"][::10]
    slices = [np.asarray(nibabel.load(folder / record["image"]).dataobj).squeeze() for record in records]
    images = torch.from_numpy(np.stack(slices)).float().unsqueeze(1)
    return images / images.amax((2, 3), keepdim=True)


def mean_psnr(network: Callable[[Tensor], Tensor], images: Tensor, data_root: Path) -> float:
    mask = torch.from_numpy(np.load(data_root / "csmri" / "masks.npz")["pseudo_radial_20"]).float()
    kspace = mask * fft2c(images)
    measured = torch.cat((kspace.real, kspace.imag, mask.expand_as(images)), dim=1)
    with torch.no_grad():
        pred = [network(one)[0] for one in measured.split(1)]
    return float(np.mean([reconstruction_metrics(*pair)["psnr"] for pair in zip(pred, images, strict=True)]))


@pytest.mark.parametrize(("name", "stages", "psnr"), [("stage7", 9, 37.461), ("stage15", 17, 37.828)])
def test_basic_admm_net_reaches_the_published_quality(
    brain: Tensor, data_root: Path, name: str, stages: int, psnr: float
) -> None:
    network = ADMMNet(stages)
    with np.load(data_root / "csmri" / "published_weights" / f"basic_radial20_{name}.npz") as arrays:
        network.load_state_dict(admm_net_state_dict(arrays))
    assert mean_psnr(network, brain, data_root) == pytest.approx(psnr, abs=0.002)


def test_generic_admm_csnet_reaches_the_published_quality(brain: Tensor, data_root: Path) -> None:
    network = ADMMCSNet(MaskedTransform(Fourier()), stages=11)
    with np.load(data_root / "csmri" / "published_weights" / "generic_real_radial20_S11.npz") as arrays:
        network.load_state_dict(admm_csnet_state_dict(arrays))
    assert mean_psnr(lambda image: network(adjoint_border(image)), brain, data_root) == pytest.approx(
        39.240, abs=0.002
    )


def test_arrays_land_in_the_layer_of_their_number() -> None:
    """Keys sort by layer whatever order they come in; a second network takes them without change."""
    network = ADMMNet(2, filters=3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    layers: list[list[Tensor]] = []
    for stage in network.stages:
        x = stage.reconstruction
        layers += [[x.combination, x.rho[None]], [stage.combination], [stage.activation.values.T]]
        layers += [[stage.eta[None]]]
    layers += [[network.reconstruction.combination, network.reconstruction.rho[None]]]
    arrays = {
        f"{i:03d}_layer_{j}": array.detach().numpy()
        for i, layer in enumerate(layers)
        for j, array in enumerate(layer)
    }
    arrays["types"] = np.array(["X"] * len(layers))
    state = admm_net_state_dict(dict(reversed(arrays.items())))
    expected = network.state_dict()
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(state[key], value)


@pytest.mark.parametrize("convert", [admm_net_state_dict, admm_csnet_state_dict])
def test_other_arrays_are_refused(convert: object) -> None:
    with pytest.raises(InputError, match="are no"):
        convert({"000_layer_0": np.zeros((8, 8)), "types": np.array(["layer"])})  # type: ignore[operator]
