"""Evaluation of embeddings: all pairs of a data set, LFW's View 1 and View 2, and pair lists."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfface.data.dataset import FaceDataset, Pairs
from tfface.distributed.executor import LOCAL, Executor
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.protocols import (
    AllPairsScores,
    Metrics,
    PairListScores,
    ProtocolScores,
    Threshold,
    estimate_entry,
)
from tfface.metrics import intervals
from tfface.metrics.distances import from_cosine, to_cosine
from tfface.metrics.intervals import IdentityErrors
from tfface.metrics.pair_tiles import WORST
from tfface.metrics.roc import ErrorCurve
from tfface.report.evaluation_tables import evaluation_tables, title
from tfface.utils.files import write_csv
from tfface.utils.public import Result, Table, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tfface.models._embedder import Preset

PROTOCOLS = ("all-pairs", "view1", "view2")


class WorstPair(NamedTuple):
    """One of the worst pairs; the distance is in the preset's metric."""

    kind: str
    rank: int
    first: str
    second: str
    distance: float


@dataclass(frozen=True)
class AtThreshold:
    """Accuracy and error rates at a threshold.

    Attributes:
        threshold: distance up to which a pair matches.
        source: where the threshold was measured or chosen.
        accuracy: over all pairs the mean of genuine and impostor accuracy; of a list the share of right pairs.
        ci95: 95% interval of the accuracy.
        far: false accept rate; None where it is not measured.
        frr: false reject rate; None where it is not measured.
    """

    threshold: float
    source: str
    accuracy: float | None
    ci95: tuple[float, float] | None
    far: float | None = None
    frr: float | None = None

    @classmethod
    def of(cls, entry: Metrics) -> "AtThreshold":
        """Read an entry of `metrics.json`."""
        ci95 = entry.get("ci95")
        return cls(
            entry["threshold"],
            entry["threshold_source"],
            entry["accuracy"],
            None if ci95 is None else (ci95[0], ci95[1]),
            entry.get("far"),
            entry.get("frr"),
        )


@dataclass(frozen=True)
class Evaluation(Result):
    """Result of an evaluation of one model on one data set.

    Attributes:
        metrics: JSON-able, as `metrics.json` holds it.
        curve: accepted pairs by threshold, in the preset's metric.
        histogram: edges, genuine counts and impostor counts of the distances, for a picture.
        worst: the 100 closest impostor and the 100 farthest genuine pairs, worst first.
        record: what ran on what, JSON-able; empty where only embeddings were given.
    """

    metrics: Metrics
    curve: ErrorCurve
    histogram: tuple[np.ndarray, np.ndarray, np.ndarray]
    worst: list[WorstPair]
    record: Metrics = field(default_factory=dict)

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve."""
        return self.metrics["auc"]

    @property
    def eer(self) -> float | None:
        """Equal error rate."""
        return self.metrics["eer"]

    @property
    def fixed(self) -> AtThreshold | None:
        """Rates at the preset's threshold, or at the one given; None where the preset has none."""
        entry = self.metrics["fixed"]
        return AtThreshold.of(entry) if entry else None

    @property
    def calibrated(self) -> AtThreshold | None:
        """Rates at a threshold chosen on other people or folds; None where there are too few."""
        entry = self.metrics["calibrated"]
        return AtThreshold.of(entry) if entry else None

    @property
    def label(self) -> str:
        """Short name among several."""
        parts = (self.record.get(name) for name in ("preset", "dataset", "recipe", "corruption"))
        return " ".join(part for part in parts if part)

    def to_dict(self) -> Metrics:
        return {**self.record, **self.metrics}

    def tables(self) -> list[Table]:
        return evaluation_tables(self.to_dict())

    def plot(self) -> "Figure":
        """Draw the ROC curve."""
        from tfface.report.evaluation_plots import plot_roc

        return plot_roc([(self.label, self.curve, self.metrics["auc"])])

    def plot_distances(self) -> "Figure":
        """Draw the distances of genuine and impostor pairs with the thresholds."""
        from tfface.report.evaluation_plots import plot_histogram

        return plot_histogram(title(self.to_dict()), self.histogram, self.metrics)

    def save_files(self, folder: Path) -> list[str]:
        from tfface.utils.public import save_figure

        save_figure(self.plot(), folder / "roc.png")
        return ["roc.png", *self.save_distances(folder)]

    def save_distances(self, folder: Path, suffix: str = "") -> list[str]:
        """Write the picture of the distances, and the worst pairs.

        Args:
            folder: where.
            suffix: of the files' names.

        Returns:
            Names of the files written.
        """
        from tfface.utils.public import save_figure

        picture, table = f"distances{suffix}.png", f"worst{suffix}.csv"
        save_figure(self.plot_distances(), folder / picture)
        write_csv(folder / table, WorstPair._fields, self.worst)
        return [picture, table]


def check_protocol(dataset: FaceDataset, protocol: str) -> None:
    """Check that a protocol exists and the data set has its pairs, before anything is embedded.

    Raises:
        UserError: no such protocol, or the data set lacks its pairs.
    """
    if protocol not in PROTOCOLS:
        raise UserError(
            f"unknown protocol {protocol!r}; valid: {', '.join(PROTOCOLS)}, or `pairs`", parameter="protocol"
        )
    for name in {"all-pairs": (), "view1": ("view1-train", "view1-test"), "view2": ("view2",)}[protocol]:
        dataset.pairs(name)


def evaluate_embeddings(
    dataset: FaceDataset,
    embeddings: Embeddings,
    preset: "Preset",
    *,
    protocol: str = "all-pairs",
    pairs: Pairs | None = None,
    threshold: float | None = None,
    far: float | None = None,
    recipe: str | None = None,
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
    executor: Executor = LOCAL,
) -> Evaluation:
    """Evaluate the embeddings of a data set.

    Images that could not be embedded take part in no pair and are counted.

    Args:
        dataset: images with their people.
        embeddings: one for each image, in the order of the data set's keys.
        preset: metric and thresholds.
        protocol: one of `PROTOCOLS`.
        pairs: a list of pairs instead of the protocol's.
        threshold: fixed threshold in the preset's metric, instead of the preset's.
        far: fixed threshold calibrated at this false accept rate, instead of the preset's.
        recipe: crop recipe of the embeddings (`with_flip`), to tell a threshold that was calibrated with another.
        groups: image key to group: error rates within each group at the fixed threshold.
        seed: random seed of the split of the people into halves.
        executor: this process, or a cluster.

    Raises:
        UserError: no such protocol, the data set lacks its pairs, or there are no pairs to score.
    """
    if pairs is None:
        check_protocol(dataset, protocol)
    unknown = not groups and threshold is None and far is None and preset.threshold is None
    fixed = None if unknown else preset.decide(threshold, far, recipe)
    scores = score_pairs(
        dataset, embeddings, preset.metric, protocol=protocol, pairs=pairs, seed=seed, executor=executor
    )
    metrics = {
        "protocol": pairs.name if pairs else protocol,
        "images": len(dataset),
        "identities": len(set(dataset.identities)),
        "failed_images": len(embeddings.failed),
        "failures": [{"image": key, "reason": reason} for key, reason in embeddings.failed],
        **scores.entries(fixed, preset.other_thresholds),
        "remarks": remarks(dataset, preset, scores),
    }
    if groups and fixed:
        metrics["groups"] = _groups_entry(dataset, scores, fixed, groups)
    return Evaluation(metrics, scores.curve, scores.histogram(), _worst(dataset, scores))


def score_pairs(
    dataset: FaceDataset,
    embeddings: Embeddings,
    metric: str,
    *,
    protocol: str = "all-pairs",
    pairs: Pairs | None = None,
    seed: int = 0,
    worst: int = WORST,
    executor: Executor = LOCAL,
) -> ProtocolScores:
    """Score the pairs of a protocol, or of a list; people are numbered in the order of their sorted names.

    Args:
        dataset: images with their people.
        embeddings: one for each image, in the order of the data set's keys.
        metric: metric of thresholds.
        protocol: one of `PROTOCOLS`.
        pairs: a list of pairs instead of the protocol's.
        seed: random seed of the split of the people into halves.
        worst: number of the worst pairs of each kind to return, of all pairs.
        executor: this process, or a cluster.

    Raises:
        UserError: the data set lacks the protocol's pairs, or there are no pairs to score.
    """
    people = np.unique(np.array(dataset.identities), return_inverse=True)[1]
    if protocol == "all-pairs" and pairs is None:
        return AllPairsScores(embeddings, people, metric, seed, worst=worst, executor=executor)
    return PairListScores.of(dataset, embeddings, people, metric, protocol, pairs)


def _worst(dataset: FaceDataset, scores: ProtocolScores) -> list[WorstPair]:
    return [
        WorstPair(kind, rank, dataset.keys[first], dataset.keys[second], float(from_cosine(distance, scores.metric)))
        for kind, pairs in zip(("impostor", "genuine"), scores.worst(), strict=True)
        for rank, (first, second, distance) in enumerate(
            islice(zip(pairs.first, pairs.second, pairs.distance, strict=True), WORST), start=1
        )
    ]


def _groups_entry(dataset: FaceDataset, scores: ProtocolScores, fixed: Threshold, groups: Mapping[str, str]) -> Metrics:
    metric, threshold, source = fixed
    inside = np.array([groups.get(key, "") for key in dataset.keys])
    limit = to_cosine(threshold, metric)
    return {
        "metric": metric,
        "threshold": threshold,
        "threshold_source": source,
        "rates": {
            name: _group_entry(scores.group_errors(inside == name, limit)) for name in sorted(set(groups.values()))
        },
    }


def _group_entry(errors: IdentityErrors | None) -> Metrics:
    """Return counts and error rates within one group; rates are None where it has no pairs of the kind."""
    genuine = impostor = 0
    match = non_match = None
    if errors is not None:
        genuine, impostor = int(errors.genuine_pairs.sum()), int(errors.impostor_pairs.sum()) // 2
        match, non_match = intervals.false_match(errors), intervals.false_non_match(errors)
    return {
        "genuine": {"count": genuine},
        "impostor": {"count": impostor},
        "fmr": estimate_entry("value", match),
        "fnmr": estimate_entry("value", non_match),
    }


def remarks(dataset: FaceDataset, preset: "Preset", scores: ProtocolScores) -> list[str]:
    """Return remarks that a reader needs beside the numbers."""
    said = []
    if scores.excluded:
        said.append(f"{scores.excluded} pairs are left out, since an image of theirs could not be embedded")
    seen = set(dataset.identities) & preset.identities_seen
    if seen:
        said.append(
            f"{preset.name} was trained on {len(seen)} of these {len(set(dataset.identities))} people: "
            "its numbers here are not those of people it has not seen"
        )
    if dataset.name.startswith("lfw") and "LFW" in preset.training_data:
        said.append(f"training data of {preset.name}: {preset.training_data}")
    return said
