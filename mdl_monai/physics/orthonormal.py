"""Orthonormal transforms that a compressive camera or scanner measures coefficients of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from mdl_monai.errors import InputError
from mdl_monai.physics.fourier import fft2c, hermitian_mean, ifft2c
from mdl_monai.physics.masks import sampling_mask, uniform

BLOCK = 32
"""Side of the blocks of the random transforms in pixels."""


class OrthonormalTransform(nn.Module, ABC):
    """U with U^H U = U U^H = 1: images [B, 1, H, W] to as many coefficients [B, 1, H, W] and back."""

    multiple = 1
    """H and W must be multiples of it."""

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """U: image to coefficients."""

    @abstractmethod
    def inverse(self, coefficients: Tensor) -> Tensor:
        """U^H: coefficients to image."""

    def felt_by_real_images(self, weight: Tensor) -> Tensor:
        """W' with Re(U^H W U x) = U^H W' U x for real x; W itself for a real U."""
        return weight

    def mask(self, ratio: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Which coefficients to measure, bool [H, W]: each equally likely."""
        return uniform(ratio, height, width, rng)

    def _check(self, image: Tensor) -> None:
        if image.shape[-2] % self.multiple or image.shape[-1] % self.multiple:
            raise InputError(
                "the transform works on whole blocks", expected=f"height and width in multiples of {self.multiple}",
                found=f"{image.shape[-2]} x {image.shape[-1]}", remedy="pad the image",
            )  # fmt: skip


class Fourier(OrthonormalTransform):
    """Centred Fourier transform: partial Fourier sensing, and single-coil MRI.

    Args:
        mask_type: of `mdl_monai.physics.masks`, for :meth:`mask`.
    """

    def __init__(self, mask_type: str = "random2d") -> None:
        super().__init__()
        self.mask_type = mask_type

    def forward(self, image: Tensor) -> Tensor:
        """F x, DC at H // 2, W // 2."""
        return fft2c(image)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """F^H c."""
        return ifft2c(coefficients)

    def felt_by_real_images(self, weight: Tensor) -> Tensor:
        """A real image's coefficients at k and -k are one unknown."""
        return hermitian_mean(weight)

    def mask(self, ratio: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Denser at low frequencies."""
        return sampling_mask(self.mask_type, ratio, height, width, rng, random_angle=True)


class CodedDiffraction(OrthonormalTransform):
    """Fourier transform behind a random mask of +1 and -1 in the image (Candes, Li, Soltanolkotabi 2015).

    The code spreads every image over all frequencies, so any of them are worth the same.

    Args:
        seed: of the code.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def _code(self, image: Tensor) -> Tensor:
        rng = np.random.default_rng([self.seed, image.shape[-2], image.shape[-1]])
        signs = rng.integers(0, 2, image.shape[-2:], dtype=np.int8) * 2 - 1
        return torch.from_numpy(signs).to(image.device)

    def forward(self, image: Tensor) -> Tensor:
        """F d x."""
        return fft2c(self._code(image) * image)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """d F^H c."""
        return self._code(coefficients) * ifft2c(coefficients)

    def felt_by_real_images(self, weight: Tensor) -> Tensor:
        """As for the Fourier transform: the code is real."""
        return hermitian_mean(weight)


class BlockGaussian(OrthonormalTransform):
    """Orthonormalised Gaussian random matrix on every block of 32 x 32 pixels.

    Args:
        seed: of the matrix.
    """

    multiple = BLOCK
    matrix: Tensor

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        gaussian = np.random.default_rng(seed).standard_normal((BLOCK**2, BLOCK**2))
        q, r = np.linalg.qr(gaussian)
        rows = (q * np.sign(np.diag(r))).T  # the signs make it the one uniformly distributed
        self.register_buffer("matrix", torch.from_numpy(rows).float(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Coefficients of each block in its place."""
        return self._blockwise(image, self._exact(image))

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Blocks from their coefficients."""
        return self._blockwise(coefficients, self._exact(coefficients).T)

    def mask(self, ratio: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """The same rows of the matrix in every block."""
        return np.tile(uniform(ratio, BLOCK, BLOCK, rng), (height // BLOCK, width // BLOCK))

    def _exact(self, image: Tensor) -> Tensor:
        return self.matrix.to(image.dtype)

    def _blockwise(self, image: Tensor, matrix: Tensor) -> Tensor:
        self._check(image)
        blocks = image.unflatten(-2, (-1, BLOCK)).unflatten(-1, (-1, BLOCK)).transpose(-3, -2)
        mixed = (blocks.flatten(-2) @ matrix.T).unflatten(-1, (BLOCK, BLOCK)).transpose(-3, -2)
        return mixed.flatten(-2).flatten(-3, -2)


class PermutedHadamard(OrthonormalTransform):
    """Structurally random: the pixels in random order, then Walsh-Hadamard on each 1,024 of them.

    After Do, Gan, Nguyen, Tran: Fast and efficient compressive sensing using structurally random matrices, IEEE
    Trans. Signal Processing 2012. It costs two products with 32 x 32 matrices.

    Args:
        seed: of the order.
    """

    multiple = BLOCK
    hadamard: Tensor

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        matrix = torch.ones(1, 1)
        for _ in range(int(math.log2(BLOCK))):
            matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
        self.register_buffer("hadamard", matrix / math.sqrt(BLOCK), persistent=False)
        self._orders: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}

    def _order(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Random order of the pixels of such an image, and its inverse; made once for each size."""
        n = image.shape[-2] * image.shape[-1]
        key = (n, str(image.device))
        if key not in self._orders:
            order = torch.from_numpy(np.random.default_rng([self.seed, n]).permutation(n))
            self._orders[key] = (order.to(image.device), order.argsort().to(image.device))
        return self._orders[key]

    def forward(self, image: Tensor) -> Tensor:
        """Walsh-Hadamard coefficients of the pixels in their random order."""
        self._check(image)
        return self._mix(image.flatten(-2)[..., self._order(image)[0]]).reshape(image.shape)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """The transform is its own inverse, the order is taken back."""
        self._check(coefficients)
        pixels = self._mix(coefficients.flatten(-2))[..., self._order(coefficients)[1]]
        return pixels.reshape(coefficients.shape)

    def _mix(self, pixels: Tensor) -> Tensor:
        h = self.hadamard.to(pixels.dtype)
        return (h @ pixels.unflatten(-1, (-1, BLOCK, BLOCK)) @ h).flatten(-3)


TRANSFORMS: dict[str, type[OrthonormalTransform]] = {
    "gaussian": BlockGaussian,
    "hadamard": PermutedHadamard,
    "diffraction": CodedDiffraction,
    "fourier": Fourier,
}
"""By the name that a config gives them."""
