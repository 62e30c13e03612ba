"""Tables of the model card: made from saved figures, stable, and nothing outside the markers changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mdl_monai import InputError
from mdl_monai.metrics.summary import summarise
from mdl_monai.release.figures import figures_table
from mdl_monai.release.model_card import main, render_card
from mdl_monai.release.record_figures import main as record
from mdl_monai.release.record_figures import record_figures


def statistics(mean: float, half: float, count: int = 7) -> dict[str, Any]:
    return {
        "mean": mean,
        "std": 2 * half,
        "ci95_low": mean - half,
        "ci95_high": mean + half,
        "count": count,
        "unit": "patient",
    }


SUMMARY = {"psnr": statistics(38.706, 0.5), "dice_2": statistics(0.91, 0.01, count=5)}
BASELINES = {
    "tv": {
        "psnr": {**statistics(35.645, 0.4), "difference": statistics(3.061, 0.2)},
        "dice_2": {
            **statistics(float("nan"), float("nan"), count=0),
            "difference": statistics(float("nan"), 0.0, 0),
        },
    }
}
SAVED = {
    "title": "Brain",
    "command": "make evaluate BUNDLE=x",
    "data": "brain50, test",
    "seed": 4,
    "date": "2026-01-31",
    "summary": SUMMARY,
    "baselines": BASELINES,
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    (tmp_path / "docs" / "README.md").write_text(
        "# Card\nbefore\n<!-- table: figures/brain.json -->\nold\n<!-- end -->\nbetween\n"
        "<!-- table: figures/gpu_check.json -->\n<!-- end -->\nafter\n"
    )
    return tmp_path


def save(bundle: Path, name: str, content: dict[str, Any]) -> None:
    (bundle / "docs" / "figures" / name).write_text(json.dumps(content))


def test_rows_are_methods_and_cells_are_means_with_intervals() -> None:
    assert figures_table(SAVED).splitlines() == [
        "| method | PSNR [dB] | Dice 2 |",
        "|---|---:|---:|",
        "| network | 38.71 [38.21, 39.21] | 0.910 [0.900, 0.920] (n = 5) |",
        "| tv | 35.65 [35.25, 36.05] | – |",
        "| network minus tv | 3.06 [2.86, 3.26] | – |",
        "",
        "Brain. Data: brain50, test, n = 7. Mean over cases [95 % interval by bootstrap over the unit: "
        "patient]; seed 4; 2026-01-31.",
        "",
        "```",
        "make evaluate BUNDLE=x",
        "```",
    ]


def test_a_metric_without_interval_is_a_bare_mean() -> None:
    one_subject = {"psnr": {**statistics(30.0, 0.0), "ci95_low": float("nan"), "ci95_high": float("nan")}}
    table = figures_table({**SAVED, "summary": one_subject, "baselines": {}})
    assert "| network | 30.00 |" in table


def test_text_outside_the_markers_stays(bundle: Path) -> None:
    save(bundle, "brain.json", SAVED)
    assert main([str(bundle)]) == 0
    text = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Card\nbefore\n<!-- table: figures/brain.json -->\n| method |")
    assert "<!-- end -->\nbetween\n<!-- table:" in text
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text


def test_rendering_twice_changes_nothing(bundle: Path) -> None:
    save(bundle, "brain.json", SAVED)
    main([str(bundle)])
    assert render_card(bundle) == (bundle / "docs" / "README.md").read_text(encoding="utf-8")


def test_what_was_never_run_is_not_measured(bundle: Path) -> None:
    assert "<!-- table: figures/gpu_check.json -->\n*not measured*\n<!-- end -->" in render_card(bundle)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- end -->\n",
        "<!-- table: figures/a.json -->\n",
        "<!-- table: figures/a.json -->\n<!-- table: figures/b.json -->\n<!-- end -->\n",
    ],
)
def test_markers_that_do_not_pair_are_refused(bundle: Path, text: str) -> None:
    (bundle / "docs" / "README.md").write_text("# Card\n" + text)
    with pytest.raises(InputError, match=r"do not pair(.|\n)*line 2"):
        render_card(bundle)


def test_saved_figures_that_lack_a_key_are_refused(bundle: Path) -> None:
    save(bundle, "brain.json", {key: value for key, value in SAVED.items() if key != "command"})
    with pytest.raises(InputError, match="lack 'command'"):
        render_card(bundle)


def test_recorded_figures_hold_the_summaries_and_their_origin(bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out put"
    output.mkdir()
    (output / "metrics_summary.json").write_text(json.dumps(SUMMARY))
    (output / "baselines_summary.json").write_text(json.dumps(BASELINES))
    options = {"title": "Brain", "command": "make evaluate BUNDLE=x", "data": "brain50, test", "seed": "4"}
    arguments = [text for key, value in options.items() for text in (f"--{key}", value)]
    assert record(["--output_dir", str(output), "--bundle", str(bundle), "--name", "brain", *arguments]) == 0
    saved = json.loads((bundle / "docs" / "figures" / "brain.json").read_text(encoding="utf-8"))
    assert set(saved) == set(SAVED)
    assert figures_table({**saved, "date": "2026-01-31"}) == figures_table(SAVED)


def test_no_figures_are_recorded_without_a_summary(bundle: Path, tmp_path: Path) -> None:
    origin = {"title": "t", "command": "c", "data": "d", "seed": 0}
    with pytest.raises(InputError, match="wrote no summary"):
        record_figures(tmp_path, bundle, "brain", **origin)
    (tmp_path / "metrics_summary.json").write_text('{"psnr": {"mean": 3}}')
    with pytest.raises(InputError, match=r"lacks statistics(.|\n)*psnr(.|\n)*std, ci95_low"):
        record_figures(tmp_path, bundle, "brain", **origin)
    (tmp_path / "metrics_summary.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        record_figures(tmp_path, bundle, "brain", **origin)
    with pytest.raises(InputError, match="name of the figures"):
        record_figures(tmp_path, bundle, "../brain", **origin)
    assert not list((bundle / "docs" / "figures").iterdir())


def test_another_evaluation_of_the_same_cases_is_compared_pair_by_pair(bundle: Path, tmp_path: Path) -> None:
    def evaluation(name: str, dice: dict[str, float]) -> Path:
        folder = tmp_path / name
        rows = [{"case": c, "subject": c, "dice_1": d} for c, d in dice.items()]
        folder.mkdir()
        (folder / "metrics_summary.json").write_text(json.dumps(summarise(rows, ["dice_1"], "case")))
        lines = [f"{c},{c},VNet,{c}.nii,{d}" for c, d in dice.items()] + ["a,a,other,a.nii,0"]
        (folder / "metrics.csv").write_text("\n".join(["case,subject,method,file,dice_1", *lines]))
        return folder

    own = evaluation("own", {"a": 0.8, "b": 0.9, "c": 0.7})
    plain = evaluation("plain", {"c": 0.6, "a": 0.7, "b": 0.8})
    origin = {"title": "t", "command": "c", "data": "d", "seed": 0}
    record_figures(own, bundle, "pairs", against=[f"no flips={plain}"], **origin)
    saved = json.loads((bundle / "docs" / "figures" / "pairs.json").read_text(encoding="utf-8"))["baselines"][
        "no flips"
    ]
    assert saved["dice_1"]["mean"] == pytest.approx(0.7)
    difference = saved["dice_1"]["difference"]
    assert [difference[k] for k in ("mean", "ci95_low", "ci95_high")] == pytest.approx([0.1] * 3)
    other = evaluation("other", {"a": 0.8, "b": 0.9})
    with pytest.raises(InputError, match="have other cases"):
        record_figures(own, bundle, "pairs", against=[f"x={other}"], **origin)
    with pytest.raises(InputError, match="wrote no table"):
        record_figures(own, bundle, "pairs", against=["x"], **origin)
