"""Run the classical baselines on the very cases of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.handlers.tqdm_logger import ProgressBar
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from torch import nn

from mdl_monai.engines.cohort import Cohort
from mdl_monai.handlers.metrics_table import MetricsTable


def run_baselines(
    baselines: Mapping[str, nn.Module] | None,
    data_loader: Any,
    inferer: Inferer,
    postprocessing: Any,
    table: MetricsTable,
    device: torch.device,
    progress: bool = False,
    cohort: Cohort | None = None,
) -> None:
    """Evaluate each baseline with the evaluator's loader and inferer; its rows join the table.

    Args:
        baselines: modules without weights with the network's border, by the name in the table; None for none.
        data_loader, inferer: those of the network's evaluator.
        postprocessing: what precedes the metrics, saving left out.
        table: the table of the network's evaluator.
        device: where to run.
        progress: show a bar over the cases of each baseline.
        cohort: that of the network's evaluator, whose failed cases are left out.
    """
    for method, baseline in (baselines or {}).items():
        table.method = method
        SupervisedEvaluator(
            device=device,
            val_data_loader=data_loader,
            network=baseline.to(device),
            inferer=inferer,
            postprocessing=postprocessing,
            iteration_update=None if cohort is None else cohort.again,
            val_handlers=[table, *([ProgressBar(desc=method)] if progress else [])],
        ).run()
    table.method = table.network_method
