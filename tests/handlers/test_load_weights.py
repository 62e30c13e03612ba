from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mdl_monai.errors import InputError
from mdl_monai.handlers.load_weights import LoadWeights


def test_weights_and_checkpoints_fill_the_network(tmp_path: Path) -> None:
    source = nn.Linear(3, 2)
    torch.save(source.state_dict(), tmp_path / "model.pt")
    torch.save({"network": source.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pt")
    for name in ("model.pt", "checkpoint.pt"):
        network = nn.Linear(3, 2)
        LoadWeights(str(tmp_path / name), network)()
        torch.testing.assert_close(network.weight, source.weight)


def test_weights_of_another_architecture_leave_the_network_as_it_was(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "model.pt")
    network = nn.Linear(3, 2)
    before = network.weight.clone()
    with pytest.raises(
        InputError, match=r"(?s)another architecture.*model\.pt.*Linear.*2 do not fit, first 'weight'"
    ):
        LoadWeights(str(tmp_path / "model.pt"), network)()
    torch.testing.assert_close(network.weight, before)


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(InputError, match="(?s)does not exist.*name a trained"):
        LoadWeights(str(path), nn.Linear(3, 2))()
    path.write_bytes(b"garbage")
    with pytest.raises(InputError, match="not readable"):
        LoadWeights(str(path), nn.Linear(3, 2))()
    path.write_bytes(b"")
    with pytest.raises(InputError, match="not readable"):
        LoadWeights(str(path), nn.Linear(3, 2))()
    torch.save({}, path)
    with pytest.raises(InputError, match="no state_dict"):
        LoadWeights(str(path), nn.Linear(3, 2), partial=True)()
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="no state_dict"):
        LoadWeights(str(path), nn.Linear(3, 2))()


@pytest.mark.parametrize("content", [nn.Linear(3, 2), {"weight": np.array([print], dtype=object)}])
def test_what_may_run_code_is_refused_without_advice_to_load_it_all_the_same(
    content: object, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"(?s)not readable.*tensors alone.*could run code$") as caught:
        LoadWeights(str(tmp_path / "model.pt"), nn.Linear(3, 2))()
    assert "weights_only" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_part_fills_its_place_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(2, 3)}, path)
    network = nn.Linear(3, 2)
    bias = network.bias.clone()
    LoadWeights(str(path), network, partial=True)()
    assert (network.weight == 1).all() and torch.equal(network.bias, bias)
    torch.save({"other": torch.ones(2, 3)}, path)
    with pytest.raises(InputError, match="another architecture"):
        LoadWeights(str(path), network, partial=True)()


def test_damaged_weights_are_noticed(tmp_path: Path) -> None:
    """Torch itself loads them: it does not look at a zip's check sums."""
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(3, 2).state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        content = bytearray(path.read_bytes())
        content[content.index(archive.read("model/data/0"))] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    with pytest.raises(
        InputError, match=r"(?s)is damaged.*model\.pt.*model/data/0 in it is not what was written"
    ):
        LoadWeights(str(path), nn.Linear(3, 2))()


def test_weights_that_unpack_to_more_than_their_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(2000, 2000)}, tmp_path / "large.pt")
    with (
        zipfile.ZipFile(tmp_path / "large.pt") as large,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in large.namelist():
            small.writestr(name, large.read(name))
    with pytest.raises(InputError, match=r"(?s)is damaged.*found: 16000\d{3} bytes in a file of \d{5}\n"):
        LoadWeights(str(path), nn.Linear(2000, 2000, bias=False))()


def test_tensors_without_values_are_no_weights(tmp_path: Path) -> None:
    torch.save({"weight": torch.empty(2, 3, device="meta")}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="no state_dict"):
        LoadWeights(str(tmp_path / "model.pt"), nn.Linear(3, 2, bias=False))()
