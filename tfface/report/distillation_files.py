"""What a distillation leaves: `metrics.json`, curves, the model card, and the table at its end."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.cli._output import print_table
from tfface.models import _embedder
from tfface.report.distillation import model_card, plot_curves, print_comparison
from tfface.utils.files import atomic_write, read_json, write_json
from tfface.utils.result import Clock, run_record

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder
    from tfface.training.checkpoints import Checkpoints, History
    from tfface.training.job import DistillationJob
    from tfface.training.validation import Score

Metrics = dict[str, Any]


def distillation_record(
    job: "DistillationJob", embedder: "Embedder", score: "Score", checkpoints: "Checkpoints", clock: Clock
) -> Metrics:
    """What is known of a student before the held-out people are read."""
    best = checkpoints.history[checkpoints.best_epoch or 0]
    hard = {"hard_accuracy": best["hard_accuracy"]} if "hard_accuracy" in best else {}
    return {
        **run_record("distill", embedder, job.recipe.name, job.dataset, job.settings.seed, clock),
        "teacher": job.teacher.preset.name,
        "teacher_sha256": job.teacher.sha256,
        "student": job.student.preset.architecture,
        "parameters": embedder.model.count_params(),
        "train_images": len(job.maker.indices),
        "train_identities": len(job.split.people(job.dataset, "train")),
        "split": job.split.rule,
        "epochs": checkpoints.epochs,
        "settings": job.settings.record(),
        **job.start_record(),
        "augmentation": job.maker.augmentation.record(),
        "validation": {
            "accuracy": score.accuracy,
            "threshold": score.threshold,
            "epoch": checkpoints.best_epoch,
            "people": job.split.validation_rule,
            **hard,
        },
        "history": checkpoints.history,
    }


def made_by(start: "Embedder | None", command: str) -> list[str]:
    """The commands that make a preset, in order: those of what it began with, then its own.

    A preset may begin with the one that it replaces: then only the whole list makes it again.

    Args:
        start: what the training began with; None for fresh weights.
        command: the preset's own.
    """
    if start is None:
        return [command]
    return [*read_json(_embedder.SAVED_MODELS / start.preset.name / "metrics.json")["made_by"], command]


def write_distillation(
    metrics: Metrics, history: "History", title: str, *, released: Path | None, out: Path | None
) -> None:
    """Writes curves and metrics to both folders, and the model card to the preset's.

    Args:
        metrics: as `metrics.json` is to hold them.
        history: one record an epoch.
        title: of the curves.
        released: the preset's folder; None unless it is released.
        out: of `--out`.
    """
    for target in filter(None, [released, out]):
        plot_curves(target / "curves.png", history, title)
        write_json(target / "metrics.json", metrics)
    if released:
        with atomic_write(released / "README.md") as temporary:
            temporary.write_text(model_card(metrics, read_json(released / "preset.json")))
        print(f"wrote {metrics['preset']} to {released}")
    if out:
        print(f"wrote curves.png, metrics.json in {out}")


def show_distillation(metrics: Metrics, *, released: bool) -> None:
    """The student's validation and, of a release, the paper's comparison, on stdout."""
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
    print_table(columns, [row])
    if released:
        print_comparison(metrics)
    else:
        print("the same command with --release measures the held-out people and writes the preset")
