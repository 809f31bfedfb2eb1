"""How a student does, while it trains, on people that it is not trained on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfface.data.crops import crop_stream, face_boxes
from tfface.data.dataset import FaceDataset
from tfface.errors import UserError
from tfface.metrics.roc import ErrorCurve
from tfface.preprocessing.images import Recipe

IMAGES_PER_PERSON = 6
"""Drawn of each person, so that the few who have hundreds do not make nearly all genuine pairs."""
MOST_IMAGES = 2000


@dataclass(frozen=True)
class Score:
    """How well all pairs are told apart.

    Attributes:
        accuracy: balanced, at the best threshold.
        threshold: that one, a cosine distance.
        auc: area under the ROC curve.
    """

    accuracy: float
    threshold: float
    auc: float


@dataclass(frozen=True, eq=False)
class Validation:
    """Crops of the validating people.

    Attributes:
        images: uint8 (N, S, S, 3), at the student's input size.
        same: bool (P,): of each pair of images, whether they show one person.
    """

    images: np.ndarray
    same: np.ndarray

    def score(self, embed: Callable[[np.ndarray], np.ndarray]) -> Score:
        """Judges all pairs.

        Args:
            embed: uint8 (N, S, S, 3) to (N, D) unit vectors.
        """
        vectors = embed(self.images).astype(np.float64)
        first, second = np.triu_indices(len(vectors), 1)
        distances = 1 - (vectors @ vectors.T)[first, second]
        if not np.isfinite(distances).all():
            raise UserError("the training diverged, its embeddings are no numbers: give a lower --learning-rate")
        curve = ErrorCurve.from_scores(np.clip(distances, 0, 2), self.same)
        threshold = curve.best_threshold()
        return Score(curve.accuracy(threshold), threshold, curve.auc())


def validation_of(dataset: FaceDataset, indices: np.ndarray, recipe: Recipe, size: int, *, seed: int) -> Validation:
    """The validating people's crops, a few a person.

    Args:
        dataset: whose photographs.
        indices: of the people who validate.
        recipe: of the crops.
        size: side of a crop, in pixels.
        seed: of the draw.

    Raises:
        UserError: they make no pair of a kind.
    """
    chosen = dataset.take(indices, "validation").sample(IMAGES_PER_PERSON, seed)
    # Faces are found once for the whole data set, not again for a part of it.
    boxes = face_boxes(dataset, recipe)
    own = None if boxes is None else [boxes[dataset.position(key)] for key in chosen.keys]
    images, people = [], []
    for position, (crop, reason) in enumerate(crop_stream(chosen, recipe, size, boxes=own).as_numpy_iterator()):
        if not reason:
            images.append(np.rint(crop * 255).astype(np.uint8))
            people.append(chosen.identities[position])
        if len(images) == MOST_IMAGES:
            break
    names = np.array(people)
    first, second = np.triu_indices(len(names), 1)
    same = names[first] == names[second]
    if len(set(same.tolist())) < 2:
        raise UserError(f"the people of {dataset.name} who validate make no pair of one kind: take a larger data set")
    return Validation(np.stack(images), same)
