"""Learning rates by the kind of a parameter: a control value of a curve is no convolution weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def parameter_groups(network: nn.Module, rates: Mapping[str, float], default: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser.

    Args:
        network: its named parameters are grouped.
        rates: learning rate by a part of the parameter's name; the first part that a name holds decides.
        default: learning rate of all others.

    Raises:
        ValueError: a part that no parameter's name holds.
    """
    members: dict[str, list[nn.Parameter]] = {part: [] for part in (*rates, "")}
    for name, parameter in network.named_parameters():
        members[next((part for part in rates if part in name), "")].append(parameter)
    unused = [part for part in rates if not members[part]]
    if unused:
        raise ValueError(f"no parameter of {type(network).__name__} is named {', '.join(unused)}")
    every = {**rates, "": default}
    return [{"params": members[part], "lr": every[part]} for part in members if members[part]]
