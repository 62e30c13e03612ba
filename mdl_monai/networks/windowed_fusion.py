"""Non-local label fusion as windowed cross-attention, tile by tile."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mdl_monai.networks.float32_region import float32_region


def log_weight(weight: Tensor, never: float = -1e9) -> Tensor:
    """Logarithm of weights from 0 to 1 as a finite score: a key of weight 0 does not count."""
    return torch.where(weight > 0, torch.log(weight.clamp_min(1e-6)), never)


def windowed_fusion(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    bias: Tensor,
    null: Tensor,
    spread: Tensor,
    tiles: Tensor,
    radius: int,
    tile: int = 4,
    chunk: int = 2**25,
) -> Tensor:
    """Values of all atlases in a window around each voxel, weighted by how near their features are.

    out(p) = sum over atlases k and q in N(p) of w_k(p, q) values_k(q), where w is the softmax over (k, q) of
    -|query(p) - keys_k(q)|^2 - |spread (p - q)|^2 + bias_k(q), and over one more key without place of score
    null(p). As -|a - b|^2 = 2 a.b - |b|^2 - |a|^2, and |a|^2 is the same for all keys of a voxel, this is attention
    with queries (2 a, 1) and keys (b, -|b|^2). A tile of neighbouring voxels shares the keys of one larger tile, of
    which a constant mask leaves each its window.

    Args:
        query: features of the target, [B, C, *spatial], two or three axes.
        keys: features of the atlases, [B, K, C, *spatial].
        values: [B, K, M, *spatial].
        bias: [B, K, *spatial]; see `log_weight`. Voxels outside the volume do not count.
        null: score of the key without place, [B, *spatial].
        spread: 1 / voxels, a scalar; 0 makes all places of the window alike.
        tiles: which tiles to compute, boolean [B, *tiles an axis], the last of which may reach over the edge.
        radius: t; the window has 2 t + 1 voxels an axis.
        tile: voxels an axis.
        chunk: largest number of scores in memory at once.

    Returns:
        [B, M + 1, *spatial] float32, or float64 for float64 features: the fused values, and the weight of the key
        without place; 0 in tiles that are not computed. With gradients, a run of several chunks keeps none of them
        and computes each again in the backward pass.
    """
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    flat = query.dim() == 4
    if flat:  # a volume of one layer
        query, keys, values = query[..., None], keys[..., None], values[..., None]
        bias, null, tiles = bias[..., None], null[..., None], tiles[..., None]
    size, count = list(query.shape[2:]), list(tiles.shape[1:])
    sides = [tile, tile, 1 if flat else tile]
    margins = [radius, radius, 0 if flat else radius]
    # The features' common offset changes no distance, and costs precision in |b|^2.
    query, keys, spread = query.to(dtype), keys.to(dtype), spread.to(dtype)
    centre = query.mean(dim=(2, 3, 4), keepdim=True).detach()
    query, keys = query - centre, keys - centre[:, None]

    score = (bias.to(dtype) - keys.square().sum(2))[:, :, None]
    own_score = (null.to(dtype) + query.square().sum(1))[:, None]
    query_rows = _rows(torch.cat((query, own_score), 1)[:, None], sides, [0, 0, 0], count, 0.0)[:, 0]
    key_rows = _rows(torch.cat((keys, values.to(dtype)), 2), sides, margins, count, 0.0)
    score_rows = _rows(score, sides, margins, count, -1e9)

    own, own_place = _places(sides, [0, 0, 0], count, query.device)
    wide, wide_place = _places(sides, margins, count, query.device)
    reach = torch.tensor(margins, device=query.device)
    window = ((own_place[:, None] - wide_place).abs() <= reach).all(dim=2)
    own_place, wide_place = own_place.to(dtype) * spread, wide_place.to(dtype) * spread

    wanted = tiles.flatten().nonzero()[:, 0]
    sample = torch.div(wanted, own.shape[0], rounding_mode="floor")[:, None]
    own = own[wanted % own.shape[0]] + sample * (query_rows.shape[0] // query.shape[0])
    wide = wide[wanted % wide.shape[0]] + sample * (key_rows.shape[0] // query.shape[0])
    at_once = max(1, chunk // (window.numel() * keys.shape[1]))
    again = own.shape[0] > at_once and torch.is_grad_enabled() and key_rows.requires_grad
    pieces = [query_rows.new_zeros(0, own.shape[1], values.shape[2] + 1)]
    for here, there in zip(own.split(at_once), wide.split(at_once)):  # noqa: B905 (TorchScript has no strict)
        q, k, s = query_rows[here], key_rows, score_rows
        if torch.jit.is_scripting() or not again:
            pieces.append(_attend(q, k, s, there, own_place, wide_place, window))
        else:
            inputs = (q, k, s, there, own_place, wide_place, window)
            pieces.append(checkpoint(_attend, *inputs, use_reentrant=False))
    fused = torch.zeros(query_rows.shape[0], values.shape[2] + 1, dtype=dtype, device=query.device)
    fused = fused.index_copy(0, own.flatten(), torch.cat(pieces).flatten(0, 1))
    out = fused.view(query.shape[0], count[0] * sides[0], count[1] * sides[1], count[2] * sides[2], -1)
    out = out[:, : size[0], : size[1], : size[2]].movedim(-1, 1)
    return out[..., 0] if flat else out


def _rows(x: Tensor, sides: list[int], margins: list[int], count: list[int], fill: float) -> Tensor:
    """[B, K, C, *spatial], padded to whole tiles and a margin around all, as rows [B x voxels, K, C]."""
    padding: list[int] = []
    for axis in (2, 1, 0):
        padding += [margins[axis], count[axis] * sides[axis] + margins[axis] - x.shape[3 + axis]]
    return F.pad(x, padding, value=fill).permute(0, 3, 4, 5, 1, 2).flatten(0, 3)


def _places(
    sides: list[int], margins: list[int], count: list[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rows of the voxels of each tile and its margin, [tiles, voxels], and their places in the tile [voxels, 3]."""
    rows = torch.zeros(1, 1, dtype=torch.long, device=device)
    places = torch.zeros(1, 0, dtype=torch.long, device=device)
    for side, margin, n in zip(sides, margins, count):  # noqa: B905
        first = torch.arange(n, device=device) * side
        offset = torch.arange(side + 2 * margin, device=device)
        along = first[:, None] + offset
        rows = rows[:, None, :, None] * (n * side + 2 * margin) + along[None, :, None, :]
        rows = rows.flatten(2, 3).flatten(0, 1)
        before = places.repeat_interleave(offset.shape[0], dim=0)
        places = torch.cat((before, (offset - margin).repeat(places.shape[0])[:, None]), dim=1)
    return rows, places


def _attend(
    query: Tensor,
    key_rows: Tensor,
    score_rows: Tensor,
    there: Tensor,
    own_place: Tensor,
    wide_place: Tensor,
    window: Tensor,
) -> Tensor:
    """Some tiles: queries [n, Q, C + 1], the last their score of no place, to values [n, Q, M + 1]."""
    n, q, c = query.shape[0], query.shape[1], query.shape[2] - 1
    h, k = there.shape[1], key_rows.shape[1]
    near = key_rows.index_select(0, there.flatten()).view(n, h, k, key_rows.shape[2])
    score = score_rows.index_select(0, there.flatten()).view(n, h, k, 1)
    place = wide_place[None, :, None].expand(n, h, k, 3)
    score = score - place.square().sum(3, keepdim=True)
    keys = torch.cat((near[..., :c], place, score, torch.zeros_like(score)), dim=3).flatten(1, 2)
    values = F.pad(near[..., c:], (0, 1)).flatten(1, 2)
    # The last key has no place: it meets only the queries' last component, and has a value of its own.
    keys = torch.cat((keys, _last_unit(keys[:, :1])), dim=1)
    values = torch.cat((values, _last_unit(values[:, :1])), dim=1)
    own = own_place[None].expand(n, q, 3)
    own_score = query[..., c:] + own.square().sum(2, keepdim=True)
    queries = torch.cat((2 * query[..., :c], 2 * own, torch.ones_like(own_score), own_score), dim=2)
    mask = F.pad(window.repeat_interleave(k, dim=1), (0, 1), value=1.0)
    m = values.shape[2]
    width = max(m, queries.shape[2])  # PyTorch's memory-saving attention wants one width for all
    queries = F.pad(queries, (0, width - queries.shape[2]))[:, None]
    keys = F.pad(keys, (0, width - keys.shape[2]))[:, None]
    values = F.pad(values, (0, width - m))[:, None]
    if torch.jit.is_scripting():  # which has no autocast
        fused = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0)
    else:
        with float32_region(queries.device.type):
            fused = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0)
    return fused[:, 0, :, :m]


def _last_unit(like: Tensor) -> Tensor:
    """1 in the last component, 0 elsewhere."""
    return F.pad(torch.zeros_like(like)[..., 1:], (0, 1), value=1.0)
