"""Sensing by some coefficients of an orthonormal transform: all operators whose X layer has a closed form."""

from __future__ import annotations

from torch import Tensor

from mdl_monai.physics.orthonormal import OrthonormalTransform
from mdl_monai.physics.sensing import SensingOperator


class MaskedTransform(SensingOperator):
    """``A x = M U x`` with an orthonormal transform U and a mask M of the coefficients.

    A A^H = M^2 is diagonal, hence ``(A^H A + rho)^-1 = U^H (M^2 + rho)^-1 U``. A real image feels of a complex U
    what U says of M^2 (for the Fourier transform its mean at k and -k).

    Args:
        transform: U, [B, 1, H, W] to coefficients [B, 1, H, W].
        complex_image: see `SensingOperator`.
    """

    def __init__(self, transform: OrthonormalTransform, complex_image: bool = False) -> None:
        super().__init__(complex_image)
        self.transform = transform
        self.multiple = transform.multiple

    def A(self, image: Tensor, sampling: Tensor) -> Tensor:
        """Measure: image [B, 1, H, W], mask [B, 1, H, W], to masked coefficients [B, 1, H, W]."""
        return sampling * self.transform(image)

    def A_adjoint(self, measurement: Tensor, sampling: Tensor) -> Tensor:
        """Masked coefficients [B, 1, H, W] to an image of the same shape."""
        return self._image(self.transform.inverse(sampling * measurement))

    def prepare(self, adjoint: Tensor, sampling: Tensor) -> tuple[Tensor, ...]:
        """Coefficients of A^H y, and their weights in A^H A, each [B, 1, H, W]."""
        square = sampling.square()
        weight = square if self.complex_image else self.transform.felt_by_real_images(square)
        # what was not measured is 0 but for rounding, which a small penalty would multiply
        return self.transform(adjoint) * (weight > 0), weight

    def normal(self, image: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """A^H A, with the coefficients weighted once."""
        return self._image(self.transform.inverse(prepared[1] * self.transform(image)))

    def solve(self, prior: Tensor, rho: Tensor, prepared: tuple[Tensor, ...], start: Tensor) -> Tensor:
        """Closed form; `start` does not matter."""
        measured, weight = prepared
        return self._image(self.transform.inverse((measured + rho * self.transform(prior)) / (weight + rho)))

    def _image(self, image: Tensor) -> Tensor:
        return image if self.complex_image or not image.is_complex() else image.real
