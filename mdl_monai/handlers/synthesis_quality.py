"""With every synthetic CT a record of how far it can be trusted."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.inferers import Inferer
from monai.networks import eval_mode
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from mdl_monai.errors import InputError
from mdl_monai.handlers.load_weights import LoadWeights
from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.losses.mind_loss import MindLoss
from mdl_monai.metrics.typical_inputs import describe_input, summarise_inputs, unlike
from mdl_monai.transforms.body_mask import body_mask

TYPICAL_INPUTS = "typical_inputs.json"
BODY_HU = -400.0
"""Between air and tissue."""
LEAST_OVERLAP = 0.9
"""Dice of the two bodies below which a case is warned of."""

logger = logging.getLogger(__name__)


class TypicalInputs:
    """Trainer handler that writes ``typical_inputs.json``: contrast and coverage of the training set.

    Args:
        output_dir: receives the file.
        dataset: training cases before any random step, with ``image`` and ``body``.
    """

    def __init__(self, output_dir: str, dataset: Any) -> None:
        self.output_dir, self.dataset = Path(output_dir), dataset

    def attach(self, engine: Engine) -> None:
        """Write when the training starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Write now."""
        cases = [
            describe_input(
                convert_to_tensor(c["image"])[0], convert_to_tensor(c["body"])[0] > 0, c["image"].pixdim
            )
            for c in self.dataset
        ]
        atomic_write_text(self.output_dir / TYPICAL_INPUTS, json.dumps(summarise_inputs(cases)) + "\n")


class SynthesisQuality:
    """Evaluator handler: ``quality/<case>.json``, and maps for the pictures and files.

    - ``mind_residual``: by voxel of the body, the mean difference of the two images' MIND descriptors, which know
      structure and not contrast; high where the CT shows other anatomy than the MR. It is not 0 for a true pair.
    - ``cycle_error``, with a network back from CT to MR: by voxel, what the MR loses on the way there and back.
    - ``body_dice``: overlap of the MR's body with the CT's (above -400 HU).
    - ``clipped_share``: of the body, beyond the HU that were trained on.
    - ``contrast_distance`` and ``warnings``: how far the MR is from the training set's, see `typical_inputs`.

    Args:
        output_dir: receives ``quality``.
        hu_range: HU of -1 and 1 in the network's unit.
        inferer: the evaluator's.
        ckpt_path: the network's weights, beside which ``typical_inputs.json`` lies.
        reverse: network from CT to MR, both in the network's unit; None: no cycle.
        reverse_ckpt: its weights.
    """

    def __init__(
        self,
        output_dir: str,
        hu_range: tuple[float, float],
        inferer: Inferer,
        ckpt_path: str,
        reverse: nn.Module | None = None,
        reverse_ckpt: str | None = None,
    ) -> None:
        self.output_dir, self.inferer, self.reverse = Path(output_dir), inferer, reverse
        self.body_unit = 2 * (BODY_HU - hu_range[0]) / (hu_range[1] - hu_range[0]) - 1
        self.typical_path = Path(ckpt_path).with_name(TYPICAL_INPUTS)
        self.reverse_ckpt, self.mind = reverse_ckpt, MindLoss()
        self._record: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator of one case a batch, before its postprocessing."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._judge)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self.typical = None
        if self.typical_path.is_file():
            try:
                self.typical = json.loads(self.typical_path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise InputError(
                    "the record of typical inputs is damaged", where=self.typical_path, found=error,
                    remedy="get the bundle again, or train again",
                ) from error  # fmt: skip
        if self.reverse is not None and self.reverse_ckpt is not None:
            LoadWeights(self.reverse_ckpt, self.reverse)()

    def _judge(self, engine: Engine) -> None:
        state: Any = engine.state
        image, pred = convert_to_tensor(state.output["image"]), convert_to_tensor(state.output["pred"])
        body = convert_to_tensor(state.batch["body"])[:1].to(image) > 0
        spacing = state.batch["image"].pixdim
        spacing = (spacing[0] if isinstance(spacing, list) else spacing).flatten().tolist()
        residual = self.mind_residual(image, pred) * body
        state.output["mind_residual"] = residual
        inside = residual[body]
        shown = body_mask(_from(pred[0, 0], self.body_unit), torch.tensor(spacing)).to(body)
        overlap = 2 * (shown & body[0, 0]).sum() / (shown.sum() + body.sum())
        self._record = {
            "mind_residual_mean": float(inside.mean()),
            "mind_residual_p95": float(
                inside.float().cpu().kthvalue(max(1, int(0.95 * inside.numel()))).values
            ),
            "body_dice": float(overlap),
            "clipped_share": float((pred[body].abs() > 1).float().mean()),
        }
        if self.reverse is not None:
            with torch.no_grad(), eval_mode(self.reverse):
                back = self.inferer(pred.clamp(-1, 1), self.reverse)
            error = (back - image).abs() * body
            state.output["cycle_error"] = error
            self._record["cycle_error_mean"] = float(error[body].mean())
        warnings = []
        if overlap < LEAST_OVERLAP:
            warnings.append(f"the CT's body overlaps the MR's by a Dice of {float(overlap):.2f} only")
        if self.typical is not None:
            described = describe_input(image[0, 0].cpu(), body[0, 0].cpu(), spacing)
            distance, words = unlike(described, self.typical)
            self._record["contrast_distance"] = distance
            warnings += words
        self._record["warnings"] = warnings

    def mind_residual(self, image: Tensor, pred: Tensor) -> Tensor:
        """[1, 1, X, Y, Z] of both to the same: of slices in their plane, of volumes in the axial planes."""
        flat = [axis for axis in range(3) if image.shape[2 + axis] == 1]
        axis = 2 + (flat[-1] if flat else 2)
        pairs = zip(image.movedim(axis, 0).split(8), pred.movedim(axis, 0).split(8), strict=True)
        with torch.no_grad():
            parts = [
                (self.mind.describe(a.flatten(0, 1)) - self.mind.describe(b.flatten(0, 1))).abs().mean(1)
                for a, b in pairs
            ]
        return torch.cat(parts)[:, None, None].movedim(0, axis)

    def _write(self, engine: Engine) -> None:
        state: Any = engine.state
        if not state.output:  # a case that failed
            return
        pred = (state.output[0] if isinstance(state.output, list) else state.output)["pred"]
        case = pred.meta["case"]
        atomic_write_text(
            self.output_dir / "quality" / f"{case}.json", json.dumps(self._record, indent=2) + "\n"
        )
        for words in self._record["warnings"]:
            logger.warning("%s: %s; do not trust its synthetic CT without looking", case, words)


def _from(values: Tensor, threshold: float) -> Tensor:
    """0 below a threshold, 1 above: what `body_mask` then closes and fills."""
    return (values.float().cpu() > threshold).float()
