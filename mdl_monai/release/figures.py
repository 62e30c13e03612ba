"""Saved figures of a bundle, `docs/figures/NAME.json`, and the tables that a model card makes of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mdl_monai.errors import InputError

STATISTICS = ("mean", "std", "ci95_low", "ci95_high", "count", "unit")

# heading and decimals of a metric key; a key that ends in a label's number has its base's
_COLUMNS = {
    "psnr": ("PSNR [dB]", 2),
    "nmse": ("NMSE", 4),
    "ssim": ("SSIM", 4),
    "ssim_high_gradient": ("SSIM, high gradient", 3),
    "bone_dice": ("Dice, bone", 3),
    "time_s": ("time [s]", 3),
    "mae": ("MAE [HU]", 1),
    "dice": ("Dice", 3),
    "dice_mean": ("Dice, mean", 3),
    "hd95": ("HD95 [mm]", 2),
    "asd": ("ASD [mm]", 2),
    "volume_ml": ("volume [ml]", 2),
}


def load_json(path: Path) -> dict[str, Any]:
    """Return the object in the JSON file ``path``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"the file cannot be read as JSON: {error}", where=path) from error
    if not isinstance(content, dict):
        raise InputError("the file does not hold a JSON object", where=path, found=type(content).__name__)
    return content


def check_summary(summary: Any, where: object) -> None:
    """Raise an `InputError` unless every metric of ``summary`` has the `STATISTICS`."""
    if not isinstance(summary, dict) or not summary:
        raise InputError("the summary has no metric", where=where, found=repr(summary)[:80])
    for metric, values in summary.items():
        missing = [key for key in STATISTICS if not isinstance(values, dict) or key not in values]
        if missing:
            raise InputError(
                "a metric lacks statistics", where=f"{where}, {metric}", expected=", ".join(missing)
            )


def figures_table(saved: dict[str, Any]) -> str:
    """Return the Markdown table of one saved file: methods in rows, metrics in columns, and its caption.

    ``saved`` is `{command, data, seed, date, title, summary, baselines (optional)}`. A baseline's
    `difference` (network minus baseline, paired by case) gets a row of its own.
    """
    summary: dict[str, Any] = saved["summary"]
    metrics = list(summary)
    count = max(values["count"] for values in summary.values())
    rows = [("network", summary)]
    for method, values in saved.get("baselines", {}).items():
        differences = {key: value["difference"] for key, value in values.items() if "difference" in value}
        rows.append((method, values))
        if differences:
            rows.append((f"network minus {method}", differences))
    lines = [
        "| method | " + " | ".join(column(metric)[0] for metric in metrics) + " |",
        "|---" + "|---:" * len(metrics) + "|",
    ]
    for name, values in rows:
        cells = [cell(metric, values.get(metric), count) for metric in metrics]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    unit = next(iter(summary.values()))["unit"]
    caption = (
        f"{saved['title']}. Data: {saved['data']}, n = {count}. Mean over cases [95 % interval by bootstrap "
        f"over the unit: {unit}]; seed {saved['seed']}; {saved['date']}."
    )
    return "\n".join([*lines, "", caption, "", "```", saved["command"], "```"])


def gpu_table(saved: dict[str, Any]) -> str:
    """Return the Markdown table of what `make gpu-check` measured."""
    lines = [
        "| device | images/s | peak memory [MiB] | loss, CUDA | loss, CPU | relative difference |",
        "|---|---:|---:|---:|---:|---:|",
        f"| {saved['device']} | {saved['images_per_second']:.1f} | {saved['peak_memory_mib']:.0f} "
        f"| {saved['loss_cuda']:.5f} | {saved['loss_cpu']:.5f} | {saved['relative_difference']:.2%} |",
        "",
        f"{saved['steps']} training steps from the same seed on CUDA and on the CPU, torch {saved['torch']}, "
        f"{saved['date']}: `make gpu-check`.",
    ]
    return "\n".join(lines)


def column(metric: str) -> tuple[str, int]:
    """Heading of a metric in a table, and its decimals; ``dice_2`` is a metric by label."""
    if metric in _COLUMNS:
        return _COLUMNS[metric]
    base, _, label = metric.rpartition("_")
    if base in _COLUMNS and label.isdigit():
        heading, decimals = _COLUMNS[base]
        name, _, unit = heading.partition(" ")
        return f"{name} {label} {unit}".strip(), decimals
    return metric, 3


def cell(metric: str, values: dict[str, Any] | None, count: int) -> str:
    """Mean [95 % interval] of a metric, with the number of cases where it is not `count`; a dash for none."""
    mean = values.get("mean") if values else None
    if values is None or mean is None or math.isnan(mean):
        return "–"
    decimals = column(metric)[1]
    text = f"{mean:.{decimals}f}"
    low, high = values["ci95_low"], values["ci95_high"]
    if low is not None and high is not None and not math.isnan(low + high):
        text += f" [{low:.{decimals}f}, {high:.{decimals}f}]"
    if values.get("count", count) != count:  # cases where the metric is undefined are left out
        text += f" (n = {values['count']})"
    return text
