"""The tables of `retrain`, from the object that `metrics.json` holds."""

from typing import Any

from tfface.cli._output import print_table
from tfface.report.evaluation_tables import interval, percent

Metrics = dict[str, Any]

_HOLDS = {True: "yes", False: "no", None: "-"}


def sets(metrics: Metrics) -> dict[str, str]:
    """How the test sets are called, in the order of tables and pictures."""
    attack = metrics.get("attack", "fgsm").upper()
    return {
        "clean": "clean",
        "augmented": "augmented",
        "adversarial_old_head": f"{attack} on the old head",
        "adversarial_new_head": f"{attack} on the new head",
    }


def print_retraining(metrics: Metrics) -> None:
    """What trained the heads, the four test sets before and after, the claims, and strangers."""
    _print_people(metrics)
    _print_sets(metrics)
    print_table(
        ["claim: as measured", "holds"],
        [[f"{row['claim']}: {row['ours']}", _HOLDS[row["holds"]]] for row in metrics["claims"]],
        title="What the paper claims of retraining, and whether strangers gain by it",
    )
    if metrics["verification"]["count"]:
        _print_verification(metrics["verification"])
    for remark in metrics["remarks"]:
        print(f"Note: {remark}")


def title(metrics: Metrics) -> str:
    """What was retrained and judged, in one line."""
    layers = f"a hidden layer of {metrics['hidden']}" if metrics["hidden"] else "linear"
    rounds = f"{metrics['rounds']} round{'s' * (metrics['rounds'] != 1)}"
    return (
        f"Head of {len(metrics['people'])} people ({layers}) on {metrics['preset']}, {metrics['dataset']}, "
        f"{metrics['recipe']}: {metrics['test_images']:,} {metrics['judged_on']}; "
        f"{percent(metrics['adversarial_share'], 0)} adversarial, {rounds}"
    )


def _print_people(metrics: Metrics) -> None:
    rows = [
        [
            person["person"],
            *(f"{person[name]:,}" for name in ("train", "test", "copies_before", "mined_errors", "copies_added")),
            "hard" if person["hard"] else "",
        ]
        for person in metrics["people"]
    ]
    columns = ["person", "to train", "to test", "copies, old head", "verification errors", "more copies, new head", ""]
    print_table(columns, rows, title="Photographs; errors are wrong pairs among those to train")
    names = ("clean", "augmented", "adversarial")
    print_table(
        ["trained on", *names],
        [
            [f"{which} head", *(f"{metrics['train_images'][when][name]:,}" for name in names)]
            for which, when in (("old", "before"), ("new", "after"))
        ],
    )


def _print_sets(metrics: Metrics) -> None:
    rows = []
    for name, called in sets(metrics).items():
        rows.append(_row(called, metrics["before"][name], metrics["after"][name]))
        if name.startswith("adversarial"):
            rows += [
                _row(f"  epsilon {entry['epsilon']:g}", entry["before"][name], entry["after"][name])
                for entry in metrics["per_epsilon"]
            ]
    columns = ["test set", "images", "error, old head", "95% interval", "error, new head", "95% interval"]
    print_table(columns, rows, title=title(metrics))


def _row(called: str, before: Metrics, after: Metrics) -> list[str]:
    cells = [cell for entry in (before, after) for cell in (percent(entry["error_rate"]), interval(entry["ci95"]))]
    return [called, f"{before['images']:,}", *cells]


def _print_verification(verification: Metrics) -> None:
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
    print_table(
        ["embedding", "values", "accuracy", "95% interval", "AUC", "EER"],
        rows,
        title="Strangers; a head's logits or hidden layer as an embedding",
    )
    left_out = f", {verification['left_out']:,} left out" if verification["left_out"] else ""
    print(
        f"Note: strangers are judged on {verification['pairs']}: {verification['genuine']:,} genuine, "
        f"{verification['impostor']:,} impostor{left_out}"
    )
