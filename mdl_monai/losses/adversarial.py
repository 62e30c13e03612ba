"""The two sides of least-squares adversarial training, in the form that MONAI's `AdversarialTrainer` calls."""

from __future__ import annotations

from collections.abc import Sequence

from monai.losses import PatchAdversarialLoss
from torch import Tensor, nn

from mdl_monai.errors import InputError

Scores = Tensor | Sequence[Tensor]  # of a list, as MONAI's PatchDiscriminator gives, the last is the output


def _least_squares() -> PatchAdversarialLoss:
    # MONAI's default bends the scores by a leaky ReLU first, which the published loss does not
    return PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)


def _output(scores: Scores) -> Tensor:
    return scores if isinstance(scores, Tensor) else scores[-1]


class GeneratorLoss(nn.Module):
    r"""What the generator pays for fakes that the discriminator D tells from real: :math:`w\,E[(D(fake) - 1)^2]`.

    Mao et al.: Least squares generative adversarial networks, ICCV 2017, doi:10.1109/ICCV.2017.304.

    Args:
        weight: w, against the generator's other losses; 0 trains it as if there were no discriminator.

    Raises:
        InputError: a negative weight.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if weight < 0:
            raise InputError("the adversarial loss has a negative weight", expected="0 or more", found=weight)
        self.weight, self.loss = weight, _least_squares()

    def forward(self, fake: Scores) -> Tensor:
        """Scores of fakes, of any shape, to a scalar."""
        return self.weight * self.loss(_output(fake), target_is_real=True, for_discriminator=False)


class DiscriminatorLoss(nn.Module):
    r"""What the discriminator D pays: :math:`\frac12 E[(D(real) - 1)^2] + \frac12 E[D(fake)^2]`, 1/4 at chance."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = _least_squares()

    def forward(self, real: Scores, fake: Scores) -> Tensor:
        """Scores of reals and of fakes, of any shape, to a scalar."""
        of_real = self.loss(_output(real), target_is_real=True, for_discriminator=True)
        of_fake = self.loss(_output(fake), target_is_real=False, for_discriminator=True)
        return 0.5 * (of_real + of_fake)
