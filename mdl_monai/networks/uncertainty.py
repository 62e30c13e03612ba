"""What an unrolled reconstruction does not know: an error to expect in each pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdl_monai.networks.float32_region import float32_region
from mdl_monai.networks.learned_prior import LearnedPrior, circular_pad
from mdl_monai.networks.operator_admm_net import OperatorADMMNet
from mdl_monai.physics.density import RINGS
from mdl_monai.physics.sensing import split_border, to_channels

FLOOR = 1e-4  # of what is told apart, relative to the peak of A^H y
FIRST_SIGMA = 0.05  # at the start of the training
RANGE = 7.0  # of the logarithm of sigma about its mean, three powers of ten: an early step could overflow


class UncertaintyHead(nn.Module):
    r"""Standard deviation :math:`\sigma` of the error of the magnitude, from what the iterations disagree about.

    What was measured is nearly the same in the images of all stages, because each solves for the data. They differ in
    what the prior had to add. A small CNN of the same form as the prior's makes an error to expect of the logarithms
    of these differences, of the last image and of the network's memory, knowing the density of the sampling.

    Args:
        stages: of the reconstruction network.
        features: of the reconstruction network, whose memory it sees.
        deep_features: channels at quarter resolution.
    """

    def __init__(self, stages: int, features: int = 32, deep_features: int = 64) -> None:
        super().__init__()
        self.cnn = LearnedPrior(features, deep_features, has_memory=True, channels=(stages + 1, 1))
        self.condition = nn.Linear(2 * RINGS + 1, 2 * features)
        self.log_sigma = nn.Parameter(torch.tensor(FIRST_SIGMA).log())

    def forward(self, images: list[Tensor], memory: Tensor, descriptor: Tensor) -> Tensor:
        """Images of all stages and the last, memory and the operator's descriptor to sigma [B, 1, H, W].

        As of `OperatorADMMNet.iterate`; sigma is in the units of its images.
        """
        last = images[-1]
        seen = [last.abs(), *((image - last).abs() for image in images[:-1])]
        logarithms = torch.cat(seen, 1).clamp_min(FLOOR).log()
        with float32_region(last.device.type):
            modulation = self.condition(descriptor)
        d, _ = self.cnn(circular_pad(logarithms, 4), memory, modulation)
        d = RANGE * torch.tanh(d[..., : last.shape[-2], : last.shape[-1]] / RANGE)
        return (self.log_sigma + d).exp()


class WithUncertainty(nn.Module):
    """A trained reconstruction network, which stays as it is, and its uncertainty.

    Args:
        network: reconstructs.
        head: with the same number of stages and features.
    """

    def __init__(self, network: OperatorADMMNet, head: UncertaintyHead) -> None:
        super().__init__()
        self.network, self.head = network.requires_grad_(False), head

    def forward(self, image: Tensor) -> Tensor:
        """Adjoint image and sampling [B, c + P, H, W] to image and sigma [B, c + 1, H, W]."""
        with torch.no_grad():
            images, memory, peak = self.network.iterate(image)
            operator = self.network.operator
            with float32_region(image.device.type):
                descriptor = operator.descriptor(split_border(image.float(), operator)[1])
        sigma = self.head(images, memory, descriptor)
        return torch.cat([to_channels(images[-1]), sigma], 1) * peak
