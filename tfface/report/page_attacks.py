"""The sections of the HTML report on attacks and defenses.

Table 2 and error against epsilon stand beside the paper's Figure 1, one epsilon shown at a time. An attack writes a
folder `figure1/` (of several attacks `figure1-1-...`, numbered as they are in `metrics.json`) with images and
`figure1.json`: `epsilons`, `noise_factor`, and `rows` of `clean`, `reference` (or null), `threshold` (or null),
`person`, `compared`, and by epsilon `adversarial`, `noise`, `distances`, `verdicts` (true: the two match; or words).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfface.errors import UserError
from tfface.report.attack_tables import how, number
from tfface.report.evaluation_tables import percent
from tfface.report.page_runs import (
    HEADLINES,
    Block,
    Chart,
    FigureRow,
    Notes,
    PipelineStep,
    Point,
    Run,
    Section,
    Series,
    Slider,
    TableBlock,
    count,
    pictures,
    rate,
    remarks,
)
from tfface.report.paper import TABLE_2
from tfface.report.robustness_tables import detection_table, detection_title, table, title
from tfface.report.robustness_tables import remarks as robustness_remarks
from tfface.utils.files import natural_key, read_json

Metrics = dict[str, Any]
_UNITS = {"linf": "the largest change of a value", "l2": "the root mean square of the change"}
_WIDE, _HIGH = 600.0, 240.0
_Rated = Sequence[tuple[Run, dict[float, Metrics]]]


def attack_section(runs: list[Run]) -> Section:
    """Return error rates against epsilon beside the paper's, the attack of each run, and its Figure 1.

    Raises:
        UserError: a run, or its `figure1.json`, is of another schema.
    """
    by_run = [(run, run.view(_by_epsilon)) for run in runs]
    rated = [(run, rates) for run, rates in by_run if rates]
    blocks: list[Block] = []
    # The paper's kind first, beside nothing else: classifiers and pairs are different things to fool.
    rated.sort(key=lambda entry: not _is_papers(entry[0]))
    for norm, of_pairs in dict.fromkeys((run.metrics["norm"], _of_pairs(run)) for run, _ in rated):
        chosen = [part for part in rated if (part[0].metrics["norm"], _of_pairs(part[0])) == (norm, of_pairs)]
        blocks += [_table_2(norm, chosen), _chart(norm, chosen)]
    names = ["attack", "norm", "goal", "threshold", "attacked", "already wrong", "median epsilon", "never fooled"]
    ways = [[run.label, *run.view(_attack)] for run in runs]
    blocks.append(TableBlock("How they were attacked", ["run", *names], ways, words=frozenset({1, 2, 3, 4})))
    if still := [[run.label, *row] for run in runs for row in run.view(_still_matched)]:
        names = ["run", "epsilon", "photographs that fool the head", "match their person"]
        blocks.append(TableBlock("What fools the head, before the similarity test", names, still))
    beside = pictures(runs, {"minimal_epsilon": "smallest epsilon that succeeds"}, "plot")
    return Section(
        "attacks",
        "How it is fooled",
        "Error rates against epsilon, on the scale from 0 to 1. What the model already gets wrong is left out of the "
        "rate; an attack that fails counts as a failure.",
        [*blocks, *figures(runs), *beside, *_masked(runs), *remarks(runs)],
        [
            (percent(rates[0.01]["error_rate"]), f"errors at epsilon 0.01: {run.label}")
            for run, rates in rated
            if 0.01 in rates and rates[0.01]["error_rate"] is not None
        ][:HEADLINES],
    )


def _by_epsilon(metrics: Metrics) -> dict[float, Metrics]:
    """Return the results by epsilon, checked, so that an error names a run of another schema."""
    found = {float(entry["epsilon"]): entry for entry in metrics.get("results") or []}
    for entry in found.values():
        rate(entry, "error_rate")
    return found


def _is_papers(run: Run) -> bool:
    """Tell if the paper's figures are of the same kind of attack."""
    return [run.metrics.get(name) for name in ("goal", "attack", "norm")] == ["classify", "fgsm", "linf"]


def _of_pairs(run: Run) -> bool:
    return run.metrics["goal"] != "classify"


def _table_2(norm: str, rated: _Rated) -> TableBlock:
    papers = any(_is_papers(run) for run, _ in rated)
    epsilons = {epsilon for _, rates in rated for epsilon in rates} | (set(TABLE_2) if papers else set())
    rows = [
        [
            f"{epsilon:g}",
            *([percent(TABLE_2.get(epsilon), 0)] if papers else []),
            *(rate(rates.get(epsilon), "error_rate") for _, rates in rated),
        ]
        for epsilon in sorted(epsilons)
    ]
    what = "pairs judged wrong" if _of_pairs(rated[0][0]) else "photographs taken for another person"
    title = f"Error rate (95% interval) by epsilon, {what}; {norm}: {_UNITS.get(norm, norm)}"
    return TableBlock(
        f"The paper's Table 2 and ours. {title}" if papers else title,
        ["epsilon", *(["paper: FGSM"] if papers else []), *(run.label for run, _ in rated)],
        rows,
        paper=frozenset({1} if papers else ()),
    )


def _chart(norm: str, rated: _Rated) -> Chart:
    papers = TABLE_2 if any(_is_papers(run) for run, _ in rated) else {}
    largest = max([*papers, *(epsilon for _, rates in rated for epsilon in rates)]) or 1.0

    def point(epsilon: float, value: float, bounds: Sequence[float] | None = None) -> Point:
        low, high = ((1 - bound) * _HIGH for bound in bounds) if bounds else (None, None)
        return Point(f"{epsilon:g}: {percent(value)}", _WIDE * epsilon / largest, _HIGH * (1 - value), low, high)

    lines = [
        Series(
            run.label,
            [
                point(epsilon, entry["error_rate"], entry.get("ci95"))
                for epsilon, entry in sorted(rates.items())
                if entry["error_rate"] is not None
            ],
        )
        for run, rates in rated
    ]
    if papers:
        lines.append(Series("the paper", [point(epsilon, value) for epsilon, value in papers.items()], paper=True))
    ticks = [(_WIDE * share / 4, f"{largest * share / 4:.3g}") for share in range(5)]
    return Chart(f"Error rate against epsilon ({norm}{', pairs' if _of_pairs(rated[0][0]) else ''})", lines, ticks)


def _attack(metrics: Metrics) -> list[str]:
    results = metrics.get("results") or [metrics]
    threshold = f"{metrics['metric']} {metrics['threshold']:.4f}" if "threshold" in metrics else "-"
    return [
        how({"surrogate": None, **metrics}),
        *(str(metrics[name]) for name in ("norm", "goal")),
        threshold,
        *(count(results[0].get(name)) for name in ("attacked", "already_wrong")),
        _median(metrics) if metrics.get("attacked") else "-",
        count(metrics.get("failed")),
    ]


def _median(metrics: Metrics) -> str:
    bounds = metrics.get("ci95")
    sides = f" ({number(bounds[0])} to {number(bounds[1])})" if bounds else ""
    return number(metrics.get("median_epsilon")) + sides


def _still_matched(metrics: Metrics) -> list[list[str]]:
    """Count the images that the similarity test matches: of all, and by epsilon of those that fool the head."""
    found = [("none (all photographs)", (metrics.get("clean") or {}).get("similarity"))]
    found += [(f"{entry['epsilon']:g}", entry.get("similarity")) for entry in metrics.get("results") or []]
    return [
        [epsilon, count(similarity["images"]), rate(similarity, "images_matched")]
        for epsilon, similarity in found
        if similarity
    ]


def _masked(runs: Sequence[Run]) -> list[Notes]:
    lines = [
        f"{run.label}: the sanity checks suggest that the model masks its gradients, so that what resists here is not "
        "shown to be robust"
        for run in runs
        if (run.metrics.get("check") or {}).get("masks_gradients")
    ]
    return [Notes(lines)] if lines else []


def figures(runs: Sequence[Run]) -> list[Slider]:
    """Return the Figure 1 of every attack that wrote one.

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


def robustness_section(runs: list[Run]) -> Section:
    """Return each run's table of defenses, its pictures, and the reasons why defenses are broken.

    Raises:
        UserError: a run is of another schema.
    """
    blocks: list[Block] = []
    for run in runs:
        columns, rows = run.view(table)
        last = len(columns) - 1
        blocks.append(TableBlock(f"{run.label}: {run.view(title)}", columns, rows, words=frozenset({last})))
        if broken := run.view(robustness_remarks):
            blocks.append(Notes(broken))
        columns, rows = run.view(detection_table)
        if rows:
            blocks.append(
                TableBlock(f"{run.label}: {run.view(detection_title)}", columns, rows, words=frozenset({1, 2}))
            )
    titles = {
        "heat_map": "smallest epsilons by defense and attacker",
        "error_against_epsilon": "error against epsilon",
        "detection": "ROC of detection",
    }
    return Section(
        "defenses",
        "What makes it harder to fool",
        "Each defense before the model, attacked by who does not know it (naive), by who does (white box), and through "
        "another model (transfer). A defense that only looks good to the naive is broken, whatever its numbers.",
        [*blocks, *pictures(runs, titles, "plot")],
        [
            (
                f"{sum(row['verdict']['status'] == 'broken' for row in run.metrics['rows'])}",
                f"defenses broken: {run.label}",
            )
            for run in runs[:HEADLINES]
        ],
    )
