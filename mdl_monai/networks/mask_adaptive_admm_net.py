"""Our unrolled ADMM for single-coil MRI: one set of weights for any sampling mask, ratio and image size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdl_monai.physics.fourier import hermitian_mean, ifft2c

RINGS = 8  # frequency rings of the mask descriptor, each split into a mostly-row and a mostly-column half


def mask_descriptor(mask: Tensor, rings: int = RINGS) -> Tensor:
    """Sampling density of a centred mask [B, 1, H, W] in 8 frequency rings x 2 sectors, as [B, 16].

    The rings tell ratio and decay, the sectors tell Cartesian lines from isotropic patterns.
    """
    h, w = mask.shape[-2], mask.shape[-1]
    row = (torch.arange(h, device=mask.device) - h // 2).abs().float()[:, None] / h
    column = (torch.arange(w, device=mask.device) - w // 2).abs().float()[None, :] / w
    ring = ((row**2 + column**2).sqrt() * (2 * rings)).long().clamp(max=rings - 1)
    bins = 2 * ring + (row > column).long()  # [H, W]
    member = F.one_hot(bins.flatten(), 2 * rings).to(mask.dtype)  # [HW, 16]
    return (mask.flatten(1) @ member) / member.sum(0).clamp_min(1)


class ResidualBlock(nn.Module):
    """f + conv(relu(conv(f))) on [B, C, h, w]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, f: Tensor) -> Tensor:
        """Features [B, C, h, w] to features of the same shape."""
        return f + self.conv2(F.relu(self.conv1(f)))


class ProximalStep(nn.Module):
    """Learned proximal step z = u + d(x, b, memory) of one stage; works on 2 x 2 pixel blocks as channels.

    Args:
        features: channels at half resolution, and of the memory handed from stage to stage.
        deep_features: channels at quarter resolution, which widen the view.
        has_memory: False for the first stage.
    """

    def __init__(self, features: int, deep_features: int, has_memory: bool) -> None:
        super().__init__()
        self.has_memory = has_memory
        self.head = nn.Conv2d(8 + (features if has_memory else 0), features, 3, padding=1)
        self.block1 = ResidualBlock(features)
        self.down = nn.Conv2d(features, deep_features, 2, stride=2)
        self.deep = ResidualBlock(deep_features)
        self.up = nn.ConvTranspose2d(deep_features, features, 2, stride=2)
        self.block2 = ResidualBlock(features)
        self.tail = nn.Conv2d(features, 4, 3, padding=1)
        nn.init.zeros_(self.tail.weight)  # start as the zero-filled image: the classical d = 0
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def forward(self, x: Tensor, b: Tensor, memory: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """Image x and multiplier b [B, 1, H, W], memory [B, C, H/2, W/2], modulation [B, 2C]: (d, memory)."""
        f = F.pixel_unshuffle(torch.cat([x, b], 1), 2)
        if self.has_memory:
            f = torch.cat([f.to(memory.dtype), memory], 1)
        f = self.head(f.contiguous(memory_format=torch.channels_last))
        scale, shift = modulation.to(f.dtype)[:, :, None, None].chunk(2, 1)
        f = F.relu(f * (1 + scale) + shift)
        f = self.block1(f)
        f = f + self.up(self.deep(F.relu(self.down(f))))
        f = self.block2(f)
        return F.pixel_shuffle(self.tail(f), 2).float(), f


class MaskAdaptiveADMMNet(nn.Module):
    r"""Unrolled ADMM with the closed-form data step and a learned proximal step with memory.

    Stage n, with Y the k-space of a real image (completed by Hermitian symmetry), M its mask, F the FFT:

    .. math::
        x &= F^{-1} \frac{M Y + \rho_n F(z - b)}{M + \rho_n} \\
        z &= x + b + d_n(x, b, h; M), \quad h = h_n(x, b, h; M) \\
        b &\leftarrow b + \eta_n (x - z)

    and a last x. :math:`d_n` is a small two-level residual CNN that also hands `features` memory channels h to
    the next stage; mask density in 16 frequency bins modulates it. The network divides by the peak of the
    zero-filled image and multiplies it back, so a scaled input gives the scaled output.

    After ADMM-Net (Yang, Sun, Li, Xu, NIPS 2016) and ADMM-CSNet (PAMI 2018, doi:10.1109/TPAMI.2018.2883941).

    Args:
        stages: number of proximal steps.
        features: channels at half resolution and of the memory.
        deep_features: channels at quarter resolution.
    """

    def __init__(self, stages: int = 8, features: int = 48, deep_features: int = 64) -> None:
        super().__init__()
        if min(stages, features, deep_features) < 1:
            raise ValueError("stages, features and deep_features must be positive")
        self.features = features
        self.steps = nn.ModuleList(
            ProximalStep(features, deep_features, has_memory=n > 0) for n in range(stages)
        )
        self.log_rho = nn.Parameter(torch.full((stages + 1,), -2.0))
        self.eta = nn.Parameter(torch.full((stages,), 1.0))
        self.condition = nn.Sequential(
            nn.Linear(2 * RINGS, 64), nn.ReLU(), nn.Linear(64, stages * 2 * features + stages + 1)
        )
        last = self.condition[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Masked k-space and mask [B, 3, H, W] (real, imaginary, mask; DC in the centre) to [B, 1, H, W]."""
        h, w = image.shape[-2], image.shape[-1]
        image = image.float()
        mask = (image[:, 2:3] != 0).float()
        zero_filled = ifft2c(torch.complex(image[:, 0:1], image[:, 1:2]) * mask).real
        peak = zero_filled.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(1e-30)

        # A real image is Hermitian in k-space: a sample at k also gives -k.
        weight = torch.fft.ifftshift(hermitian_mean(mask), dim=(-2, -1))[..., : w // 2 + 1]
        known = (weight > 0).float()
        y = torch.fft.rfft2(zero_filled / peak, norm="ortho") / weight.clamp_min(0.5)

        condition = self.condition(mask_descriptor(mask)).float()
        stages = len(self.steps)
        rho = torch.exp(self.log_rho + condition[:, : stages + 1])[:, :, None, None]  # [B, stages + 1, 1, 1]
        modulation = condition[:, stages + 1 :].unflatten(1, (stages, 2 * self.features))

        x = torch.fft.irfft2(y * known, s=(h, w), norm="ortho")
        b = torch.zeros_like(x)
        memory = torch.zeros(0, device=x.device)
        pad = ((-h) % 4, (-w) % 4)
        for n, step in enumerate(self.steps):
            x_and_b = torch.cat([x, b], 1)
            if pad[0] + pad[1] > 0:  # the proximal step halves the grid twice; the image is periodic
                x_and_b = F.pad(x_and_b, [0, pad[1], 0, pad[0]], mode="circular")
            d, memory = step(x_and_b[:, 0:1], x_and_b[:, 1:2], memory, modulation[:, n])
            z = x + b + d[..., :h, :w]
            b = b + self.eta[n] * (x - z)
            r = rho[:, n + 1 : n + 2]
            v = torch.fft.rfft2(z - b, norm="ortho")
            x = torch.fft.irfft2((known * y + r * v) / (known + r), s=(h, w), norm="ortho")
        return x * peak
