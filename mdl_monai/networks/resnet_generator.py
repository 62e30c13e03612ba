"""The CycleGAN's generator: an encoder, residual blocks, a decoder."""

from __future__ import annotations

from monai.networks.layers import Conv, Norm
from monai.networks.utils import normal_init
from torch import Tensor, nn

from mdl_monai.errors import InputError

STRIDE = 4  # total; `Padded` lets it take images of other sizes
UPSAMPLING = ("transposed", "resize")


class ResidualBlock(nn.Module):
    """R: two 3 x 3 convolutions with instance norm beside the identity.

    Args:
        spatial_dims: 2 or 3.
        width: channels.
    """

    def __init__(self, spatial_dims: int, width: int) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.INSTANCE, spatial_dims]

        def layer() -> list[nn.Module]:
            return [conv(width, width, 3, padding=1, padding_mode="reflect", bias=False), norm(width)]

        self.layers = nn.Sequential(*layer(), nn.ReLU(inplace=True), *layer())

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, ...] to the same shape."""
        return x + self.layers(x)


class ResnetGenerator(nn.Module):
    """c7s1-f, d2f, d4f, n x R4f, u2f, uf, c7s1-1, tanh; instance norm, ReLU, reflected borders.

    As published, f = 64 and n = 9: Zhu et al.: Unpaired image-to-image translation using cycle-consistent adversarial
    networks, ICCV 2017, doi:10.1109/ICCV.2017.244; Yang et al.: Unsupervised MR-to-CT synthesis using
    structure-constrained CycleGAN, IEEE TMI 2020, doi:10.1109/TMI.2020.3015379.

    Args:
        spatial_dims: 2 or 3.
        in_channels, out_channels: channels of the images.
        features: f, width at full resolution.
        n_blocks: n, residual blocks at a quarter of the resolution.
        upsampling: u as a "transposed" convolution of stride 2, as published, or as "resize": nearest neighbours and
            a convolution, which cannot leave a checkerboard.

    Raises:
        InputError: another up-sampling.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        features: int = 64,
        n_blocks: int = 9,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        if upsampling not in UPSAMPLING:
            raise InputError(
                "the generator has no such up-sampling", expected=" or ".join(UPSAMPLING), found=upsampling
            )
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.INSTANCE, spatial_dims]
        transposed = Conv[Conv.CONVTRANS, spatial_dims]

        def wide(before: int, after: int, bias: bool) -> nn.Module:
            return conv(before, after, 7, padding=3, padding_mode="reflect", bias=bias)

        def down(width: int) -> nn.Module:
            return conv(width, 2 * width, 3, stride=2, padding=1, padding_mode="reflect", bias=False)

        def up(width: int) -> nn.Module:
            if upsampling == "transposed":
                return transposed(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=False)
            return nn.Sequential(
                nn.Upsample(scale_factor=2.0, mode="nearest"),
                conv(width, width // 2, 3, padding=1, padding_mode="reflect", bias=False),
            )

        def normalised(convolution: nn.Module, width: int) -> nn.Module:
            return nn.Sequential(convolution, norm(width), nn.ReLU(inplace=True))

        f = features
        self.layers = nn.Sequential(
            normalised(wide(in_channels, f, bias=False), f),
            normalised(down(f), 2 * f),
            normalised(down(2 * f), 4 * f),
            *[ResidualBlock(spatial_dims, 4 * f) for _ in range(n_blocks)],
            normalised(up(4 * f), 2 * f),
            normalised(up(2 * f), f),
            wide(f, out_channels, bias=True),
            nn.Tanh(),
        )
        self.apply(normal_init)

    def forward(self, image: Tensor) -> Tensor:
        """Image [B, in, H, W(, D)], sizes multiples of 4 from 8 on, to [B, out, H, W(, D)] in [-1, 1]."""
        return self.layers(image)
