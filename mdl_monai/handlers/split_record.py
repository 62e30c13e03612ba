"""What a training learned from, beside its results: its subjects, and the plan that its weights follow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.io.plan import PLAN_NAME


class SplitRecord:
    """Trainer handler that writes ``split.json``: by list, the cases of each subject; and ``plan.json``.

    Args:
        output_dir: receives the file.
        splits: lists of records by name, as `train_val_records` gives them.
        plan: what the weights are made for, see `mdl_monai.io.plan`.
    """

    def __init__(
        self,
        output_dir: str,
        splits: Mapping[str, Sequence[Mapping[str, Any]]],
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir, self.splits, self.plan = Path(output_dir), splits, plan

    def attach(self, engine: Engine) -> None:
        """Write when the training starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Write now."""
        content: dict[str, dict[str, list[str]]] = {}
        for name, records in self.splits.items():
            subjects = content.setdefault(name, {})
            for record in records:
                subjects.setdefault(str(record["subject"]), []).append(record["case"])
        atomic_write_text(self.output_dir / "split.json", json.dumps(content, indent=2) + "\n")
        if self.plan is not None:
            atomic_write_text(self.output_dir / PLAN_NAME, json.dumps(self.plan, indent=2) + "\n")
