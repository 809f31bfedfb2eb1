"""The report's section on attacks: the paper's Table 2, error against epsilon, what was attacked how."""

from collections.abc import Sequence
from typing import Any

from tfface.report.attack_tables import how, number
from tfface.report.evaluation_tables import percent
from tfface.report.page_cells import HEADLINES, count, pictures, rate, remarks
from tfface.report.page_figure import figures
from tfface.report.page_parts import Block, Chart, Notes, Point, Section, Series, Table
from tfface.report.page_runs import Run
from tfface.report.paper import TABLE_2

Metrics = dict[str, Any]
_UNITS = {"linf": "the largest change of a value", "l2": "the root mean square of the change"}
_WIDE, _HIGH = 600.0, 240.0
_Rated = Sequence[tuple[Run, dict[float, Metrics]]]


def attack_section(runs: list[Run]) -> Section:
    """Error rates against epsilon beside the paper's, how each run attacked, and its Figure 1.

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
    blocks.append(Table("How they were attacked", ["run", *names], ways, words=frozenset({1, 2, 3, 4})))
    if still := [[run.label, *row] for run in runs for row in run.view(_still_matched)]:
        names = ["run", "epsilon", "photographs that fool the head", "match their person"]
        blocks.append(Table("What fools the head, before the similarity test", names, still))
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
    """The results by epsilon, checked, so that a run of another schema is told by its name."""
    found = {float(entry["epsilon"]): entry for entry in metrics.get("results") or []}
    for entry in found.values():
        rate(entry, "error_rate")
    return found


def _is_papers(run: Run) -> bool:
    """Whether the paper's figures are of the same kind of attack."""
    return [run.metrics.get(name) for name in ("goal", "attack", "norm")] == ["classify", "fgsm", "linf"]


def _of_pairs(run: Run) -> bool:
    return run.metrics["goal"] != "classify"


def _table_2(norm: str, rated: _Rated) -> Table:
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
    return Table(
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
    """How many the similarity test matches with their person: of all, and by epsilon of what fools the head."""
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
