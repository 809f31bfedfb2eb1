"""Cells, pictures and remarks that several sections of the HTML report have."""

from collections.abc import Sequence
from typing import Any

from tfface.report.evaluation_tables import interval, percent
from tfface.report.page_parts import Notes, Picture
from tfface.report.page_runs import Run

Metrics = dict[str, Any]
HEADLINES = 2
"""Figures that a section may put at the top of the page."""


def pictures(runs: Sequence[Run], titles: dict[str, str], style: str) -> list[Picture]:
    """The PNG files in the runs' folders whose names begin with a title's key."""
    return [
        Picture(f"{title or path.stem.replace('_', ' ')}: {run.label if run.alone else run.folder.name}", path, style)
        for run in {run.folder: run for run in runs}.values()
        for start, title in titles.items()
        for path in sorted(run.folder.glob(f"{start}*.png"))
    ]


def remarks(runs: Sequence[Run]) -> list[Notes]:
    """What the runs say that a reader must know, each once."""
    lines = dict.fromkeys(str(line) for run in runs for line in run.metrics.get("remarks") or [])
    return [Notes(list(lines))] if lines else []


def rate(entry: Metrics | float | None, name: str) -> str:
    """A rate with its interval, from an entry that holds both, or the rate alone."""
    if entry is None:
        return "-"
    if not isinstance(entry, dict):
        return percent(float(entry))
    value, bounds = entry[name], entry.get("ci95")
    return percent(value) if value is None or bounds is None else f"{percent(value)} ({interval(bounds)})"


def count(value: int | None) -> str:
    """A number of things; a dash where there is none."""
    return "-" if value is None else f"{value:,}"
