"""The demo's page: for each bundle its inputs, figures, times and pictures."""

from __future__ import annotations

import csv
import json
import platform
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch

from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.io.records import load_records

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 74rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .3rem .8rem; border-bottom: 1px solid #ccc }
th { text-align: left } td + td { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100% } figure { margin: 1.5rem 0 } figcaption, .note { color: #555 }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; white-space: pre-wrap }
"""


@dataclass(frozen=True)
class BundleResult:
    """What a bundle's run left behind."""

    bundle: Path
    demo: dict[str, Any]
    output_dir: Path
    dataset_dir: Path
    split: str
    command: str
    seconds: float


def _figure(entry: dict[str, Any] | None) -> str:
    if not entry or entry["mean"] is None:
        return "&ndash;"
    text = f"{entry['mean']:.4g}"
    if entry["ci95_low"] is not None:
        text += f" <span class=note>[{entry['ci95_low']:.4g}, {entry['ci95_high']:.4g}]</span>"
    return text


def _summary_table(result: BundleResult) -> str:
    """Methods down, metrics across: mean over cases and 95 % interval over subjects."""
    own = json.loads((result.output_dir / "metrics_summary.json").read_text(encoding="utf-8"))
    methods = {"this bundle's network": own}
    baselines = result.output_dir / "baselines_summary.json"
    if baselines.is_file():
        methods.update(json.loads(baselines.read_text(encoding="utf-8")))
    head = "".join(f"<th>{escape(metric)}</th>" for metric in own)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{_figure(row.get(metric))}</td>' for metric in own)}</tr>"
        for name, row in methods.items()
    )
    return f"<table><tr><th>method</th>{head}</tr>{rows}</table>"


def _pictures(result: BundleResult) -> str:
    """Pictures by case, each with where its input comes from."""
    origins = {
        record["case"]: str(record.get("origin", f"real: {result.demo.get('real_dataset', '')}"))
        for record in load_records(result.dataset_dir, result.split, result.demo.get("image_key", "image"))
    }
    figures = []
    pictures = [*result.output_dir.glob("pictures/*.png"), *result.output_dir.glob("fusion/*.png")]
    for picture in sorted(pictures, key=lambda p: p.stem):
        if picture.stem not in origins:  # of an earlier run on other inputs
            continue
        source = picture.relative_to(result.output_dir.parent).as_posix()
        caption = f"{picture.stem}: {origins[picture.stem]}"
        figures.append(
            f'<figure><img src="{escape(source)}" alt="{escape(caption)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return "".join(figures)


def _section(result: BundleResult) -> str:
    metadata = json.loads((result.bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    with (result.output_dir / "metrics.csv").open(encoding="utf-8") as file:
        n_cases = len({row["case"] for row in csv.DictReader(file)})
    return f"""
<h2>{escape(result.bundle.name)}</h2>
<p>{escape(metadata["description"])} Weights: {escape(metadata["weights_license"])}</p>
<p>{n_cases} cases, {result.seconds:.0f} s in all, start of Python included. Mean over cases and 95 % interval over
subjects; <code>time_s</code> is seconds a case in the network alone, on this machine.</p>
{_summary_table(result)}
<pre>{escape(result.command)}</pre>
{_pictures(result)}"""


def write_page(path: Path, results: list[BundleResult]) -> Path:
    """Write the page of all results; returns its path."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
    body = "".join(_section(result) for result in results)
    atomic_write_text(
        path,
        f"""<!doctype html>
<html lang=en><meta charset=utf-8><title>mdl_monai demo</title><style>{STYLE}</style>
<h1>mdl_monai: model-driven deep learning as MONAI bundles</h1>
<p class=note>Research only, not for clinical use. What is marked "phantom" is a drawing and no evidence; figures
on a handful of embedded images show that the bundle runs, the model cards say how good it is. Run on
{escape(device)}, torch {torch.__version__}.</p>
{body}
</html>
""",
    )
    return path
