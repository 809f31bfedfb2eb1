"""Runs that the HTML report gathers, and the blocks of its sections; the template knows how each looks."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from tfface.errors import UserError
from tfface.report.evaluation_tables import interval, percent
from tfface.utils.files import natural_key, read_json

logger = logging.getLogger(__name__)

T = TypeVar("T")
Metrics = dict[str, Any]
HEADLINES = 2
"""Figures that a section may put at the top of the page."""
_HEAD = ("command", "versions", "started", "seconds")


@dataclass(frozen=True)
class Run:
    """One result of a command.

    Attributes:
        folder: where its `metrics.json` lies.
        label: what the report calls it.
        metrics: the object.
        alone: it is the only one of its file.
        stage: what `reproduce` keeps beside it in `stage.json`; empty where there is none.
    """

    folder: Path
    label: str
    metrics: dict[str, Any]
    alone: bool
    stage: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return str(self.metrics["command"])

    def view(self, function: Callable[[dict[str, Any]], T]) -> T:
        """Return the value of a function of the object.

        Raises:
            UserError: the object is not of the schema that the function reads.
        """
        try:
            return function(self.metrics)
        except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            raise UserError(
                f"{self.folder / 'metrics.json'} is no {self.command} result as this version writes it ({what}): "
                f"run {self.command} again, or leave it out"
            ) from error


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read all runs in or below the folders, in their order.

    Raises:
        UserError: a folder has none, or a file is not of the schema.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give the output folder of a command")
        below = sorted(_results_below(folder), key=lambda path: natural_key(path.as_posix()))
        if not below:
            raise UserError(f"{folder} holds no metrics.json: give the output folder of a command")
        found += below
    files = list({path.resolve(): path for path in found}.values())
    labels = _labels([path.parent for path in files])
    return [run for path, label in zip(files, labels, strict=True) for run in _runs_of(path, label)]


def _results_below(folder: Path) -> Iterator[Path]:
    """Yield every `metrics.json` below a folder; folders that cannot be read are logged."""

    def tell(error: OSError) -> None:
        if error.filename == str(folder):
            raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error
        logger.warning(f"{error.filename} cannot be read and is left out: {error.strerror}")

    for place, _, names in os.walk(folder, onerror=tell):
        if "metrics.json" in names:
            yield Path(place, "metrics.json")


def _labels(folders: Sequence[Path]) -> list[str]:
    """Return folder names, with as much of their paths as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    labels = [name[-1] for name in parts]
    depth = 1
    while (same := {label for label, count in Counter(labels).items() if count > 1}) and depth < 20:
        depth += 1
        labels = [
            os.sep.join(name[-depth:]) if label in same else label for name, label in zip(parts, labels, strict=True)
        ]
    return labels


def _runs_of(path: Path, label: str) -> list[Run]:
    content = read_json(path)
    objects = content.get("models") if isinstance(content, dict) and "models" in content else [content]
    if not isinstance(objects, list) or not objects:
        raise UserError(f"{path} has an empty or malformed 'models': run its command again")
    for entry in objects:
        missing = [key for key in _HEAD if key not in entry] if isinstance(entry, dict) else ["any entry"]
        if missing:
            raise UserError(f"{path} is no result of a tfface command (it lacks {', '.join(missing)}): leave it out")
    alone, beside = len(objects) == 1, path.with_name("stage.json")
    stage = read_json(beside) if beside.is_file() else {}
    if not isinstance(stage, dict):
        raise UserError(f"{beside} is no record of a stage: run reproduce again, or delete it")
    return [
        Run(path.parent, label if alone else f"{label} ({_setting(entry, objects)})", entry, alone, stage)
        for entry in objects
    ]


def _setting(entry: dict[str, Any], others: list[dict[str, Any]]) -> str:
    """Name the fields in which a result differs from the others of its file."""
    of_model = ("preset", "dataset", "recipe", "defense", "corruption")
    naming = (*of_model, "attack", "knowledge", "surrogate", "norm", "goal")
    differing = [name for name in naming if len({str(other.get(name)) for other in others}) > 1]
    own = [str(entry.get(name) or "none") for name in differing]
    return ", ".join(own) or str(others.index(entry) + 1)


@dataclass(frozen=True)
class TableBlock:
    """Table of text cells; the first column is aligned left.

    Attributes:
        title: above it.
        columns: their headings.
        rows: as long as `columns`.
        paper: which columns hold the paper's figures.
        words: which columns hold words, besides the first.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    paper: frozenset[int] = frozenset()
    words: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """Image file beside a run.

    Attributes:
        title: below it.
        path: the file.
        style: `plot` may be shown inverted in the dark, `gallery` is never narrower than can be read.
    """

    kind: ClassVar[str] = "picture"
    title: str
    path: Path
    style: str = "photo"


@dataclass(frozen=True)
class Point:
    """Place of a value and of the ends of its interval in a chart of 600 by 240."""

    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of a line, ours or the paper's."""

    label: str
    points: Sequence[Point]
    paper: bool = False

    @property
    def path(self) -> str:
        """Return the points as SVG's `polyline` takes them."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


@dataclass(frozen=True)
class Chart:
    """Chart of rates against epsilon.

    Attributes:
        title: above it.
        series: its lines.
        ticks: (x, label) along epsilon.
    """

    kind: ClassVar[str] = "chart"
    title: str
    series: Sequence[Series]
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class PipelineStep:
    """Photograph attacked at one epsilon.

    Attributes:
        adversarial: its file.
        noise: the perturbation's file.
        caption: distance and verdict.
        changed: the verdict is not that of the first epsilon.
    """

    adversarial: Path
    noise: Path
    caption: str
    changed: bool


@dataclass(frozen=True)
class FigureRow:
    """Photograph, its reference, and its attacks by epsilon."""

    clean: Path
    reference: Path | None
    steps: Sequence[PipelineStep]
    person: str
    compared: str


@dataclass(frozen=True)
class Slider:
    """The paper's Figure 1: photographs attacked at several epsilons, one shown at a time.

    Attributes:
        title: above it.
        epsilons: each step's name.
        rows: one a photograph.
        start: the step shown first.
        noise: what the pictures of the perturbation are.
    """

    kind: ClassVar[str] = "slider"
    title: str
    epsilons: Sequence[str]
    rows: Sequence[FigureRow]
    start: int
    noise: str


@dataclass(frozen=True)
class Notes:
    """Sentences that a reader must know."""

    kind: ClassVar[str] = "notes"
    lines: Sequence[str]


Block = TableBlock | Picture | Chart | Slider | Notes


@dataclass(frozen=True)
class Section:
    """Part of the report.

    Attributes:
        anchor: its id in the page.
        title: its heading.
        lead: its subject, in a sentence.
        blocks: its content, in order.
        headlines: (figure, meaning) for the top of the page.
    """

    anchor: str
    title: str
    lead: str
    blocks: Sequence[Block]
    headlines: Sequence[tuple[str, str]] = field(default_factory=tuple)


def pictures(runs: Sequence[Run], titles: dict[str, str], style: str) -> list[Picture]:
    """Return the PNG files in the runs' folders whose names begin with a title's key."""
    return [
        Picture(f"{title or path.stem.replace('_', ' ')}: {run.label if run.alone else run.folder.name}", path, style)
        for run in {run.folder: run for run in runs}.values()
        for start, title in titles.items()
        for path in sorted(run.folder.glob(f"{start}*.png"))
    ]


def remarks(runs: Sequence[Run]) -> list[Notes]:
    """Return the remarks of the runs, each once."""
    lines = dict.fromkeys(str(line) for run in runs for line in run.metrics.get("remarks") or [])
    return [Notes(list(lines))] if lines else []


def rate(entry: Metrics | float | None, name: str) -> str:
    """Format a rate with its interval, from an entry that holds both, or the rate alone."""
    if entry is None:
        return "-"
    if not isinstance(entry, dict):
        return percent(float(entry))
    value, bounds = entry[name], entry.get("ci95")
    return percent(value) if value is None or bounds is None else f"{percent(value)} ({interval(bounds)})"


def count(value: int | None) -> str:
    """Format a count; a dash where there is none."""
    return "-" if value is None else f"{value:,}"
