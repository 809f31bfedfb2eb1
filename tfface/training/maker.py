"""Makes views and asks the teacher: what fills the bank."""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.crops import face_boxes
from tfface.data.dataset import FaceDataset
from tfface.errors import ImageError, UserError
from tfface.preprocessing.images import Recipe, decode
from tfface.preprocessing.mtcnn import DETECTOR
from tfface.training.bank import ViewBank
from tfface.training.hints import answers_with_hints
from tfface.training.precision import bfloat16_convolutions
from tfface.training.views import Augmentation, Photograph, make_view
from tfface.utils.files import cache_dir, digest_of, read_json, write_json

if TYPE_CHECKING:
    import keras

    from tfface.models._embedder import Embedder

logger = logging.getLogger(__name__)

BATCH = 64
_FORMAT = 1


def usable(dataset: FaceDataset, recipe: Recipe, indices: np.ndarray) -> np.ndarray:
    """Those of the photographs that can be read and, where the recipe asks for one, have a face.

    Raises:
        UserError: none can.
    """
    boxes = face_boxes(dataset, recipe)
    if boxes is None:
        unreadable = _unreadable(dataset)
    else:
        unreadable = {index for index, face in enumerate(boxes) if isinstance(face, str)}
    kept = np.array([index for index in indices if int(index) not in unreadable], np.int64)
    if len(kept) < len(indices):
        logger.warning(f"{len(indices) - len(kept)} of {len(indices)} photographs of {dataset.name} cannot be used")
    if not len(kept):
        raise UserError(f"none of the {len(indices)} photographs of {dataset.name} can be used with {recipe.name}")
    return kept


def _unreadable(dataset: FaceDataset) -> set[int]:
    """Photographs that cannot be decoded; looked up once for a data set."""
    path = cache_dir("training") / f"unreadable-{digest_of([dataset.name, dataset.version])}.json"
    if not path.exists():
        with ThreadPoolExecutor() as pool:
            fine = list(pool.map(lambda key: _is_image(dataset.read(key)), dataset.keys))
        write_json(path, {"dataset": dataset.name, "unreadable": [index for index, ok in enumerate(fine) if not ok]})
    return set(read_json(path)["unreadable"])


def _is_image(data: bytes) -> bool:
    try:
        decode(data)
    except ImageError:
        return False
    return True


def sampled(indices: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """A seeded draw of so many, in order; all of them if None."""
    if count is None or count >= len(indices):
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, count, replace=False))


class ViewMaker:
    """Views of a data set's training photographs, each with the teacher's answer."""

    def __init__(
        self,
        dataset: FaceDataset,
        indices: np.ndarray,
        recipe: Recipe,
        teacher: "Embedder",
        augmentation: Augmentation,
        seed: int,
        *,
        fast: bool = False,
        hints: bool = False,
    ) -> None:
        """
        Args:
            dataset: whose photographs.
            indices: those trained on; all of them usable.
            recipe: of the teacher's crops.
            teacher: its preset says how large a view is.
            augmentation: how much views differ from the crop.
            seed: of all views.
            fast: the teacher's convolutions are in bfloat16, about 1.7 times as fast.
            hints: an answer is the teacher's embedding and, after it, its last features, as `tfface.training.hints`
                says.
        """
        self.hints = hints
        self.dataset, self.indices, self.recipe, self.teacher = dataset, indices, recipe, teacher
        self.augmentation, self.seed, self.fast = augmentation, seed, fast
        self._boxes: Sequence[np.ndarray | str] | None = None

    @property
    def identities(self) -> list[str]:
        """Whose photograph each is."""
        return [self.dataset.identities[index] for index in self.indices]

    def bank(self) -> ViewBank:
        """The bank that holds what this makes."""
        preset = self.teacher.preset
        fingerprint: dict[str, Any] = {
            "format": _FORMAT,
            "teacher": preset.name,
            "teacher_sha256": self.teacher.sha256,
            "teacher_precision": "bfloat16" if self.fast else "float32",
            "recipe": self.recipe.name,
            "detector": DETECTOR if self.recipe.source == "mtcnn" else None,
            "dataset": self.dataset.name,
            "version": self.dataset.version,
            "photographs": digest_of(self.indices.tolist()),
            "augmentation": self.augmentation.record(),
            "seed": self.seed,
        }
        dimension = self._answering.output_shape[-1]
        return ViewBank(
            fingerprint, len(self.indices), preset.input_size, dimension, hints=dimension - preset.embedding_size
        )

    @functools.cached_property
    def _answering(self) -> "keras.Model":
        return answers_with_hints(self.teacher.model) if self.hints else self.teacher.model

    def make(self, number: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """One part of a view number, as `ViewBank.fill` asks for it."""
        if self._boxes is None:
            self._boxes = face_boxes(self.dataset, self.recipe) or ()
        views, answers = [], []
        with ThreadPoolExecutor() as pool, bfloat16_convolutions(on=self.fast):
            for batch in _ahead(pool, lambda rows: self._views(number, rows), range(start, stop)):
                views.append(batch)
                answers.append(np.asarray(self._embed(padded(batch).astype(np.float32) / 255))[: len(batch)])
        return np.concatenate(views), np.concatenate(answers)

    @functools.cached_property
    def _embed(self) -> Callable[[np.ndarray], Any]:
        if not self.fast and not self.hints:
            return self.teacher.embed
        import tensorflow as tf

        # A function of its own: the precision stays with a traced one, and the teacher is measured in float32.
        model = self._answering
        return tf.function(lambda images: model(images, training=False))

    def _views(self, number: int, rows: range) -> np.ndarray:
        size, count = self.teacher.preset.input_size, len(self.indices)
        return np.stack(
            [make_view(row, number, self._photograph, count, size, self.augmentation, self.seed) for row in rows]
        )

    def _photograph(self, row: int) -> Photograph:
        index = int(self.indices[row])
        pixels = decode(self.dataset.read(self.dataset.keys[index]))
        face = self._boxes[index] if self._boxes else None
        assert not isinstance(face, str), "only usable photographs are asked for"
        return pixels, self.recipe.box(pixels.shape[0], pixels.shape[1], face)


def padded(batch: np.ndarray) -> np.ndarray:
    """One shape for all batches, so that the network is traced once."""
    return np.concatenate([batch, np.repeat(batch[-1:], BATCH - len(batch), axis=0)]) if len(batch) < BATCH else batch


def _ahead(pool: ThreadPoolExecutor, make: Callable[[range], np.ndarray], rows: range) -> Iterator[np.ndarray]:
    """Batches in order, the next one being made while the last one is used."""
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    waiting = pool.submit(make, batches[0])
    for following in [*batches[1:], None]:
        batch = waiting.result()
        if following is not None:
            waiting = pool.submit(make, following)
        yield batch
