"""Train a student on its teacher's embeddings, from names to a preset."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfface.evaluation.calibrate import calibrate_embeddings
from tfface.evaluation.inputs import Embedder, FaceDataset, FarThreshold, Preset, Recipe, recipe
from tfface.models import _embedder, _h5
from tfface.training.checkpoints import Checkpoints, History, rank
from tfface.training.config import DistillConfig, Settings
from tfface.training.fitting import train
from tfface.training.split import Split, split_people
from tfface.training.students import Student, fill_from, student_of
from tfface.training.validation import Score, Validation, embed_part, validation_of
from tfface.training.view_bank import EpochViews, ViewBank, views_within
from tfface.training.view_maker import BATCH, ViewMaker, ViewProcess, padded, sampled, usable, wait_for
from tfface.training.views import Augmentation
from tfface.utils.files import cache_dir, digest_of, user_path

logger = logging.getLogger(__name__)

Metrics = dict[str, Any]

_SECONDS_BETWEEN_PICTURES = 30.0


@dataclass(frozen=True, eq=False)
class DistillationRun:
    """A distillation with all names resolved.

    Attributes:
        dataset: the photographs.
        split: train / validation / held-out split by identity.
        recipe: of all crops.
        teacher: its embeddings are learned.
        student: the network to train.
        maker: of the views.
        bank: the views on disk.
        settings: of the training.
        work: folder of checkpoints; None for one of the cache, named by the run.
        start: the training begins with its weights; None for fresh ones.
    """

    dataset: FaceDataset
    split: Split
    recipe: Recipe
    teacher: Embedder
    student: Student
    maker: ViewMaker
    bank: ViewBank
    settings: Settings
    work: str | Path | None = None
    start: Embedder | None = None

    @property
    def title(self) -> str:
        """Caption of pictures."""
        return f"{self.student.preset.name} from {self.teacher.preset.name}"

    def fingerprint(self) -> Metrics:
        """Return everything that the training depends on, JSON-able."""
        preset = self.student.preset
        return {
            **self.bank.fingerprint,
            "format": 1,
            "student": preset.architecture,
            "input_size": preset.input_size,
            "config": dict(preset.config),
            "split": self.split.rule,
            **self.settings.record(),
            **self.start_record(),
        }

    def start_record(self) -> dict[str, str]:
        """Return which weights the training begins with, for fingerprints and results; empty for fresh ones."""
        return {"start": self.start.preset.name, "start_sha256": self.start.sha256} if self.start else {}

    def network(self) -> keras.Model:
        """Build the student as it is before training.

        Raises:
            UserError: it cannot be built, or cannot begin with the weights of `start`.
        """
        network = self.student.network(self.settings.seed)
        if self.start is not None:
            fill_from(network, self.start, self.split.people(self.dataset, "heldout"))
        return network

    def checkpoints(self) -> Checkpoints:
        """Open the checkpoints of this run.

        Raises:
            UserError: `work` holds another run's.
        """
        run = self.fingerprint()
        return Checkpoints(user_path(self.work) if self.work else cache_dir("training", digest_of(run)), run)

    def validation(self) -> Validation:
        """Read the validation people's crops, which rank the epochs."""
        return validation_of(
            self.dataset, self.split.validation, self.recipe, self.student.preset.input_size, seed=self.settings.seed
        )

    def train(
        self,
        validation: Validation,
        checkpoints: Checkpoints,
        *,
        growth: str = "background",
        draw: Callable[[History], None] | None = None,
    ) -> keras.Model:
        """Train to the last epoch, and return the network with the weights of the best one.

        Args:
            validation: ranks the epochs.
            checkpoints: of this run.
            growth: when missing views are made, as in `DistillConfig`.
            draw: draws the history; called at most twice a minute, as a small student's epoch is shorter than drawing.
        """
        network = self.network()
        if not checkpoints.stopped and checkpoints.epochs < self.settings.epochs:
            with self._missing_views(growth) as process:
                self._wait(0, process)
                batches = EpochViews(
                    self.bank,
                    views=self.settings.views,
                    batch_size=self.settings.batch_size,
                    seed=self.settings.seed,
                    jitter=self.settings.jitter,
                    people=np.unique(self.maker.identities, return_inverse=True)[1],
                    center_weight=self.settings.center_weight,
                )
                train(
                    network,
                    batches,
                    validation,
                    checkpoints,
                    self.settings,
                    wait_for_view=lambda number: self._wait(number, process),
                    on_epoch=_now_and_then(draw) if draw else lambda history: None,
                )
        checkpoints.restore_best(network)
        return network

    def _wait(self, number: int, process: ViewProcess | None) -> None:
        if not self.bank.ready(number):
            wait_for(self.bank, number, process)

    @contextlib.contextmanager
    def _missing_views(self, growth: str) -> Iterator[ViewProcess | None]:
        """Make the missing views: at once, or in a process beside the body."""
        missing = [number for number in range(self.settings.views) if not self.bank.ready(number)]
        if not missing or growth == "none":
            yield None
            return
        if growth == "ahead" and keras.backend.backend() == "tensorflow":
            self.maker.fill(self.settings.views)
            yield None
            return
        process = ViewProcess.start(self.maker, self.settings.views)
        try:
            for number in missing if growth == "ahead" else ():
                wait_for(self.bank, number, process)
            yield process
        finally:
            process.stop()

    def write_preset(
        self, folder: Path, network: keras.Model, validation: Validation, *, compact: bool = False
    ) -> tuple[Embedder, Score]:
        """Write weights and record, and return the embedder that they load as, with its validation score.

        The record is written last: a preset that is listed has its weights.
        """
        path = folder / self.student.preset.file_name
        _h5.save(network, path, compact=compact)
        preset = dataclasses.replace(
            self.student.preset,
            training_data=self._training_data(),
            licence=f"as its teacher's ({self.teacher.preset.licence}); the photographs are for research use",
            identities_seen=frozenset(self.split.people(self.dataset, "train", "validation")),
        )
        score = validation.score(_embedding_bytes(_embedder.load_file(preset, path)))
        best = (preset.metric, score.threshold, f"best balanced accuracy on {self.split.validation_rule}")
        people, found = embed_part(self.dataset, self.split.validation, _embedder.load_file(preset, path), self.recipe)
        rows = calibrate_embeddings(people, found, preset, far=(), recipe=self.recipe.name).thresholds
        preset = released_preset(preset, rows, best, self.split.validation_rule)
        embedder = _embedder.load_file(preset, path)
        embedder.preset.write(folder)
        return embedder, score

    def _training_data(self) -> str:
        people = len(self.split.people(self.dataset, "train"))
        teacher = self.teacher.preset
        title = "LFW" if self.dataset.name.startswith("lfw") else self.dataset.name
        return (
            f"{len(self.maker.indices):,} photographs of {people:,} people of {title} "
            f"({self.split.rule}), seen as {teacher.name} sees them; that teacher was trained on "
            f"{teacher.training_data}" + (f"; begun with the weights of {self.start.preset.name}" if self.start else "")
        )

    def record(self, embedder: Embedder, score: Score, checkpoints: Checkpoints) -> Metrics:
        """Return the training's part of `metrics.json`: all that is known before the held-out people are read."""
        best = checkpoints.history[checkpoints.best_epoch or 0]
        hard = {"hard_accuracy": best["hard_accuracy"]} if "hard_accuracy" in best else {}
        return {
            "teacher": self.teacher.preset.name,
            "teacher_sha256": self.teacher.sha256,
            "student": self.student.preset.architecture,
            "parameters": embedder.model.count_params(),
            "train_images": len(self.maker.indices),
            "train_identities": len(self.split.people(self.dataset, "train")),
            "split": self.split.rule,
            "epochs": checkpoints.epochs,
            "settings": self.settings.record(),
            **self.start_record(),
            "augmentation": self.maker.augmentation.record(),
            "validation": {
                "accuracy": score.accuracy,
                "threshold": score.threshold,
                "epoch": checkpoints.best_epoch,
                "people": self.split.validation_rule,
                **hard,
            },
            "history": checkpoints.history,
        }


def prepare(teacher: Embedder, student: str, dataset: FaceDataset, config: DistillConfig) -> DistillationRun:
    """Resolve the names of a distillation, before any view is made.

    Args:
        teacher: its embeddings are learned.
        student: architecture to train.
        dataset: the photographs.
        config: of the distillation.

    Raises:
        UserError: the student cannot have the teacher's size, the data set has too few people, parameters do not go
            together, or not one view fits on the disk given.
    """
    seed = config.seed
    chosen = recipe(config.recipe or teacher.preset.recipe)
    name = config.name or f"{dataset.name.removeprefix('folder:').split('/')[0]}-distilled"
    described = student_of(
        student,
        teacher.preset,
        name=name,
        recipe=chosen.name,
        input_size=config.input_size,
        projection=config.projection,
    )
    split = split_people(dataset, fraction=config.held_out, seed=seed)
    trained = usable(dataset, chosen, sampled(split.train, config.train_images, seed))
    augmentation = Augmentation(mix=config.mix, patch=config.patch, warp=config.warp)
    hints = config.hint_weight > 0
    maker = ViewMaker(dataset, trained, chosen, teacher, augmentation, seed, fast=config.teacher_bfloat16, hints=hints)
    bank = maker.bank()
    settings = config.settings(
        views=views_within(bank, min(config.views, config.epochs), config.bank_gb),
        batch_size=min(config.batch_size, bank.rows),
        input_size=described.preset.input_size,
    )
    start = None if config.start_from is None else _embedder.as_embedder(config.start_from, offline=config.offline)
    return DistillationRun(dataset, split, chosen, teacher, described, maker, bank, settings, config.work, start)


def released_preset(preset: Preset, rows: Sequence[FarThreshold], best: tuple[str, float, str], people: str) -> Preset:
    """Set a student's thresholds: its own is that of the lowest false accept rate; the most accurate one is kept too.

    Args:
        preset: of the student.
        rows: calibrated on the validation people, the lowest rate first; none where they are too few.
        best: metric, threshold and source of the best balanced accuracy, its own where there is no other.
        people: the validation people, in words.
    """
    if not rows:
        _, threshold, source = best
        return dataclasses.replace(preset, threshold=threshold, threshold_source=source)
    rows = [dataclasses.replace(row, source=f"FAR {row.far:g} on all pairs of {people}, {row.recipe}") for row in rows]
    return dataclasses.replace(
        preset,
        threshold=rows[0].threshold,
        threshold_source=rows[0].source,
        thresholds=tuple(rows),
        other_thresholds=(best,),
    )


def _now_and_then(draw: Callable[[History], None]) -> Callable[[History], None]:
    last = 0.0

    def call(history: History) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_PICTURES:
            draw(history)
            last = time.monotonic()

    return call


def best_of(history: Sequence[dict[str, float]]) -> int:
    """Return the epoch that ranks highest, from 0; the first of equals."""
    return max(range(len(history)), key=lambda epoch: rank(history[epoch]))


def _embedding_bytes(embedder: Embedder) -> Callable[[np.ndarray], np.ndarray]:
    """Embed bytes instead of [0, 1], in batches."""

    def embed(images: np.ndarray) -> np.ndarray:
        batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        return np.concatenate(
            [embedder.embed(padded(batch).astype(np.float32) / 255)[: len(batch)] for batch in batches]
        )

    return embed
