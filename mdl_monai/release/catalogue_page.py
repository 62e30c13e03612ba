"""The catalogue as one HTML file that loads nothing from anywhere."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mdl_monai.release.catalogue_entries import Row, comparisons, entry, headline, read_metadata

LINKS = {
    "bundle": "docs/README.md",
    "licence of the weights": "models/LICENSE",
    "licence of the data": "docs/data_license.txt",
}
NOTES = (
    "Research only; not for clinical use. In brackets: 95 % intervals by bootstrap over the named unit. Differences: "
    "the bundle's network minus the other, case by case. Time: the network alone, on a CPU that may have had other "
    "work; reading, registration and saving come on top. The cards say more, also of comparisons whose figures are "
    "not saved."
)
RULE = "Not better: the interval of the difference reaches 0; worse: it lies beyond; where there is none, its mean."
OVERVIEW = ("bundle", "task", "method", "figure", "best baseline", "CPU time a case", "weights")
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; min-width: 60rem }
caption { text-align: left; font-weight: 600; padding: .4rem 0 }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8888 }
section { border-top: 1px solid #8888; margin-top: 2rem } dt { font-weight: 600 } dd { margin: 0 0 .5rem }
img { max-width: 100% } figure { margin: 1rem 0 } pre { background: #8882; padding: .8rem; white-space: pre-wrap }
@media (min-width: 60rem) { dl { columns: 2 } dl div { break-inside: avoid } }
"""


def render_page(bundles: Sequence[Path], root: str) -> str:
    """The page; ``root`` leads from it to the folder of the ``bundles``."""
    rows = [entry(bundle) for bundle in bundles]
    compared = [row for bundle in bundles for row in comparisons(bundle)]
    sections = "".join(_section(bundle, row, root) for bundle, row in zip(bundles, rows, strict=True))
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width"><link rel=icon href="data:,">
<title>mdl_monai: catalogue of the bundles</title><style>{STYLE}</style></head>
<body><main><h1>mdl_monai: catalogue of the bundles</h1><p>{escape(NOTES)}</p>
{_table("All bundles", rows, OVERVIEW, root)}
{sections}
<section><h2>Where a method does not beat what it was compared with</h2><p>In the last two columns. {escape(RULE)}</p>
{_table("Every saved comparison", compared, list(compared[0]), root) if compared else "<p>Nothing was compared.</p>"}
</section></main></body></html>
"""


def _cell(key: str, row: Row, root: str) -> str:
    text = escape(row[key])
    return f'<a href="{escape(root)}/{row["bundle"]}/{LINKS[key]}">{text}</a>' if key in LINKS else text


def _table(caption: str, rows: Sequence[Row], keys: Sequence[str], root: str) -> str:
    head = "".join(f"<th scope=col>{escape(key)}</th>" for key in keys)
    lines = ("".join(f"<td>{_cell(key, row, root)}</td>" for key in keys) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    name = escape(caption)
    return f"""<div class=wide tabindex=0 role=region aria-label="{name}"><table><caption>{name}</caption>
<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"""


def _section(bundle: Path, row: Row, root: str) -> str:
    """A bundle's description, picture and commands, both from its card, fields and references."""
    metadata, saved = read_metadata(bundle), headline(bundle)
    card = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    commands = next(iter(re.findall(r"(?m)(?:^    .+\n)+", card)), "")  # the first indented block
    if saved:
        commands += f"\n    # the figure\n    {saved['command']}\n"
    fields = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{_cell(key, row, root)}</dd></div>" for key in row if key != "bundle"
    )
    references = "".join(f"<li>{_reference(text)}</li>" for text in metadata["references"])
    return f"""<section><h2 id="{bundle.name}">{_cell("bundle", row, root)}</h2>
<p>{escape(metadata["description"])}</p>{_picture(bundle, card)}<dl>{fields}</dl>
<h3>Commands</h3><pre tabindex=0>{escape(re.sub("(?m)^    ", "", commands))}</pre>
<h3>References</h3><ul>{references}</ul></section>"""


def _picture(bundle: Path, card: str) -> str:
    """The first picture of the card, with its text; nothing where it has none."""
    found = re.search(r"!\[(?P<text>.*?)\]\((?P<path>.+?)\)", card)
    if not found:
        return ""
    path, text = bundle / "docs" / found["path"], escape(found["text"])
    kind, content = mimetypes.guess_type(path.name)[0], base64.b64encode(path.read_bytes()).decode()
    return f'<figure><img src="data:{kind};base64,{content}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _reference(text: str) -> str:
    return re.sub(r"doi:(10\.\S*[^\s.])", r'<a href="https://doi.org/\1">doi:\1</a>', escape(text))
