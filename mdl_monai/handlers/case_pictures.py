"""What every bundle's pictures share: one PNG a case, the first ones or all, written atomically."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from matplotlib.figure import Figure

from mdl_monai.errors import InputError
from mdl_monai.handlers.processes import rank, world_size
from mdl_monai.io.atomic import atomic_path
from mdl_monai.io.options import optional

DPI = 100


class CasePictures(ABC):
    """Evaluator handler that draws each case into ``<case>.png``; a subclass says how, in `figure`.

    The case is the one in the metadata of the item's ``pred``. With several processes, each of which sees every
    n-th case, `count` is that of all together.

    Args:
        output_dir: receives the pictures.
        count: cases to draw, the first ones; 0 for none, None (or "null") for every case.

    Raises:
        InputError: `count` is something else.
    """

    def __init__(self, output_dir: str, count: int | str | None = None) -> None:
        self.output_dir, self.count = Path(output_dir), _whole_number(count)
        self._seen = 0

    @abstractmethod
    def figure(self, item: Mapping[str, Any]) -> Figure:
        """Draw one case.

        Args:
            item: the evaluator's batch and output for the case, decollated and postprocessed, channel first.
        """

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose output is decollated and postprocessed."""
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw)

    def _reset(self, engine: Engine) -> None:
        self._seen = 0

    def _draw(self, engine: Engine) -> None:
        state: Any = engine.state
        items, inputs = (x if isinstance(x, list) else [x] for x in (state.output, state.batch))
        for input_item, output_item in zip(inputs, items, strict=True):
            item = {
                **input_item,
                **output_item,
            }  # MONAI leaves other keys than image, label and pred in the batch
            position = rank() + self._seen * world_size()  # in the data set
            self._seen += 1
            if self.count is not None and position >= self.count:
                continue
            with atomic_path(self.output_dir / f"{case_name(item)}.png") as path:
                self.figure(item).savefig(path, dpi=DPI, format="png")


def case_name(item: Mapping[str, Any]) -> str:
    """Name of the case that an item of the evaluator's output belongs to."""
    return str(item["pred"].meta["case"])


def _whole_number(count: int | str | None) -> int | None:
    text = optional(str(count))
    if text is not None and not text.strip().isdecimal():
        raise InputError(
            "the number of pictures is not a whole number",
            expected="0, 1, 2, ..., or null for all",
            found=count,
        )
    return None if text is None else int(text)
