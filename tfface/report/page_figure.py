"""The report's Figure 1: photographs attacked at several epsilons, one epsilon shown at a time.

An attack writes a folder `figure1/` (of several attacks `figure1-1-...`, numbered as they are in
`metrics.json`) with images and `figure1.json`: `epsilons`, `noise_factor`, and `rows` of `clean`,
`reference` (or null), `threshold` (or null), `person`, `compared`, and by epsilon `adversarial`,
`noise`, `distances`, `verdicts` (true: the two match; or words).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfface.data.dataset import natural_key
from tfface.errors import UserError
from tfface.report.page_parts import FigureRow, PipelineStep, Slider
from tfface.report.page_runs import Run
from tfface.utils.files import read_json

Metrics = dict[str, Any]


def figures(runs: Sequence[Run]) -> list[Slider]:
    """The Figure 1 of every attack that wrote one.

    Raises:
        UserError: one is malformed, or names a file outside of its folder.
    """
    found = []
    for folder in dict.fromkeys(run.folder for run in runs):
        own = [run for run in runs if run.folder == folder]
        for path in sorted(folder.glob("figure1*/figure1.json"), key=lambda path: natural_key(path.as_posix())):
            numbered = re.match(r"figure1-(\d+)", path.parent.name)
            place = int(numbered[1]) - 1 if numbered else 0
            if place < len(own) and (slider := _slider(path, own[place])):
                found.append(slider)
    return found


def _slider(path: Path, run: Run) -> Slider | None:
    content = read_json(path)
    try:
        epsilons = [float(epsilon) for epsilon in content["epsilons"]]
        rows = [_row(path.parent, row, len(epsilons)) for row in content["rows"]]
        factor = content.get("noise_factor")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is malformed ({type(error).__name__}: {error}): run attack again") from error
    if not epsilons or not rows:
        return None
    if "median_epsilon" in run.metrics:  # each photograph has a smallest epsilon of its own
        labels, start = ["0", *["the smallest that succeeds"] * (len(epsilons) - 1)], len(epsilons) - 1
    else:
        labels = [f"{epsilon:g}" for epsilon in epsilons]
        start = min(range(len(epsilons)), key=lambda place: abs(epsilons[place] - 0.01))
    noise = f"perturbation × {factor}" if factor and factor != 1 else "perturbation"
    return Slider(f"The paper's Figure 1: {run.label}", labels, rows, start, noise)


def _row(folder: Path, row: Metrics, length: int) -> FigureRow:
    def file(name: str) -> Path:
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{name} lies outside of its folder")
        return path

    distances = row.get("distances") or [None] * length
    verdicts = row.get("verdicts") or [""] * length
    steps = [
        PipelineStep(
            file(adversarial), file(noise), _caption(distance, row.get("threshold"), verdict), verdict != verdicts[0]
        )
        for adversarial, noise, distance, verdict in zip(
            row["adversarial"], row["noise"], distances, verdicts, strict=True
        )
    ]
    if len(steps) != length:
        raise ValueError(f"{len(steps)} images for {length} epsilons")
    reference = file(row["reference"]) if row.get("reference") else None
    names = str(row.get("person") or "clean"), str(row.get("compared") or "reference")
    return FigureRow(file(row["clean"]), reference, steps, *names)


def _caption(distance: float | None, threshold: float | None, verdict: bool | str) -> str:
    words = ("match" if verdict else "no match") if isinstance(verdict, bool) else str(verdict)
    beside = "" if threshold is None else f" (threshold {threshold:.3f})"
    far = "" if distance is None else f"distance {distance:.3f}{beside}"
    return ": ".join(filter(None, [far, words]))
