from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk
import torch
from fusion_cases import SIZES, fusion_input, hard_labels, one_hot, soft_labels

from mdl_monai.networks.majority_vote import MajorityVote

ANY_SIZE = pytest.mark.parametrize("size", SIZES)


@ANY_SIZE
def test_shares_are_probabilities(size: tuple[int, ...]) -> None:
    valid = (torch.rand(2, 4, *size) < 0.5).float()
    pred = MajorityVote(4, 3)(fusion_input(soft_labels(4, 3, size), valid))
    assert pred.shape == (2, 3, *size) and pred.dtype == torch.float32
    assert (pred >= 0).all()
    torch.testing.assert_close(pred.sum(dim=1), torch.ones(2, *size))


@ANY_SIZE
def test_share_is_the_mean_over_the_atlases_valid_at_a_voxel(size: tuple[int, ...]) -> None:
    labels, valid = soft_labels(4, 3, size), (torch.rand(2, 4, *size) < 0.7).float()
    voxel = tuple(n // 2 for n in size)
    valid[0, :, *voxel] = torch.tensor([1.0, 0.0, 1.0, 1.0])
    pred = MajorityVote(4, 3)(fusion_input(labels, valid))
    torch.testing.assert_close(pred[0, :, *voxel], labels[0, [0, 2, 3], :, *voxel].mean(dim=0))


@ANY_SIZE
def test_order_of_atlases_changes_nothing(size: tuple[int, ...]) -> None:
    labels, valid = soft_labels(5, 3, size), torch.rand(2, 5, *size)
    order, network = torch.tensor([3, 0, 4, 2, 1]), MajorityVote(5, 3)
    shuffled = network(fusion_input(labels[:, order], valid[:, order]))
    torch.testing.assert_close(shuffled, network(fusion_input(labels, valid)))


@ANY_SIZE
def test_failed_atlases_change_no_bit_whatever_they_hold(size: tuple[int, ...]) -> None:
    labels, valid = soft_labels(5, 3, size), torch.rand(2, 5, *size)
    labels[:, 1], labels[:, 4] = torch.nan, torch.inf
    valid[:, [1, 4]] = 0
    kept = [0, 2, 3]
    expected = MajorityVote(3, 3)(fusion_input(labels[:, kept], valid[:, kept]))
    assert torch.equal(MajorityVote(5, 3)(fusion_input(labels, valid)), expected)


@ANY_SIZE
def test_unanimous_atlases_give_their_label(size: tuple[int, ...]) -> None:
    label = hard_labels(1, 4, size)
    assert torch.equal(MajorityVote(3, 4)(fusion_input(label.expand(-1, 3, *label.shape[2:]))), label[:, 0])


@ANY_SIZE
def test_exchanged_labels_exchange_the_answer(size: tuple[int, ...]) -> None:
    labels, exchanged, network = hard_labels(4, 3, size), [2, 1, 0], MajorityVote(4, 3)
    pred = network(fusion_input(labels[:, :, exchanged]))
    assert torch.equal(pred, network(fusion_input(labels))[:, exchanged])


@ANY_SIZE
def test_labels_are_those_of_simpleitks_voting_where_it_decides(size: tuple[int, ...]) -> None:
    labels = torch.randint(3, (1, 5, *size), dtype=torch.uint8)
    voted = sitk.LabelVoting([sitk.GetImageFromArray(one.numpy()) for one in labels[0]], 255)
    expected = torch.from_numpy(sitk.GetArrayFromImage(voted)).long()
    decided = expected != 255
    pred = MajorityVote(5, 3)(fusion_input(one_hot(labels.long(), 3)))[0].argmax(dim=0)
    assert decided.float().mean() > 0.5
    assert torch.equal(pred[decided], expected[decided])


def test_voxels_without_a_valid_atlas_are_background() -> None:
    labels, valid = soft_labels(3, 3, (5, 6, 3)), torch.zeros(2, 3, 5, 6, 3)
    valid[0, :, 2:] = 1
    pred = MajorityVote(3, 3)(fusion_input(labels, valid))
    background = torch.tensor([1.0, 0.0, 0.0])
    assert torch.equal(pred[0, :, :2], background.view(3, 1, 1, 1).expand(3, 2, 6, 3))
    assert torch.equal(pred[1], background.view(3, 1, 1, 1).expand(3, 5, 6, 3))
    assert (pred[0, 0, 2:] < 1).all()


def test_validity_between_0_and_1_weights_the_vote() -> None:
    labels = one_hot(torch.tensor([0, 1]).view(1, 2, 1, 1).expand(1, 2, 3, 4), 2)
    valid = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
    pred = MajorityVote(2, 2)(fusion_input(labels, valid))
    torch.testing.assert_close(pred, valid)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_input_loses_no_more_than_its_own_rounding(kind: torch.dtype) -> None:
    """A running sum of 33 votes in half precision would be off in the third digit."""
    image = fusion_input(soft_labels(33, 3, (6, 7)), (torch.rand(2, 33, 6, 7) < 0.8).float()).to(kind)
    pred = MajorityVote(33, 3)(image)
    assert pred.dtype == torch.float32
    torch.testing.assert_close(pred, MajorityVote(33, 3)(image.float()), atol=1e-6, rtol=0)


def test_a_nan_of_a_valid_atlas_reaches_the_answer() -> None:
    labels = soft_labels(3, 3, (4, 5))
    labels[0, 1, 2, 3, 4] = torch.nan
    pred = MajorityVote(3, 3)(fusion_input(labels))
    assert pred[0, :, 3, 4].isnan().all() and pred.isnan().sum() == 3


@ANY_SIZE
def test_scripted_and_exported_networks_agree_and_take_other_sizes(size: tuple[int, ...]) -> None:
    network = MajorityVote(4, 3)
    image = fusion_input(soft_labels(4, 3, size), (torch.rand(2, 4, *size) < 0.5).float())
    larger = fusion_input(soft_labels(4, 3, (*size[:-1], 11), batch=3))
    batch, last = torch.export.Dim("batch"), torch.export.Dim("last")
    exported = torch.export.export(network, (image,), dynamic_shapes=({0: batch, image.ndim - 1: last},))
    for twin in (torch.jit.script(network), exported.module()):
        assert torch.equal(twin(image), network(image))
        assert torch.equal(twin(larger), network(larger))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's own exporter
def test_onnx_network_agrees(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    reference = pytest.importorskip("onnx.reference")
    network, path = MajorityVote(3, 2).eval(), tmp_path / "vote.onnx"
    image = fusion_input(soft_labels(3, 2, (5, 6, 3)), (torch.rand(2, 3, 5, 6, 3) < 0.5).float())
    torch.onnx.export(network, (image,), path, dynamo=True, verbose=False)
    evaluator = reference.ReferenceEvaluator(onnx.load(path))
    found = evaluator.run(None, {evaluator.input_names[0]: image.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), network(image))


def test_the_meta_device_runs_the_forward_pass() -> None:
    pred = MajorityVote(3, 2)(torch.empty(2, 13, 5, 4, device="meta"))
    assert pred.shape == (2, 2, 5, 4) and pred.device.type == "meta"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_cuda_agrees_with_the_cpu(kind: torch.dtype) -> None:
    image = fusion_input(soft_labels(4, 3, (5, 8, 3)), torch.rand(2, 4, 5, 8, 3)).to(kind)
    pred = MajorityVote(4, 3)(image.cuda())
    torch.testing.assert_close(pred.cpu(), MajorityVote(4, 3)(image))
