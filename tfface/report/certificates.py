"""Tables and picture of `certify`: certified accuracy against the radius."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from tfface.report.evaluation_tables import interval, percent
from tfface.utils.public import Table

Metrics = dict[str, Any]
_COLOURS = {"genuine": "#2a9d6f", "impostor": "#c8553d"}


def certificate_tables(metrics: Metrics) -> list[Table]:
    """Make the tables of certified accuracy at each radius, and of attacked certificates."""
    smoothing = metrics["smoothing"]
    rows = [["without noise", "-", *_cells(metrics["without_noise"])]]
    rows += [[f"{entry['radius']:.3f}", f"{entry['rms255']:.3f}", *_cells(entry)] for entry in metrics["certified"]]
    note = (
        f"{metrics['abstained']} of {metrics['count']} pairs abstained and count as uncertified; "
        f"threshold {metrics['threshold']:.4f} ({metrics['threshold_source']}); "
        f"no certificate goes beyond {metrics['largest_radius']:.3f}"
    )
    tables = [
        Table(
            ["L2 radius in [0, 1]", "in grey levels (rms)", "genuine", "impostor", "mean of both (95%)"],
            rows,
            title=f"Certified accuracy of {metrics['preset']} on {metrics['subjects']} of {metrics['dataset']}, "
            f"sigma {smoothing['sigma']:g}, n = {smoothing['samples']:,}, alpha = {smoothing['alpha']:g}",
            notes=[note],
        )
    ]
    tables += [_check(metrics)] if metrics.get("check") else []
    return [*tables[:-1], dataclasses.replace(tables[-1], notes=[*tables[-1].notes, *metrics["remarks"]])]


def _check(metrics: Metrics) -> Table:
    attack = metrics["check"]
    return Table(
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


def plot_certificates(title: str, radii: np.ndarray, curves: Mapping[str, np.ndarray]) -> plt.Figure:
    """Draw certified accuracy against the radius.

    Args:
        title: of the figure.
        radii: (R,) L2 radii.
        curves: certified accuracy (R,) of `genuine` and `impostor` pairs; NaN where there are none.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for kind, values in curves.items():
        axes.plot(radii, 100 * values, color=_COLOURS[kind], label=f"{kind} pairs")
    known = [values for values in curves.values() if not np.isnan(values).any()]
    axes.plot(radii, 100 * np.mean(known, axis=0), color="#333333", linestyle="--", label="mean of both")
    axes.set(xlabel="L2 radius, on the scale of [0, 1]", ylabel="certified accuracy (%)", ylim=(0, 100))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
