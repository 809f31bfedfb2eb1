"""Report of a distillation: tables, the training's curves, the model card."""

from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from tfface.report.evaluation_tables import interval, percent
from tfface.report.hardening import hardening_lines
from tfface.utils.public import Table

Metrics = dict[str, Any]

# As the paper prints them: mean and variance of the Euclidean distance, misses at 1.3.
_PAPER = {"genuine": "0.85/0.04", "impostor": "1.39/0.005", "misses": "32 of 1,680", "speedup": "5 to 50 times"}

_BOTH = ("teacher", "student")


def distillation_tables(metrics: Metrics, *, notes: Sequence[str] = ()) -> list[Table]:
    """Make the tables of a student: its validation and, of a release, the paper's comparison.

    Args:
        metrics: as `metrics.json` holds them.
        notes: below the first table.
    """
    validation = metrics["validation"]
    columns = ["preset", "weights", "trained on", "validation accuracy", "threshold", "best epoch"]
    row = [
        metrics["preset"],
        f"{metrics['parameters']:,}",
        f"{metrics['train_images']:,} images of {metrics['train_identities']:,} people",
        f"{validation['accuracy']:.2%}",
        f"{validation['threshold']:.4f}",
        f"{validation['epoch'] + 1} of {metrics['epochs']}",
    ]
    if "hard_accuracy" in validation:
        columns.append("attacked or noisy")
        row.append(f"{validation['hard_accuracy']:.2%}")
    own = Table(columns, [row], notes=notes)
    return [own, comparison_table(metrics)] if "misses" in metrics else [own]


def comparison_table(metrics: Metrics) -> Table:
    """Make the paper's comparison of student and teacher."""
    return Table(
        ["Euclidean distances of unit vectors", "paper", metrics["teacher"], metrics["preset"]],
        comparison_rows(metrics),
        title="Student and teacher, as the paper compares them",
        notes=metrics["heldout"]["remarks"],
    )


def comparison_rows(metrics: Metrics) -> list[list[str]]:
    """Make rows of the paper's comparison: figure, the paper, the teacher, the student."""
    student, teacher = metrics["misses"], metrics["misses_teacher"]
    speed = metrics["images_per_second"]
    people = f"{student['all']['people']:,}"
    rows = [
        [
            f"genuine pairs of {people}: mean/variance",
            _PAPER["genuine"],
            *(_moments(m, "all", "genuine") for m in (teacher, student)),
        ],
        [
            "impostor pairs: mean/variance",
            _PAPER["impostor"],
            *(_moments(m, "all", "impostor") for m in (teacher, student)),
        ],
        [
            "impostor pairs nearer than 1.3",
            "-",
            *(percent(m["all"]["impostor"]["share_nearer"]) for m in (teacher, student)),
        ],
        ["misses: genuine pairs 1.3 or more apart", _PAPER["misses"], *(_misses(m["all"]) for m in (teacher, student))],
        ["misses of held-out people alone", "-", *(_misses(m["heldout"]) for m in (teacher, student))],
        [
            "... their impostor pairs: mean/variance",
            "-",
            *(_moments(m, "heldout", "impostor") for m in (teacher, student)),
        ],
        ["... nearer than 1.3", "-", *(percent(m["heldout"]["impostor"]["share_nearer"]) for m in (teacher, student))],
        ["images a second, batch 64", "-", f"{speed['teacher']:,.0f}", f"{speed['student']:,.0f}"],
        ["times the teacher's speed", _PAPER["speedup"], "1", f"{metrics['speedup']:.1f}"],
    ]
    if lite := metrics.get("tflite"):
        rows += [
            ["TFLite float32, one image: milliseconds", "-", *(f"{lite['ms'][who]:.2f}" for who in _BOTH)],
            ["... times the teacher's speed", "-", "1", f"{lite['speedup']:.1f}"],
        ]
    for label, kind in (
        ("held-out accuracy, calibrated", "calibrated"),
        ("held-out accuracy, preset's threshold", "fixed"),
    ):
        rows.append([label, "-", *(_accuracy(metrics[part][kind]) for part in ("heldout_teacher", "heldout"))])
    best = [
        row
        for row in metrics["heldout"].get("rows", ())
        if row["threshold_source"].startswith("best balanced accuracy")
    ]
    rows += [["held-out accuracy, validation people's best threshold", "-", "-", _accuracy(row)] for row in best]
    return rows


def plot_curves(history: Sequence[dict[str, float]], best: int, title: str) -> plt.Figure:
    """Draw loss, cosine to the teacher, and validation accuracy, by epoch.

    Args:
        history: one record an epoch.
        best: the best epoch, from 0.
        title: names of student and teacher.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = range(1, len(history) + 1)
    left.set(xlabel="epoch", title=title)
    # Each axis in its curve's colour: a legend would lie on one of them.
    for axes, key, label, color in (
        (left, "loss", "training loss", "#c8553d"),
        (left.twinx(), "cosine", "mean cosine to the teacher", "#3355cc"),
    ):
        axes.plot(epochs, [record[key] for record in history], color=color)
        axes.set_ylabel(label, color=color)
        axes.tick_params(axis="y", colors=color)
    accuracy = [100 * record["accuracy"] for record in history]
    right.plot(epochs, accuracy, color="#2a9d6f", marker=".")
    if "hard_accuracy" in history[0]:
        hard = [100 * record["hard_accuracy"] for record in history]
        right.plot(epochs, hard, color="#c8553d", marker=".", label=f"attacked or noisy: {hard[best]:.2f}%")
    small = [record["small_input"] for record in history if "small_input" in record]
    if small:
        right.axvspan(0.5, len(small) + 0.5, color="#cccccc", alpha=0.4, label=f"views of {small[0]} pixels")
    right.axvline(best + 1, color="#333333", linestyle="--", label=f"best epoch: {accuracy[best]:.2f}%")
    right.set(xlabel="epoch", ylabel="balanced accuracy (%)", title="validation people")
    right.grid(alpha=0.3)
    right.legend(loc="lower right")
    return figure


def model_card(metrics: Metrics, record: Metrics) -> str:
    """Write the README of a preset, in Markdown.

    Args:
        metrics: as `metrics.json` holds them.
        record: as `preset.json` holds it.
    """
    rows = comparison_rows(metrics)
    table = [f"| | paper | {metrics['teacher']} | {metrics['preset']} |", "|---|---|---|---|"]
    table += [f"| {' | '.join(row)} |" for row in rows]
    validation = metrics["validation"]
    return "\n".join(
        [
            f"# {metrics['preset']}",
            "",
            f"A face embedder of {metrics['parameters']:,} weights, distilled from {metrics['teacher']}: "
            f"{record['input_size']} px RGB in [0, 1] to {record['embedding_size']} values of length 1.",
            "",
            "## Use",
            "",
            "```",
            "import tfface",
            f'print(tfface.evaluate("{metrics["preset"]}", "lfw", protocol="view2").calibrated.accuracy)',
            "```",
            "",
            f"Crop recipe `{record['recipe']}`. Two photographs are of one person up to a {record['metric']} distance "
            f"of {record['threshold']:.4f} ({record['threshold_source']}).",
            "",
            "## Training data",
            "",
            f"{record['training_data']}.",
            "",
            f"`preset.json` lists the {len(record['identities_seen']):,} people it has seen (trained on, or validated "
            "with). On them it does better than on others, and `evaluate` says so. What the teacher knows of LFW's "
            "people the student may have learned too: FaceNet's training sets were not cleaned of them.",
            "",
            "## Measured",
            "",
            f"{metrics['dataset']}, recipe {metrics['recipe']}. Held-out people were read once, for this card.",
            "",
            *table,
            "",
            f"Validation: {percent(validation['accuracy'])} at epoch {validation['epoch'] + 1} of {metrics['epochs']}.",
            "",
            "![curves](curves.png)",
            "",
            *hardening_lines(metrics),
            "## How it was made",
            "",
            "```",
            *metrics["made_by"],
            "```",
            "",
            f"Licence: {record['licence']}.",
            "",
        ]
    )


def _moments(metrics: Metrics, who: str, kind: str) -> str:
    entry = metrics[who][kind]
    return f"{entry['mean']:.3f}/{entry['variance']:.4f}"


def _misses(entry: Metrics) -> str:
    return f"{entry['misses']:,} of {entry['people']:,} ({percent(entry['rate'])})"


def _accuracy(entry: Metrics | None) -> str:
    return "-" if not entry else f"{percent(entry['accuracy'])} ({interval(entry['ci95'])})"
