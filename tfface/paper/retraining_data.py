"""What a head is retrained and judged on: photographs split before anything is made of them, and augmented copies.

The copies that retraining adds are aimed: the people on whom the base errs most get more of them.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.mining import hardest_people, mine
from tfface.preprocessing.images import Recipe
from tfface.training.head_data import FEWEST, PEOPLE, HeadData, HeadVectors, embed_head_data, head_data

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder, Preset

HARD_WEIGHT = 2
"""How many copies one of the hardest people gets for each one of another."""
_OTHER_COPIES = 2**32
"""Added to the seed, so that these copies are none of those that the old head was trained on."""


def choose_photographs(
    dataset: FaceDataset, *, people: int = PEOPLE, photographs: int | None = None, seed: int = 0
) -> HeadData:
    """The people with most photographs, with all of these unless there is a cap; a quarter of each person's tests.

    Args:
        dataset: whose photographs.
        people: how many at most.
        photographs: at most so many a person.
        seed: of the draw.

    Raises:
        UserError: fewer than two people have photographs enough.
    """
    most = sorted(Counter(dataset.identities).values(), reverse=True)[:people]
    enough = sum(count >= FEWEST for count in most)
    if enough < 2:
        raise UserError(
            f"{dataset.name} has {enough} people of {FEWEST} photographs or more, and a head tells at least 2 apart: "
            "take a larger data set"
        )
    return head_data(dataset, people=enough, photographs=min(most[0], photographs or most[0]), seed=seed)


def validation_part(dataset: FaceDataset, data: HeadData) -> HeadData:
    """The training photographs alone, split once more: settings are chosen there, and the test stays unseen.

    Args:
        dataset: whose photographs.
        data: whose training photographs.

    Raises:
        UserError: a person has too few of them.
    """
    inner = choose_photographs(dataset.take(data.train, "to-train-a-head"), people=len(data.people), seed=data.seed)
    if len(inner.people) < len(data.people):
        raise UserError(
            f"--validate splits training photographs once more, and somebody of {', '.join(data.people)} has fewer "
            f"than {FEWEST}: leave it out, or take a larger data set"
        )
    return dataclasses.replace(
        inner, train=data.train[inner.train], test=data.train[inner.test], copies=data.train[inner.copies]
    )


@dataclass(frozen=True)
class Hardness:
    """On whom the base errs.

    Attributes:
        errors: by person, wrong pairs among the training photographs; an impostor pair counts for both.
        hard: the people with most errors, the hardest first; at most half of all.
        threshold: at which pairs were judged, in the preset's metric.
    """

    errors: dict[str, int]
    hard: tuple[str, ...]
    threshold: float


def mine_people(dataset: FaceDataset, data: HeadData, vectors: HeadVectors, preset: "Preset", *, seed: int) -> Hardness:
    """Mines all pairs of the training photographs, at the preset's threshold; the test photographs stay unseen.

    Args:
        dataset: whose photographs.
        data: of the head.
        vectors: embeddings of its photographs.
        preset: whose metric and threshold.
        seed: of the scoring.
    """
    failed = [(dataset.keys[index], "") for index in data.train[~vectors.train_ok]]
    embeddings = Embeddings(vectors.train, vectors.train_ok, failed)
    mined = mine(dataset.take(data.train, "to-train-a-head"), embeddings, preset, seed=seed, top=1)
    found = {person.person: person.errors for person in mined.people}
    return Hardness(
        {name: found.get(name, 0) for name in data.people},
        tuple(hardest_people(mined, len(data.people) // 2)),
        mined.metrics["threshold"],
    )


def aimed_copies(
    dataset: FaceDataset, data: HeadData, hard: Sequence[str], *, copies: int = 1, seed: int = 0
) -> np.ndarray:
    """(C,) int, the training photograph that each further copy is made of.

    There are `copies` for each training photograph on average, shared out by person: one of the hardest gets
    `HARD_WEIGHT` times as many as another, however many photographs they have.

    Args:
        dataset: whose photographs.
        data: of the head.
        hard: the hardest people; nobody: all get equally many.
        copies: for each training photograph on average.
        seed: of the choice among a person's photographs.
    """
    random = np.random.default_rng(seed)
    weights = np.array([HARD_WEIGHT if name in hard else 1 for name in data.people])
    # Rounded so that the counts add up.
    until = np.rint(np.cumsum(weights) / weights.sum() * copies * len(data.train)).astype(int)
    labels = data.labels(dataset, data.train)
    return np.concatenate(
        [
            np.resize(random.permutation(data.train[labels == label]), count)
            for label, count in enumerate(np.diff(until, prepend=0))
        ]
    )


@dataclass(frozen=True, eq=False)
class CopyVectors:
    """Embeddings of the copies that retraining adds, and of one copy of each test photograph.

    Attributes:
        aimed: (C, D) float32; `aimed_ok` (C,) bool, those that could be cropped.
        test: (S, D) float32, in the order of the test photographs; they fail where these fail.
    """

    aimed: np.ndarray
    aimed_ok: np.ndarray
    test: np.ndarray


def embed_copies(
    dataset: FaceDataset, embedder: "Embedder", recipe: Recipe, data: HeadData, aimed: np.ndarray
) -> CopyVectors:
    """Makes and embeds copies, each once; from the cache where that was done before.

    Args:
        dataset: whose photographs.
        embedder: the frozen base.
        recipe: how they are cropped.
        data: of the head.
        aimed: (C,) int, what `aimed_copies` chose.
    """
    none = np.zeros(0, np.int64)
    alone = HeadData(data.people, none, none, np.concatenate([aimed, data.test]), data.seed + _OTHER_COPIES)
    found = embed_head_data(dataset, embedder, recipe, alone)
    cut = len(aimed)
    return CopyVectors(found.copies[:cut], found.copies_ok[:cut], found.copies[cut:])
