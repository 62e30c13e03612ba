from __future__ import annotations

from pathlib import Path

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
    torch.save(nn.Linear(3, 2), path)  # a whole pickled module may run code when it is loaded
    with pytest.raises(InputError, match="not readable"):
        LoadWeights(str(path), nn.Linear(3, 2))()


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
