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
        axes.step(far[shown], tar[shown], where="post", label=f"{label} (AUC {auc:.4f})")
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
