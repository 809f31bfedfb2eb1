"""The tables of `retrain`, from the object that `metrics.json` holds."""

import dataclasses
from typing import Any

from tfface.report.evaluation_tables import interval, percent
from tfface.utils.result import Table

Metrics = dict[str, Any]

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
