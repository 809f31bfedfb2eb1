"""Faces found in a data set's photographs, and crops of them: in order as a `tf.data` pipeline, or by index."""

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from tfface.augmentation.changes import Corruption, key_number
from tfface.data.dataset import FaceDataset, Pairs, SampledPairs
from tfface.distributed.rows import LOCAL, Executor, RowJob, Save, fill
from tfface.errors import ImageError, UserError
from tfface.preprocessing import mtcnn
from tfface.preprocessing.images import NO_FACE, Recipe, crop_photograph, crop_resize, decode, recipe, warp
from tfface.utils.cache import Fingerprinted, Range, Store

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)

NO_BOX = "the data set gives no face box for it"
_SHARD_ROWS = 256

FacesFound = Sequence[np.ndarray | str] | Mapping[int, np.ndarray | str]
"""By index the face as a recipe needs it (a box, or five points), or why there is none."""


def crop_stream(
    dataset: FaceDataset,
    recipe: Recipe,
    size: int,
    *,
    start: int = 0,
    stop: int | None = None,
    faces: FacesFound | None = None,
    corruption: Corruption | None = None,
    given_up: Mapping[int, str] = MappingProxyType({}),
) -> "tf.data.Dataset":
    """Return a data set's crops as a `tf.data` pipeline, in the order of its keys.

    Args:
        dataset: photographs to crop.
        recipe: crop recipe.
        size: side of a crop in pixels.
        start: first index.
        stop: one past the last index; None for the end.
        faces: by index the face (x, y, width, height), or its five points for an aligned recipe, or why there is none;
            detected if None.
        corruption: applied to every crop.
        given_up: photographs not to be read: index to reason.

    Returns:
        Elements (crop float32 (size, size, 3) in [0, 1], reason: a string, empty where it went well).
    """
    import tensorflow as tf

    stop = len(dataset.keys) if stop is None else stop
    faces = main_faces(dataset, recipe) if faces is None else faces
    given_up = {int(index): reason for index, reason in given_up.items()}
    left_out = {**dataset.unreadable, **given_up}
    indices = tf.data.Dataset.range(start, stop)
    nowhere = np.eye(2, 3) if recipe.aligned else np.array([0, 0, 1, 1], np.float32)

    def cut(index: int, data: bytes) -> tuple[np.ndarray, np.ndarray, bytes]:
        face = faces[int(index)] if faces else None
        try:
            if int(index) in left_out:
                raise ImageError(left_out[int(index)])
            pixels = decode(data)
            if isinstance(face, str):
                raise ImageError(face)
            return pixels, recipe.place(pixels.shape[0], pixels.shape[1], face), b""
        except ImageError as error:
            return np.zeros((1, 1, 3), np.uint8), nowhere, str(error).encode()

    def crop(index: "tf.Tensor", element: dict[str, "tf.Tensor"]) -> tuple["tf.Tensor", "tf.Tensor"]:
        found = tf.numpy_function(cut, [index, element["image"]], [tf.uint8, nowhere.dtype, tf.string])
        pixels, place = tf.ensure_shape(found[0], (None, None, 3)), tf.ensure_shape(found[1], nowhere.shape)
        return (warp if recipe.aligned else crop_resize)(pixels, place, size), tf.ensure_shape(found[2], ())

    pairs = tf.data.Dataset.zip(indices, dataset.encoded_without(start, stop, given_up))
    cropped = pairs.map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return cropped if corruption is None else _corrupted(cropped, dataset.keys[start:stop], corruption)


def _corrupted(cropped: "tf.data.Dataset", keys: Sequence[str], corruption: Corruption) -> "tf.data.Dataset":
    import tensorflow as tf

    change = corruption.change()
    numbers = tf.data.Dataset.from_tensor_slices(np.array([key_number(key) for key in keys], np.int64))
    return tf.data.Dataset.zip(cropped, numbers).map(
        lambda element, number: (change(element[0], number), element[1]), tf.data.AUTOTUNE, deterministic=True
    )


def main_faces(
    dataset: FaceDataset, recipe: Recipe, start: int = 0, stop: int | None = None
) -> Sequence[np.ndarray | str] | None:
    """Return for every key the face that the recipe cuts out, or why there is none; None for recipes without faces.

    A face is its box (x, y, width, height), or its five points (10,) where the recipe is aligned.

    Args:
        dataset: photographs to crop.
        recipe: crop recipe.
        start: first index; of a part of the data set, the faces must have been found before.
        stop: one past the last index; None for the end.
    """
    if recipe.source == "mtcnn":
        whole = (start, stop) == (0, None)
        table = find_faces(dataset) if whole else known_faces(dataset, start, len(dataset) if stop is None else stop)
        found = [table.main_face(index, points=recipe.aligned) for index in range(len(table.failed))]
        return [reason or (NO_FACE if face is None else face) for reason, face in zip(table.failed, found, strict=True)]
    if recipe.source == "given":
        if recipe.aligned:
            raise UserError(
                f"recipe {recipe.name} takes points that are given, which no data set does: leave out given-"
            )
        if dataset.boxes is None:
            raise UserError(f"data set {dataset.name} gives no face boxes, which recipe {recipe.name} needs")
        return [NO_BOX if np.isnan(box).any() else box for box in dataset.boxes[start:stop]]
    return None


class Crops:
    """Crops of a data set by index: the same pixels as `crop_stream`, in any order."""

    def __init__(self, dataset: FaceDataset, recipe: Recipe, size: int) -> None:
        """Open the crops of a data set.

        Args:
            dataset: photographs to crop.
            recipe: crop recipe.
            size: side of a crop in pixels.
        """
        self.dataset, self.recipe, self.size = dataset, recipe, size

    def __call__(self, indices: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Read and crop photographs.

        Args:
            indices: (N,) int indices into the data set's keys; may repeat.

        Returns:
            Crops float32 (N, size, size, 3) in [0, 1], zeros where a photograph failed, and for each the
            reason why it did; empty where it went well.
        """
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(self._crop, map(int, indices)))
        shape = (len(indices), self.size, self.size, 3)
        return np.array([crop for crop, _ in found], np.float32).reshape(shape), [reason for _, reason in found]

    def _crop(self, index: int) -> tuple[np.ndarray, str]:
        face = self._faces[index] if self._faces is not None else None
        try:
            if isinstance(face, str):
                raise ImageError(face)
            crop, _ = crop_photograph(self.dataset.read(self.dataset.keys[index]), self.recipe, self.size, face)
        except ImageError as error:
            return np.zeros((self.size, self.size, 3), np.float32), str(error)
        return crop, ""

    @functools.cached_property
    def _faces(self) -> Sequence[np.ndarray | str] | None:
        return main_faces(self.dataset, self.recipe)


class ModelInput(Protocol):
    """Model input that crops are made for: a preset of `tfface.models`."""

    @property
    def input_size(self) -> int: ...

    @property
    def recipe(self) -> str: ...


def crop_pairs(
    dataset: FaceDataset, pairs: Pairs, preset: ModelInput, recipe_name: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Crop the photographs of pairs; see `SampledPairs.crops`."""
    chosen = recipe(recipe_name or dataset.own_recipe or preset.recipe)
    indices, place = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    images, reasons = Crops(dataset, chosen, preset.input_size)(indices)
    failed = {dataset.keys[index]: reason for index, reason in zip(indices, reasons, strict=True) if reason}
    for key, reason in failed.items():
        logger.warning(f"{key} {reason}: its pairs are left out")
    usable = np.array([not reason for reason in reasons])[place.reshape(2, -1)]
    kept = place.reshape(2, -1)[:, usable.all(axis=0)]
    if not kept.shape[1]:
        key, reason = next(iter(failed.items()))
        raise UserError(f"none of the {len(pairs)} pairs can be used; the first photograph that fails: {key} {reason}")
    return images[kept[0]], images[kept[1]]


SampledPairs.cropper = staticmethod(crop_pairs)


def crop_fingerprint(embedder: Fingerprinted, dataset: FaceDataset, recipe: Recipe) -> dict[str, Any]:
    """Return what cache keys hold of a model's view of a data set's crops, JSON-able.

    Args:
        embedder: the model.
        dataset: data set.
        recipe: crop recipe.
    """
    detector = mtcnn.DETECTOR if recipe.source == "mtcnn" else None
    return {**embedder.fingerprint(), "recipe": recipe.name, "detector": detector, **dataset.fingerprint()}


@dataclass(frozen=True)
class FaceTable:
    """Faces found in each photograph of a data set, in the order of its keys.

    Attributes:
        failed: why a photograph could not be read; empty where it could.
        sizes: int (N, 2): height, width.
        faces: the faces of each.
    """

    failed: list[str]
    sizes: np.ndarray
    faces: list[mtcnn.Faces]

    def main_face(self, index: int, *, points: bool = False) -> np.ndarray | None:
        """Return the main face of a photograph, or None: its box (4,), or its five points (10,)."""
        return self.faces[index].main(*self.sizes[index], points=points)


@dataclass(frozen=True, eq=False)
class _Finding(RowJob):
    """Detection of faces in a data set's photographs, as rows of a store."""

    dataset: FaceDataset
    store: Store

    longest = 2  # a part takes a core some ten seconds

    @classmethod
    def of(cls, dataset: FaceDataset) -> "_Finding":
        fingerprint = {"detector": mtcnn.DETECTOR, **dataset.fingerprint()}
        return cls(dataset, Store("boxes", fingerprint, len(dataset.keys), shard_rows=_SHARD_ROWS))

    def units(self, part: Range) -> int:
        return 1

    def prepare(self) -> None:
        self.dataset.check_at_hand()

    def check(self) -> None:
        self.dataset.check_unchanged()

    def compute(self, parts: Sequence[Range], given_up: Mapping[int, str], save: Save) -> Iterator[int]:
        for start, stop in parts:
            save((start, stop), _face_rows(self.dataset, start, stop, given_up))
            yield 1


def find_faces(dataset: FaceDataset) -> FaceTable:
    """Return the faces of all photographs of a data set, from the cache where they were found before."""
    detect_faces(dataset)
    return known_faces(dataset, 0, len(dataset))


def faces_known(dataset: FaceDataset) -> bool:
    """Tell if the cache holds the faces of all photographs of a data set."""
    return not _Finding.of(dataset).store.missing()


def detect_faces(dataset: FaceDataset, *, executor: Executor = LOCAL) -> None:
    """Detect the faces in those photographs of a data set that the cache does not have yet."""
    fill(_Finding.of(dataset), label="finding faces", unit="parts", executor=executor)


def known_faces(dataset: FaceDataset, start: int, stop: int) -> FaceTable:
    """Return faces of the photographs from `start` to before `stop`, which must have been detected before."""
    return _face_table(_Finding.of(dataset).store.read(start, stop))


def _face_rows(dataset: FaceDataset, start: int, stop: int, given_up: Mapping[int, str]) -> pa.Table:
    failed: list[str] = []
    sizes: list[tuple[int, int]] = []

    def readable() -> Iterator[np.ndarray]:
        left_out = {**dataset.unreadable, **given_up}
        elements = dataset.encoded_without(start, stop, given_up).as_numpy_iterator()
        for index, element in enumerate(elements, start=start):
            try:
                if index in left_out:
                    raise ImageError(left_out[index])
                pixels = decode(element["image"])
            except ImageError as error:
                failed.append(str(error))
                sizes.append((0, 0))
                continue
            failed.append("")
            sizes.append((pixels.shape[0], pixels.shape[1]))
            yield pixels

    found = iter(mtcnn.detect(readable()))
    nothing = mtcnn.Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
    faces = [nothing if reason else next(found) for reason in failed]
    flat = pa.list_(pa.float32())
    return pa.table(
        {
            "failed": pa.array(failed, pa.string()),
            "height": pa.array([size[0] for size in sizes], pa.int32()),
            "width": pa.array([size[1] for size in sizes], pa.int32()),
            "boxes": pa.array([face.boxes.ravel() for face in faces], flat),
            "confidences": pa.array([face.confidences for face in faces], flat),
            "landmarks": pa.array([face.landmarks.ravel() for face in faces], flat),
        }
    )


def _face_table(table: pa.Table) -> FaceTable:
    def arrays(column: str, *shape: int) -> list[np.ndarray]:
        return [np.asarray(value.values, np.float32).reshape(shape) for value in table[column]]

    faces = [
        mtcnn.Faces(*parts)
        for parts in zip(arrays("boxes", -1, 4), arrays("confidences", -1), arrays("landmarks", -1, 5, 2), strict=True)
    ]
    sizes = np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1)
    return FaceTable(table["failed"].to_pylist(), sizes, faces)
