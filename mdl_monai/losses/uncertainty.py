"""What teaches a network how far it is off."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def magnitude(channels: Tensor) -> Tensor:
    """[B, c, ...] to [B, 1, ...]: of real and imaginary part if c is 2, else the image itself."""
    return channels.square().sum(1, keepdim=True).sqrt() if channels.shape[1] == 2 else channels


class UncertaintyLoss(nn.Module):
    r"""Negative log-likelihood of the magnitude's error e as Gaussian, mean of :math:`e^2/2\sigma^2 + \ln\sigma`.

    It is smallest where :math:`\sigma^2` is the mean of e^2 over all pixels that look alike, however e is
    distributed.
    After Nix and Weigend, Estimating the mean and variance of the target probability distribution, ICNN 1994.

    Args:
        floor: below which a sigma counts as this, in the images' units.
    """

    def __init__(self, floor: float = 1e-4) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Image and sigma [B, c + 1, ...] and reference [B, c, ...] to a scalar.

        Raises:
            ValueError: the shapes are others.
        """
        if pred.shape[1] != label.shape[1] + 1 or pred.shape[2:] != label.shape[2:]:
            raise ValueError(f"pred {tuple(pred.shape)} is no image and sigma for label {tuple(label.shape)}")
        pred, label = pred.float(), label.float()
        image, sigma = magnitude(pred[:, :-1]), pred[:, -1:]
        return functional.gaussian_nll_loss(image, magnitude(label), sigma.square(), eps=self.floor**2)
