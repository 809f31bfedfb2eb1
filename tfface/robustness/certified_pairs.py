"""Pairs of a data set under randomized smoothing: one photograph may be changed, the reference is fixed.

The base verdict on a pair is "same" where the photograph's cosine distance to the reference's
embedding is at most a threshold. Noise goes to the photograph alone: its certificate then holds
against changes of the photograph, which is what an attacker at the door can bring.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from tfface.data.dataset import Pairs
from tfface.metrics.distances import cosine_distance
from tfface.metrics.intervals import Estimate, mean_of, wilson
from tfface.robustness.smoothing import Certificate, Smoothing, Verdict, Votes, certificate, count_votes, noisy
from tfface.robustness.trial import Context, pair_keys
from tfface.utils.cache import Store, digest_of

Metrics = dict[str, Any]

SHARES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
"""Default radii of the table, in sigma."""
KINDS = {"genuine": True, "impostor": False}
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


def default_radii(smoothing: Smoothing) -> tuple[float, ...]:
    """Return multiples of sigma, up to what so many samples can prove."""
    return tuple(share * smoothing.sigma for share in SHARES if share * smoothing.sigma <= smoothing.largest)


def certificates_entry(certified: Certified, smoothing: Smoothing, radii: Sequence[float], values: int) -> Metrics:
    """Return the entries of `metrics.json` about certificates.

    Args:
        certified: pairs with their certificates.
        smoothing: as they were made.
        radii: L2, on the scale of [0, 1], to give the certified accuracy at.
        values: of an image, H * W * C.
    """
    usable, same = certified.usable, certified.pairs.same
    plain = certified.distances <= certified.limits
    return {
        "smoothing": smoothing.record(),
        "largest_radius": smoothing.largest,
        "count": len(certified.pairs),
        "failed_crops": int((~usable).sum()),
        "abstained": int((usable & (certified.answers < 0)).sum()),
        "without_noise": _shares(usable & (plain == same), usable, same),
        "certified": [
            {
                "radius": float(reach),
                **in_levels(reach, values),
                **_shares(certified.correct & (certified.radii >= reach), usable, same),
            }
            for reach in radii
        ],
        "median_radius": {
            kind: _median(certified.radii[usable & certified.correct & (same == wanted)])
            for kind, wanted in KINDS.items()
        },
    }


def in_levels(reach: float, values: int) -> Metrics:
    """Return an L2 radius as the root mean square change of a value, in grey levels."""
    return {"rms255": float(255 * reach / math.sqrt(values))}


def _shares(right: np.ndarray, usable: np.ndarray, same: np.ndarray) -> Metrics:
    """Return the shares of the usable pairs that are right: genuine, impostor, and their mean."""
    found: Metrics = {}
    known: list[Estimate] = []
    for kind, wanted in KINDS.items():
        chosen = usable & (same == wanted)
        if chosen.any():
            known.append(wilson(int(right[chosen].sum()), int(chosen.sum())))
            found[kind] = {"count": int(chosen.sum()), "value": known[-1].value, "ci95": known[-1].ci95}
        else:
            found[kind] = None
    both = mean_of(known) if known else None
    return {**found, "accuracy": {"value": both.value, "ci95": both.ci95} if both else None}


def _median(radii: np.ndarray) -> float | None:
    return float(np.median(radii)) if len(radii) else None
