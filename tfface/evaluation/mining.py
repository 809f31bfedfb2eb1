"""Mine the pairs that a model gets wrong, worst first, and the people on them.

The paper mines them to choose whom to augment: *Facial Recognition Adversarial Methods and
Defenses*. A false positive is an impostor pair at or below its threshold, a false negative a
genuine pair above it. Counts are of every pair; only the list of pairs is cut at the worst.
"""

import dataclasses
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfface.data.crops import Crops
from tfface.distributed.cluster import executor_at
from tfface.distributed.executor import LOCAL, Executor
from tfface.evaluation.embeddings import Embeddings, embed_dataset, report_failures, with_flip
from tfface.evaluation.inputs import FaceDataset, as_embedder, load_dataset
from tfface.evaluation.inputs import recipe as named_recipe
from tfface.evaluation.protocols import ProtocolScores, estimate_entry
from tfface.evaluation.scoring import check_protocol, remarks, score_pairs
from tfface.metrics import intervals
from tfface.metrics.distances import from_cosine, to_cosine
from tfface.metrics.intervals import IdentityErrors
from tfface.metrics.pair_tiles import WORST
from tfface.report.evaluation_tables import mining_tables
from tfface.utils.files import write_csv
from tfface.utils.public import Clock, Result, Table, UserError, configured, run_record

if TYPE_CHECKING:
    from tfface.evaluation.inputs import Embedder, Preset

KINDS = ("false_positive", "false_negative")


class WrongPair(NamedTuple):
    """Pair that the model gets wrong.

    Attributes:
        kind: one of `KINDS`.
        rank: from 1, the worst of its kind.
        first: key of an image.
        second: key of the other.
        first_person: person on the first.
        second_person: person on the second.
        distance: in the preset's metric.
        margin: distance from the threshold, on its wrong side.
        threshold: that the pair was scored at.
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
    """Errors about one person; a false positive counts for both of its people."""

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
class Mined(Result):
    """Result of mining: wrong pairs and the people on them.

    Attributes:
        metrics: JSON-able, as `metrics.json` holds it.
        wrong: the worst false positives, then the worst false negatives.
        people: everyone with an error, those with the most first.
        record: model, data set, time: the head of `metrics.json`.
        crops: reads the faces of the data set by index, for the galleries; None without photographs.
        dataset: the data set; None without photographs.
    """

    metrics: dict[str, Any]
    wrong: list[WrongPair]
    people: list[PersonErrors]
    record: dict[str, Any] = field(default_factory=dict)
    crops: Crops | None = None
    dataset: FaceDataset | None = None

    def of_kind(self, kind: str) -> list[WrongPair]:
        """Return the wrong pairs of a kind, one of `KINDS`."""
        return [pair for pair in self.wrong if pair.kind == kind]

    def to_dict(self) -> dict[str, Any]:
        return {**self.record, **self.metrics}

    def tables(self) -> list[Table]:
        return mining_tables(self.to_dict())

    def save_files(self, folder: Path) -> list[str]:
        written = []
        for kind in KINDS if self.crops else ():
            self._save_gallery(kind, folder / f"{kind}s.png")
            written.append(f"{kind}s.png")
        write_csv(folder / "wrong_pairs.csv", WrongPair._fields, self.wrong)
        write_csv(folder / "people.csv", PersonErrors._fields, self.people)
        return [*written, "wrong_pairs.csv", "people.csv"]

    def _save_gallery(self, kind: str, target: Path) -> None:
        from tfface.report.pictures import SHOWN, GalleryPair, draw_gallery, save_picture

        assert self.crops is not None and self.dataset is not None
        name, every = f"{kind}s", self.of_kind(kind)
        count, shown = self.metrics[name]["count"], every[:SHOWN]
        title = f"{name.replace('_', ' ')} of {self.record['preset']} on {self.record['dataset']} "
        title += f"({self.metrics['protocol']}): "
        title += f"the worst {min(len(every), SHOWN)} of {count:,}" if count else "none"
        indices = [self.dataset.position(key) for pair in shown for key in (pair.first, pair.second)]
        faces = np.rint(self.crops(np.array(indices, int))[0] * 255).astype(np.uint8)
        pairs = [
            GalleryPair(
                faces[2 * place : 2 * place + 2],
                (pair.first_person, pair.second_person),
                (pair.first.removeprefix(f"{pair.first_person}/"), pair.second.removeprefix(f"{pair.second_person}/")),
                f"{pair.rank}.  distance {pair.distance:.3f}, {pair.margin:.3f} beyond {pair.threshold:.3f}",
            )
            for place, pair in enumerate(shown)
        ]
        save_picture(draw_gallery(title, pairs), target)


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """Configuration of mining.

    Attributes:
        protocol: `all-pairs`; of LFW also `view1` and `view2`.
        recipe: crop recipe; the preset's by default, or `whole` where a data set holds crops.
        flip: add the mirrored photographs' embeddings.
        threshold: in the preset's metric, instead of the preset's.
        far: use the threshold calibrated at this false accept rate (`tfface.calibrate`), instead of the preset's.
        calibrated: score each pair at a threshold chosen on other people or folds, as `evaluate` does.
        top: number of pairs of each kind to list, and of people.
        strict: stop if a photograph fails, instead of counting it.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.
        cluster: work on a Ray cluster: `auto`, `ray://HOST:PORT` or `local:N`.
    """

    protocol: str = "all-pairs"
    recipe: str | None = None
    flip: bool = False
    threshold: float | None = None
    far: float | None = None
    calibrated: bool = False
    top: int = WORST
    strict: bool = False
    manual_dir: str | Path | None = None
    seed: int = 0
    offline: bool = False
    cluster: str | None = None


@configured(MiningConfig)
def mine(
    embedder: "str | Embedder" = "facenet",
    dataset: str | Path | FaceDataset = "five_faces",
    *,
    config: MiningConfig,
) -> Mined:
    """Mine the pairs that a face embedder gets wrong, and the people on them.

    Args:
        embedder: a model, its name or its file.
        dataset: a data set, its name, or a folder with one subfolder per person.

    Returns:
        The wrong pairs, worst first, and error rates by person.

    Raises:
        UserError: the model or data set cannot be had, or its pairs cannot be scored or calibrated.

    Example:
        >>> import tfface
        >>> mined = tfface.mine("facenet", "five_faces")  # doctest: +SKIP
        >>> mined.people[0].person  # doctest: +SKIP
        'madonna'
    """
    _check_threshold(config.threshold, config.far, calibrated=config.calibrated)
    clock, asked = Clock(), named_recipe(config.recipe) if config.recipe else None
    model = as_embedder(embedder, offline=config.offline)
    if config.threshold is not None or config.far is not None:
        model.preset.decide(config.threshold, config.far)  # before anything is embedded
    faces = load_dataset(dataset, manual_dir=config.manual_dir, offline=config.offline)
    chosen = asked or named_recipe(faces.own_recipe or model.preset.recipe)
    check_protocol(faces, config.protocol)
    with executor_at(config.cluster) as executor:
        embeddings = embed_dataset(faces, model, chosen, flip=config.flip, executor=executor)
        report_failures(embeddings.failed, len(faces), strict=config.strict)
        mined = mine_embeddings(
            faces,
            embeddings,
            model.preset,
            protocol=config.protocol,
            threshold=config.threshold,
            far=config.far,
            recipe=with_flip(chosen.name, flip=config.flip),
            calibrated=config.calibrated,
            top=config.top,
            seed=config.seed,
            executor=executor,
        )
    record = {**run_record("mine", model, chosen.name, faces, config.seed, clock), "flip": config.flip}
    crops = Crops(faces, chosen, model.preset.input_size)
    return dataclasses.replace(mined, record=record, crops=crops, dataset=faces)


def mine_embeddings(
    dataset: FaceDataset,
    embeddings: Embeddings,
    preset: "Preset",
    *,
    protocol: str = "all-pairs",
    threshold: float | None = None,
    far: float | None = None,
    recipe: str | None = None,
    calibrated: bool = False,
    top: int = WORST,
    seed: int = 0,
    executor: Executor = LOCAL,
) -> Mined:
    """Mine the pairs that a model gets wrong, from embeddings.

    Args:
        dataset: images with their people.
        embeddings: one for each image, in the order of the data set's keys.
        preset: metric and threshold.
        protocol: one of `PROTOCOLS`.
        threshold: in the preset's metric, instead of the preset's.
        far: use the threshold calibrated at this false accept rate, instead of the preset's.
        recipe: crop recipe of the embeddings (`with_flip`).
        calibrated: score each pair at a threshold chosen on other pairs, as `evaluate` does: of all
            pairs those within each half of the people, at the other half's.
        top: number of pairs of each kind to list, and of people in `metrics`.
        seed: random seed of the split of the people into halves.
        executor: this process, or a cluster.

    Raises:
        UserError: the data set lacks the protocol's pairs, or they cannot be calibrated or scored.
    """
    _check_threshold(threshold, far, calibrated=calibrated)
    check_protocol(dataset, protocol)
    scores = score_pairs(dataset, embeddings, preset.metric, protocol=protocol, seed=seed, worst=top, executor=executor)
    if calibrated:
        parts, source = scores.calibrated_parts(), scores.calibration
        if not parts:
            raise UserError(f"{protocol} of {dataset.name} has too few pairs to calibrate on: give a threshold")
    else:
        _, limit, source = preset.decide(threshold, far, recipe)
        parts = [(scores, limit)]
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
        "remarks": [*remarks(dataset, preset, scores), *_across(scores, errors)],
    }
    return Mined(metrics, [pair for kind in KINDS for pair in _worst(dataset, parts, kind, top)], people)


def _check_threshold(threshold: float | None, far: float | None, *, calibrated: bool) -> None:
    for name, value in (("threshold", threshold), ("far", far)):
        if calibrated and value is not None:
            raise UserError(f"`{name}` and `calibrated` exclude each other: give one of them", parameter=name)


def hardest_people(mined: Mined, count: int) -> list[str]:
    """Return the people with the most errors, the hardest first: those that the paper augments.

    Args:
        mined: result of mining.
        count: at most so many; people without an error are never among them.
    """
    return [person.person for person in mined.people[:count]]


def _errors(parts: list[tuple[ProtocolScores, float]], people: int) -> IdentityErrors:
    """Add up the errors of all parts by person; the threshold is the parts' mean."""
    total = np.zeros((4, people), np.int64)
    for scores, threshold in parts:
        found = scores.errors([to_cosine(threshold, scores.metric)])[0]
        counted = (found.genuine_pairs, found.genuine_errors, found.impostor_pairs, found.impostor_errors)
        total[:, scores.codes] += np.stack(counted)
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


def _across(scores: ProtocolScores, errors: IdentityErrors) -> list[str]:
    left = scores.curve.impostors - int(errors.impostor_pairs.sum()) // 2
    return [f"{left:,} impostor pairs across the halves of the people are judged at neither's threshold"] * bool(left)


def _people(dataset: FaceDataset, errors: IdentityErrors) -> list[PersonErrors]:
    names, images = np.unique(np.array(dataset.identities), return_counts=True)
    columns = (images, errors.impostor_errors, errors.genuine_errors, errors.impostor_pairs, errors.genuine_pairs)
    rows = zip(names.tolist(), *(column.tolist() for column in columns), strict=True)
    wrong = [person for person in (PersonErrors(*row) for row in rows) if person.errors]
    return sorted(wrong, key=lambda person: (-person.errors, person.person))


def _worst(dataset: FaceDataset, parts: list[tuple[ProtocolScores, float]], kind: str, top: int) -> Iterator[WrongPair]:
    """Yield the pairs of a kind that lie deepest on the wrong side of their own thresholds."""
    found = (pair for scores, threshold in parts for pair in _wrong_of(dataset, scores, threshold, kind))
    deepest = heapq.nsmallest(top, found, key=lambda pair: (-pair.margin, pair.first, pair.second))
    return (pair._replace(rank=rank) for rank, pair in enumerate(deepest, start=1))


def _wrong_of(dataset: FaceDataset, scores: ProtocolScores, threshold: float, kind: str) -> Iterator[WrongPair]:
    limit, positive = to_cosine(threshold, scores.metric), kind == "false_positive"
    pairs = scores.worst()[KINDS.index(kind)]
    cosine = pairs.distance.astype(np.float64)
    chosen = np.flatnonzero((cosine <= limit) == positive)
    distances = from_cosine(cosine, scores.metric)
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
