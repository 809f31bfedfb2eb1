"""Tables of `attack`, from the objects that `metrics.json` holds."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfface.report.evaluation_tables import interval, percent
from tfface.report.paper import TABLE_2
from tfface.utils.public import Table

Metrics = dict[str, Any]


@dataclass(frozen=True)
class ExampleAnswer:
    """Answer of a model to a photograph.

    Attributes:
        distance: to the reference, in the preset's metric.
        matches: the two count as one person.
        taken_for: person that the head answers; None without a head.
    """

    distance: float
    matches: bool
    taken_for: str | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """One attacked photograph beside its original and its reference.

    Attributes:
        person: on the photograph.
        compared: person on the reference.
        clean: (H, W, 3) float32 in [0, 1].
        reference: (H, W, 3) likewise.
        epsilons: E budgets; of a search the smallest that succeeded.
        noise: (E, H, W, 3) the change, signed.
        limit: the distance up to which the two match.
        before: the answer to the clean photograph.
        after: the answer at each epsilon.
    """

    person: str
    compared: str
    clean: np.ndarray
    reference: np.ndarray
    epsilons: tuple[float, ...]
    noise: np.ndarray
    limit: float
    before: ExampleAnswer
    after: tuple[ExampleAnswer, ...]


def attack_tables(objects: Sequence[Metrics]) -> list[Table]:
    """Make the tables of thresholds, then of every attack, norm and goal: error rates, or the smallest epsilon."""
    rates = [entry for entry in objects if "results" in entry]
    searches = [entry for entry in objects if "results" not in entry]
    tables = [_thresholds(objects)]
    tables += [_rates(rates)] if rates else []
    tables += [_searches(searches)] if searches else []
    tables += [_table_2(entry) for entry in objects if entry["goal"] == "classify"]
    return [*tables[:-1], dataclasses.replace(tables[-1], notes=_remarks(objects))]


def check_table(entry: Metrics) -> Table:
    """Make the table of the gradient checks of a goal and norm."""
    check = entry["check"]
    words = {True: "passed", False: "FAILED", None: "-"}
    note = "The model seems to mask its gradients: what resists gradient attacks here is not shown to be robust"
    return Table(
        ["check", "verdict", "measured"],
        [[row["check"], words[row["passed"]], row["measured"]] for row in check["rows"]],
        title=f"{entry['preset']}, {entry['goal']}, {entry['norm']}: {check['attacked']} photographs",
        notes=[note] if check["masks_gradients"] else [],
    )


def figure_title(entry: Metrics) -> str:
    """Describe Figure 1 in one line."""
    budget = f"epsilon {entry['results'][-1]['epsilon']:g}" if "results" in entry else "the smallest epsilon"
    return (
        f"{entry['attack']} ({entry['norm']}, {budget}), goal {entry['goal']}, on {entry['preset']}; "
        f"{entry['metric']} threshold {entry['threshold']:.3f}"
    )


def _thresholds(objects: Sequence[Metrics]) -> Table:
    rows = {}
    for entry in objects:
        errors = entry["threshold_errors"] or {}
        rows[entry["preset"]] = [
            entry["preset"],
            f"{entry['metric']} {entry['threshold']:.4f}",
            entry["threshold_source"],
            percent(errors.get("far"), 3),
            percent(errors.get("tar")),
            f"{errors['measured_on']}: {errors['impostor']:,} impostor, {errors['genuine']:,} genuine"
            if errors
            else "not measured",
        ]
    return Table(["preset", "threshold", "source", "FAR", "TAR", "measured on"], list(rows.values()))


def _title(objects: Sequence[Metrics]) -> str:
    first = objects[0]
    behind = f"; behind {' and '.join(first['defense'])}" if first.get("defense") else ""
    return f"{first['dataset']}, {first['recipe']}, judged {first['judged']}, seed {first['seed']}{behind}"


def how(entry: Metrics) -> str:
    """Name the attack, its knowledge of a defense, and the surrogate that it sees instead."""
    known = {"adaptive": ", adaptive", "naive": ", naive"}.get(entry.get("knowledge", ""))
    return entry["attack"] + (known or (f" via {entry['surrogate']}" if entry["surrogate"] else ""))


def _who(entry: Metrics) -> list[str]:
    return [entry["preset"], entry["goal"], entry["subjects"], how(entry), entry["norm"]]


_WHO = ["preset", "goal", "subjects", "attack", "norm"]


def _rates(objects: Sequence[Metrics]) -> Table:
    l2 = any(entry["norm"] == "l2" for entry in objects)
    rows = [
        [
            *_who(entry),
            f"{result['epsilon']:g}",
            *(_l2(result.get("l2"), result.get("rms255")) if l2 else []),
            f"{result['attacked']:,}",
            f"{result['already_wrong']:,}",
            percent(result["error_rate"]),
            interval(result["ci95"]),
        ]
        for entry in objects
        for result in entry["results"]
    ]
    columns = [*_WHO, "epsilon", *(_L2 if l2 else []), "attacked", "already wrong", "error rate", "95% interval"]
    return Table(columns, rows, title=f"Error rate of attacked photographs: {_title(objects)}")


def _searches(objects: Sequence[Metrics]) -> Table:
    l2 = any(entry["norm"] == "l2" for entry in objects)
    rows = [
        [
            *_who(entry),
            f"{entry['attacked']:,}",
            f"{entry['already_wrong']:,}",
            f"{entry['failed']:,}",
            number(entry["median_epsilon"]) if entry["attacked"] else "-",
            f"{number(entry['ci95'][0])} to {number(entry['ci95'][1])}" if entry["ci95"] else "-",
            *(_l2(entry.get("median_l2"), entry.get("median_rms255")) if l2 else []),
        ]
        for entry in objects
    ]
    columns = [*_WHO, "attacked", "already wrong", "failed", "median epsilon", "95% interval", *(_L2 if l2 else [])]
    return Table(columns, rows, title=f"Smallest epsilon that succeeds (failed counts as infinite): {_title(objects)}")


_L2 = ["L2 norm", "255 x rms"]


def _l2(norm: float | None, rms255: float | None) -> list[str]:
    return ["-" if value is None else f"{value:.3f}" for value in (norm, rms255)]


def number(value: float | None) -> str:
    """Write a smallest epsilon; infinite where `metrics.json` has null."""
    return "infinite" if value is None or math.isinf(value) else f"{value:.4f}"


def _table_2(entry: Metrics) -> Table:
    """Make the table of the head's errors beside the paper's, and of the similarity test of what fools it."""
    clean, head = entry["clean"], entry["head"]
    rows = [["clean", *_rate(clean), "-", *_similarity(clean["similarity"])]]
    for result in entry.get("results", []):
        paper = TABLE_2.get(result["epsilon"]) if (entry["attack"], entry["norm"]) == ("fgsm", "linf") else None
        rows.append([f"{result['epsilon']:g}", *_rate(result), percent(paper, 0), *_similarity(result["similarity"])])
    if "results" not in entry:
        rows.append(["smallest", "-", "-", "-", *_similarity(entry["similarity"])])
    return Table(
        ["epsilon", "error rate", "95% interval", "paper", "photographs", "still match", "95% interval", "pairs match"],
        rows,
        title=(
            f"The paper's Table 2, {entry['attack']} {entry['norm']}: a head of {len(head['people'])} people on "
            f"{entry['preset']} ({head['train']} training photographs, {head['copies']} augmented copies, "
            f"{head['test']} test photographs). Right: the similarity test of the photographs that fool it"
        ),
    )


def _rate(result: Metrics) -> list[str]:
    return [percent(result["error_rate"]), interval(result["ci95"])]


def _similarity(found: Metrics | None) -> list[str]:
    if found is None:
        return ["0", "-", "-", "-"]
    return [
        f"{found['images']:,}",
        percent(found["images_matched"]),
        interval(found["ci95"]),
        f"{percent(found['pairs_matched'])} of {found['pairs']:,}",
    ]


def _remarks(objects: Sequence[Metrics]) -> list[str]:
    remarks = []
    for entry in objects:
        if entry["failed_crops"]:
            remarks.append(
                f"{entry['failed_crops']} of {entry['count']} subjects of {entry['goal']} are left out, since a "
                "photograph of theirs could not be cropped"
            )
    if any(entry["goal"] == "classify" for entry in objects):
        remarks.append(
            "a photograph still matches where its median distance to its person's training photographs is at most "
            "the threshold; the row 'clean' is of all attacked photographs before the attack"
        )
    return list(dict.fromkeys(remarks))
