"""What `certify` shows: certified accuracy against the radius."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from tfface.cli._output import print_table
from tfface.report.evaluation_tables import interval, percent
from tfface.utils.files import atomic_write

if TYPE_CHECKING:
    from tfface.robustness.certified_pairs import Certified

Metrics = dict[str, Any]
_POINTS = 400
_COLOURS = {"genuine": "#2a9d6f", "impostor": "#c8553d"}


def print_certificates(metrics: Metrics) -> None:
    """Certified accuracy at each radius, and what became of attacked certificates."""
    smoothing = metrics["smoothing"]
    rows = [["without noise", "-", *_cells(metrics["without_noise"])]]
    rows += [[f"{entry['radius']:.3f}", f"{entry['rms255']:.3f}", *_cells(entry)] for entry in metrics["certified"]]
    print_table(
        ["L2 radius in [0, 1]", "in grey levels (rms)", "genuine", "impostor", "mean of both (95%)"],
        rows,
        title=f"Certified accuracy of {metrics['preset']} on {metrics['subjects']} of {metrics['dataset']}, "
        f"sigma {smoothing['sigma']:g}, n = {smoothing['samples']:,}, alpha = {smoothing['alpha']:g}",
    )
    print(
        f"{metrics['abstained']} of {metrics['count']} pairs abstained and count as uncertified; "
        f"threshold {metrics['threshold']:.4f} ({metrics['threshold_source']}); "
        f"no certificate goes beyond {metrics['largest_radius']:.3f}"
    )
    if metrics.get("check"):
        _print_check(metrics)
    for remark in metrics["remarks"]:
        print(f"Note: {remark}")


def _print_check(metrics: Metrics) -> None:
    attack = metrics["check"]
    print_table(
        ["attacked up to", "certified pairs", "held", "undecided", "broken", "chance allows"],
        [
            [
                f"{entry['factor']:g} times the radius",
                *(str(entry[name]) for name in ("attacked", "held", "undecided", "broken")),
                str(entry["most_by_chance"]) if entry["factor"] <= 1 else "no promise",
            ]
            for entry in attack["results"]
        ],
        title=f"Certificates under PGD of {attack['steps']} steps through the expectation of {attack['draws']} copies",
    )


def _cells(entry: Metrics) -> list[str]:
    both = entry["accuracy"]
    kinds = [entry[kind] for kind in ("genuine", "impostor")]
    cells = [f"{percent(kind['value'])} of {kind['count']}" if kind else "-" for kind in kinds]
    return [*cells, f"{percent(both['value'])} ({interval(both['ci95'])})" if both else "-"]


def plot_certificates(target: Path, certified: "Certified", title: str, largest: float) -> None:
    """Certified accuracy against the radius, genuine and impostor pairs.

    Args:
        target: the PNG's path.
        certified: pairs with their certificates.
        title: what was certified, how.
        largest: radius beyond which nothing can be certified.
    """
    from tfface.robustness.certified_results import curve

    radii = np.linspace(0, largest, _POINTS)
    curves = {kind: curve(certified, kind == "genuine", radii) for kind in _COLOURS}
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for kind, values in curves.items():
        axes.plot(radii, 100 * values, color=_COLOURS[kind], label=f"{kind} pairs")
    axes.plot(radii, 100 * _mean(list(curves.values())), color="#333333", linestyle="--", label="mean of both")
    axes.set(xlabel="L2 radius, on the scale of [0, 1]", ylabel="certified accuracy (%)", ylim=(0, 100))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(target) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def _mean(curves: Sequence[np.ndarray]) -> np.ndarray:
    known = [values for values in curves if not np.isnan(values).any()]
    return np.mean(known, axis=0)
