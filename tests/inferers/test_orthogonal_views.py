from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mdl_monai.errors import InputError
from mdl_monai.inferers.orthogonal_views import OrthogonalViews


class Ramp(nn.Module):
    """Adds 100 times the place along the first axis of a slice, and the place along the second."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        return x + 100 * torch.arange(h).view(-1, 1) + torch.arange(w)


def test_each_view_sees_its_two_axes_in_their_order_and_the_mean_is_taken() -> None:
    x = torch.rand(2, 1, 3, 4, 5)
    i, j, k = (torch.arange(n).view([-1 if a == b else 1 for b in range(3)]) for a, n in enumerate((3, 4, 5)))
    by_view = {"sagittal": 100 * j + k, "coronal": 100 * i + k, "axial": 100 * i + j}
    for view, ramp in by_view.items():
        torch.testing.assert_close(OrthogonalViews([view], slices_per_batch=3)(x, Ramp()), x + ramp)
    mean = sum(by_view.values()) / 3
    torch.testing.assert_close(OrthogonalViews(slices_per_batch=2)(x, Ramp()), x + mean)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_goes_through_in_its_own_view(axis: int) -> None:
    x = torch.rand(1, 1, 4, 5, 6).narrow(2 + axis, 2, 1)
    expected = Ramp()(x.squeeze(2 + axis)).unsqueeze(2 + axis)
    torch.testing.assert_close(OrthogonalViews()(x, Ramp()), expected)


def test_averaged_views_step_less_from_slice_to_slice_than_one() -> None:
    class Drifting(nn.Module):
        """What depends on the slice as a whole jumps from one to the next."""

        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(dim=(2, 3), keepdim=True)

    x = torch.rand(1, 1, 20, 21, 22, generator=torch.Generator().manual_seed(0)).cumsum(2)
    x = x + 3 * torch.rand(1, 1, 1, 1, 22, generator=torch.Generator().manual_seed(1))
    one, three = (OrthogonalViews(views)(x, Drifting()) - x for views in (["axial"], ["axial", "coronal"]))
    assert three.diff(dim=4).abs().mean() < 0.7 * one.diff(dim=4).abs().mean()


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 1), (1, 5, 6), (4, 1, 6)])
def test_mirror_images_are_averaged_and_a_mirrored_input_gives_the_mirrored_result(
    shape: tuple[int, int, int],
) -> None:
    class Uneven(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Ramp()(x) * x

    x = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(2))
    mirrored, plain = OrthogonalViews(mirror=True), OrthogonalViews()
    found = mirrored(x, Uneven())
    for dims in ((2,), (3,), (2, 3)):
        torch.testing.assert_close(mirrored(x.flip(dims), Uneven()), found.flip(dims))
    assert not torch.allclose(plain(x.flip((2, 3)), Uneven()), plain(x, Uneven()).flip((2, 3)))
    all_four = [plain(x.flip(dims), Uneven()).flip(dims) for dims in ((), (2,), (3,), (2, 3))]
    torch.testing.assert_close(found, sum(all_four) / 4)


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(InputError, match="(?s)view.*axial"):
        OrthogonalViews(["oblique"])
