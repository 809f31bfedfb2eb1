"""The pairs that a model gets wrong, worst first, and the people that they show.

The paper mines them to know whom to augment: *Facial Recognition Adversarial Methods and
Defenses*. A false positive is an impostor pair at or below its threshold, a false negative a
genuine pair above it. Counts are of every pair; only the list of pairs is cut at the worst.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.distributed.executor import LOCAL, Executor
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.protocols import Judge, estimate_entry
from tfface.evaluation.scoring import check_protocol, judge_pairs, remarks
from tfface.metrics import intervals
from tfface.metrics.distances import from_cosine, to_cosine
from tfface.metrics.intervals import IdentityErrors
from tfface.metrics.pair_tiles import WORST

if TYPE_CHECKING:
    from tfface.models._embedder import Preset

KINDS = ("false_positive", "false_negative")


class WrongPair(NamedTuple):
    """A pair that the model gets wrong.

    Attributes:
        kind: one of `KINDS`.
        rank: from 1, the worst of its kind.
        first: an image's key.
        second: the other's.
        first_person: who is on the first.
        second_person: who is on the second.
        distance: of the two, in the preset's metric.
        margin: how far the distance lies on the wrong side of the threshold.
        threshold: that the pair was judged at.
    """

    kind: str
    rank: int
    first: str
    second: str
    first_person: str
    second_person: str
    distance: float
    margin: float
    threshold: float


class PersonErrors(NamedTuple):
    """The errors about one person; a false positive counts for both of its people."""

    person: str
    images: int
    false_positives: int
    false_negatives: int
    impostor_pairs: int
    genuine_pairs: int

    @property
    def errors(self) -> int:
        return self.false_positives + self.false_negatives


@dataclass(frozen=True)
class Mined:
    """What mining found.

    Attributes:
        metrics: JSON-able, as `metrics.json` holds it.
        wrong: the worst false positives, then the worst false negatives.
        people: everyone with an error, those with the most first.
    """

    metrics: dict[str, Any]
    wrong: list[WrongPair]
    people: list[PersonErrors]

    def of_kind(self, kind: str) -> list[WrongPair]:
        return [pair for pair in self.wrong if pair.kind == kind]


def mine(
    dataset: FaceDataset,
    embeddings: Embeddings,
    preset: "Preset",
    *,
    protocol: str = "all-pairs",
    threshold: float | None = None,
    calibrated: bool = False,
    top: int = WORST,
    seed: int = 0,
    executor: Executor = LOCAL,
) -> Mined:
    """Finds the pairs that a model gets wrong.

    Args:
        dataset: whose images.
        embeddings: of it, in the order of its keys.
        preset: whose metric and threshold.
        protocol: one of `evaluation.PROTOCOLS`.
        threshold: in the preset's metric, instead of the preset's.
        calibrated: judge each pair at a threshold chosen on other pairs, as `evaluate` does: of all
            pairs those within each half of the people, at the other half's.
        top: how many pairs of each kind to list, and people in `metrics`.
        seed: of the split of the people into halves.
        workers: who scores all pairs.

    Raises:
        UserError: the data set lacks the protocol's pairs, or they cannot be calibrated or judged.
    """
    check_protocol(dataset, protocol)
    judge = judge_pairs(dataset, embeddings, preset.metric, protocol=protocol, seed=seed, worst=top, executor=executor)
    if calibrated:
        if threshold is not None:
            raise UserError("a threshold and a calibrated one: ask for one of them")
        parts, source = judge.calibrated_parts(), judge.calibration
        if not parts:
            raise UserError(f"{protocol} of {dataset.name} has too few pairs to calibrate on: give a threshold")
    elif threshold is not None:
        parts, source = [(judge, threshold)], "given"
    else:
        parts, source = [(judge, preset.threshold)], preset.threshold_source
    errors = _errors(parts, len(set(dataset.identities)))
    people = _people(dataset, errors)
    metrics = {
        "protocol": protocol,
        "images": len(dataset),
        "identities": len(set(dataset.identities)),
        "failed_images": len(embeddings.failed),
        "metric": preset.metric,
        "threshold": errors.threshold,
        "threshold_source": source,
        **_counts(errors),
        "people": [dict(zip(PersonErrors._fields[:4], person[:4], strict=True)) for person in people[:top]],
        "remarks": [*remarks(dataset, preset, judge), *_across(judge, errors)],
    }
    return Mined(metrics, [pair for kind in KINDS for pair in _worst(dataset, parts, kind, top)], people)


def hardest_people(mined: Mined, count: int) -> list[str]:
    """Those with the most errors, the hardest first: whom the paper augments.

    Args:
        mined: what mining found.
        count: how many at most; people without an error are never among them.
    """
    return [person.person for person in mined.people[:count]]


def _errors(parts: list[tuple[Judge, float]], people: int) -> IdentityErrors:
    """The errors of all parts together, by person; the threshold is the parts' mean, in the judges' metric."""
    total = np.zeros((4, people), np.int64)
    for judge, threshold in parts:
        found = judge.errors([to_cosine(threshold, judge.metric)])[0]
        counted = (found.genuine_pairs, found.genuine_errors, found.impostor_pairs, found.impostor_errors)
        total[:, judge.codes] += np.stack(counted)
    return IdentityErrors(float(np.mean([threshold for _, threshold in parts])), *total)


def _counts(errors: IdentityErrors) -> dict[str, Any]:
    return {
        "false_positives": {
            "count": int(errors.impostor_errors.sum()) // 2,
            "pairs": int(errors.impostor_pairs.sum()) // 2,
            **estimate_entry("rate", intervals.false_match(errors)),
        },
        "false_negatives": {
            "count": int(errors.genuine_errors.sum()),
            "pairs": int(errors.genuine_pairs.sum()),
            **estimate_entry("rate", intervals.false_non_match(errors)),
        },
    }


def _across(judge: Judge, errors: IdentityErrors) -> list[str]:
    left = judge.curve.impostors - int(errors.impostor_pairs.sum()) // 2
    return [f"{left:,} impostor pairs across the halves of the people are judged at neither's threshold"] * bool(left)


def _people(dataset: FaceDataset, errors: IdentityErrors) -> list[PersonErrors]:
    names, images = np.unique(np.array(dataset.identities), return_counts=True)
    columns = (images, errors.impostor_errors, errors.genuine_errors, errors.impostor_pairs, errors.genuine_pairs)
    rows = zip(names.tolist(), *(column.tolist() for column in columns), strict=True)
    wrong = [person for person in (PersonErrors(*row) for row in rows) if person.errors]
    return sorted(wrong, key=lambda person: (-person.errors, person.person))


def _worst(dataset: FaceDataset, parts: list[tuple[Judge, float]], kind: str, top: int) -> Iterator[WrongPair]:
    """The pairs of a kind that lie deepest on the wrong side of their own thresholds."""
    found = (pair for judge, threshold in parts for pair in _wrong_of(dataset, judge, threshold, kind))
    deepest = heapq.nsmallest(top, found, key=lambda pair: (-pair.margin, pair.first, pair.second))
    return (pair._replace(rank=rank) for rank, pair in enumerate(deepest, start=1))


def _wrong_of(dataset: FaceDataset, judge: Judge, threshold: float, kind: str) -> Iterator[WrongPair]:
    limit, positive = to_cosine(threshold, judge.metric), kind == "false_positive"
    pairs = judge.worst()[KINDS.index(kind)]
    cosine = pairs.distance.astype(np.float64)
    chosen = np.flatnonzero((cosine <= limit) == positive)
    distances = from_cosine(cosine, judge.metric)
    for place in chosen:
        first, second, distance = int(pairs.first[place]), int(pairs.second[place]), float(distances[place])
        yield WrongPair(
            kind,
            0,
            dataset.keys[first],
            dataset.keys[second],
            dataset.identities[first],
            dataset.identities[second],
            distance,
            abs(distance - threshold),
            threshold,
        )
