"""What the catalogue says of a bundle, from its metadata, weights and saved figures: rows of texts by column.

The entry `catalogue` of `configs/metadata.json` names the `method`, whose paper is the first of `references`, and
chooses the headline: `metric` in `docs/figures/<figures>.json`, whose baselines are classical methods.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mdl_monai.errors import InputError
from mdl_monai.release.figures import cell, column, load_json

HIGHER_IS_BETTER, LOWER_IS_BETTER = ("psnr", "ssim", "dice", "bone_dice"), ("nmse", "mae", "hd95", "asd")
NOT_BETTER, WORSE = "not better in", "worse in"

Row = dict[str, str]


def find_bundles(folder: Path) -> list[Path]:
    """Bundles in ``folder``; those in the making have no metadata and are passed over."""
    found = sorted(path.parents[1] for path in folder.glob("*/configs/metadata.json"))
    if not found:
        raise InputError("no bundle to list", where=folder, remedy="name the folder that holds the bundles")
    return found


def read_metadata(bundle: Path) -> dict[str, Any]:
    """The metadata of ``bundle``; what the catalogue needs and is not there is filled in."""
    return {"catalogue": {"method": "not named"}, **load_json(bundle / "configs" / "metadata.json")}


def headline(bundle: Path) -> dict[str, Any] | None:
    """The saved figures that hold the headline, or None where they were not measured yet."""
    choice = read_metadata(bundle)["catalogue"]
    path = bundle / "docs" / "figures" / f"{choice.get('figures')}.json"
    saved = load_json(path) if path.is_file() else None
    if saved and choice.get("metric") not in saved["summary"]:
        raise InputError(
            "the catalogue's metric is not among the saved figures",
            where=path,
            expected=", ".join(saved["summary"]),
            found=choice.get("metric"),
            remedy="correct `catalogue` in configs/metadata.json",
        )
    return saved


def entry(bundle: Path) -> Row:
    """What a bundle does, how well, how large, how fast and under which terms."""
    metadata = read_metadata(bundle)
    tensors, saved = metadata["network_data_format"], headline(bundle)
    sizes = [f"{p.name} {p.stat().st_size / 2**20:.2g} MiB" for p in sorted(bundle.glob("models/*.pt"))]
    row = {
        "bundle": bundle.name,
        "task": metadata["task"],
        "method": metadata["catalogue"]["method"],
        "input": metadata.get("image_classes") or _channels(tensors["inputs"]["image"]),
        "output": metadata.get("pred_classes") or _channels(tensors["outputs"]["pred"]),
        "figure": "not measured",
        "best baseline": "none measured",
        "CPU time a case": "not measured",
        "weights": ", ".join(sizes) or "none",
        "licence of the weights": metadata["weights_license"],
        "licence of the data": metadata["data_license"],
    }
    if saved:
        metric, summary = metadata["catalogue"]["metric"], saved["summary"]
        values, count = summary[metric], summary[metric]["count"]
        row["figure"] = (
            f"{_named(metric, values)}; {saved['data']}, n = {count}, interval over {values['unit']}s"
        )
        rivals = {name: v[metric] for name, v in saved.get("baselines", {}).items() if metric in v}
        if rivals:
            best = max(rivals, key=lambda name: _direction(metric) * rivals[name]["mean"])
            row["best baseline"] = f"{best} {cell(metric, rivals[best], count)}"
            row["best baseline"] += f"; difference {cell(metric, rivals[best]['difference'], count)}"
        if "time_s" in summary:
            row["CPU time a case"] = f"{summary['time_s']['mean']:.2g} s"
    return row


def comparisons(bundle: Path) -> list[Row]:
    """Each saved comparison: the headline metric's paired difference, and the metrics without a gain.

    Without a gain is a metric where the interval of the difference reaches 0, or, where there is no interval, the
    mean does; worse where it lies beyond. Volumes and times are neither.
    """
    metric, rows = read_metadata(bundle)["catalogue"].get("metric"), []
    for path in sorted(bundle.glob("docs/figures/*.json")):
        saved = load_json(path)
        for name, values in saved.get("baselines", {}).items():
            differences = {key: value["difference"] for key, value in values.items() if "difference" in value}
            lacking: dict[str, list[str]] = {NOT_BETTER: [], WORSE: []}
            for key, difference in differences.items():
                low, high = sorted(_direction(key) * end for end in _interval(difference))
                if _direction(key) and low <= 0:
                    lacking[WORSE if high < 0 else NOT_BETTER].append(_named(key, difference))
            row = {"bundle": bundle.name, "figures": f"{saved['title']}. {saved['data']}", "against": name}
            row["difference"] = _named(metric, differences[metric]) if metric in differences else "–"
            rows.append(row | {verdict: ", ".join(names) or "–" for verdict, names in lacking.items()})
    return rows


def _channels(tensor: dict[str, Any]) -> str:
    return "; ".join(tensor.get("channel_def", {}).values()) or str(tensor["format"])


def _direction(metric: str) -> int:
    return 1 if metric.startswith(HIGHER_IS_BETTER) else -1 if metric.startswith(LOWER_IS_BETTER) else 0


def _interval(values: dict[str, Any]) -> tuple[float, float]:
    low, high = (values[key] if values[key] is not None else math.nan for key in ("ci95_low", "ci95_high"))
    return (values["mean"], values["mean"]) if math.isnan(low + high) else (low, high)


def _named(metric: str, values: dict[str, Any]) -> str:
    return f"{column(metric)[0]} {cell(metric, values, values['count'])}"
