"""V-Net with stage widths of one's choice, for volumes of any size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from monai.networks.blocks import Convolution
from monai.networks.nets.vnet import InputTransition, OutputTransition, UpTransition, _make_nconv
from torch import Tensor, nn

from mdl_monai.networks.padded import crop_padding, pad_to_multiple


class DownTransition(nn.Module):
    """Strided 2 x 2 x 2 convolution and a residual block; MONAI's can only double the channels.

    Args:
        spatial_dims: 2 or 3.
        in_channels, out_channels: channels before and after.
        convolutions: number of 5 x 5 x 5 convolutions of the residual block.
        dropout: probability of dropping a channel at the block's entrance.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, convolutions: int, dropout: float
    ) -> None:
        super().__init__()
        self.down = Convolution(
            spatial_dims, in_channels, out_channels, strides=2, kernel_size=2, padding=0, bias=False,
            norm="batch", act=("prelu", {"num_parameters": out_channels}), adn_ordering="NA",
        )  # fmt: skip
        self.dropout = nn.Dropout3d(dropout) if spatial_dims == 3 else nn.Dropout2d(dropout)
        self.residual = _make_nconv(spatial_dims, out_channels, convolutions, "prelu")
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, ...] to [B, out, ...] at half the size."""
        down = self.down(x)
        return self.act(self.residual(self.dropout(down)) + down)


class VNet(nn.Module):
    """V-Net: an encoder and a decoder of residual blocks of 5 x 5 x 5 convolutions with PReLU.

    As published, but for batch norm, as in MONAI's VNet, whose blocks it is made of. The input is padded to a
    multiple of the total stride by its own border values, and the output cropped back. Milletari, Navab, Ahmadi:
    V-Net, 3DV 2016, doi:10.1109/3DV.2016.79.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image; must divide the first width.
        out_channels: classes, background included.
        features: width of each resolution, from the finest; the paper has 16, 32, 64, 128, 256.
        dropout: probability of dropping a channel, in the encoder's deep stages and the skips beside them.

    Raises:
        ValueError: fewer than two widths, or a first one that `in_channels` does not divide.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        features = tuple(features)
        if len(features) < 2 or min(features) < 1 or features[0] % in_channels:
            raise ValueError(
                f"features {features} must be two widths or more, the first a multiple of {in_channels}"
            )
        depth = len(features) - 1
        self.stride = 2**depth
        self.entrance = InputTransition(spatial_dims, in_channels, features[0], "prelu")
        self.encoder = nn.ModuleList(
            # with the entrance 1, 2, 3, 3, 3 convolutions, as in the paper
            DownTransition(spatial_dims, a, b, min(n + 2, 3), dropout if n >= 2 else 0.0)
            for n, (a, b) in enumerate(pairwise(features))
        )
        wide = [2 * f for f in features[:-1]]  # a decoder stage joins its input, halved, with the skip
        self.decoder = nn.ModuleList(
            UpTransition(
                spatial_dims, before, after, min(n + 1, 3), "prelu",
                dropout_prob=(None, dropout if n >= 2 else 0.0),
            )
            for n, before, after in zip(
                reversed(range(depth)), [features[-1], *reversed(wide[1:])], reversed(wide), strict=True
            )
        )  # fmt: skip
        self.exit = OutputTransition(spatial_dims, wide[0], out_channels, "prelu")

    def forward(self, image: Tensor) -> Tensor:
        """Image [B, C, H, W(, D)] of any size to logits [B, out_channels, H, W(, D)]."""
        x, padding = pad_to_multiple(image, self.stride)
        skips = [self.entrance(x)]
        for down in self.encoder:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in self.decoder:
            x = up(x, skips.pop())
        return crop_padding(self.exit(x), padding)
