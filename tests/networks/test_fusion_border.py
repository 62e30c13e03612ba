from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mdl_monai.errors import InputError
from mdl_monai.networks.fusion_border import (
    FusionInput,
    check_counts,
    join_fusion_input,
    split_fusion_input,
)

SIZES = [(7, 12), (5, 8, 3)]


class Rejoined(nn.Module):
    """Splits and joins: the border as a network uses it."""

    def forward(self, image: Tensor) -> Tensor:
        return join_fusion_input(split_fusion_input(image, 3, 2))


@pytest.mark.parametrize("size", SIZES)
def test_splitting_gives_back_what_was_joined(size: tuple[int, ...]) -> None:
    shapes = [(2, 1, *size), (2, 4, *size), (2, 4, 3, *size), (2, 4, *size)]
    parts = FusionInput(*(torch.randn(shape) for shape in shapes))
    found = split_fusion_input(join_fusion_input(parts), 4, 3)
    for name, one, other in zip(parts._fields, found, parts, strict=True):
        torch.testing.assert_close(one, other, msg=name)


@pytest.mark.parametrize("size", SIZES)
def test_channels_are_the_target_then_atlas_by_atlas_image_labels_validity(size: tuple[int, ...]) -> None:
    channels = torch.arange(1 + 2 * 5.0).view(1, -1, *[1] * len(size)).expand(1, -1, *size)
    parts = split_fusion_input(channels, n_atlases=2, n_labels=3)
    assert parts.target.unique().tolist() == [0]
    for atlas, first in enumerate((1, 6)):
        assert parts.images[:, atlas].unique().tolist() == [first]
        assert [label.unique().item() for label in parts.labels[0, atlas]] == [
            first + 1,
            first + 2,
            first + 3,
        ]
        assert parts.valid[:, atlas].unique().tolist() == [first + 4]


def test_splitting_copies_nothing() -> None:
    image = torch.randn(2, 13, 5, 6, 7)
    before = image.clone()
    for part in split_fusion_input(image, 3, 2):
        part += 1
    torch.testing.assert_close(image, before + 1)


@pytest.mark.parametrize("shape", [(2, 12, 5, 6), (2, 14, 5, 6, 7), (13, 5, 6), (13,), (1, 13, 2, 2, 2, 2)])
def test_another_shape_is_refused_with_expected_and_found(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected: \[B, 13, \*spatial\]") as error:
        split_fusion_input(torch.zeros(shape), 3, 2)
    assert f"found: {list(shape)}" in str(error.value)


@pytest.mark.parametrize(("n_atlases", "n_labels"), [(0, 2), (3, 1), (-1, 3)])
def test_no_atlas_or_no_label_beside_the_background_is_refused(n_atlases: int, n_labels: int) -> None:
    with pytest.raises(InputError, match=f"found: n_atlases {n_atlases}, n_labels {n_labels}"):
        check_counts(n_atlases, n_labels)
    check_counts(1, 2)


@pytest.mark.parametrize("size", SIZES)
def test_border_can_be_scripted_and_exported(size: tuple[int, ...]) -> None:
    image = torch.randn(2, 13, *size)
    scripted = torch.jit.script(Rejoined())
    assert torch.equal(scripted(image), image)
    with pytest.raises(torch.jit.Error, match=r"expected \[B, 13, \*spatial\].* found \[2, 12,"):
        scripted(image[:, 1:])
    exported = torch.export.export(Rejoined(), (image,)).module()
    assert torch.equal(exported(image), image)
