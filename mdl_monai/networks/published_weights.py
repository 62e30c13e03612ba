"""The authors' trained weights, as plain arrays, to the state_dicts of our networks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from numpy.typing import NDArray
from torch import Tensor

from mdl_monai.errors import InputError


def _number(key: str) -> tuple[str, int]:
    """Number of the layer, and of the array in it."""
    return key.split("_")[0], int(key.split("_")[-1])


def _layers(arrays: Mapping[str, NDArray]) -> list[list[Tensor]]:
    """Group arrays keyed `NNN_layer_i` by layer, in order; layers without parameters are left out."""
    layers: dict[str, list[Tensor]] = {}
    for key in sorted((key for key in arrays if key != "types"), key=_number):
        layers.setdefault(key.split("_")[0], []).append(torch.tensor(arrays[key], dtype=torch.float32))
    return list(layers.values())


def admm_net_state_dict(arrays: Mapping[str, NDArray]) -> dict[str, Tensor]:
    """State_dict of :class:`~mdl_monai.networks.admm_net.ADMMNet` from the weights of Basic ADMM-Net.

    Args:
        arrays: keys `NNN_layer_i` in layer order (X, C, Z, M repeated, last X); X holds combination [8, L]
            and rho [1, L], C a combination [8, L], Z control values [101, L], M eta [1, L].

    Raises:
        InputError: the layers do not come in that order.
    """
    layers = _layers(arrays)
    sizes = [len(layer) for layer in layers]
    stages = len(layers) // 4
    if stages == 0 or sizes != [2, 1, 1, 1] * stages + [2]:
        raise InputError(
            "The arrays are no Basic ADMM-Net.",
            expected="layers X, C, Z, M repeated and a last X, with 2, 1, 1, 1 and 2 arrays",
            found=f"{len(layers)} layers with {sizes} arrays",
        )
    state: dict[str, Tensor] = {}
    for i in range(stages):
        (combination, rho), (filters,), (values,), (eta,) = layers[4 * i : 4 * i + 4]
        stage = f"stages.{i}."
        state[stage + "reconstruction.combination"] = combination
        state[stage + "reconstruction.rho"] = rho.flatten()
        state[stage + "combination"] = filters
        state[stage + "activation.values"] = values.T.contiguous()
        state[stage + "eta"] = eta.flatten()
    state["reconstruction.combination"] = layers[-1][0]
    state["reconstruction.rho"] = layers[-1][1].flatten()
    return state


def admm_csnet_state_dict(arrays: Mapping[str, NDArray]) -> dict[str, Tensor]:
    """State_dict of :class:`~mdl_monai.networks.admm_csnet.ADMMCSNet` from the weights of Generic ADMM-CSNet.

    Args:
        arrays: keys `NNN_layer_i` in layer order (x, first convolution, Z, second convolution, multiplier
            repeated, last x); x holds rho [1, 1], the convolutions kernels [5, 5, 1, C] and [5, 5, C] with
            biases [1, C] and [1, 1], Z control values [101, C] or 101 arrays of C, the multiplier eta [1, 1].

    Raises:
        InputError: the layers do not come in that order.
    """
    layers = [[torch.stack(layer)] if len(layer) == 101 else layer for layer in _layers(arrays)]
    sizes = [len(layer) for layer in layers]
    stages = len(layers) // 5
    if stages == 0 or sizes != [1, 2, 1, 2, 1] * stages + [1]:
        raise InputError(
            "The arrays are no Generic ADMM-CSNet.",
            expected="layers x, convolution, Z, convolution, multiplier repeated and a last x, with "
            "1, 2, 1, 2, 1 and 1 arrays",
            found=f"{len(layers)} layers with {sizes} arrays",
        )
    state: dict[str, Tensor] = {}
    for i in range(stages):
        (rho,), (analysis, bias), (values,), (synthesis, offset), (eta,) = layers[5 * i : 5 * i + 5]
        stage = f"stages.{i}."
        state[stage + "rho"] = rho.reshape(())
        state[stage + "analysis"] = analysis.flatten(2).permute(2, 0, 1).contiguous()
        state[stage + "analysis_bias"] = bias.flatten()
        state[stage + "activation.values"] = values.T.contiguous()
        state[stage + "synthesis"] = synthesis.flatten(2).permute(2, 0, 1).contiguous()
        state[stage + "synthesis_bias"] = offset.flatten()
        state[stage + "eta"] = eta.reshape(())
    state["rho"] = layers[-1][0].reshape(())
    return state
