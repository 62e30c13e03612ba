from __future__ import annotations

import pytest
from torch import nn

from mdl_monai.networks.parameter_groups import parameter_groups


def test_every_parameter_is_in_one_group_with_its_rate() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.PReLU())
    groups = parameter_groups(network, {"bias": 0.1, "1.": 0.2}, 0.3)
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.1, 1), (0.2, 1), (0.3, 1)]
    members = [p for group in groups for p in group["params"]]
    assert {id(p) for p in members} == {id(p) for p in network.parameters()} and len(members) == 3


def test_a_name_that_no_parameter_has_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter of Linear is named rho"):
        parameter_groups(nn.Linear(2, 3), {"rho": 0.1}, 0.3)
