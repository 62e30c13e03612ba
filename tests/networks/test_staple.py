from __future__ import annotations

import pytest
import SimpleITK as sitk
import torch
from fusion_cases import SIZES, fusion_input, hard_labels, one_hot, soft_labels
from torch import Tensor
from torch.nn import functional

from mdl_monai.networks.majority_vote import MajorityVote
from mdl_monai.networks.staple import Staple

ANY_SIZE = pytest.mark.parametrize("size", SIZES)


def raters(truth: Tensor, error_rates: list[float], n_labels: int) -> Tensor:
    """One-hot labels [1, K, L, *spatial] of raters who each mistake their share of voxels for any other label."""
    wrong = torch.rand(len(error_rates), *truth.shape) < torch.tensor(error_rates).view(-1, *[1] * truth.ndim)
    other = (truth + torch.randint(1, n_labels, wrong.shape)) % n_labels
    return one_hot(torch.where(wrong, other, truth)[None], n_labels)


@ANY_SIZE
def test_scores_are_probabilities(size: tuple[int, ...]) -> None:
    valid = (torch.rand(2, 4, *size) < 0.5).float()
    pred = Staple(4, 3)(fusion_input(soft_labels(4, 3, size), valid))
    assert pred.shape == (2, 3, *size) and pred.dtype == torch.float32
    assert (pred >= 0).all()
    torch.testing.assert_close(pred.sum(dim=1), torch.ones(2, *size))


@ANY_SIZE
def test_order_of_atlases_changes_nothing(size: tuple[int, ...]) -> None:
    truth = torch.randint(3, size)
    labels = raters(truth, [0.1, 0.2, 0.3, 0.1, 0.2], 3)
    valid = (torch.rand(1, 5, *size) < 0.9).float()
    order, network = torch.tensor([3, 0, 4, 2, 1]), Staple(5, 3)
    shuffled = network(fusion_input(labels[:, order], valid[:, order]))
    torch.testing.assert_close(shuffled, network(fusion_input(labels, valid)), atol=1e-4, rtol=0)


@ANY_SIZE
def test_failed_atlases_change_no_bit_whatever_they_hold(size: tuple[int, ...]) -> None:
    labels, valid = soft_labels(5, 3, size), (torch.rand(2, 5, *size) < 0.8).float()
    labels[:, 1], labels[:, 4] = torch.nan, torch.inf
    valid[:, [1, 4]] = 0
    kept = [0, 2, 3]
    expected = Staple(3, 3)(fusion_input(labels[:, kept], valid[:, kept]))
    assert torch.equal(Staple(5, 3)(fusion_input(labels, valid)), expected)


@ANY_SIZE
def test_unanimous_atlases_give_their_label(size: tuple[int, ...]) -> None:
    label = hard_labels(1, 4, size)
    assert torch.equal(Staple(3, 4)(fusion_input(label.expand(-1, 3, *label.shape[2:]))), label[:, 0])


@ANY_SIZE
def test_exchanged_labels_exchange_the_answer(size: tuple[int, ...]) -> None:
    """Ties and absent votes included, which is where one label might be treated unlike another."""
    labels, valid = hard_labels(4, 3, size), (torch.rand(2, 4, *size) < 0.7).float()
    exchanged, network = [2, 0, 1], Staple(4, 3)
    pred, original = (
        network(fusion_input(labels[:, :, exchanged], valid)),
        network(fusion_input(labels, valid)),
    )
    seen = valid.amax(dim=1) > 0
    for one, other, where in zip(pred, original, seen, strict=True):
        torch.testing.assert_close(one[:, where], other[exchanged][:, where], atol=1e-6, rtol=0)


@pytest.mark.parametrize("n_labels", [2, 3])
def test_one_bad_rater_who_misleads_the_vote_is_seen_through(n_labels: int) -> None:
    truth = torch.randint(n_labels, (17, 23))
    image = fusion_input(raters(truth, [0.1, 0.1, 0.1, 0.95], n_labels))
    right = {
        kind: (kind(4, n_labels)(image)[0].argmax(dim=0) == truth).float().mean()
        for kind in (Staple, MajorityVote)
    }
    assert right[Staple] > 0.95 and right[Staple] > right[MajorityVote] + 0.03


def test_two_labels_are_simpleitks_staple_where_raters_disagree() -> None:
    votes = raters(torch.randint(2, (19, 14)), [0.1, 0.2, 0.15, 0.3, 0.1], 2).argmax(dim=2)[0]
    disputed = (votes != votes[0]).any(dim=0)
    voters = [sitk.GetImageFromArray(row.byte().numpy()[None]) for row in votes[:, disputed]]
    expected = torch.from_numpy(sitk.GetArrayFromImage(sitk.STAPLE(voters, 1.0, 1)))[0].float()
    pred = Staple(5, 2)(fusion_input(one_hot(votes[None], 2)))[0, 1]
    assert 0.3 < disputed.float().mean() < 1
    torch.testing.assert_close(pred[disputed], expected, atol=1e-5, rtol=0)
    assert torch.equal(pred[~disputed], votes[0][~disputed].float())


@ANY_SIZE
def test_a_larger_background_that_all_share_changes_no_bit(size: tuple[int, ...]) -> None:
    labels = raters(torch.randint(3, size), [0.1, 0.2, 0.3, 0.1], 3)
    margin = [4, 9] * len(size)
    wide = functional.pad(labels.argmax(dim=2), margin)
    pred = Staple(4, 3)(fusion_input(one_hot(wide, 3)))
    assert torch.equal(functional.pad(pred, [-n for n in margin]), Staple(4, 3)(fusion_input(labels)))


@ANY_SIZE
def test_where_one_atlas_alone_is_valid_its_label_is_the_answer(size: tuple[int, ...]) -> None:
    labels, valid = soft_labels(3, 3, size), torch.zeros(2, 3, *size)
    valid[:, 1] = 1
    pred = Staple(3, 3)(fusion_input(labels, valid))
    assert torch.equal(pred, one_hot(labels[:, 1:2].argmax(dim=2), 3)[:, 0])


@ANY_SIZE
def test_without_a_valid_atlas_all_is_background(size: tuple[int, ...]) -> None:
    pred = Staple(3, 3)(fusion_input(soft_labels(3, 3, size), torch.zeros(2, 3, *size)))
    assert torch.equal(pred, one_hot(torch.zeros(2, 1, *size, dtype=torch.long), 3)[:, 0])


def test_two_atlases_that_disagree_leave_the_answer_to_the_vote() -> None:
    """Nothing tells two raters' quality apart: STAPLE is undecided, and the soft labels' shares decide."""
    labels = soft_labels(2, 2, (7, 5))
    image = fusion_input(labels)
    votes = labels.argmax(dim=2)
    disputed = (votes[:, 0] != votes[:, 1]).unsqueeze(1).expand(2, 2, 7, 5)
    assert disputed.any()
    torch.testing.assert_close(Staple(2, 2)(image)[disputed], MajorityVote(2, 2)(image)[disputed])


@ANY_SIZE
def test_a_label_no_atlas_has_stays_at_zero(size: tuple[int, ...]) -> None:
    labels = hard_labels(4, 3, size)
    absent = torch.cat((labels, torch.zeros_like(labels[:, :, :1])), dim=2)
    pred = Staple(4, 4)(fusion_input(absent))
    assert (pred[:, 3] == 0).all()
    assert torch.equal(pred[:, :3], Staple(4, 3)(fusion_input(labels)))


def test_an_absent_vote_is_not_read_and_follows_the_others() -> None:
    """Three good raters, each blind in a part: what stands there, right or wrong, must not count."""
    truth = torch.randint(3, (12, 15))
    labels = raters(truth, [0.05, 0.05, 0.05, 0.05], 3)
    valid = torch.ones(1, 4, 12, 15)
    for k in range(4):
        valid[0, k, 3 * k : 3 * k + 3] = 0
    spoilt = torch.where(valid.unsqueeze(2) > 0, labels, torch.randn_like(labels))
    pred = Staple(4, 3)(fusion_input(spoilt, valid))
    assert torch.equal(pred, Staple(4, 3)(fusion_input(labels, valid)))
    assert (pred[0].argmax(dim=0) == truth).float().mean() > 0.95


def test_a_target_of_a_batch_is_answered_as_if_alone_and_without_a_gradient() -> None:
    image = fusion_input(hard_labels(4, 3, (6, 5, 7), batch=3)).requires_grad_()
    pred = Staple(4, 3)(image)
    assert not pred.requires_grad
    assert torch.equal(pred[1:2], Staple(4, 3)(image[1:2]))


def test_half_precision_input_gives_the_answer_of_single_precision() -> None:
    image = fusion_input(soft_labels(4, 3, (6, 9)), (torch.rand(2, 4, 6, 9) < 0.8).float()).half()
    torch.testing.assert_close(Staple(4, 3)(image), Staple(4, 3)(image.float()))
