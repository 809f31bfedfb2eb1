"""Tables of evaluations and of mining, from the objects that `metrics.json` holds."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tfface.report.paper import TABLE_1
from tfface.utils.public import Table

Metrics = dict[str, Any]


def percent(value: float | None, digits: int = 2) -> str:
    """Format a rate as a percentage; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f}%"


def interval(bounds: Sequence[float] | None, digits: int = 2) -> str:
    """Format a 95% interval of a rate."""
    return "-" if bounds is None else f"{100 * bounds[0]:.{digits}f} to {100 * bounds[1]:.{digits}f}"


def evaluation_tables(metrics: Metrics) -> list[Table]:
    """Make the tables of one model on one data set: thresholds, distances, rates."""
    rates = [["AUC", _number(metrics["auc"]), "-"], ["EER", percent(metrics["eer"]), "-"]]
    rates += [
        [f"TAR at FAR {100 * float(far):g}%", percent(entry["value"]), interval(entry["ci95"])]
        for far, entry in metrics["tar_at_far"].items()
    ]
    tables = [
        Table(
            ["threshold", "metric", "value", "accuracy", "95% interval", "FAR", "FRR"],
            _threshold_rows(metrics),
            title=title(metrics),
        ),
        Table(["pairs", "count", "cosine mean", "variance", "Euclidean mean", "variance"], _distance_rows(metrics)),
        Table(["rate", "value", "95% interval"], rates),
    ]
    if metrics.get("groups"):
        tables.append(groups_table(metrics["groups"]))
    return [*tables[:-1], dataclasses.replace(tables[-1], notes=metrics["remarks"])]


def title(metrics: Metrics) -> str:
    """Describe in one line what was measured."""
    failed = f", {metrics['failed_images']} failed" if metrics["failed_images"] else ""
    flip = ", mirrored added" if metrics["flip"] else ""
    defense = f", behind {' and '.join(metrics['defense'])}" if metrics.get("defense") else ""
    corruption = f", under {metrics['corruption']}" if metrics.get("corruption") else ""
    return (
        f"{metrics['preset']} ({metrics['weights_sha256'][:8]}) on {metrics['dataset']}: "
        f"{metrics['images']:,} images of {metrics['identities']:,} people{failed}; "
        f"{metrics['protocol']}, {metrics['recipe']}{flip}{corruption}{defense}"
    )


def groups_table(groups: Metrics) -> Table:
    """Make the table of error rates within each group at one threshold."""
    rows = [
        [
            name,
            f"{entry['genuine']['count']:,}",
            percent(entry["fnmr"]["value"]),
            interval(entry["fnmr"]["ci95"]),
            f"{entry['impostor']['count']:,}",
            percent(entry["fmr"]["value"], 3),
            interval(entry["fmr"]["ci95"], 3),
        ]
        for name, entry in groups["rates"].items()
    ]
    columns = ["group", "genuine", "false non-match", "95% interval", "impostor", "false match", "95% interval"]
    return Table(
        columns, rows, title=f"By group, pairs within it, at {groups['metric']} distance {groups['threshold']:.4f}"
    )


def mining_tables(metrics: Metrics) -> list[Table]:
    """Make the tables of wrong pairs and of the people with the most errors."""
    kinds = ("false_positives", "false_negatives")
    rows = [
        [
            kind.replace("_", " "),
            f"{metrics[kind]['count']:,}",
            f"{metrics[kind]['pairs']:,}",
            percent(metrics[kind]["rate"], 3),
            interval(metrics[kind]["ci95"], 3),
        ]
        for kind in kinds
    ]
    heading = f"{metrics['metric']} threshold {metrics['threshold']:.4f} ({metrics['threshold_source']})"
    wrong = Table(
        ["wrong pairs", "count", "of pairs", "rate", "95% interval"], rows, title=f"{title(metrics)}; {heading}"
    )
    if not metrics["people"]:
        said = "no pair is wrong at this threshold: there is nobody to list"
        return [dataclasses.replace(wrong, notes=[said, *metrics["remarks"]])]
    people = Table(
        ["person", "photographs", *(kind.replace("_", " ") for kind in kinds)],
        [
            [person["person"], f"{person['images']:,}", *(f"{person[kind]:,}" for kind in kinds)]
            for person in metrics["people"][:10]
        ],
        title="The people with the most errors (a false positive counts for both of its people)",
        notes=metrics["remarks"],
    )
    return [wrong, people]


def comparison_table(objects: Sequence[Metrics]) -> Table:
    """Make the table of several runs side by side; one data set and recipe makes it the paper's Table 1."""
    rows = []
    corrupted = any(metrics["corruption"] for metrics in objects)
    behind = objects[0].get("defense")  # of all of them
    for metrics in objects:
        fixed, calibrated = metrics["fixed"] or {}, metrics["calibrated"] or {}
        far = "0.001" if "0.001" in metrics["tar_at_far"] else next(reversed(metrics["tar_at_far"]), None)
        rows.append(
            [
                metrics["preset"],
                metrics["dataset"],
                metrics["recipe"] + ("+flip" if metrics["flip"] else ""),
                *([metrics["corruption"] or "none"] if corrupted else []),
                f"{metrics['images'] - metrics['failed_images']:,} of {metrics['images']:,}",
                percent(fixed.get("accuracy")),
                _number(fixed.get("threshold"), 3),
                percent(calibrated.get("accuracy")),
                _number(calibrated.get("threshold"), 3),
                _number(metrics["auc"]),
                percent(metrics["eer"]),
                "-" if far is None else f"{percent(metrics['tar_at_far'][far]['value'])} at {float(far):g}",
            ]
        )
    return Table(
        [
            "preset",
            "data set",
            "recipe",
            *(["corruption"] if corrupted else []),
            "images",
            "accuracy, fixed",
            "threshold",
            "accuracy, calibrated",
            "threshold",
            "AUC",
            "EER",
            "TAR at FAR",
        ],
        rows,
        title=f"Behind {' and '.join(behind)}" if behind else "",
    )


PAPER_COLUMNS = (
    "model",
    "paper: threshold",
    "paper: accuracy",
    "ours at it",
    "ours calibrated",
    "paper: genuine",
    "ours",
    "paper: impostor",
    "ours",
)


def paper_table(objects: Sequence[Metrics]) -> Table:
    """Make the paper's Table 1 with ours beside it; Euclidean distances of unit vectors, as its figures are."""
    return Table(
        PAPER_COLUMNS,
        [paper_row(metrics) for metrics in objects],
        title="The paper's Table 1 (distances: mean/variance, Euclidean)",
    )


def paper_row(metrics: Metrics) -> list[str]:
    """Return a row of the paper's Table 1, by `PAPER_COLUMNS`."""
    paper = TABLE_1.get(metrics["model"])
    euclidean = next(row for row in metrics["rows"] if row["metric"] == "euclidean")
    return [
        metrics["preset"],
        f"{paper.threshold:.2f}" if paper else "-",
        paper.accuracy if paper else "-",
        percent(_accuracy_at(metrics, paper.threshold) if paper else None),
        percent((metrics["calibrated"] or {}).get("accuracy")),
        _moments(paper.genuine if paper else None),
        _moments(_pair(euclidean["genuine"])),
        _moments(paper.impostor if paper else None),
        _moments(_pair(euclidean["impostor"])),
    ]


def _accuracy_at(metrics: Metrics, threshold: float) -> float | None:
    """Return the accuracy at the paper's threshold, in whichever metric a row has it."""
    for row in [*([metrics["fixed"]] if metrics["fixed"] else []), *metrics["rows"]]:
        if abs(row["threshold"] - threshold) < 1e-9:
            return row["accuracy"]
    return None


def _threshold_rows(metrics: Metrics) -> list[list[str]]:
    entries = [
        {
            **metrics[name],
            "threshold_source": f"{name}: {metrics[name]['threshold_source']}",
            "metric": metrics["metric"],
        }
        for name in ("fixed", "calibrated")
        if metrics[name]
    ]
    entries += metrics["rows"]
    return [
        [
            entry["threshold_source"],
            entry["metric"],
            f"{entry['threshold']:.4f}",
            percent(entry["accuracy"]),
            interval(entry.get("ci95")),
            percent(entry.get("far"), 3),
            percent(entry.get("frr")),
        ]
        for entry in entries
    ]


def _distance_rows(metrics: Metrics) -> list[list[str]]:
    other = next(row for row in metrics["rows"] if row["metric"] != metrics["metric"])
    by_metric = {metrics["metric"]: metrics, other["metric"]: other}
    rows = []
    for kind in ("genuine", "impostor"):
        cosine, euclidean = by_metric["cosine"][kind], by_metric["euclidean"][kind]
        rows.append(
            [
                kind,
                f"{cosine['count']:,}",
                _number(cosine["mean"]),
                _number(cosine["variance"]),
                _number(euclidean["mean"]),
                _number(euclidean["variance"]),
            ]
        )
    return rows


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _pair(entry: Metrics) -> tuple[float, float] | None:
    return None if entry["mean"] is None else (entry["mean"], entry["variance"])


def _moments(values: tuple[float, float] | None) -> str:
    return "-" if values is None else f"{values[0]:.2f}/{values[1]:.3f}".rstrip("0")


MOST_SHOWN = 20
FEW_PEOPLE = 30
_LOW_AUC = 0.8
_FEED = ("recipe", "colour", "scale")


def probe_tables(metrics: Metrics) -> list[Table]:
    """Make the tables of a probe: the best with each recipe, colour order and scale, and the first of the ranking."""
    feeds = metrics["feeds"]
    columns = ["AUC", "95% interval", "behind the best", "95% interval", "verdict"]
    title = (
        f"{metrics['preset']} on {metrics['dataset']}: {metrics['photographs']:,} photographs of "
        f"{metrics['people']:,} people, {metrics['genuine_pairs']:,} genuine and {metrics['impostor_pairs']:,} "
        f"impostor pairs ({metrics['protocol']})"
    )
    factors = []
    for name in _FEED:
        for value in dict.fromkeys(entry[name] for entry in feeds):
            entry = next(entry for entry in feeds if entry[name] == value)
            factors.append([f"{name} {value}", *_feed_cells(entry)])
    ranked = [[" ".join(entry[name] for name in _FEED), *_feed_cells(entry)] for entry in feeds[:MOST_SHOWN]]
    shown = f"First {MOST_SHOWN} of {len(feeds)} combinations" if len(feeds) > MOST_SHOWN else "All combinations"
    return [
        Table(["best with", *columns], factors, title=title),
        Table(["recipe, colour order, scale", *columns], ranked, title=shown, notes=metrics["remarks"]),
    ]


def _feed_cells(entry: Metrics) -> list[str]:
    verdict = str(entry["verdict"])
    verdict = {"tie": "cannot be told apart", "dropped": "dropped in the first round"}.get(verdict, verdict)
    if entry["auc"] is None:
        return ["-", "-", "-", "-", verdict]
    numbers = [f"{entry['auc']:.4f}", "{:.4f} to {:.4f}".format(*entry["ci95"])]
    if entry["verdict"] == "best":
        return [*numbers, "-", "-", verdict]
    return [*numbers, f"{entry['behind']:.4f}", "{:.4f} to {:.4f}".format(*entry["behind_ci95"]), verdict]


def feed_text(entry: Metrics) -> str:
    """Spell a way of feeding as the facts after a model's file."""
    return ",".join(f"{name}={entry[name]}" for name in ("scale", "colour", "recipe"))


def probe_remarks(metrics: Metrics) -> list[str]:
    """Say what the numbers of a probe can and cannot carry."""
    best, chosen, ties = metrics["feeds"][0], metrics["chosen"], _verdicts(metrics, "tie")
    found = []
    if chosen is None:
        found.append(
            f"no combination tells people apart: the interval of the best AUC goes down to {best['ci95'][0]:.3f}, and "
            "0.5 is chance; nothing is written"
        )
    if ties:
        found.append(
            f"{len(ties)} of {len(metrics['feeds'])} combinations cannot be told apart from the best: the paired "
            "interval of the difference, by identity, contains 0"
        )
    if chosen is not None and any(chosen[name] != best[name] for name in _FEED):
        found.append(f"of those within about one standard error of the best, {feed_text(chosen)} is the most usual")
    if metrics["people"] < FEW_PEOPLE:
        found.append(f"{metrics['people']} people decide little: a `dataset` of {FEW_PEOPLE} or more tells more apart")
    if dropped := _verdicts(metrics, "dropped"):
        found.append(
            f"{len(dropped)} combinations were more than 0.1 behind the best, by more than chance, on a first "
            f"{metrics['first_round']} photographs and were dropped: their numbers are of those"
        )
    if failed := _verdicts(metrics, "failed"):
        found.append(f"{len(failed)} combinations gave no embeddings; the first: {failed[0]['reason']}")
    if metrics["failed_photographs"]:
        found.append(f"photographs that could not be cropped and take part in no pair: {metrics['failed_photographs']}")
    found += _remarks_on_outputs(metrics["embedding"])
    if entry := next((entry for entry in metrics["feeds"] if _as_at_present(entry, metrics)), None):
        found.append(f"fed as at present ({feed_text(entry)}): {_present[entry['verdict']]}")
    if chosen is not None and best["auc"] < _LOW_AUC:
        found.append(
            f"an AUC of {best['auc']:.3f} is low for a face embedder: the right way of feeding may not be among these"
        )
    return found


_present = {
    "best": "the best of all",
    "tie": "cannot be told apart from the best",
    "worse": "worse than the best by more than chance",
    "dropped": "far behind the best",
    "failed": "gives no embeddings",
}


def _as_at_present(entry: Metrics, metrics: Metrics) -> bool:
    return metrics["current"] is not None and all(entry[name] == metrics["current"][name] for name in _FEED)


def _verdicts(metrics: Metrics, verdict: str) -> list[Metrics]:
    return [entry for entry in metrics["feeds"] if entry["verdict"] == verdict]


def _remarks_on_outputs(embedding: Metrics) -> list[str]:
    if embedding["class_probabilities"]:
        return [
            f"the {embedding['dimension']} outputs add up to 1, as class probabilities do: embeddings are the output "
            "of a layer before; give its name as output=NAME"
        ]
    shortest, _, longest = embedding["lengths"]
    if embedding["unit"]:
        return []
    return [f"embeddings have lengths from {shortest:.3g} to {longest:.3g}; they are scaled to length 1"]
