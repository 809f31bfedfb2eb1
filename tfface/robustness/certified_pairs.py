"""Pairs of a data set under randomized smoothing: one photograph may be changed, the reference is fixed.

The base verdict on a pair is "same" where the photograph's cosine distance to the reference's
embedding is at most a threshold. Noise goes to the photograph alone: its certificate then holds
against changes of the photograph, which is what an attacker at the door can bring.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from tfface.data.dataset import Pairs
from tfface.metrics.distances import cosine_distance
from tfface.robustness.pairs import Threshold, best_by_fold
from tfface.robustness.smoothing import Certificate, Smoothing, Verdict, Votes, certificate, count_votes, noisy
from tfface.robustness.trial import Context, pair_keys
from tfface.utils.cache import Store, digest_of

_SHARD_ROWS = 8
"""Pairs that a killed run loses at most; each asks the model a thousand times."""
_NOISY_SHARD = 512
_BATCH = 64
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A model with smoothed verdicts on the pairs of a data set.

    Attributes:
        context: the base model and the data set.
        smoothing: the noise and the confidence.
    """

    context: Context
    smoothing: Smoothing

    @cached_property
    def embeddings(self) -> Any:
        """Return those of the photographs as they are: the references."""
        return self.context.embeddings()

    def keys(self, pairs: Pairs) -> list[int]:
        """Return the seed of each pair's noise, whatever else is certified."""
        return pair_keys(self.context.dataset, pairs.first, pairs.second).tolist()

    def usable(self, pairs: Pairs) -> np.ndarray:
        """Return (P,) bool: both photographs could be cropped."""
        return self.embeddings.ok[pairs.first] & self.embeddings.ok[pairs.second]

    def distances(self, pairs: Pairs) -> np.ndarray:
        """Return (P,) cosine distances without noise."""
        vectors = self.embeddings.vectors
        return cosine_distance(vectors[pairs.first], vectors[pairs.second])

    def verdict(self, reference: np.ndarray, limit: float) -> Verdict:
        """Return the base verdict on copies of a photograph: they match a reference, or not.

        Args:
            reference: (D,) its embedding.
            limit: cosine distance up to which they match.
        """

        def same(copies: np.ndarray) -> np.ndarray:
            return 1.0 - self.context.embedder.embed(copies) @ reference <= limit

        return same

    def record(self) -> dict[str, Any]:
        """Return all that certificates depend on but for pairs and thresholds, JSON-able."""
        return {"format": _FORMAT, **self.context.fingerprint()}


def noisy_distances(smoothed: Smoothed, pairs: Pairs) -> np.ndarray:
    """Return (P,) cosine distances of one noisy copy of each first photograph to the second as it is.

    The base verdict is given these, so thresholds are chosen on them. NaN where cropping failed.
    """
    smoothing = smoothed.smoothing
    fingerprint = {
        **smoothed.record(),
        "sigma": smoothing.sigma,
        "seed": smoothing.seed,
        "pairs": digest_of([pairs.first.tolist(), pairs.second.tolist()]),
    }
    store = Store("noisy-distances", fingerprint, len(pairs), shard_rows=_NOISY_SHARD)
    keys, usable = smoothed.keys(pairs), smoothed.usable(pairs)

    def copies(rows: range) -> np.ndarray:
        images, _ = smoothed.context.crops(pairs.first[rows])
        seeds = ([smoothing.seed, keys[row], 3] for row in rows)
        drawn = zip(images, map(np.random.default_rng, seeds), strict=True)
        return np.concatenate([noisy(image, smoothing.sigma, 1, random) for image, random in drawn])

    def compute(start: int, stop: int) -> pa.Table:
        found = []
        for at in range(start, stop, _BATCH):
            rows = range(at, min(at + _BATCH, stop))
            references = smoothed.embeddings.vectors[pairs.second[rows]]
            found.append(cosine_distance(smoothed.context.embedder.embed(copies(rows)), references))
        return pa.table({"distance": np.where(usable[start:stop], np.concatenate(found), np.nan)})

    store.compute_missing(compute, label="embedding noisy copies")
    return store.read()["distance"].to_numpy()


@dataclass(frozen=True, eq=False)
class Certified:
    """Certificates of pairs (P).

    Attributes:
        pairs: the pairs.
        limits: (P,) cosine thresholds.
        usable: (P,) bool: both photographs could be cropped; the rest was not certified.
        distances: (P,) cosine distances without noise.
        certificates: one a pair; of those that could not be cropped one that says nothing.
    """

    pairs: Pairs
    limits: np.ndarray
    usable: np.ndarray
    distances: np.ndarray
    certificates: list[Certificate]

    @property
    def answers(self) -> np.ndarray:
        """Return (P,) int: 1 same, 0 different, -1 abstained."""
        return np.array([-1 if one.answer is None else int(one.answer) for one in self.certificates])

    @property
    def radii(self) -> np.ndarray:
        """Return (P,) radii within which the answer stays, right or wrong."""
        return np.array([one.radius for one in self.certificates])

    @property
    def correct(self) -> np.ndarray:
        """Return (P,) bool: a certified answer, and the right one."""
        return self.usable & (self.answers == self.pairs.same)


def certify_pairs(smoothed: Smoothed, pairs: Pairs, limits: np.ndarray) -> Certified:
    """Certify pairs, or take their certificates from the cache.

    Args:
        smoothed: the model, the data and the noise.
        pairs: the first photograph of each may be changed.
        limits: (P,) cosine distance up to which each pair is the same person.
    """
    smoothing = smoothed.smoothing
    fingerprint = {
        **smoothed.record(),
        **{name: value for name, value in smoothing.record().items() if name != "alpha"},  # counts know no confidence
        "pairs": digest_of([pairs.first.tolist(), pairs.second.tolist(), limits.tolist()]),
    }
    store = Store("certificates", fingerprint, len(pairs), shard_rows=_SHARD_ROWS)
    keys, usable = smoothed.keys(pairs), smoothed.usable(pairs)

    def votes(row: int) -> Votes:
        if not usable[row]:
            return Votes(0, 0)
        reference = smoothed.embeddings.vectors[pairs.second[row]]
        image = smoothed.context.crops(pairs.first[row : row + 1])[0][0]
        return count_votes(smoothed.verdict(reference, limits[row]), image, smoothing, key=keys[row])

    def compute(start: int, stop: int) -> pa.Table:
        found = [votes(row) for row in range(start, stop)]
        return pa.table({"guess": [one.guess for one in found], "samples": [one.samples for one in found]})

    store.compute_missing(compute, label=f"certifying pairs of {smoothed.context.embedder.preset.name}")
    table = store.read()
    counted = zip(table["guess"].to_pylist(), table["samples"].to_pylist(), usable.tolist(), strict=True)
    nothing = Certificate(None, 0.0, 0.0)
    certificates = [certificate(Votes(one, two), smoothing) if ok else nothing for one, two, ok in counted]
    return Certified(pairs, limits, usable, smoothed.distances(pairs), certificates)


def smoothed_threshold(smoothed: Smoothed, pairs: Pairs) -> Threshold:
    """Choose for each fold the threshold that is best on the others, for photographs under one draw of the noise.

    Not on photographs as they are: noise drives pairs apart, and the verdict on noisy copies is smoothed.

    Args:
        smoothed: the model, the data and the noise.
        pairs: the whole list, genuine and impostor pairs.

    Raises:
        UserError: the list has fewer than two folds.
    """
    metric = smoothed.context.embedder.preset.metric
    source = f"each fold of {pairs.name} from the others, one noisy copy of each photograph (mean)"
    return best_by_fold(pairs, noisy_distances(smoothed, pairs), metric, source)
