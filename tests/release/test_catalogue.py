"""The catalogue: current, true to the saved figures, and a page that loads nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mdl_monai import InputError
from mdl_monai.release.catalogue import main, render_readme
from mdl_monai.release.catalogue_entries import comparisons, entry, find_bundles
from mdl_monai.release.catalogue_page import render_page

ROOT = Path(__file__).parents[2]


def statistics(mean: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"mean": mean, "std": 1.0, "ci95_low": low, "ci95_high": high, "count": 9, "unit": "patient"}


def rival(mean: float, difference: tuple[float, float | None, float | None]) -> dict[str, Any]:
    return {**statistics(mean, None, None), "difference": statistics(*difference)}


# psnr and dice are better higher, mae lower, volume neither
SAVED = {
    "title": "Shipped <weights>",
    "command": "make evaluate BUNDLE=x",
    "data": "heads, test | one site",
    "seed": 4,
    "date": "2026-01-31",
    "summary": {"psnr": statistics(30.126, 29.0, 31.5), "time_s": statistics(0.1234, 0.1, 0.2)},
    "baselines": {
        "far": {"psnr": rival(20.0, (10.126, 9.0, 11.0)), "volume_ml": rival(5, (-3, -4, -2))},
        "near": {"psnr": rival(30.0, (0.126, -0.5, 0.9)), "mae": rival(7, (2.5, 1.0, 4.0))},
        "single": {"psnr": rival(31.0, (-0.874, None, None)), "mae": rival(9, (-2.5, -4.0, -1.0))},
    },
}


@pytest.fixture
def bundle(skeleton_copy: Path) -> Path:
    """A bundle with saved figures, in a folder of its own."""
    bundle = skeleton_copy.parent / "bundles" / "head_mr_identity"
    shutil.move(skeleton_copy, bundle)
    (bundle / "docs" / "figures").mkdir()
    save(bundle, "test", SAVED)
    choose(bundle, method="Identity", figures="test", metric="psnr")
    return bundle


def save(bundle: Path, name: str, figures: dict[str, Any]) -> None:
    (bundle / "docs" / "figures" / f"{name}.json").write_text(json.dumps(figures))


def choose(bundle: Path, **choice: str) -> None:
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"catalogue": choice}))


def add_to_card(bundle: Path, text: str) -> None:
    card = bundle / "docs" / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + text)


def test_the_catalogue_of_the_repository_is_current() -> None:
    bundles = find_bundles(ROOT / "bundles")
    in_the_making = {path.name for path in (ROOT / "bundles").iterdir() if path.is_dir()} - {
        b.name for b in bundles
    }
    lines = (ROOT / "bundles" / "README.md").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not any(f"[{name}](" in line for name in in_the_making)]
    assert kept == render_readme(bundles).splitlines(), "bundles/README.md drifted: run `make catalogue`"


def test_every_link_of_the_catalogue_leads_to_a_file() -> None:
    text = render_readme(find_bundles(ROOT / "bundles"))
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    assert [target for target in targets if not (ROOT / "bundles" / target).is_file()] == []


def test_the_headline_is_the_chosen_metric_with_interval_and_best_baseline(bundle: Path) -> None:
    row = entry(bundle)
    assert (
        row["figure"]
        == "PSNR [dB] 30.13 [29.00, 31.50]; heads, test | one site, n = 9, interval over patients"
    )
    assert row["best baseline"] == "single 31.00; difference -0.87"
    assert row["CPU time a case"] == "0.12 s"
    assert row["weights"] == f"model.pt {(bundle / 'models' / 'model.pt').stat().st_size / 2**20:.2g} MiB"
    assert row["method"] == "Identity"


def test_of_errors_the_lowest_baseline_is_the_best(bundle: Path) -> None:
    summary = {"mae": statistics(8.0, 7.0, 9.0)}
    rivals = {
        name: {"mae": rival(mean, (8.0 - mean, None, None))} for name, mean in {"a": 12, "b": 9}.items()
    }
    save(bundle, "test", {**SAVED, "summary": summary, "baselines": rivals})
    choose(bundle, method="Identity", figures="test", metric="mae")
    assert entry(bundle)["best baseline"].startswith("b 9.0")


def test_what_was_not_measured_or_chosen_is_said(bundle: Path) -> None:
    choose(bundle, method="Identity", figures="later", metric="mae")
    assert entry(bundle)["figure"] == entry(bundle)["CPU time a case"] == "not measured"
    path = bundle / "configs" / "metadata.json"
    path.write_text(
        json.dumps(
            {k: v for k, v in json.loads(path.read_text(encoding="utf-8")).items() if k != "catalogue"}
        )
    )
    assert entry(bundle)["method"] == "not named"
    assert len(comparisons(bundle)) == 3


def test_a_metric_that_was_not_saved_is_refused(bundle: Path) -> None:
    choose(bundle, method="Identity", figures="test", metric="ssim")
    with pytest.raises(InputError, match=r"not among the saved figures(.|\n)*psnr, time_s(.|\n)*ssim"):
        entry(bundle)


def test_a_comparison_says_where_the_network_is_not_better(bundle: Path) -> None:
    verdicts = {row["against"]: (row["not better in"], row["worse in"]) for row in comparisons(bundle)}
    assert verdicts == {
        "far": ("–", "–"),
        "near": ("PSNR [dB] 0.13 [-0.50, 0.90]", "MAE [HU] 2.5 [1.0, 4.0]"),
        "single": ("–", "PSNR [dB] -0.87"),
    }
    listed = render_readme([bundle]).split("## Where")[1]
    assert "| near |" in listed
    assert "| far |" not in listed


def test_cells_of_the_table_are_not_broken_by_their_text(bundle: Path) -> None:
    lines = [line for line in render_readme([bundle]).splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert cells == [12, 12, 12, 7, 7, 7, 7]  # the bundle; two comparisons


class Page(HTMLParser):
    """Sources, headings and open elements of a page."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.texts: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.open += [] if tag in self.VOID else [tag]
        self.loaded += [str(values[key]) for key in ("src", "srcset") if key in values]
        self.loaded += [str(values["href"])] if tag == "link" else []
        self.texts += [values.get("alt")] if tag == "img" else []
        assert tag not in ("script", "iframe", "object", "weights")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(bundle: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\n"
    (bundle / "docs" / "case.png").write_bytes(picture)
    add_to_card(bundle, '\n![A case "<before>" and after](case.png)\n![Another](other.png)\n')
    page = Page(text := render_page([bundle], "../bundles"))
    assert page.open == []
    assert page.loaded == ["data:,", "data:image/png;base64,iVBORw0KGgo="]
    assert page.texts == ['A case "<before>" and after']
    assert "url(" not in text and "@import" not in text
    assert 'href="../bundles/head_mr_identity/docs/README.md"' in text
    assert "Shipped &lt;weights&gt;" in text


def test_a_bundle_without_picture_has_its_commands(bundle: Path) -> None:
    add_to_card(bundle, "\n    make later\n")
    text = render_page([bundle], "..")
    commands = text.split("<pre tabindex=0>")[1].split("</pre>")[0]
    assert commands.startswith("make ")
    assert "make later" not in commands
    assert commands.endswith("# the figure\nmake evaluate BUNDLE=x\n")
    assert Page(text).texts == []


def test_the_command_writes_catalogue_and_page(bundle: Path, tmp_path: Path) -> None:
    folder, page = bundle.parent, tmp_path / "site" / "index.html"
    (folder / "in_the_making" / "configs").mkdir(parents=True)
    assert main([str(folder), "--page", str(page)]) == 0
    assert (folder / "README.md").read_text(encoding="utf-8") == render_readme([bundle])
    assert 'href="../bundles/head_mr_identity/models/LICENSE"' in page.read_text(encoding="utf-8")
    with pytest.raises(InputError, match="no bundle to list"):
        main([str(bundle)])


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_renders_the_page_without_console_errors(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text(render_page(find_bundles(ROOT / "bundles"), "bundles"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    ended = subprocess.run(
        [str(CHROMIUM), *flags, page.as_uri()], capture_output=True, encoding="utf-8", timeout=120
    )
    assert ended.stdout.count("<section>") == len(find_bundles(ROOT / "bundles")) + 1
    assert ":CONSOLE" not in ended.stderr
