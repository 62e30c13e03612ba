"""Deep Fusion Net: label fusion by learned features, end to end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdl_monai.networks.fusion_border import FusionInput, check_counts, split_fusion_input
from mdl_monai.networks.fusion_evidence import atlas_distance, same_meaning, standardised, undecided_tiles
from mdl_monai.networks.majority_vote import majority_vote
from mdl_monai.networks.windowed_fusion import log_weight, windowed_fusion


class DeepFusionNet(nn.Module):
    """Non-local patch-based label fusion on features of a network that target and atlases share.

    L(p) = sum_{k, q in N(p)} w_k(p, q) L_k(q), w = softmax over (k, q) of -|F_T(p) - F_k(q)|^2, as published (Yang,
    Sun et al.: Neural multi-atlas label fusion, Medical Image Analysis 49, 2018, doi:10.1016/j.media.2018.07.009).
    Beyond it, with `learned_weights`: a temperature, a preference for near voxels, less weight for atlases whose
    features lie far from the target's in the mean. With a `prior`, further outputs of the feature network are a
    segmentation of its own, which answers where all atlases are far, but not where none sees the voxel; it has a say
    only in images where its labels mean what the atlases' do, see `same_meaning`.

    Where all valid atlases hold one label in a tile and its windows, that is the answer, and nothing is computed.

    Args:
        n_atlases: K of the exported border; any number of atlases is taken.
        n_labels: L, labels, background included.
        features: network from [N, 1, *spatial] to [N, n_features (+ n_labels with a prior), *spatial].
        n_features: C.
        radius: t of the window of 2 t + 1 voxels an axis.
        learned_weights: the three weights above; without, the published formula.
        prior: the feature network has L further outputs, which serve as prior.
        tile, chunk: see `windowed_fusion`; they change cost alone.
    """

    def __init__(
        self,
        n_atlases: int,
        n_labels: int,
        features: nn.Module,
        n_features: int,
        radius: int = 2,
        learned_weights: bool = True,
        prior: bool = False,
        tile: int = 4,
        chunk: int = 2**25,
    ) -> None:
        super().__init__()
        check_counts(n_atlases, n_labels)
        self.n_atlases, self.n_labels, self.n_features = n_atlases, n_labels, n_features
        self.features, self.radius, self.tile, self.chunk = features, radius, tile, chunk
        self.learned_weights, self.prior = learned_weights, prior
        # Logarithms of 1 / temperature, of 1 / the window's reach in voxels, and of the weight of an atlas's distance
        self.weights = nn.Parameter(torch.tensor([0.0, -1.5, 0.0]), requires_grad=learned_weights)
        self.null_score = nn.Parameter(torch.tensor(-8.0), requires_grad=prior)

    def forward(self, image: Tensor) -> Tensor:
        """Target and atlases to label probabilities.

        Args:
            image: [B, 1 + K (L + 2), *spatial], see `split_fusion_input`.

        Returns:
            [B, L, *spatial]; in training with a prior [B, 2 L, *spatial]: the prior's own follow, and the first L
            know of it in every second sample only.
        """
        parts = self.split(image)
        features, prior = self.describe(parts)
        fused = self.fuse(parts, features, prior, parts.labels)
        pred = fused[:, :-1] + fused[:, -1:] * prior
        return torch.cat((pred, prior), dim=1) if self.training and self.prior else pred

    def split(self, image: Tensor) -> FusionInput:
        """Parts of the input, of as many atlases as it holds, with 0 where an atlas is not valid."""
        parts = split_fusion_input(image, max(1, (image.shape[1] - 1) // (self.n_labels + 2)), self.n_labels)
        seen = parts.valid > 0
        labels = torch.where(seen[:, :, None], parts.labels, 0.0)
        return FusionInput(parts.target, torch.where(seen, parts.images, 0.0), labels, parts.valid)

    def describe(self, parts: FusionInput) -> tuple[Tensor, Tensor]:
        """Features of target and atlases [B, 1 + K, C, *spatial] and the prior [B, L, *spatial], else background."""
        images = torch.cat((parts.target, parts.images), dim=1)
        inside = torch.cat((torch.ones_like(parts.target), parts.valid), dim=1)
        x = standardised(images, inside).flatten(0, 1)[:, None]
        at_once = max(1, self.chunk // (64 * x[0].numel()))  # large volumes go one by one
        out = torch.cat([self.features(some).float() for some in x.split(at_once)])
        out = out.unflatten(0, (images.shape[0], images.shape[1]))
        prior = torch.zeros_like(parts.labels[:, 0])
        prior[:, 0] = 1.0
        if self.prior:  # what no atlas sees is background
            seen = (parts.valid > 0).any(dim=1, keepdim=True)
            prior = torch.where(seen, torch.softmax(out[:, 0, self.n_features :], dim=1), prior)
        return out[:, :, : self.n_features] * torch.exp(self.weights[0] / 2), prior

    def fuse(self, parts: FusionInput, features: Tensor, prior: Tensor, values: Tensor) -> Tensor:
        """Values of the atlases [B, K, M, *spatial] fused, and the prior's share: [B, M + 1, *spatial]."""
        target, atlases, seen = features[:, 0], features[:, 1:], parts.valid > 0
        bias = log_weight(parts.valid)
        spread = torch.zeros_like(self.weights[1])
        if self.learned_weights:
            spread = torch.exp(self.weights[1])
            far = atlas_distance(target, atlases, seen)
            far = torch.exp(self.weights[2]) * (far - far.amin(dim=1, keepdim=True))
            bias = bias - far.view(far.shape + (1,) * (bias.dim() - 2))
        null = torch.full_like(
            bias[:, 0], -1e6
        )  # without a prior: background, and only where no atlas is valid
        if self.prior:
            vote = majority_vote(parts.labels, parts.valid)
            heard = same_meaning(prior, vote)
            if self.training:
                heard = torch.rand(len(vote), device=vote.device) < 0.5
            null = torch.where(heard.view((-1,) + (1,) * (null.dim() - 1)), self.null_score, null)
        tiles = undecided_tiles(parts.labels, seen, self.radius, self.tile)
        fused = windowed_fusion(
            target, atlases, values, bias, null, spread, tiles, self.radius, self.tile, self.chunk
        )
        inside = tiles
        for axis in range(1, tiles.dim()):
            inside = inside.repeat_interleave(self.tile, dim=axis).narrow(axis, 0, target.shape[axis + 1])
        unanimous = torch.cat((majority_vote(values, parts.valid), torch.zeros_like(fused[:, :1])), dim=1)
        return torch.where(inside[:, None], fused.float(), unanimous)
