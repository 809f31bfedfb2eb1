"""Distil a student from a teacher, measure it, and write it as a preset."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfface.artifacts.making import lite_speed
from tfface.evaluation.inputs import Embedder, FaceDataset, as_embedder, load_dataset
from tfface.models import _embedder
from tfface.report.distillation import distillation_tables, model_card, plot_curves
from tfface.robustness.heldout import attack_heldout, certify_heldout
from tfface.robustness.trial import Context
from tfface.training.comparison import compare
from tfface.training.config import DistillConfig
from tfface.training.distillation import DistillationRun, best_of, prepare
from tfface.utils.files import atomic_write, read_json, user_path
from tfface.utils.public import Clock, Result, Table, configured, run_record, save_figure

logger = logging.getLogger(__name__)

Metrics = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Distillation(Result):
    """A trained student and its measurements.

    Attributes:
        metrics: JSON-able, as `metrics.json` holds it.
        embedder: the student.
        folder: of its weights and record; of a release in `saved_models`.
        released: True where the held-out people were measured and the preset was written to `saved_models`.
    """

    metrics: Metrics
    embedder: Embedder
    folder: Path
    released: bool

    @property
    def accuracy(self) -> float:
        """Balanced accuracy on the validation people, at the best threshold."""
        return float(self.metrics["validation"]["accuracy"])

    @property
    def history(self) -> list[dict[str, float]]:
        """One record an epoch: loss, cosine, validation accuracy, threshold and AUC."""
        return list(self.metrics["history"])

    def to_dict(self) -> Metrics:
        return self.metrics

    def tables(self) -> list[Table]:
        if self.released:
            note = f"wrote {self.metrics['preset']} to {self.folder}"
        else:
            note = "the same command with `release` measures the held-out people and writes the preset"
        return distillation_tables(self.metrics, notes=[note])

    def plot(self) -> Any:
        """Draw loss, cosine to the teacher and validation accuracy by epoch, as a matplotlib Figure."""
        title = f"{self.metrics['preset']} from {self.metrics['teacher']}"
        return plot_curves(self.history, best_of(self.history), title)

    def save_files(self, folder: Path) -> list[str]:
        save_figure(self.plot(), folder / "curves.png")
        return ["curves.png"]

    def write_card(self) -> None:
        """Write the model card beside the preset."""
        with atomic_write(self.folder / "README.md") as temporary:
            temporary.write_text(model_card(self.metrics, read_json(self.folder / "preset.json")))


@dataclass(frozen=True)
class PartialDistillation(Result):
    """Views alone, or a student that was trained under another backend than TensorFlow and is not measured yet.

    Attributes:
        preset: name that the student will have.
        views: views of each photograph on disk.
        photographs: number of training photographs.
        epochs: epochs trained.
        next_step: what remains to do, in words.
    """

    preset: str
    views: int
    photographs: int
    epochs: int
    next_step: str

    def to_dict(self) -> Metrics:
        return {
            "command": "distill",
            "preset": self.preset,
            "views": self.views,
            "train_images": self.photographs,
            "epochs": self.epochs,
        }

    def tables(self) -> list[Table]:
        row = [self.preset, f"{self.photographs:,}", str(self.views), str(self.epochs)]
        return [Table(["preset", "photographs", "views of each", "epochs"], [row], notes=[self.next_step])]


@configured(DistillConfig)
def distill(
    teacher: str | Embedder = "facenet",
    student: str = "student",
    dataset: str | Path | FaceDataset = "lfw",
    *,
    config: DistillConfig,
) -> Distillation | PartialDistillation:
    """Distil a teacher into a student, with a train / validation / held-out split by identity.

    Views of the photographs and the teacher's embeddings of them are stored on disk; a training that was stopped goes
    on from its last epoch when it is called again. It ends with the validation accuracy. With `release` the held-out
    people are read: student and teacher are compared as in the paper, and the preset is written.

    Args:
        teacher: a model or its name; its embeddings are learned.
        student: architecture to train: `student` (the paper's), `resnet50`, `deepface`, or any other model.
        dataset: a data set, its name, or a folder with one subfolder per person.

    Returns:
        The student with its measurements; a `PartialDistillation` with `grow_only`, or under another Keras backend
        than TensorFlow, where students are trained and not measured.

    Raises:
        UserError: a value is out of range, parameters do not go together, the data set has too few people, or the
            student cannot learn from this teacher.

    Example:
        >>> import tfface
        >>> result = tfface.distill("facenet", "student", "lfw", epochs=60, release=True)  # doctest: +SKIP
        >>> round(result.accuracy, 3)  # doctest: +SKIP
        0.912
    """
    clock = Clock()
    run = prepare(
        as_embedder(teacher, offline=config.offline),
        student,
        load_dataset(dataset, manual_dir=config.manual_dir, offline=config.offline),
        config,
    )
    # Looked up before the training: an unknown name is an error at once.
    beside = run.start if config.beside is None else as_embedder(config.beside, offline=config.offline)
    if config.grow_only:
        run.maker.fill(run.settings.views)
        return _partial(run, 0, "the same call without `grow_only` trains on them")
    return _train(run, student, config, beside, clock)


def _train(
    run: DistillationRun, student: str, config: DistillConfig, beside: Embedder | None, clock: Clock
) -> Distillation | PartialDistillation:
    checkpoints = run.checkpoints()
    # Before any view is made: a student that cannot be built says so at once.
    run.network()

    def draw(history: Sequence[dict[str, float]]) -> None:
        save_figure(plot_curves(history, best_of(history), run.title), checkpoints.folder / "curves.png")

    with checkpoints.alone():
        validation = run.validation()
        network = run.train(validation, checkpoints, growth=config.growth, draw=draw)
        if (backend := _backend()) != "tensorflow":
            todo = f"trained under {backend}; the same command without KERAS_BACKEND={backend} measures the student"
            return _partial(run, checkpoints.epochs, todo)
        presets = user_path(config.saved_models or _embedder.SAVED_MODELS)
        folder = presets / run.student.preset.name if config.release else checkpoints.folder / "preset"
        embedder, score = run.write_preset(folder, network, validation, compact=config.compact)
        metrics = run_record("distill", embedder, run.recipe.name, run.dataset, config.seed, clock)
        metrics |= run.record(embedder, score, checkpoints)
        metrics["made_by"] = _made_by(run, config, student)
        if config.release:
            metrics |= compare(run.dataset, embedder, run.teacher, run.recipe, run.split, seed=config.seed)
            metrics["tflite"] = lite_speed(embedder, run.teacher)
            metrics |= _heldout_robustness(run, embedder, beside)
        metrics["seconds"] = clock.seconds
        result = Distillation(metrics, embedder, folder, config.release)
        if config.release:
            result.save(folder)
            result.write_card()
    return result


def _partial(run: DistillationRun, epochs: int, next_step: str) -> PartialDistillation:
    return PartialDistillation(run.student.preset.name, run.settings.views, run.bank.rows, epochs, next_step)


def _made_by(run: DistillationRun, config: DistillConfig, student: str) -> Sequence[str]:
    """Return the commands that make the preset, in order: those of the one it began with, then its own.

    A preset may begin with the one that it replaces: then only the whole list makes it again.
    """
    dataset = run.dataset.name.removeprefix("folder:").split("/")[0]
    own = config.made_by or config.call(run.teacher.preset.name, student, dataset)
    if run.start is None:
        return [own]
    return [*read_json(_embedder.SAVED_MODELS / run.start.preset.name / "metrics.json")["made_by"], own]


def _heldout_robustness(run: DistillationRun, embedder: Embedder, beside: Embedder | None) -> Metrics:
    """Measure a hardened student, and another beside it, on held-out people; nothing of an ordinary one."""
    hardening, seed = run.settings.hardening, run.settings.seed
    if hardening is None:
        return {}
    contexts = [Context(run.dataset, one, run.recipe, seed=seed) for one in (embedder, beside) if one]
    if not hardening.adversarial:
        return {"certified": certify_heldout(contexts[0], run.split, sigma=hardening.sigma)}
    return {"withstands": [attack_heldout(context, run.split) for context in contexts]}


def _backend() -> str:
    import keras

    return str(keras.backend.backend())
