"""The picture of a retraining: error rates of the old head and the new on the four test sets."""

import textwrap
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from tfface.report.retraining_tables import sets, title

Metrics = dict[str, Any]
_HEADS = (("old head", "#8d99ae"), ("new head", "#2a9d6f"))
_WIDTH = 0.38


def plot_retraining(metrics: Metrics) -> plt.Figure:
    """Draw bars with 95% intervals: the four sets, and beside them the attacked ones at each epsilon.

    Args:
        metrics: as `metrics.json` holds them.
    """
    entries, calls = metrics["per_epsilon"], sets(metrics)
    groups = [
        [
            (textwrap.fill(called, 11), metrics["before"][name], metrics["after"][name])
            for name, called in calls.items()
        ],
        *(
            [(f"{entry['epsilon']:g}", entry["before"][name], entry["after"][name]) for entry in entries]
            for name in list(calls)[2:]
        ),
    ]
    names = ["all epsilons together", *(f"{calls[name]}, by epsilon" for name in list(calls)[2:])]
    widths = [max(len(group), 2) for group in groups]
    figure, panels = plt.subplots(
        1, 3, figsize=(2.2 + 1.15 * sum(widths), 4.6), layout="constrained", sharey=True, width_ratios=widths
    )
    for axes, name, group in zip(panels, names, groups, strict=True):
        _bars(axes, group)
        axes.set_title(name, fontsize="medium")
    panels[0].set(ylim=(0, 1.1), ylabel="error rate")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(textwrap.fill(f"{title(metrics)}. 95% intervals", 120), fontsize="medium")
    return figure


def _bars(axes: plt.Axes, group: list[tuple[str, Metrics, Metrics]]) -> None:
    places = np.arange(len(group))
    sides = ([before for _, before, _ in group], [after for _, _, after in group])
    for number, ((called, colour), entries) in enumerate(zip(_HEADS, sides, strict=True)):
        rates = np.array([entry["error_rate"] for entry in entries])
        low, high = np.array([entry["ci95"] for entry in entries]).T
        where = places + (number - 0.5) * _WIDTH
        # Rounding must not make a length negative.
        lengths = np.maximum([rates - low, high - rates], 0)
        axes.bar(where, rates, _WIDTH * 0.95, yerr=lengths, color=colour, ecolor="#333333", capsize=3, label=called)
        for place, rate, top in zip(where, rates, high, strict=True):
            axes.text(place, top + 0.015, f"{100 * rate:.1f}%", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(places, [row[0] for row in group])
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
