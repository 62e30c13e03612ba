"""Does an error to expect come true? Pixels sorted by it, beside the error that they have."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor

LOWEST, DECADES, PER_DECADE = -5, 5, 5  # of the bins: 1e-5 to 1, and what lies beyond in the outermost


class Reliability:
    """Sums over the pixels of all cases, by the sigma that was predicted for them.

    In each of the bins, equally wide on a logarithmic scale, the root mean square of a calibrated sigma is that of
    the error.
    """

    def __init__(self) -> None:
        self.edges = np.logspace(LOWEST, LOWEST + DECADES, DECADES * PER_DECADE + 1)
        self.sums = np.zeros((3, len(self.edges) - 1))  # pixels, squared sigmas, squared errors
        self.within = np.zeros(2)  # one sigma, two
        self.ranks: list[float] = []

    def add(self, sigma: Tensor, error: Tensor) -> None:
        """One case: sigma and signed error of equal shape, as a share of the reference's peak."""
        s, e = (part.detach().cpu().double().numpy().ravel() for part in (sigma, error))
        place = np.clip(np.searchsorted(self.edges, s, side="right") - 1, 0, len(self.edges) - 2)
        for row, value in enumerate((np.ones_like(s), s**2, e**2)):
            self.sums[row] += np.bincount(place, value, minlength=self.sums.shape[1])
        self.within += [(np.abs(e) <= n * s).sum() for n in (1, 2)]
        varied = np.ptp(s) > 0 and np.ptp(np.abs(e)) > 0
        self.ranks.append(float(spearmanr(s, np.abs(e)).statistic) if varied else np.nan)

    def join(self, other: Reliability) -> None:
        """The cases of another, too."""
        self.sums += other.sums
        self.within += other.within
        self.ranks += other.ranks

    def result(self) -> dict[str, Any]:
        """The curve, and what it comes to.

        Returns:
            ``bins`` with a pixel in them: number of pixels, ``sigma`` and ``error`` (root mean squares);
            ``error_to_sigma``: their ratio over all pixels, 1 for a sigma that is right on the whole;
            ``calibration_error``: mean over the pixels of their bin's abs(log2(error / sigma)), 1 for a factor of 2;
            ``within_1_sigma`` and ``within_2_sigma``: shares of the pixels, 0.683 and 0.954 of a Gaussian error;
            ``rank_correlation``: Spearman's, of sigma and abs(error), mean over the cases in which both vary.
        """
        pixels, sigma, error = self.sums[:, self.sums[0] > 0]
        ranks = [rank for rank in self.ranks if not np.isnan(rank)]
        rms_sigma, rms_error = (np.sqrt(total / pixels) for total in (sigma, error))
        off = np.abs(np.log2(np.maximum(rms_error, 1e-12) / np.maximum(rms_sigma, 1e-12)))
        return {
            "bins": [
                {"pixels": int(n), "sigma": float(s), "error": float(e)}
                for n, s, e in zip(pixels, rms_sigma, rms_error, strict=True)
            ],
            "error_to_sigma": float(np.sqrt(error.sum() / sigma.sum())),
            "calibration_error": float((off * pixels).sum() / pixels.sum()),
            "within_1_sigma": float(self.within[0] / pixels.sum()),
            "within_2_sigma": float(self.within[1] / pixels.sum()),
            "rank_correlation": float(np.mean(ranks)) if ranks else 0.0,
            "cases": len(self.ranks),
        }
