"""Our unrolled ADMM for single-coil MRI: one set of weights for any sampling mask, ratio and image size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdl_monai.networks.admm_net import ADMMStage, ReconstructionLayer
from mdl_monai.networks.dct_filters import (
    circular_convolution,
    circular_correlation_sum,
    lag_phases,
    power_spectrum,
)
from mdl_monai.networks.float32_region import float32_region
from mdl_monai.networks.learned_prior import LearnedPrior, circular_pad
from mdl_monai.networks.reconstruction_border import split_input
from mdl_monai.physics.density import RINGS, mask_descriptor
from mdl_monai.physics.fourier import hermitian_mean, ifft2c


def combine(combination: Tensor, atoms: Tensor) -> Tensor:
    """Filters [L, 3, 3] as combinations [A, L] of atoms [A, 3, 3], in float32 also under autocast."""
    return (combination[:, :, None, None] * atoms[:, None]).sum(0)


Pair = tuple[Tensor, Tensor]


def data_step(
    filters: Tensor, rho: Tensor, difference: Tensor, v: Tensor, weights: Pair, data: Pair, phases: Pair
) -> Pair:
    """Closed-form x and the prior's image ``p = sum_l rho_l H_l^T d_l``, each [B, 1, H, W].

    Args:
        filters: h_l, [L, 3, 3].
        rho: penalties [L].
        difference: d = z - b, [B, L, H, W].
        v: image of the learned prior [B, 1, H, W].
        weights: scale s of the penalties and weight mu of v, each [B, 1, 1, 1].
        data: known k-space of the real image and its mask, each [B, 1, H, W // 2 + 1], DC at [0, 0].
        phases: of :func:`~mdl_monai.networks.dct_filters.lag_phases` for the image's size.
    """
    scale, mu = weights
    spectrum, known = data
    rho = rho.clamp_min(1e-5)  # a penalty below 0 would make the quotient singular
    p = circular_correlation_sum(difference, filters * rho[:, None, None])
    denominator = known + scale * power_spectrum(filters, rho, phases[0], phases[1]) + mu
    numerator = torch.fft.rfft2(scale * p + mu * v, norm="ortho") + spectrum
    size = [v.shape[-2], v.shape[-1]]
    return torch.fft.irfft2(numerator / denominator.clamp_min(1e-6), s=size, norm="ortho"), p


class MemoryStage(ADMMStage):
    """One iteration: that of Basic ADMM-Net, with a learned prior beside its filters.

    Args:
        filters: number of 3 x 3 filters.
        features: channels of the learned prior and of the memory.
        deep_features: channels of the learned prior at quarter resolution.
        has_memory: False for the first stage.
    """

    def __init__(self, filters: int, features: int, deep_features: int, has_memory: bool) -> None:
        super().__init__(filters)
        self.prior = LearnedPrior(features, deep_features, has_memory)
        self.log_mu = nn.Parameter(torch.tensor(-3.5))

    def forward(  # type: ignore[override]
        self,
        state: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
        condition: Tensor,
        data: Pair,
        phases: Pair,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Iterate once.

        Args:
            state: z - b and b [B, L, H, W], v [B, 1, H, W], its weight mu [B, 1, 1, 1], and the memory.
            condition: what the mask asks for, [B, 3 + 2 features]: logarithms of the scales of penalty, threshold
                and mu, and the modulation of the learned prior.
            data, phases: as for :func:`data_step`.

        Returns:
            The next state.
        """
        difference, b, v, mu, memory = state
        scale, threshold, mu_scale = condition[:, :3, None, None, None].exp().unbind(1)
        if torch.jit.is_scripting():  # which has no autocast
            x, p, c_plus_b = self._data_and_filters(difference, b, v, (scale, mu), data, phases)
        else:
            x, p, c_plus_b = self._in_float32(difference, b, v, (scale, mu), data, phases)
        z = self.activation(c_plus_b / threshold) * threshold
        b = torch.lerp(b, c_plus_b - z, self.eta[:, None, None])  # b + eta (c - z)
        d, memory = self.prior(circular_pad(torch.cat([x, p], 1), 4), memory, condition[:, 3:])
        v = x + d[..., : x.shape[-2], : x.shape[-1]]
        return z - b, b, v, self.log_mu.exp() * mu_scale, memory

    def _data_and_filters(
        self, difference: Tensor, b: Tensor, v: Tensor, weights: Pair, data: Pair, phases: Pair
    ) -> tuple[Tensor, Tensor, Tensor]:
        filters = combine(self.reconstruction.combination, self.reconstruction.atoms)
        x, p = data_step(filters, self.reconstruction.rho, difference, v, weights, data, phases)
        return x, p, circular_convolution(x, combine(self.combination, self.atoms), b)

    @torch.jit.unused
    def _in_float32(
        self, difference: Tensor, b: Tensor, v: Tensor, weights: Pair, data: Pair, phases: Pair
    ) -> tuple[Tensor, Tensor, Tensor]:
        with float32_region(v.device.type):
            return self._data_and_filters(difference, b, v, weights, data, phases)


class MaskAdaptiveADMMNet(nn.Module):
    r"""ADMM-Net with a learned image prior beside its filters, memory between stages and an eye on the mask.

    Stage n of the ADMM of :math:`\min_x \frac12\|MFx-y\|^2 + \sum_l g_l(D_l x) + \frac{\mu}{2}\|x - v\|^2`,
    with the k-space y of a real image completed by Hermitian symmetry, and F the orthonormal FFT:

    .. math::
        x &= F^{-1} \frac{y + F(s \sum_l \rho_l H_l^T (z_l - b_l) + \mu v)}
                         {M + s \sum_l \rho_l |\hat h_l|^2 + \mu} \\
        z_l &= t\, S_l((D_l x + b_l) / t), \quad b_l \leftarrow b_l + \eta_l (D_l x - z_l) \\
        v, h &= x + d(x, p, h; M)

    and a last x. Filters D, H, shrinkage functions S, penalties :math:`\rho` and rates :math:`\eta` are those of
    Basic ADMM-Net (`ADMMNet`), in the same places of the state_dict, and start as the classical ADMM or as a
    trained Basic network. d is a residual CNN on two scales, which hands `features` memory channels h to the next
    stage; p is the prior's image :math:`\sum_l \rho_l H_l^T (z_l - b_l)`. The penalty's scale s, the threshold's
    scale t, the weight :math:`\mu` and the CNN's modulation depend on the mask's density in 16 frequency bins.
    The network divides by the peak of the zero-filled image and multiplies it back, so a scaled input gives the
    scaled output.

    After ADMM-Net (Yang, Sun, Li, Xu, NIPS 2016) and ADMM-CSNet (PAMI 2018, doi:10.1109/TPAMI.2018.2883941).

    Args:
        stages: number of iterations.
        filters: number of 3 x 3 filters, 1 to 8.
        features: channels of the CNN at half resolution and of the memory.
        deep_features: channels at quarter resolution.
    """

    def __init__(
        self, stages: int = 17, filters: int = 8, features: int = 32, deep_features: int = 64
    ) -> None:
        super().__init__()
        if min(stages, features, deep_features) < 1 or not 1 <= filters <= 8:
            raise ValueError("stages, features and deep_features must be positive, filters 1 to 8")
        self.filters, self.features = filters, features
        self.stages = nn.ModuleList(
            MemoryStage(filters, features, deep_features, has_memory=n > 0) for n in range(stages)
        )
        self.reconstruction = ReconstructionLayer(filters)
        self.condition = nn.Sequential(
            nn.Linear(2 * RINGS, 64), nn.ReLU(), nn.Linear(64, stages * (3 + 2 * features))
        )
        last = self.condition[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Masked k-space and mask [B, 3, H, W] (real, imaginary, mask; DC in the centre) to [B, 1, H, W].

        Raises:
            ValueError: another number of channels or axes.
        """
        h, w = image.shape[-2], image.shape[-1]
        kspace, mask = split_input(image.float())
        mask = (mask != 0).float()
        zero_filled = ifft2c(kspace * mask).real
        peak = zero_filled.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(1e-30)

        # A real image is Hermitian in k-space: a sample at k also gives -k.
        weight = torch.fft.ifftshift(hermitian_mean(mask), dim=(-2, -1))[..., : w // 2 + 1]
        known = (weight > 0).float()
        spectrum = torch.fft.rfft2(zero_filled / peak, norm="ortho") / weight.clamp_min(0.5) * known
        data, phases = (spectrum, known), lag_phases(h, w, known)
        if torch.jit.is_scripting():
            condition = self.condition(mask_descriptor(mask))
        else:
            condition = self._float32_condition(mask)
        condition = condition.unflatten(1, (len(self.stages), 3 + 2 * self.features))

        v = torch.zeros_like(zero_filled)
        b = v.expand(-1, self.filters, -1, -1)
        # the first x has no v yet, so its weight is 0
        state = (b, b, v, torch.zeros_like(peak), torch.zeros(0, device=image.device))
        for n, stage in enumerate(self.stages):
            state = stage(state, condition[:, n], data, phases)
        scale = condition[:, -1, :1, None, None].exp()  # [B, 1, 1, 1]
        filters = combine(self.reconstruction.combination, self.reconstruction.atoms)
        if torch.jit.is_scripting():
            x, _ = data_step(
                filters, self.reconstruction.rho, state[0], state[2], (scale, state[3]), data, phases
            )
        else:
            x = self._last_x(filters, state, scale, data, phases)
        return x * peak

    @torch.jit.unused
    def _float32_condition(self, mask: Tensor) -> Tensor:
        with float32_region(mask.device.type):
            return self.condition(mask_descriptor(mask))

    @torch.jit.unused
    def _last_x(
        self,
        filters: Tensor,
        state: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
        scale: Tensor,
        data: Pair,
        phases: Pair,
    ) -> Tensor:
        with float32_region(scale.device.type):
            rho = self.reconstruction.rho
            return data_step(filters, rho, state[0], state[2], (scale, state[3]), data, phases)[0]
