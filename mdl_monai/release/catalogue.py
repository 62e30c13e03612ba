"""The catalogue of all bundles: `README.md` beside them and, with `--page`, the same as a page with pictures.

::

    python -m mdl_monai.release.catalogue bundles [--page catalogue/index.html]

Everything comes from the bundles, see `catalogue_entries`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.release.catalogue_entries import (
    NOT_BETTER,
    WORSE,
    Row,
    comparisons,
    entry,
    find_bundles,
    read_metadata,
)
from mdl_monai.release.catalogue_page import LINKS, NOTES, RULE, render_page


def render_readme(bundles: Sequence[Path]) -> str:
    """The catalogue in Markdown, to lie beside the ``bundles``."""
    methods = [
        f"- [{bundle.name}]({bundle.name}/docs/README.md): {metadata['catalogue']['method']}. "
        + next(iter(metadata["references"]), "No reference.")
        for bundle, metadata in zip(bundles, map(read_metadata, bundles), strict=True)
    ]
    compared = [row for bundle in bundles for row in comparisons(bundle)]
    lacking = [row for row in compared if {row[NOT_BETTER], row[WORSE]} != {"–"}]
    parts = [
        "# Catalogue of the bundles",
        "Made by `make catalogue` from the bundles' metadata and saved figures: do not edit. " + NOTES,
        _table([entry(bundle) for bundle in bundles]),
        "## Methods",
        "\n".join(methods),
        "## Where a method does not beat what it was compared with",
        RULE,
        _table(lacking) if lacking else "Nowhere.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row]) -> str:
    lines = [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    for row in rows:
        cells = {key: text.replace("|", r"\|") for key, text in row.items()}
        texts = [f"[{t}]({row['bundle']}/{LINKS[key]})" if key in LINKS else t for key, t in cells.items()]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.catalogue",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="folder of the bundles; gets the README.md")
    parser.add_argument("--page", type=Path, help="HTML file to write, too")
    options = parser.parse_args(arguments)
    bundles = find_bundles(options.folder)
    written = {options.folder / "README.md": render_readme(bundles)}
    if options.page:
        root = Path(os.path.relpath(options.folder, options.page.parent)).as_posix()
        written[options.page] = render_page(bundles, root)
    for path, text in written.items():
        atomic_write_text(path, text)
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
