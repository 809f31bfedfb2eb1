"""Tables of `benchmark-robustness`, from the objects that `metrics.json` holds."""

from typing import Any

from tfface.report.attack_tables import number
from tfface.report.evaluation_tables import interval, percent
from tfface.utils.public import Table

Metrics = dict[str, Any]
KNOWLEDGE = ("naive", "white box", "transfer")
"""Knowledge of attackers in the order of the columns: not the defense, all, not even the model."""


def benchmark_tables(metrics: Metrics) -> list[Table]:
    """Make the table of defenses, with notes on broken ones, and that of detection."""
    columns, rows = table(metrics)
    tables = [Table(columns, rows, title=title(metrics), notes=remarks(metrics))]
    columns, rows = detection_table(metrics)
    if rows:
        tables.append(Table(columns, rows, title=detection_title(metrics)))
    return tables


def title(metrics: Metrics) -> str:
    """Describe the benchmark in one line."""
    return (
        f"{metrics['preset']} ({metrics['weights_sha256'][:8]}) on {metrics['dataset']}, {metrics['protocol']}, "
        f"{metrics['recipe']}, seed {metrics['seed']}: median of the smallest epsilon that succeeds (95% interval)"
    )


def table(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """Return (columns, one row a defense): the medians by goal, attack and knowledge between accuracy and cost."""
    attacks = attack_columns(metrics)
    rows = [
        [
            row["label"],
            f"{percent(row['accuracy']['accuracy'])} ({interval(row['accuracy']['ci95'])})",
            *(_median(_found(row, key)) for key in attacks),
            *([_aucs(row)] if any(other["detection"] for other in metrics["rows"]) else []),
            certified(row),
            _milliseconds(row),
            _verdict(row["verdict"]),
        ]
        for row in metrics["rows"]
    ]
    detects = ["detection AUC: unaware, adaptive"] if any(row["detection"] for row in metrics["rows"]) else []
    names = [column_name(key, metrics) for key in attacks]
    return ["defense", "accuracy", *names, *detects, "certified", "ms an image", "verdict"], rows


def attack_columns(metrics: Metrics) -> list[tuple[str, str, str, str]]:
    """Return (goal, attack, norm, knowledge) of all attacks of any row, in order."""
    keys = {
        (attack["goal"], attack["attack"], attack["norm"], attack["knowledge"])
        for row in metrics["rows"]
        for attack in row["attacks"]
    }
    return sorted(keys, key=lambda key: (*key[:3], KNOWLEDGE.index(key[3])))


def column_name(key: tuple[str, str, str, str], metrics: Metrics) -> str:
    """Name goal and knowledge; the attack too where there are several."""
    several = len({other[1:3] for other in attack_columns(metrics)}) > 1
    goal, attack, norm, knowledge = key
    return f"{goal}, {f'{attack} {norm}, ' if several else ''}{knowledge}"


def remarks(metrics: Metrics) -> list[str]:
    """Say why a row is broken."""
    words = {"broken": " is broken"}
    return [
        f"{row['label']}{words.get(row['verdict']['status'], '')}: {'; '.join(row['verdict']['why'])}"
        for row in metrics["rows"]
        if row["verdict"]["why"]
    ]


def detection_title(metrics: Metrics) -> str:
    """Describe the detector in one line."""
    found = next(entry for row in metrics["rows"] for entry in row["detection"].values())
    return (
        f"Detection by the disagreement of {', '.join(found['views'])}: {found['attack']} at epsilon "
        f"{found['epsilon']:g}; the limit lets {percent(1 - found['false_positives'], 0)} of {found['set_on']} pass"
    )


def detection_table(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """Return (columns, a row for each defense, goal and knowledge of the detector)."""
    rows = [
        [
            row["label"],
            goal,
            knows,
            f"{found[knows]['fooled']:,} of {found[knows]['attacked']:,}",
            "-" if found[knows]["auc"] is None else f"{found[knows]['auc']:.4f}",
            _rate(found[knows]["caught"]),
            _rate(found[knows]["fooled_unseen"]),
            _rate(found[knows]["false_alarms"]),
        ]
        for row in metrics["rows"]
        for goal, found in row["detection"].items()
        for knows in ("unaware", "adaptive")
    ]
    names = ["goal", "attack is", "fool the model", "AUC", "of these caught", "fooled unseen", "false alarms"]
    return ["defense", *names], rows


def certified(row: Metrics) -> str:
    """Write the certified accuracy at the smallest radius above 0."""
    found = row["certified"]
    if not found:
        return "-"
    accuracy = found["accuracy"]
    return f"{percent(accuracy['value'])} at L2 {found['radius']:g}" if accuracy else "-"


def _found(row: Metrics, key: tuple[str, str, str, str]) -> Metrics | None:
    return next(
        (
            attack
            for attack in row["attacks"]
            if (attack["goal"], attack["attack"], attack["norm"], attack["knowledge"]) == key
        ),
        None,
    )


def _median(attack: Metrics | None) -> str:
    if attack is None or not attack["attacked"]:
        return "-"
    low, high = attack["ci95"]
    return f"{number(attack['median_epsilon'])} ({number(low)} to {number(high)})"


def _aucs(row: Metrics) -> str:
    """Write the AUCs by goal, unaware and adaptive."""
    pairs = [
        ", ".join(
            "-" if found[knows]["auc"] is None else f"{found[knows]['auc']:.3f}" for knows in ("unaware", "adaptive")
        )
        for found in row["detection"].values()
    ]
    return " / ".join(pairs) or "-"


def _verdict(found: Metrics) -> str:
    """Write the status, and what the white box's median gained for each goal and attack."""
    gains = ", ".join("-" if gain is None else f"{gain:.2g}x" for gain in found["gains"].values())
    return found["status"] + (f" ({gains})" if gains else "")


def _milliseconds(row: Metrics) -> str:
    return "-" if row.get("ms") is None else f"{row['ms']:.1f}"


def _rate(found: Metrics | None) -> str:
    return "-" if found is None else f"{percent(found['value'], 1)} ({interval(found['ci95'], 1)})"
