"""A classifier of a few people on a frozen embedder, as a target of attacks.

The paper's central claim is about it (its Table 2): an adversarial photograph that the head takes for
another person still passes the similarity test. It is compared, by the base embedder, with the same
person's training photographs; the claim holds as far as they still match.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfface.errors import UserError
from tfface.evaluation.inputs import Embedder, FaceDataset, Recipe
from tfface.metrics.distances import cosine_distance, from_cosine, to_cosine
from tfface.metrics.intervals import wilson
from tfface.training.head import Head, HeadSettings, cached_head
from tfface.training.head_data import PHOTOGRAPHS, HeadData, HeadVectors, embed_head_data, head_data

Metrics = dict[str, Any]
_FORMAT = 1


def trained_head(
    dataset: FaceDataset, embedder: Embedder, recipe: Recipe, data: HeadData, settings: HeadSettings
) -> tuple[Head, HeadVectors]:
    """Return a head on a frozen model, trained or from the cache, and the embeddings that it saw."""
    vectors = embed_head_data(dataset, embedder, recipe, data)
    facts = {
        "format": _FORMAT,
        "preset": embedder.preset.name,
        "weights_sha256": embedder.sha256,
        "recipe": recipe.name,
        "dataset": dataset.name,
        "dataset_version": dataset.version,
        **data.record(dataset),
        **embedder.defense_record,
    }

    def examples() -> tuple[np.ndarray, np.ndarray]:
        indices = np.concatenate([data.train[vectors.train_ok], data.copies[vectors.copies_ok]])
        seen = np.concatenate([vectors.train[vectors.train_ok], vectors.copies[vectors.copies_ok]])
        return seen, data.labels(dataset, indices)

    return cached_head(examples, data.people, facts=facts, settings=settings), vectors


def saved_head(path: Path, dataset: FaceDataset, embedder: Embedder, recipe: Recipe) -> tuple[Head, HeadData]:
    """Load a head from a file, and the photographs that trained and test it.

    Raises:
        UserError: it is on another model or recipe, or its people or photographs are not this data set's.
    """
    head = Head.load(path)
    facts = head.facts
    own = (embedder.sha256, recipe.name, embedder.defense_record.get("defense"))
    if (facts.get("weights_sha256"), facts.get("recipe"), facts.get("defense")) != own:
        behind = [f" behind {' and '.join(names)}" if names else "" for names in (facts.get("defense"), own[2])]
        raise UserError(
            f"{path} is a head on {facts.get('preset')} ({str(facts.get('weights_sha256'))[:8]}, "
            f"{facts.get('recipe')}){behind[0]}, not on {embedder.preset.name} ({embedder.sha256[:8]}, {recipe.name})"
            f"{behind[1]}: give that `embedder`, `recipe` and `defense`, or leave out `head`",
            parameter="head",
        )
    absent = sorted(set(head.people) - set(dataset.identities))
    if absent:
        raise UserError(
            f"{path} tells apart {', '.join(head.people)}, and {dataset.name} has no {absent[0]}: "
            f"give the `dataset` {facts.get('dataset')}, or leave out `head` to train one",
            parameter="head",
        )
    return head, HeadData.of(facts, dataset)


@dataclass(frozen=True)
class HeadConfig:
    """Configuration of the heads of an experiment.

    Attributes:
        file: a saved head; one is trained if None.
        photographs: of each of its people, training and test, at most.
        settings: of the training.
    """

    file: str | Path | None = None
    photographs: int = PHOTOGRAPHS
    settings: HeadSettings = field(default_factory=HeadSettings)

    def heads(
        self, dataset: FaceDataset, embedder: Embedder, recipe: Recipe, surrogate: Embedder | None, seed: int
    ) -> tuple[Head, Head | None, HeadData, HeadVectors]:
        """Return the heads on a model and on its surrogate, their data, and its embeddings by the model.

        Args:
            dataset: data set of the photographs.
            embedder: the model under attack.
            recipe: crop recipe.
            surrogate: model that attacks see instead; None for none.
            seed: random seed.

        Raises:
            UserError: the data set has too few photographs, or the saved head does not fit.
        """
        if self.file is not None:
            head, data = saved_head(Path(self.file), dataset, embedder, recipe)
            vectors = embed_head_data(dataset, embedder, recipe, data)
        else:
            data = head_data(dataset, photographs=self.photographs, seed=seed)
            head, vectors = trained_head(dataset, embedder, recipe, data, self.settings)
        other = trained_head(dataset, surrogate, recipe, data, self.settings)[0] if surrogate else None
        return head, other, data, vectors


@dataclass(frozen=True, eq=False)
class Similarity:
    """The similarity test of a head's test photographs against their people's training photographs.

    Attributes:
        dataset: data set of the photographs.
        data: of the head.
        vectors: embeddings of the photographs as they are.
        threshold: distance up to which a pair matches, in `metric`.
        metric: the preset's.
    """

    dataset: FaceDataset
    data: HeadData
    vectors: HeadVectors
    threshold: float
    metric: str

    @property
    def limit(self) -> float:
        """Return the threshold as a cosine distance."""
        return to_cosine(self.threshold, self.metric)

    def _compared(self, subject: int) -> np.ndarray:
        """Return the positions in `data.train` of a test photograph's person."""
        names = np.array([self.dataset.identities[index] for index in self.data.train])
        return np.flatnonzero((names == self.dataset.identities[subject]) & self.vectors.train_ok)

    def distances(self, subject: int, vector: np.ndarray) -> np.ndarray:
        """Return (T,) cosine distances of one embedding to the training photographs of a test photograph's person."""
        return cosine_distance(self.vectors.train[self._compared(subject)], vector[None])

    def distance(self, vector: np.ndarray, compared: int) -> float:
        """Return the cosine distance of one embedding to one training photograph, by its index in the data set."""
        place = np.searchsorted(self.data.train, compared)
        return float(cosine_distance(self.vectors.train[place][None], vector[None])[0])

    def typical(self, subject: int) -> int:
        """Return the training photograph at the median distance of a test photograph, by its index in the data set."""
        compared = self._compared(subject)
        order = np.argsort(self.distances(subject, self.clean_vectors(np.array([subject]))[0]))
        return int(self.data.train[compared[order[len(order) // 2]]])

    def clean_vectors(self, subjects: np.ndarray) -> np.ndarray:
        """Return (N, D) embeddings of test photographs before any attack."""
        return self.vectors.test[np.searchsorted(self.data.test, subjects)]

    def entry(self, subjects: np.ndarray, vectors: np.ndarray) -> Metrics | None:
        """Count the pairs that match, and the photographs whose median pair does; None of no photographs.

        Args:
            subjects: (N,) int, the photographs.
            vectors: (N, D) their embeddings.
        """
        if not len(subjects):
            return None
        found = [self.distances(subject, vector) for subject, vector in zip(subjects, vectors, strict=True)]
        medians = np.array([np.median(distances) for distances in found])
        matched = wilson(int((medians <= self.limit).sum()), len(medians))
        return {
            "images": len(subjects),
            "pairs": sum(map(len, found)),
            "pairs_matched": float((np.concatenate(found) <= self.limit).mean()),
            "images_matched": matched.value,
            "ci95": matched.ci95,
            "median_distance": float(from_cosine(np.median(medians), self.metric)),
        }
