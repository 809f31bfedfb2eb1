"""Tables and pictures of a retraining, from the object that `metrics.json` holds."""

import dataclasses
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.report.evaluation_tables import interval, percent
from tfface.utils.public import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Metrics = dict[str, Any]
_HEADS = (("old head", "#8d99ae"), ("new head", "#2a9d6f"))
_WIDTH = 0.38

_HOLDS = {True: "yes", False: "no", None: "-"}


def sets(metrics: Metrics) -> dict[str, str]:
    """Return the titles of the test sets, in the order of tables and pictures."""
    attack = metrics.get("attack", "fgsm").upper()
    return {
        "clean": "clean",
        "augmented": "augmented",
        "adversarial_old_head": f"{attack} on the old head",
        "adversarial_new_head": f"{attack} on the new head",
    }


def retraining_tables(metrics: Metrics) -> list[Table]:
    """Make the tables of a retraining: training images, test sets before and after, claims, and strangers."""
    tables = [
        *_training_tables(metrics),
        _sets_table(metrics),
        Table(
            ["claim: as measured", "holds"],
            [[f"{row['claim']}: {row['ours']}", _HOLDS[row["holds"]]] for row in metrics["claims"]],
            title="What the paper claims of retraining, and whether strangers gain by it",
        ),
    ]
    if metrics["verification"]["count"]:
        tables.append(_verification_table(metrics["verification"]))
    last = tables[-1]
    return [*tables[:-1], dataclasses.replace(last, notes=[*last.notes, *metrics["remarks"]])]


def title(metrics: Metrics) -> str:
    """Return a line on the heads, the data and the training."""
    layers = f"a hidden layer of {metrics['hidden']}" if metrics["hidden"] else "linear"
    rounds = f"{metrics['rounds']} round{'s' * (metrics['rounds'] != 1)}"
    return (
        f"Head of {len(metrics['people'])} people ({layers}) on {metrics['preset']}, {metrics['dataset']}, "
        f"{metrics['recipe']}: {metrics['test_images']:,} {metrics['judged_on']}; "
        f"{percent(metrics['adversarial_share'], 0)} adversarial, {rounds}"
    )


def _training_tables(metrics: Metrics) -> list[Table]:
    rows = [
        [
            person["person"],
            *(f"{person[name]:,}" for name in ("train", "test", "copies_before", "mined_errors", "copies_added")),
            "hard" if person["hard"] else "",
        ]
        for person in metrics["people"]
    ]
    columns = ["person", "to train", "to test", "copies, old head", "verification errors", "more copies, new head", ""]
    names = ("clean", "augmented", "adversarial")
    trained = [
        [f"{which} head", *(f"{metrics['train_images'][when][name]:,}" for name in names)]
        for which, when in (("old", "before"), ("new", "after"))
    ]
    return [
        Table(columns, rows, title="Photographs; errors are wrong pairs among those to train"),
        Table(["trained on", *names], trained),
    ]


def _sets_table(metrics: Metrics) -> Table:
    rows = []
    for name, called in sets(metrics).items():
        rows.append(_row(called, metrics["before"][name], metrics["after"][name]))
        if name.startswith("adversarial"):
            rows += [
                _row(f"  epsilon {entry['epsilon']:g}", entry["before"][name], entry["after"][name])
                for entry in metrics["per_epsilon"]
            ]
    columns = ["test set", "images", "error, old head", "95% interval", "error, new head", "95% interval"]
    return Table(columns, rows, title=title(metrics))


def _row(called: str, before: Metrics, after: Metrics) -> list[str]:
    cells = [cell for entry in (before, after) for cell in (percent(entry["error_rate"]), interval(entry["ci95"]))]
    return [called, f"{before['images']:,}", *cells]


def _verification_table(verification: Metrics) -> Table:
    rows = []
    for name, called in (("base", "the base"), ("old_head", "old head"), ("new_head", "new head")):
        entry = verification[name]
        rows.append(
            [
                called,
                f"{entry['dimensions']}",
                percent(entry["accuracy"]),
                interval(entry["ci95"]),
                f"{entry['auc']:.4f}",
                percent(entry["eer"]),
            ]
        )
    left_out = f", {verification['left_out']:,} left out" if verification["left_out"] else ""
    return Table(
        ["embedding", "values", "accuracy", "95% interval", "AUC", "EER"],
        rows,
        title="Strangers; a head's logits or hidden layer as an embedding",
        notes=[
            f"strangers are judged on {verification['pairs']}: {verification['genuine']:,} genuine, "
            f"{verification['impostor']:,} impostor{left_out}"
        ],
    )


def plot_retraining(metrics: Metrics) -> "Figure":
    """Draw bars with 95% intervals: the four sets, and beside them the attacked ones at each epsilon.

    Args:
        metrics: as `metrics.json` holds them.
    """
    import matplotlib.pyplot as plt

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


def _bars(axes: "Axes", group: list[tuple[str, Metrics, Metrics]]) -> None:
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
