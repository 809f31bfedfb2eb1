"""What a section of the HTML report is made of; the template knows how each looks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column is on the left.

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
    """An image file beside a run.

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
    """Where a value and the ends of its interval stand in a chart of 600 by 240."""

    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of a line, or the paper's."""

    label: str
    points: Sequence[Point]
    paper: bool = False

    @property
    def path(self) -> str:
        """The points as SVG's `polyline` takes them."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


@dataclass(frozen=True)
class Chart:
    """Rates against epsilon.

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
    """A photograph attacked at one epsilon.

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
    """A photograph, what it is compared with, and its attacks by epsilon."""

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


Block = Table | Picture | Chart | Slider | Notes


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        anchor: its id in the page.
        title: its heading.
        lead: what it shows, in a sentence.
        blocks: its content, in order.
        headlines: (figure, what it is) for the top of the page.
    """

    anchor: str
    title: str
    lead: str
    blocks: Sequence[Block]
    headlines: Sequence[tuple[str, str]] = field(default_factory=tuple)
