"""Validation of a student while it trains, on people that it is not trained on; also under attack or noise.

An epoch of a hardened student is ranked by the mean of two balanced accuracies: on the validation people's photographs
as they are, and on a draw of their pairs under attack (or on all pairs under noise). So neither is bought with all of
the other, and no held-out person has a say.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfface.data.crops import crop_stream, main_faces
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.inputs import Embedder, FaceDataset, Recipe
from tfface.metrics.roc import ErrorCurve
from tfface.training.config import Hardening

if TYPE_CHECKING:
    from tfface.attacks._victim import Victim

IMAGES_PER_PERSON = 6
"""Drawn of each person, so that the few who have hundreds do not make nearly all genuine pairs."""
MOST_IMAGES = 2000
PAIRS = 200
"""Pairs of each kind that are attacked at every epoch, drawn once."""
STEPS = 10
"""Steps of PGD, at the training's own epsilon."""
_BATCH = 64


@dataclass(frozen=True)
class Score:
    """Verification accuracy on all validation pairs.

    Attributes:
        accuracy: balanced accuracy at the best threshold.
        threshold: the best threshold, a cosine distance.
        auc: area under the ROC curve.
    """

    accuracy: float
    threshold: float
    auc: float


@dataclass(frozen=True, eq=False)
class Validation:
    """Crops of the validation people.

    Attributes:
        images: uint8 (N, S, S, 3), at the student's input size.
        same: bool (P,), True for each pair of images of one person.
    """

    images: np.ndarray
    same: np.ndarray

    def score(self, embed: Callable[[np.ndarray], np.ndarray]) -> Score:
        """Score all pairs.

        Args:
            embed: uint8 (N, S, S, 3) to (N, D) unit vectors.
        """
        vectors = embed(self.images).astype(np.float64)
        first, second = np.triu_indices(len(vectors), 1)
        distances = 1 - (vectors @ vectors.T)[first, second]
        if not np.isfinite(distances).all():
            raise _diverged()
        curve = ErrorCurve.from_scores(np.clip(distances, 0, 2), self.same)
        threshold = curve.best_threshold()
        return Score(curve.accuracy(threshold), threshold, curve.auc())


def validation_of(dataset: FaceDataset, indices: np.ndarray, recipe: Recipe, size: int, *, seed: int) -> Validation:
    """Read the validation people's crops, a few a person.

    Args:
        dataset: the photographs.
        indices: those of the validation people.
        recipe: of the crops.
        size: side of a crop, in pixels.
        seed: random seed.

    Raises:
        UserError: there is no genuine or no impostor pair.
    """
    chosen = dataset.take(indices, "validation").sample(IMAGES_PER_PERSON, seed)
    images, people = [], []
    for position, (crop, reason) in enumerate(_crops(dataset, chosen, recipe, size)):
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


def _crops(dataset: FaceDataset, chosen: FaceDataset, recipe: Recipe, size: int) -> Iterator[tuple[np.ndarray, bytes]]:
    """Yield the crop of each photograph of a part of a data set, and why there is none."""
    # Faces are found once for the whole data set, not again for a part of it.
    faces = main_faces(dataset, recipe)
    own = None if faces is None else [faces[dataset.position(key)] for key in chosen.keys]
    yield from crop_stream(chosen, recipe, size, faces=own).as_numpy_iterator()


def embed_part(
    dataset: FaceDataset, indices: np.ndarray, embedder: Embedder, recipe: Recipe
) -> tuple[FaceDataset, Embeddings]:
    """Embed all photographs of the validation people, and of nobody else.

    Args:
        dataset: the photographs.
        indices: those of the validation people.
        embedder: the student.
        recipe: of the crops.

    Returns:
        The part of the data set, and its embeddings.
    """
    chosen = dataset.take(indices, "validation")
    vectors = np.zeros((len(chosen), embedder.preset.embedding_size), np.float32)
    failed = []
    crops = enumerate(_crops(dataset, chosen, recipe, embedder.preset.input_size))
    while some := list(itertools.islice(crops, _BATCH)):
        good = [(row, crop) for row, (crop, reason) in some if not reason]
        failed += [(chosen.keys[row], reason.decode()) for row, (_, reason) in some if reason]
        if good:
            vectors[[row for row, _ in good]] = embedder.embed(np.stack([crop for _, crop in good]))
    missing = {key for key, _ in failed}
    return chosen, Embeddings(vectors, np.array([key not in missing for key in chosen.keys]), failed)


def hard_validation(
    validation: Validation, student: keras.Model, hardening: Hardening, *, seed: int
) -> Callable[[float], float]:
    """Return a function that measures a student under attack, or under noise.

    Args:
        validation: the validation people's crops.
        student: (N, S, S, 3) in [0, 1] to (N, D) unit vectors; its weights at the time of the call count.
        hardening: attack or noise.
        seed: of the pairs, the attacks' random starts and the noise.

    Returns:
        Maps the threshold (a cosine distance) that was chosen on photographs as they are to the balanced accuracy.
    """
    if hardening.adversarial:
        return _UnderAttack(validation, student, hardening.epsilon, seed)
    return lambda threshold: under_noise(validation, student, hardening.sigma, seed)


def under_noise(validation: Validation, student: keras.Model, sigma: float, seed: int) -> float:
    """Measure noisy photographs against clean references: balanced accuracy at the best threshold for them."""
    images = validation.images.astype(np.float32) / 255
    noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
    first, second = np.triu_indices(len(images), 1)
    probes, references = _embed(student, images + np.float32(sigma) * noise), _embed(student, images)
    distances = 1 - (probes.astype(np.float64) @ references.T)[first, second]
    if not np.isfinite(distances).all():
        raise _diverged()
    curve = ErrorCurve.from_scores(np.clip(distances, 0, 2), validation.same)
    return curve.accuracy(curve.best_threshold())


@dataclass(frozen=True, eq=False)
class _UnderAttack:
    """Balanced accuracy of drawn pairs, the first photograph of each under PGD towards the wrong answer."""

    validation: Validation
    student: keras.Model
    epsilon: float
    seed: int

    def __call__(self, threshold: float) -> float:
        return float(np.mean([self._survive(goal, threshold) for goal in ("dodging", "impersonation")]))

    def _survive(self, goal: str, threshold: float) -> float:
        from tfface.attacks._attack import run
        from tfface.attacks.pgd import PGD

        victim, images = self._victims[goal], self.validation.images
        first, second = self._pairs[goal]
        fell = 0
        for rows in _batches(len(first)):
            targets = victim.targets(_scaled(images[second[rows]]), threshold)
            outcome = run(
                PGD(steps=STEPS),
                victim,
                _scaled(images[first[rows]]),
                targets,
                self.epsilon,
                seed=self.seed,
                keys=np.arange(rows.start, rows.stop),
            )
            fell += int(outcome.success.sum())
        return 1 - fell / len(first)

    @cached_property
    def _victims(self) -> "dict[str, Victim]":
        from tfface.attacks._criteria import GOALS
        from tfface.attacks._victim import Victim
        from tfface.training.adversarial import with_fast_input_gradient

        network = with_fast_input_gradient(self.student)
        return {goal: Victim(network, GOALS[goal]()) for goal in ("dodging", "impersonation")}

    @cached_property
    def _pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By criterion the places (P,) of the photographs that are changed, and of their references."""
        first, second = np.triu_indices(len(self.validation.images), 1)
        random = np.random.default_rng(self.seed)
        found = {}
        for goal, same in (("dodging", True), ("impersonation", False)):
            places = np.flatnonzero(self.validation.same == same)
            drawn = np.sort(random.choice(places, min(PAIRS, len(places)), replace=False))
            found[goal] = (first[drawn], second[drawn])
        return found


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255)


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH))


def _embed(student: keras.Model, images: np.ndarray) -> np.ndarray:
    # One batch at a time: `predict` builds a new pipeline at each call, whose memory adds up.
    return np.concatenate([np.asarray(student.predict_on_batch(images[rows])) for rows in _batches(len(images))])


def _diverged() -> UserError:
    return UserError(
        "the training diverged, its embeddings are not finite: give a lower `learning_rate`", parameter="learning_rate"
    )
