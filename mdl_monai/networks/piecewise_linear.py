"""Learned piecewise-linear activation: one curve a channel, given by its values at uniform control points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Elements worked on at a time on the CPU, so that the temporaries stay in the cache.
_CPU_PIECE = 1 << 17


def segment_tables(values: Tensor, lower: float, spacing: float) -> tuple[Tensor, Tensor]:
    """Offset and slope of the line on each segment, with one segment of slope 1 at either end.

    Args:
        values: control values [C, N].
        lower: position of the first control point.
        spacing: distance of neighbouring control points.

    Returns:
        Offset and slope, each [C, N + 1]: segment j runs from control point j - 1 to j.
    """
    one = torch.ones_like(values[:, :1])
    slope = torch.cat((one, (values[:, 1:] - values[:, :-1]) / spacing, one), dim=1)
    point = lower + spacing * torch.arange(values.shape[1], device=values.device, dtype=values.dtype)
    # the last control point starts a segment of its own; the first ends one and starts another
    offset = values - slope[:, 1:] * point
    return torch.cat((values[:, :1] - lower, offset), dim=1), slope


def piecewise_linear_gather(x: Tensor, values: Tensor, lower: float, spacing: float) -> Tensor:
    """Piecewise-linear function in plain tensor operations, for scripting, export and `torch.compile`.

    Args:
        x: input [B, C, ...].
        values: control values [C, N] at ``lower + n * spacing``; beyond the ends the slope is 1.
        lower: position of the first control point.
        spacing: distance of neighbouring control points.

    Returns:
        Tensor of x's shape.
    """
    offset, slope = segment_tables(values, lower, spacing)
    segments = slope.shape[1]
    first = torch.arange(values.shape[0], device=x.device).reshape([1, -1] + [1] * (x.dim() - 2)) * segments
    position = (x.detach() - lower) * (1 / spacing) + 1
    index = position.nan_to_num(nan=0.0).clamp(0, segments - 1).long() + first  # NaN has no segment
    return offset.reshape(-1)[index] + slope.reshape(-1)[index] * x


def _pieces(x: Tensor, segments: int, lower: float, spacing: float) -> Iterator[tuple[slice, Tensor]]:
    """Rows (one a sample and channel) in pieces, and the int32 index of each element in the flat tables."""
    channels, length = x.shape[1], math.prod(x.shape[2:])
    rows = x.view(-1, length)
    step = max(1, _CPU_PIECE // length) if x.device.type == "cpu" else rows.shape[0]
    first = (torch.arange(rows.shape[0], device=x.device) % channels * segments).to(x.dtype).unsqueeze(1)
    origin = torch.tensor(1 - lower / spacing, dtype=x.dtype, device=x.device)
    for begin in range(0, rows.shape[0], step):
        piece = slice(begin, begin + step)
        position = torch.add(origin, rows[piece], alpha=1 / spacing)
        # NaN has no segment; the conversion to int32 rounds down
        position.nan_to_num_(nan=0.0).clamp_(0, segments - 1).add_(first[piece])
        yield piece, position.to(torch.int32).view(-1)


class _TableLookup(torch.autograd.Function):
    """``offset + slope * x`` of each element's segment, its exact gradients, over int32 indices.

    On the CPU it works in pieces that fit the cache.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, slope: Tensor, lower: float, spacing: float) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, slope)
        ctx.lower, ctx.spacing = lower, spacing
        out = torch.empty_like(x)
        rows_in, rows_out = (t.view(-1, math.prod(x.shape[2:])) for t in (x, out))
        for rows, index in _pieces(x, slope.shape[1], lower, spacing):
            begin = torch.index_select(offset.view(-1), 0, index).view_as(rows_in[rows])
            rise = torch.index_select(slope.view(-1), 0, index).view_as(begin)
            torch.addcmul(begin, rise, rows_in[rows], out=rows_out[rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, slope = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_x = torch.empty_like(x)
        grad_offset, grad_slope = torch.zeros_like(slope), torch.zeros_like(slope)
        rows_in, rows_grad, rows_out = (t.view(-1, math.prod(x.shape[2:])) for t in (x, grad, grad_x))
        for rows, index in _pieces(x, slope.shape[1], ctx.lower, ctx.spacing):
            g = rows_grad[rows]
            torch.mul(torch.index_select(slope.view(-1), 0, index).view_as(g), g, out=rows_out[rows])
            grad_offset.view(-1).index_add_(0, index, g.reshape(-1))
            grad_slope.view(-1).index_add_(0, index, (g * rows_in[rows]).view(-1))
        return grad_x, grad_offset, grad_slope, None, None


class PiecewiseLinear(nn.Module):
    """Piecewise-linear activation with learned values at uniform control points, a curve a channel.

    Between control points the function is linear, beyond the ends it goes on with slope 1 (Yang et al.,
    NIPS 2016, nonlinear transform layer Z). Gradients with respect to input and values are exact.

    Args:
        initial: values at the control points at the start of training, [N]; the same for all channels.
        channels: number of channels.
        lower: position of the first control point.
        upper: position of the last control point.
    """

    def __init__(self, initial: Tensor, channels: int, lower: float = -1.0, upper: float = 1.0) -> None:
        super().__init__()
        if initial.ndim != 1 or len(initial) < 2:
            raise ValueError(f"initial needs shape [N] with N >= 2, found {tuple(initial.shape)}")
        if upper <= lower:
            raise ValueError(f"upper must lie above lower, found {lower} and {upper}")
        self.lower = float(lower)
        self.spacing = (upper - lower) / (len(initial) - 1)
        self.values = nn.Parameter(initial.float().repeat(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x [B, C, ...]; returns the same shape in the dtype of the values."""
        x = x.to(self.values.dtype)
        if torch.jit.is_scripting():
            return piecewise_linear_gather(x, self.values, self.lower, self.spacing)
        return self._table_lookup(x)

    @torch.jit.unused
    def _table_lookup(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return piecewise_linear_gather(x, self.values, self.lower, self.spacing)
        offset, slope = segment_tables(self.values, self.lower, self.spacing)
        return _TableLookup.apply(x, offset, slope, self.lower, self.spacing)
