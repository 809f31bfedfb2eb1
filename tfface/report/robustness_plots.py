"""Pictures of `benchmark-robustness`: a heat map of medians, error against epsilon, the detector's ROC."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from tfface.report.attack_tables import number
from tfface.report.robustness_tables import attack_columns, column_name

Metrics = dict[str, Any]
_STYLES: dict[str, Any] = {"white box": "-", "naive": "--", "transfer": ":"}
_FURTHEST = 1.0
"""The largest epsilon: an infinite median is drawn as it."""


def plot_heat_map(metrics: Metrics) -> plt.Figure:
    """Draw the median of the smallest epsilon by defense (rows), goal and knowledge (columns); broken rows are marked.

    Args:
        metrics: an object of `metrics.json`.
    """
    keys, rows = attack_columns(metrics), metrics["rows"]
    values = np.full((len(rows), len(keys)), np.nan)
    for place, row in enumerate(rows):
        for attack in row["attacks"]:
            key = (attack["goal"], attack["attack"], attack["norm"], attack["knowledge"])
            if attack["attacked"]:
                values[place, keys.index(key)] = attack["median_epsilon"] or math.inf
    shades = np.log10(np.clip(values, 1e-4, _FURTHEST))
    figure, axes = plt.subplots(figsize=(3.2 + 1.35 * len(keys), 1.6 + 0.55 * len(rows)), layout="constrained")
    drawn = axes.imshow(np.ma.masked_invalid(shades), cmap="viridis", aspect="auto")
    middle = (np.nanmin(shades) + np.nanmax(shades)) / 2 if np.isfinite(shades).any() else 0
    for (place, column), value in np.ndenumerate(values):
        shade = shades[place, column]
        text = "-" if np.isnan(value) else number(value)
        axes.text(column, place, text, ha="center", va="center", color="white" if shade < middle else "black")
    names = [column_name(key, metrics).replace(", ", "\n") for key in keys]
    axes.set_xticks(range(len(keys)), names, fontsize=8)
    broken = [" (broken)" if row["verdict"]["status"] == "broken" else "" for row in rows]
    names = [row["label"] + mark for row, mark in zip(rows, broken, strict=True)]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color("#b00020" if row["verdict"]["status"] == "broken" else "black")
    bar = figure.colorbar(drawn, ax=axes)
    ticks = [tick for tick in bar.get_ticks() if shades.size and drawn.norm.vmin <= tick <= drawn.norm.vmax]
    bar.set_ticks(ticks, labels=[f"{10**tick:.2g}" for tick in ticks])
    figure.suptitle(f"{metrics['preset']}: median of the smallest epsilon that succeeds", fontsize="medium")
    return figure


def plot_curves(metrics: Metrics) -> plt.Figure:
    """Draw the error rate of attacked pairs against epsilon.

    A panel shows a goal and attack, a colour a defense, a line style a knowledge.

    Args:
        metrics: an object of `metrics.json`.
    """
    panels = list(dict.fromkeys(key[:3] for key in attack_columns(metrics)))
    figure, grid = plt.subplots(1, len(panels), figsize=(6.5 * len(panels), 5), layout="constrained", squeeze=False)
    colours = plt.get_cmap("tab10")
    for axes, (goal, name, norm) in zip(grid[0], panels, strict=True):
        for place, row in enumerate(metrics["rows"]):
            for attack in row["attacks"]:
                if (attack["goal"], attack["attack"], attack["norm"]) == (goal, name, norm) and attack["attacked"]:
                    _curve(axes, attack, row["label"], colours(place % 10))
        axes.set(xscale="log", ylim=(-0.02, 1.02), xlabel=f"epsilon ({norm})", ylabel="error rate of attacked pairs")
        axes.set_xlim(right=_right(metrics))
        axes.set_title(f"{goal}, {name}", fontsize="medium")
        axes.axhline(0.5, color="#999999", linewidth=0.8, linestyle=":")
        axes.grid(alpha=0.3, which="both")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    known = {attack["knowledge"] for row in metrics["rows"] for attack in row["attacks"]}
    used = [name for name in _STYLES if name in known]
    styles = [plt.Line2D([], [], color="black", linestyle=_STYLES[name]) for name in used]
    figure.legend([*handles, *styles], [*labels, *used], loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(f"{metrics['preset']}: error rate against epsilon", fontsize="medium")
    return figure


def plot_detection(metrics: Metrics) -> plt.Figure:
    """Draw the detector's ROC, a panel for each goal: solid unaware of it, dashed against an attack that knows it.

    Args:
        metrics: an object of `metrics.json` with detection.
    """
    goals = list(dict.fromkeys(goal for row in metrics["rows"] for goal in row["detection"]))
    figure, grid = plt.subplots(1, len(goals), figsize=(5.2 * len(goals), 5), layout="constrained", squeeze=False)
    colours = plt.get_cmap("tab10")
    for axes, goal in zip(grid[0], goals, strict=True):
        for place, row in enumerate(metrics["rows"]):
            for knows, style in (("unaware", "-"), ("adaptive", "--")):
                found = row["detection"].get(goal, {}).get(knows)
                if found and found["roc"]:
                    label = f"{row['label']}, {knows}: AUC {found['auc']:.3f}"
                    axes.plot(*zip(*found["roc"], strict=True), style, color=colours(place % 10), label=label)
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
        axes.set(
            xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="clean photographs flagged", ylabel="attacked ones caught"
        )
        axes.set_title(goal, fontsize="medium")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small", loc="lower right")
    figure.suptitle(f"{metrics['preset']}: detection by disagreement of squeezed views", fontsize="medium")
    return figure


def _right(metrics: Metrics) -> float:
    """Return an epsilon a little beyond the largest epsilon that was enough for a pair."""
    found = [epsilon for row in metrics["rows"] for attack in row["attacks"] for epsilon in attack["epsilons"][-1:]]
    return min(_FURTHEST, 1.5 * max(found, default=_FURTHEST))


def _curve(axes: plt.Axes, attack: Metrics, label: str, colour: Any) -> None:
    """Draw the share of attacked pairs that an epsilon is enough for; what failed is in no epsilon's share."""
    found: Sequence[float] = attack["epsilons"]
    share = np.arange(1, len(found) + 1) / attack["attacked"]
    values = np.maximum(np.concatenate([found[:1], found, [_FURTHEST]]), 1e-5)
    heights = np.concatenate([[0.0] * len(found[:1]), share, share[-1:] if len(found) else [0.0]])
    named = label if attack["knowledge"] == "white box" else None
    axes.step(values, heights, where="post", color=colour, linestyle=_STYLES[attack["knowledge"]], label=named)
