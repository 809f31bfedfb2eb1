"""Crops of photographs picked from anywhere in a data set, a few at a time."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.errors import ImageError
from tfface.evaluation.embeddings import face_boxes
from tfface.preprocessing.images import Recipe, crop_resize, decode


class Crops:
    """A data set's crops by index: the same pixels as `tfface.evaluation.embeddings.crops`, in any order."""

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
