"""What all label fusion networks share: the channels of their input tensor."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdl_monai.errors import InputError


class FusionInput(NamedTuple):
    """One or more targets with K atlases each, warped onto the target's grid. L counts the background as well."""

    target: Tensor
    """Image to be segmented, [B, 1, *spatial]."""
    images: Tensor
    """The atlases' warped images, [B, K, *spatial]."""
    labels: Tensor
    """Their one-hot labels, warped linearly, background first, [B, K, L, *spatial]."""
    valid: Tensor
    """1 where an atlas has something to say and 0 elsewhere, or a weight between, [B, K, *spatial]."""


def check_counts(n_atlases: int, n_labels: int) -> None:
    """Raise an `InputError` unless there is an atlas, and a label beside the background."""
    if n_atlases < 1 or n_labels < 2:
        raise InputError(
            "label fusion needs atlases and labels",
            expected="n_atlases of at least 1, n_labels, which counts the background, of at least 2",
            found=f"n_atlases {n_atlases}, n_labels {n_labels}",
        )


def split_fusion_input(image: Tensor, n_atlases: int, n_labels: int) -> FusionInput:
    """Name the parts of a fusion network's input, as views.

    Args:
        image: [B, 1 + K (L + 2), *spatial], two or three axes: the target, then atlas by atlas its image, its L
            labels and its validity.
        n_atlases: K.
        n_labels: L.

    Raises:
        InputError: another number of channels or axes.
    """
    expected = 1 + n_atlases * (n_labels + 2)
    if (image.dim() != 4 and image.dim() != 5) or image.shape[1] != expected:
        what = "a label fusion network takes one tensor of the target and its atlases"
        wanted = (
            f"[B, {expected}, *spatial], two or three axes: 1 + {n_atlases} atlases of 1 image, {n_labels} labels, "
            f"background included, and 1 validity"
        )
        found = f"{list(image.shape)}"
        if torch.jit.is_scripting():
            raise ValueError(f"{what}: expected {wanted}, found {found}")
        else:
            raise InputError(what, expected=wanted, found=found)
    atlases = image[:, 1:].unflatten(1, (n_atlases, n_labels + 2))
    return FusionInput(image[:, :1], atlases[:, :, 0], atlases[:, :, 1:-1], atlases[:, :, -1])


def join_fusion_input(parts: FusionInput) -> Tensor:
    """The inverse of :func:`split_fusion_input`: [B, 1 + K (L + 2), *spatial]."""
    atlases = torch.cat((parts.images.unsqueeze(2), parts.labels, parts.valid.unsqueeze(2)), dim=2)
    return torch.cat((parts.target, atlases.flatten(1, 2)), dim=1)
