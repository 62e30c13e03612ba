"""Claim: Generic ADMM-CSNet (11 stages) is 1.8 times (4 with a compiler) faster than with a plain gather.

The plain implementation is what one writes first: conv2d, and a piecewise-linear layer that gathers the two
neighbouring control values of every element.
"""

from __future__ import annotations

import torch
from equivalence_published_weights import RealImageCSNet
from timing import masked_input, seconds
from torch import Tensor, nn
from torch.nn import functional

from mdl_monai.networks.admm_csnet import CSNetStage

FASTER_EAGER, FASTER_COMPILED = 1.8, 4.0


def plain_piecewise_linear(x: Tensor, values: Tensor) -> Tensor:
    """Control values [C, 101] on -1:0.02:1, slope 1 beyond the ends, by gathers; x [B, C, H, W]."""
    position = (x + 1) / 0.02
    segment = position.floor().clamp(0, 99)
    index = segment.long().transpose(0, 1).flatten(1)
    shape = (x.shape[1], x.shape[0], *x.shape[2:])
    left = values.gather(1, index).reshape(shape).transpose(0, 1)
    right = values.gather(1, index + 1).reshape(shape).transpose(0, 1)
    inside = left + (position - segment) * (right - left)
    below, above = values[:, 0, None, None] + x + 1, values[:, -1, None, None] + x - 1
    return torch.where(x < -1, below, torch.where(x > 1, above, inside))


class PlainStage(nn.Module):
    """A stage with the weights of ours, by conv2d and gathers."""

    def __init__(self, stage: CSNetStage) -> None:
        super().__init__()
        self.stage = stage

    @property
    def rho(self) -> Tensor:
        """Its penalty."""
        return self.stage.rho

    def forward(self, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Iterate once, as the stage does."""
        stage = self.stage
        u = x + b
        response = functional.conv2d(u, stage.analysis.unsqueeze(1), stage.analysis_bias, padding="same")
        response = plain_piecewise_linear(response, stage.activation.values)
        z = u - functional.conv2d(response, stage.synthesis[None], stage.synthesis_bias, padding="same")
        return z, b + stage.eta * (x - z)


@torch.no_grad()
def main() -> None:
    """Print the times, the ratios and the largest difference of the two outputs."""
    image, ours, plain = masked_input(), RealImageCSNet(11), RealImageCSNet(11)
    plain.load_state_dict(ours.state_dict())
    plain.stages = nn.ModuleList(PlainStage(stage) for stage in plain.stages if isinstance(stage, CSNetStage))
    difference = (ours(image) - plain(image)).abs().max().item()
    taken = seconds({"plain": lambda: plain(image), "eager": lambda: ours(image)}, repeats=2)
    print(f"largest difference of the images: {difference:.1e}")
    print(f"plain gather: {taken['plain']:.2f} s")
    ratio = taken["plain"] / taken["eager"]
    print(f"eager: {taken['eager']:.2f} s, {ratio:.1f} times faster (claim: {FASTER_EAGER})")
    try:
        for stage in ours.stages:
            stage.compile()
        ours(image)
    except (RuntimeError, OSError) as error:  # no C++ compiler
        print(f"compiled: not measured, {type(error).__name__}")
        return
    taken = seconds({"plain": lambda: plain(image), "compiled": lambda: ours(image)}, repeats=2)
    ratio = taken["plain"] / taken["compiled"]
    print(f"compiled: {taken['compiled']:.2f} s, {ratio:.1f} times faster (claim: {FASTER_COMPILED})")


if __name__ == "__main__":
    main()
