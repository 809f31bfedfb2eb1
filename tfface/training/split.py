"""Train / validation / held-out split by identity: no person is in two parts."""

from dataclasses import dataclass

import numpy as np

from tfface.data.dataset import FaceDataset, Pairs
from tfface.errors import UserError

HELDOUT_FOLDS = (8, 9)
"""LFW View 2's folds 9 and 10, counted from 0."""
VALIDATION_FOLD = 7
_FEWEST = 2
"""People who must be held out, and validate: two make an impostor pair."""


@dataclass(frozen=True, eq=False)
class Split:
    """Train / validation / held-out split by identity: indices of a data set's photographs.

    Attributes:
        train: photographs to train on.
        validation: for stopping, augmentation, choice of model and threshold.
        heldout: read once for each preset that is released.
        rule: the choice of people, in words.
        validation_rule: the validation people, in words.
        heldout_pairs: the published pairs of the held-out people, where there are such.
    """

    train: np.ndarray
    validation: np.ndarray
    heldout: np.ndarray
    rule: str
    validation_rule: str
    heldout_pairs: Pairs | None = None

    def people(self, dataset: FaceDataset, *parts: str) -> set[str]:
        """Return the people of some parts (`train`, `validation`, `heldout`)."""
        return {dataset.identities[index] for part in parts for index in getattr(self, part)}


def split_people(dataset: FaceDataset, *, fraction: float = 0.2, seed: int = 0) -> Split:
    """Split a data set into train / validation / held-out people.

    LFW: the people of View 2's folds 9 and 10 are held out, those of fold 8 validate. Other data sets: a seeded draw.

    Args:
        dataset: to split.
        fraction: share of the people held out, where no folds are published; half as many validate.
        seed: random seed.

    Raises:
        UserError: too few people, or a part has no genuine pair.
    """
    if dataset.name.split("/")[0] == "lfw":
        return _checked(dataset, _by_folds(dataset))
    return _checked(dataset, _by_draw(dataset, fraction, seed))


def _by_folds(dataset: FaceDataset) -> Split:
    pairs = dataset.pairs("view2")
    heldout = np.any([dataset.whose(f"fold{fold + 1}") for fold in HELDOUT_FOLDS], axis=0)
    validation = dataset.whose(f"fold{VALIDATION_FOLD + 1}")
    judged = np.isin(pairs.fold, HELDOUT_FOLDS)
    return Split(
        train=np.flatnonzero(~heldout & ~validation),
        validation=np.flatnonzero(validation & ~heldout),
        heldout=np.flatnonzero(heldout),
        rule="the people of LFW View 2's folds 9 and 10 are held out, those of fold 8 validate",
        validation_rule="the people of LFW View 2's fold 8",
        heldout_pairs=Pairs(
            "view2-folds-9-10", pairs.first[judged], pairs.second[judged], pairs.same[judged], pairs.fold[judged]
        ),
    )


def _by_draw(dataset: FaceDataset, fraction: float, seed: int) -> Split:
    people, codes = np.unique(np.array(dataset.identities), return_inverse=True)
    heldout = max(_FEWEST, round(fraction * len(people))) if fraction else 0
    validation = max(_FEWEST, round(fraction / 2 * len(people)))
    if not heldout or len(people) < heldout + validation + 1:
        raise UserError(
            f"nobody of the {len(people)} people of {dataset.name} would be held out for the test: take a data set of "
            f"at least {2 * _FEWEST + 1} people and a `held_out` above 0 and below 0.6",
            parameter="held_out",
        )
    place = np.empty(len(people), int)
    place[np.random.default_rng(seed).permutation(len(people))] = np.arange(len(people))
    place = place[codes]
    return Split(
        train=np.flatnonzero(place >= heldout + validation),
        validation=np.flatnonzero((place >= heldout) & (place < heldout + validation)),
        heldout=np.flatnonzero(place < heldout),
        rule=f"of {len(people)} people {heldout} are held out and {validation} validate, drawn with seed {seed}",
        validation_rule=f"{validation} people of {dataset.name}",
    )


def _checked(dataset: FaceDataset, split: Split) -> Split:
    for part, what in (("heldout", "held out for the test"), ("validation", "held out for validation")):
        identities = [dataset.identities[index] for index in getattr(split, part)]
        people = len(set(identities))
        if people < _FEWEST:
            raise UserError(f"{people} people of {dataset.name} would be {what}: take a larger data set")
        if len(identities) == people:
            raise UserError(
                f"none of the {people} people of {dataset.name} {what} has two images, so there is no genuine pair: "
                "take another `seed` or a larger data set",
                parameter="seed",
            )
    if not len(split.train):
        raise UserError(f"nobody of {dataset.name} is left to train on: take a larger data set")
    return split
