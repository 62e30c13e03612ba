"""The tables of a bundle's model card, `docs/README.md`, made again from the figures saved beside it.

A table stands between two markers, and whatever is between them is replaced::

    <!-- table: figures/NAME.json -->
    <!-- end -->

Where the file was never written, the card says "not measured"::

    python -m mdl_monai.release.model_card bundles/NAME
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.release.figures import figures_table, gpu_table, load_json

_MARKER = re.compile(r"^<!-- (?:table: (?P<path>\S+)|end) -->$", re.MULTILINE)


def render_card(bundle: Path) -> str:
    """Return the card of ``bundle`` with every table made from the file that its marker names."""
    card = bundle / "docs" / "README.md"
    if not card.is_file():
        raise InputError("the model card is missing", where=card)
    text = card.read_text(encoding="utf-8")
    parts: list[str] = []
    position = 0
    markers = list(_MARKER.finditer(text))
    for begin, end in zip(markers[::2], [*markers[1::2], None], strict=False):
        if begin["path"] is None or end is None or end["path"] is not None:
            line = text.count("\n", 0, begin.start()) + 1
            raise InputError(
                "the markers of a table do not pair",
                where=f"{card}, line {line}",
                expected="`<!-- table: figures/NAME.json -->`, then `<!-- end -->`",
                found=begin[0],
            )
        parts += [text[position : begin.end()], "\n", _table(card.parent / begin["path"]), "\n"]
        position = end.start()
    return "".join([*parts, text[position:]])


def _table(path: Path) -> str:
    if not path.is_file():
        return "*not measured*"
    saved = load_json(path)
    try:
        return gpu_table(saved) if path.name == "gpu_check.json" else figures_table(saved)
    except KeyError as error:
        raise InputError(f"the saved figures lack {error}", where=path) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.model_card",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="+", type=Path, help="folders of bundles")
    for bundle in parser.parse_args(arguments).bundles:
        card = bundle / "docs" / "README.md"
        atomic_write_text(card, render_card(bundle))
        sys.stdout.write(f"{card}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
