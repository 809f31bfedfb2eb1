"""Crops of a data set's photographs: in order as a `tf.data` pipeline, or a few from anywhere."""

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from tfface.augmentation import Corruption, key_number
from tfface.data.dataset import FaceDataset
from tfface.data.detection import find_faces, known_faces
from tfface.data.tfdata import encoded_around
from tfface.errors import ImageError, UserError
from tfface.preprocessing.images import Recipe, crop_resize, decode
from tfface.preprocessing.photographs import NO_FACE

if TYPE_CHECKING:
    import tensorflow as tf

NO_BOX = "the data set gives no face box for it"


Boxes = Sequence[np.ndarray | str] | Mapping[int, np.ndarray | str]
"""By index the face (x, y, width, height), or why there is none."""


def crops(
    dataset: FaceDataset,
    recipe: Recipe,
    size: int,
    *,
    start: int = 0,
    stop: int | None = None,
    boxes: Boxes | None = None,
    corruption: Corruption | None = None,
    given_up: Mapping[int, str] = MappingProxyType({}),
) -> "tf.data.Dataset":
    """The data set's cropped photographs as a `tf.data` pipeline, in the order of its keys.

    Args:
        dataset: whose photographs.
        recipe: how they are cropped.
        size: side of a crop, in pixels.
        start: first index.
        stop: one past the last index; None for the end.
        boxes: for every index the face (x, y, width, height), or why there is none; found if absent.
        corruption: of every crop.
        given_up: by index, photographs that are not to be read, and why.

    Returns:
        Elements (crop float32 (size, size, 3) in [0, 1], reason: a string, empty where it went well).
    """
    import tensorflow as tf

    stop = len(dataset.keys) if stop is None else stop
    boxes = face_boxes(dataset, recipe) if boxes is None else boxes
    given_up = {int(index): reason for index, reason in given_up.items()}
    indices = tf.data.Dataset.range(start, stop)

    def cut(index: int, data: bytes) -> tuple[np.ndarray, np.ndarray, bytes]:
        face = boxes[int(index)] if boxes else None
        try:
            if int(index) in given_up:
                raise ImageError(given_up[int(index)])
            pixels = decode(data)
            if isinstance(face, str):
                raise ImageError(face)
        except ImageError as error:
            return np.zeros((1, 1, 3), np.uint8), np.array([0, 0, 1, 1], np.float32), str(error).encode()
        return pixels, recipe.box(pixels.shape[0], pixels.shape[1], face), b""

    def crop(index: "tf.Tensor", element: dict[str, "tf.Tensor"]) -> tuple["tf.Tensor", "tf.Tensor"]:
        pixels, box, reason = tf.numpy_function(cut, [index, element["image"]], [tf.uint8, tf.float32, tf.string])
        pixels, box = tf.ensure_shape(pixels, (None, None, 3)), tf.ensure_shape(box, (4,))
        return crop_resize(pixels, box, size), tf.ensure_shape(reason, ())

    pairs = tf.data.Dataset.zip(indices, encoded_around(dataset, start, stop, given_up))
    cropped = pairs.map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if corruption is None:
        return cropped
    change = corruption.change()
    numbers = tf.data.Dataset.from_tensor_slices(
        np.array([key_number(key) for key in dataset.keys[start:stop]], np.int64)
    )
    return tf.data.Dataset.zip(cropped, numbers).map(
        lambda element, number: (change(element[0], number), element[1]), tf.data.AUTOTUNE, deterministic=True
    )


def face_boxes(
    dataset: FaceDataset, recipe: Recipe, start: int = 0, stop: int | None = None
) -> Sequence[np.ndarray | str] | None:
    """For every key the face that the recipe cuts out, or why there is none.

    Args:
        dataset: whose photographs.
        recipe: what it cuts out.
        start: the first of those asked for; of a part the faces must have been found before.
        stop: the one after the last; None for the end.
    """
    if recipe.source == "mtcnn":
        whole = (start, stop) == (0, None)
        table = find_faces(dataset) if whole else known_faces(dataset, start, len(dataset) if stop is None else stop)
        return [reason or _or_no_face(table.main_face(index)) for index, reason in enumerate(table.failed)]
    if recipe.source == "given":
        if dataset.boxes is None:
            raise UserError(f"data set {dataset.name} gives no face boxes, which recipe {recipe.name} needs")
        return [NO_BOX if np.isnan(box).any() else box for box in dataset.boxes[start:stop]]
    return None


def _or_no_face(box: np.ndarray | None) -> np.ndarray | str:
    return NO_FACE if box is None else box


class Crops:
    """A data set's crops by index: the same pixels as `crops`, in any order."""

    def __init__(self, dataset: FaceDataset, recipe: Recipe, size: int) -> None:
        """
        Args:
            dataset: whose photographs.
            recipe: how they are cropped.
            size: side of a crop, in pixels.
        """
        self.dataset, self.recipe, self.size = dataset, recipe, size

    def __call__(self, indices: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Reads and crops photographs.

        Args:
            indices: (N,) int, into the data set's keys; may repeat.

        Returns:
            Crops float32 (N, size, size, 3) in [0, 1], zeros where a photograph failed, and for each the
            reason why it did; empty where it went well.
        """
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(self._crop, map(int, indices)))
        shape = (len(indices), self.size, self.size, 3)
        return np.array([crop for crop, _ in found], np.float32).reshape(shape), [reason for _, reason in found]

    def _crop(self, index: int) -> tuple[np.ndarray, str]:
        face = self._boxes[index] if self._boxes is not None else None
        try:
            if isinstance(face, str):
                raise ImageError(face)
            pixels = decode(self.dataset.read(self.dataset.keys[index]))
        except ImageError as error:
            return np.zeros((self.size, self.size, 3), np.float32), str(error)
        return crop_resize(pixels, self.recipe.box(pixels.shape[0], pixels.shape[1], face), self.size).numpy(), ""

    @functools.cached_property
    def _boxes(self) -> Sequence[np.ndarray | str] | None:
        return face_boxes(self.dataset, self.recipe)
