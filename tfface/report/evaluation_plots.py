"""Pictures of an evaluation: ROC curves and distance histograms with their thresholds."""

import textwrap
from collections.abc import Sequence
from typing import Any, Protocol

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np


class Curve(Protocol):
    """Accepted pairs by threshold (`tfface.metrics.roc.ErrorCurve`)."""

    @property
    def impostor_accepted(self) -> np.ndarray: ...

    @property
    def genuine_accepted(self) -> np.ndarray: ...

    @property
    def impostors(self) -> int: ...

    @property
    def genuine(self) -> int: ...


_GENUINE, _IMPOSTOR = "#2a9d6f", "#c8553d"


def plot_roc(curves: Sequence[tuple[str, Curve, float]]) -> plt.Figure:
    """Draw ROC curves: true match rate against false match rate, the latter on a logarithmic axis.

    Args:
        curves: (label, curve, AUC) of each.
    """
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    lowest = 1.0
    for label, curve, auc in curves:
        far, tar = curve.impostor_accepted / curve.impostors, curve.genuine_accepted / curve.genuine
        lowest = min(lowest, 1 / curve.impostors)
        shown = far > 0
        # A legend leaves out names that begin with an underscore.
        text = f"{' ' * label.startswith('_')}{label} (AUC {auc:.4f})"
        axes.step(far[shown], tar[shown], where="post", label=text)
    axes.set(
        xscale="log",
        xlim=(min(lowest, 0.5), 1),
        ylim=(0, 1.01),
        title="ROC",
        xlabel="false accept rate (impostor pairs taken for one person)",
        ylabel="true accept rate (genuine pairs recognised)",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right")
    return figure


def plot_histogram(
    title: str, histogram: tuple[np.ndarray, np.ndarray, np.ndarray], metrics: dict[str, Any]
) -> plt.Figure:
    """Draw the distances of genuine and impostor pairs, each scaled to area one, with the thresholds.

    Args:
        title: whose distances.
        histogram: edges (B + 1,), genuine counts (B,) and impostor counts (B,).
        metrics: of the evaluation.
    """
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    edges, genuine, impostor = histogram
    widths = np.diff(edges)
    for counts, colour, kind in ((genuine, _GENUINE, "genuine"), (impostor, _IMPOSTOR, "impostor")):
        if counts.sum():
            axes.stairs(
                counts / counts.sum() / widths,
                edges,
                fill=True,
                alpha=0.55,
                color=colour,
                label=f"{kind} ({counts.sum():,} pairs)",
            )
    for name, colour, line in (("fixed", "#333333", "--"), ("calibrated", "#3355cc", "-")):
        if metrics[name]:
            limit = metrics[name]["threshold"]
            axes.axvline(limit, color=colour, linestyle=line, label=f"{name} threshold {limit:.3f}")
    axes.set(xlabel=f"{metrics['metric']} distance", ylabel="density")
    axes.set_title(textwrap.fill(title, 80, break_on_hyphens=False), fontsize="medium")
    axes.legend()
    return figure


def plot_feeds(metrics: dict[str, Any], scales: Sequence[str]) -> plt.Figure:
    """Draw the areas under the ROC of a probe as a heat map: recipes and colour orders by scales.

    Args:
        metrics: of the probe.
        scales: in the order of the columns; those that were not tried are left out.
    """
    areas = {(entry["recipe"], entry["colour"], entry["scale"]): entry["auc"] for entry in metrics["feeds"]}
    rows = sorted({(recipe, colour) for recipe, colour, _ in areas})
    columns = [scale for scale in scales if any(scale == tried for _, _, tried in areas)]
    values = np.array([[areas.get((*row, scale)) for scale in columns] for row in rows], np.float64)
    size = (4 + 0.75 * len(columns), 1.6 + 0.32 * len(rows))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    shown = axes.imshow(values, aspect="auto", cmap="viridis")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        text, colour = ("-", "black") if np.isnan(value) else (f"{value:.3f}", "black" if value > middle else "white")
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), [" ".join(row) for row in rows])
    axes.set_title(f"AUC of {metrics['preset']} on {metrics['dataset']}", fontsize="medium")
    figure.colorbar(shown)
    return figure
