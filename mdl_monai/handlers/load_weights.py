"""Load a network's weights when a run starts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from mdl_monai.errors import InputError


class LoadWeights:
    """Handler that loads a plain state_dict into the network, safely and onto the network's device.

    MONAI's `CheckpointLoader` does the same, but a wrong file ends in a traceback.

    Args:
        path: file of a state_dict, or of a checkpoint of `TrainingCheckpoint`.
        network: the module to fill.
        partial: the file may hold a part of the network, as for a network that is built around another; the rest
            keeps its initial values.
    """

    def __init__(self, path: str, network: nn.Module, partial: bool = False) -> None:
        self.path, self.network, self.partial = Path(path), network, partial

    def attach(self, engine: Engine) -> None:
        """Load before anything runs."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Load now.

        Raises:
            InputError: no such file, a damaged one, no state_dict in it, or one of another architecture.
        """
        if not self.path.is_file():
            raise InputError(
                "the weights file does not exist",
                where=self.path,
                remedy="name a trained model.pt",
            )
        if damage := _damage(self.path):
            raise InputError(
                "the weights file is damaged",
                where=self.path,
                found=damage,
                remedy="get it again",
            )
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # what a broken file makes of torch.load is anybody's guess
            found = str(error).partition("\n")[0]
            if "weights" in found.lower():  # torch would tell how to load all the same, and run what is in it
                found = "something else, which could run code"
            raise InputError(
                "the weights file is not readable",
                where=self.path,
                expected="tensors alone, as torch.save(network.state_dict(), ...) writes them",
                found=found,
            ) from error
        state = content.get("network", content) if isinstance(content, dict) else None
        if (
            not isinstance(state, dict)
            or not state
            or not all(isinstance(v, torch.Tensor) and not v.is_meta for v in state.values())
        ):
            raise InputError(
                "the weights file holds no state_dict", where=self.path, found=type(content).__name__
            )
        network = getattr(self.network, "module", self.network)
        own = network.state_dict()
        wrong = [k for k in state if k not in own or state[k].shape != own[k].shape]
        wrong += [] if self.partial else [k for k in own if k not in state]
        if wrong:
            raise InputError(
                "the weights belong to another architecture",
                where=self.path,
                expected=f"the {len(own)} tensors of {type(network).__name__} as configured",
                found=f"{len(state)} tensors; {len(wrong)} do not fit, first {wrong[0]!r}",
                remedy="give the weights of this network, or set the network's options as in their training",
            )
        network.load_state_dict(state, strict=not self.partial)


def _damage(path: Path) -> str:
    """What torch does not look at: wrong sums, and sizes beyond the file's; empty if nothing is wrong."""
    if not zipfile.is_zipfile(path):
        return ""  # written before torch 1.6, or something else
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > path.stat().st_size:  # torch compresses nothing
                return f"{size} bytes in a file of {path.stat().st_size}"
            broken = archive.testzip()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"{broken} in it is not what was written" if broken else ""
