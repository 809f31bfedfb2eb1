"""One HTML file that gathers runs: tables, pictures, galleries, a slider; it needs nothing beside itself."""

import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from tfface.errors import UserError
from tfface.report.page_images import data_uri
from tfface.report.page_runs import read_runs
from tfface.report.page_sections import sections
from tfface.utils.files import atomic_write

PAPER = "Facial Recognition Adversarial Methods and Defenses"
MOST_BYTES = 10_000_000
"""A report stays below this, so that it can be mailed and opened on a phone."""
_QUALITIES = ((1400, 85), (1100, 70), (800, 55), (480, 40))
"""(longest side in pixels, WebP quality), tried until the page is small enough."""


def build(runs: Sequence[Path], target: Path) -> int:
    """Renders the report of all runs in or below some folders.

    Args:
        runs: folders that hold `metrics.json` files, each with its pictures beside it.
        target: the HTML file.

    Returns:
        How many runs it shows.

    Raises:
        UserError: a folder holds no run, one is of another schema, a picture cannot be read, or all
            of it is more than a page can hold.
    """
    found = read_runs(runs)
    template = _environment().get_template("page.html.j2")
    parts = sections(found)
    for longest, quality in _QUALITIES:
        page = template.render(
            paper=PAPER,
            sections=parts,
            headlines=[headline for part in parts for headline in part.headlines],
            embed=lambda path, longest=longest, quality=quality: data_uri(path, longest=longest, quality=quality),
        ).encode()
        if len(page) < MOST_BYTES:
            break
    else:
        raise UserError(f"the report would be {len(page) / 1e6:.0f} MB, above {MOST_BYTES // 10**6}: give fewer runs")
    with atomic_write(target) as temporary:
        temporary.write_bytes(page)
    return len(found)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(text: str) -> Markup:
    """Text that may be broken within names and hashes, where that reads well, but not within an interval."""
    whole = re.sub(r"\(([\d.]+) to ([\d.]+)\)", "(\\1\u00a0to\u00a0\\2)", text)
    pieces = re.split(r"(?<=[/_+])(?=[^\W\d])|(?<=[0-9a-f]{16})(?=[0-9a-f])", whole)
    return Markup("<wbr>").join(escape(piece) for piece in pieces)
