"""One HTML file that gathers runs: tables, pictures, galleries, a slider; it needs nothing beside itself."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from tfface.errors import ImageError, UserError
from tfface.preprocessing.decoding import decode
from tfface.report.page_runs import read_runs
from tfface.report.page_sections import sections
from tfface.utils.files import atomic_write, user_path
from tfface.utils.public import as_list

PAPER = "Facial Recognition Adversarial Methods and Defenses"
MOST_BYTES = 10_000_000
"""A report stays below this, so that it can be mailed and opened on a phone."""
_QUALITIES = ((1400, 85), (1100, 70), (800, 55), (480, 40))
"""(longest side in pixels, WebP quality), tried until the page is small enough."""


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Attributes:
        path: the HTML file.
        runs: number of runs that it shows.
    """

    path: Path
    runs: int

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size


def write_report(folders: str | Path | Sequence[str | Path], out: str | Path = "report.html") -> Report:
    """Write one HTML page of the results in or below folders.

    Args:
        folders: one or several, which hold `metrics.json` files, each with its pictures beside it.
        out: the HTML file.

    Returns:
        Where the page is and how many runs it shows.

    Raises:
        UserError: a folder holds no run, a run is of another schema, a picture cannot be read, or all of it is more
            than a page can hold.

    Example:
        >>> import tfface
        >>> tfface.evaluate("student", "five_faces").save("runs/evaluate")  # doctest: +SKIP
        >>> tfface.write_report("runs", "report.html").runs  # doctest: +SKIP
        1
    """
    found = read_runs([user_path(folder) for folder in as_list(folders)])
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
    with atomic_write(out) as temporary:
        temporary.write_bytes(page)
    return Report(user_path(out), len(found))


def data_uri(path: Path, *, longest: int = 1400, quality: int = 85) -> str:
    """Return an image file as WebP in a `data:` address.

    Args:
        path: image that `tfface.preprocessing.decoding.decode` reads.
        longest: pixels; a longer side is scaled down to it.
        quality: WebP's, 0 to 100.

    Raises:
        UserError: the image cannot be read.
    """
    try:
        picture = Image.fromarray(decode(path.read_bytes()))
    except ImageError as error:
        raise UserError(f"{path} {error}: run the command that wrote it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


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
