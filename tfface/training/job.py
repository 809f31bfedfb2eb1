"""One distillation from names to a preset: what the command runs."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.evaluation.embeddings import embed_dataset
from tfface.hub import weights
from tfface.models import _embedder
from tfface.models._embedder import Embedder
from tfface.preprocessing.images import Recipe
from tfface.training import comparison
from tfface.training.bank import PART, ViewBank
from tfface.training.checkpoints import Checkpoints, History
from tfface.training.fitting import Settings, train
from tfface.training.growth import Growth, grow, wait_for
from tfface.training.maker import BATCH, ViewMaker, padded
from tfface.training.presets import preset_record, write_weights
from tfface.training.split import Split
from tfface.training.students import Student, fill_from
from tfface.training.validation import Score, Validation, validation_of
from tfface.utils.files import cache_dir, digest_of, sha256_of, write_json
from tfface.utils.progress import progress

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

Metrics = dict[str, Any]


@dataclass
class DistillationJob:
    """A distillation, with all names resolved.

    Attributes:
        dataset: whose photographs.
        split: who is trained on, validates, is held out.
        recipe: of all crops.
        teacher: what the student learns from.
        student: what is trained.
        maker: of views; `bank` holds them.
        bank: what the training reads.
        settings: of the training.
        work: folder of checkpoints; None for one of the cache, named by the run.
        start: whose weights the training begins with; None for fresh ones.
    """

    dataset: FaceDataset
    split: Split
    recipe: Recipe
    teacher: Embedder
    student: Student
    maker: ViewMaker
    bank: ViewBank
    settings: Settings
    work: Path | None = None
    start: Embedder | None = None

    def run(self) -> Metrics:
        """Everything that the training depends on, JSON-able."""
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
        """Which weights the training begins with, for fingerprints and results; nothing for fresh ones."""
        return {"start": self.start.preset.name, "start_sha256": self.start.sha256} if self.start else {}

    def network(self) -> "keras.Model":
        """The student before it is trained here.

        Raises:
            UserError: it cannot be built, or cannot begin with the weights of `start`.
        """
        network = self.student.network(self.settings.seed)
        if self.start is not None:
            heldout = self.split.people(self.dataset, "heldout")
            fill_from(network, self.start, heldout)
        return network

    def checkpoints(self) -> Checkpoints:
        """Those of this run.

        Raises:
            UserError: `work` holds another run's.
        """
        run = self.run()
        return Checkpoints(self.work or cache_dir("training", digest_of(run)), run)

    def grow(self) -> None:
        """Makes all views here and now."""
        total = -(-self.bank.rows // PART) * self.settings.views
        done = sum(-(-self.bank.done(number) // PART) for number in range(self.settings.views))
        bar = progress(range(total - done), total=total, done=done, label="making views", unit=f"parts of {PART}")

        def make(number: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            next(bar, None)
            return self.maker.make(number, start, stop)

        grow(self.bank, self.settings.views, make)

    def train(
        self,
        validation: Validation,
        checkpoints: Checkpoints,
        *,
        growth: Growth | None,
        on_epoch: Callable[[History], None],
    ) -> "keras.Model":
        """Trains to the end; the network has the weights of the best epoch."""
        from tfface.training.batches import EpochViews

        network = self.network()
        if not checkpoints.stopped and checkpoints.epochs < self.settings.epochs:
            self._wait(0, growth)
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
                wait_for_view=lambda number: self._wait(number, growth),
                on_epoch=on_epoch,
            )
        checkpoints.restore_best(network)
        return network

    def _wait(self, number: int, growth: Growth | None) -> None:
        if not self.bank.ready(number):
            wait_for(self.bank, number, growth)

    def validation(self) -> Validation:
        """What chooses among epochs, and the preset's threshold."""
        return validation_of(
            self.dataset, self.split.validation, self.recipe, self.student.preset.input_size, seed=self.settings.seed
        )

    def write_preset(self, folder: Path, network: "keras.Model", validation: Validation) -> tuple[Embedder, Score]:
        """Writes weights and record, and gives what loading them gives, with its score on validation.

        The record is written last: a preset that is listed has its weights.
        """
        path = folder / self.student.preset.file_name
        write_weights(network, path)
        preset = dataclasses.replace(
            self.student.preset,
            sources=(weights.BundledSource(path),),
            sha256=sha256_of(path),
            training_data=self.training_data(),
            licence=self.licence(),
            identities_seen=frozenset(self.split.people(self.dataset, "train", "validation")),
        )
        file = weights.WeightsFile(path, preset.sha256 or "")
        score = validation.score(_embedding_bytes(_embedder.load(preset, file)))
        preset = dataclasses.replace(
            preset,
            threshold=score.threshold,
            threshold_source=f"best balanced accuracy on {self.split.validation_rule}",
        )
        write_json(folder / "preset.json", preset_record(preset))
        return _embedder.load(preset, file), score

    def training_data(self) -> str:
        """For the record and the model card."""
        people = len(self.split.people(self.dataset, "train"))
        teacher = self.teacher.preset
        return (
            f"{len(self.maker.indices):,} photographs of {people:,} people of {_title(self.dataset)} "
            f"({self.split.rule}), seen as {teacher.name} sees them; that teacher was trained on "
            f"{teacher.training_data}" + (f"; begun with the weights of {self.start.preset.name}" if self.start else "")
        )

    def licence(self) -> str:
        """Of the weights."""
        return f"as its teacher's ({self.teacher.preset.licence}); the photographs are for research use"

    def measure(self, embedder: Embedder) -> Metrics:
        """The held-out people, the paper's misses, and the speed, of student and teacher.

        Reads the held-out people: for a release alone.
        """
        ours = embed_dataset(self.dataset, embedder, self.recipe)
        theirs = embed_dataset(self.dataset, self.teacher, self.recipe)
        rows = comparison.first_two(self.dataset, ours.ok & theirs.ok)
        unseen = comparison.first_two(self.dataset, ours.ok & theirs.ok, self.split.people(self.dataset, "heldout"))
        logger.warning("measuring speed, student and teacher by turns")
        student_speed, teacher_speed = comparison.speeds(embedder, self.teacher)

        def of(found: np.ndarray) -> Metrics:
            return {"all": comparison.misses(found, rows), "heldout": comparison.misses(found, unseen)}

        preset = embedder.preset
        return {
            "speedup": student_speed / teacher_speed,
            "images_per_second": {
                "student": student_speed,
                "teacher": teacher_speed,
                "batch": comparison.SPEED_BATCH,
                "runtime": "keras on tensorflow",
            },
            "heldout": comparison.heldout_metrics(self.dataset, ours, preset, self.split, seed=self.settings.seed),
            "heldout_teacher": comparison.heldout_metrics(
                self.dataset, theirs, self.teacher.preset, self.split, seed=self.settings.seed
            ),
            "misses": of(ours.vectors),
            "misses_teacher": of(theirs.vectors),
        }


def _embedding_bytes(embedder: Embedder) -> Callable[[np.ndarray], np.ndarray]:
    """Embeds bytes instead of [0, 1], in batches."""

    def embed(images: np.ndarray) -> np.ndarray:
        batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        return np.concatenate(
            [embedder.embed(padded(batch).astype(np.float32) / 255)[: len(batch)] for batch in batches]
        )

    return embed


def _title(dataset: FaceDataset) -> str:
    return "LFW" if dataset.name.startswith("lfw") else dataset.name
