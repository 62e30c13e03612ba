"""The weights that were best on validation, as a plain file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from mdl_monai.handlers.processes import rank
from mdl_monai.io.checkpoint_files import save_tensors

if TYPE_CHECKING:
    from mdl_monai.handlers.training_checkpoint import TrainingCheckpoint

WEIGHTS_NAME = "model.pt"


def cpu_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Plain contiguous CPU tensors of a network's state_dict, without a data-parallel wrapper's prefix.

    What has two names in the network (MONAI's DynUNet lists all its layers twice) is one tensor here too, so that
    `torch.save` writes it once.
    """
    state = getattr(module, "module", module).state_dict(keep_vars=True)
    copies = {id(v): v.detach().cpu().contiguous().clone() for v in state.values()}
    return {k: copies[id(v)] for k, v in state.items()}


class SaveBestWeights:
    """Validation handler: writes the weights whenever the key metric is the best so far.

    Args:
        checkpoint: the trainer's handler, which remembers the best figure across a resume.
        further: by file name, networks whose weights of that moment are written beside.
    """

    def __init__(
        self, checkpoint: TrainingCheckpoint, further: Mapping[str, nn.Module] | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.networks = {WEIGHTS_NAME: checkpoint.network, **(further or {})}

    def attach(self, engine: Engine) -> None:
        """Register with the validation evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare and save."""
        state: Any = engine.state
        score = float(state.metrics[state.key_metric_name])
        if score > self.checkpoint.best:
            self.checkpoint.best = score
            for name, network in self.networks.items() if rank() == 0 else ():
                save_tensors(cpu_state(network), self.checkpoint.output_dir / name)
