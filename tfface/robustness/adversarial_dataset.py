"""Adversarial data sets: every attacked photograph as a PNG file, with a manifest of how each was made."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tfface.data import manifest
from tfface.metrics.distances import from_cosine
from tfface.robustness.results import finite, pair_distances
from tfface.robustness.trial import Trial, TrialResults, TrialStore
from tfface.utils.files import atomic_write, cut_to_bytes, digest_of, file_names
from tfface.utils.progress import progress

Record = dict[str, Any]

_LONGEST = 100  # bytes of a name that are its source's, and that are its attack's; file systems take 255 in all


@dataclass(frozen=True, eq=False)
class TrialRun:
    """A trial with its results.

    Attributes:
        trial: the attack.
        rows: its results.
        similarity: for the goal `classify`, the `Similarity` to training photographs.
    """

    trial: Trial
    rows: TrialResults
    similarity: Any = None


def header(trials: Sequence[Trial]) -> Record:
    """Return the head of the manifest: all that makes the data set."""
    context = trials[0].context
    return {
        "command": "attack",
        "dataset": context.dataset.name,
        "dataset_version": context.dataset.version,
        "recipe": context.recipe.name,
        "seed": context.seed,
        "models": list(dict.fromkeys(trial.context.embedder.preset.name for trial in trials)),
        "weights_sha256": list(dict.fromkeys(trial.context.embedder.sha256 for trial in trials)),
        "judged": context.stored.name,
        "trials": [f"{trial.label}-{digest_of(trial.fingerprint())}" for trial in trials],
    }


@contextlib.contextmanager
def claimed(folder: Path | None, trials: Sequence[Trial]) -> Iterator[int]:
    """Hold the folder for these trials while they run; without a folder do nothing.

    Yields:
        The number of photographs in it, where all is written already; else 0.

    Raises:
        UserError: the folder holds another run, or other things.
    """
    if folder is None:
        yield 0
        return
    with manifest.claim(folder, header(trials), trials[0].context.dataset.identities) as done:
        yield len(done.records) if done else 0


def write(folder: Path, runs: Sequence[TrialRun]) -> int:
    """Write the pictures that trials stored, and the manifest; return the number of pictures.

    Args:
        folder: claimed before.
        runs: the trials, run with `pictures`.
    """
    several = len({one.trial.context.embedder.preset.name for one in runs}) > 1
    records: list[Record] = []
    labels = [
        f"{one.trial.label}-{one.trial.context.embedder.preset.name}" if several else one.trial.label for one in runs
    ]
    for one, label in zip(runs, file_names(labels, _LONGEST), strict=True):
        for record, data in _pictures(one.trial, one.rows, label):
            with atomic_write(folder / record["file"]) as temporary:
                temporary.write_bytes(data)
            records.append(record)
    manifest.write(folder, header([one.trial for one in runs]), records)
    return len(records)


def _pictures(trial: Trial, rows: TrialResults, label: str) -> Iterator[tuple[Record, bytes]]:
    shards = TrialStore(trial).tables(["png"])
    pictures = (found for table in shards for found in table["png"].to_pylist())
    details = (_answers if trial.subjects.second is None else _distances)(trial, rows)
    numbered = progress(enumerate(pictures), total=len(trial.subjects), label=f"writing {label}", unit="subjects")
    for number, own in numbered:
        for place, data in enumerate(own):
            # Of a search that found nothing there is no adversarial image.
            if rows.success[number, place] or not trial.minimal:
                yield _record(trial, rows, number, place, label) | details(number, place), data


def _record(trial: Trial, rows: TrialResults, number: int, place: int, label: str) -> Record:
    context, subjects = trial.context, trial.subjects
    index = int(subjects.first[number])
    source, person = context.dataset.keys[index], context.dataset.identities[index]
    budget = "minimal" if trial.minimal else f"{trial.epsilons[place]:g}"
    return {
        "file": f"{person}/{cut_to_bytes(PurePosixPath(source).stem, _LONGEST)}-{label}-{budget}-{number:05d}.png",
        "person": person,
        "source": source,
        "reference": None if subjects.second is None else context.dataset.keys[int(subjects.second[number])],
        "goal": subjects.goal,
        "attack": trial.name,
        "attack_settings": trial.attack.record(),
        "norm": trial.attack.norm,
        "epsilon": finite(rows.epsilon[number, place]),
        "preset": context.embedder.preset.name,
        "weights_sha256": context.embedder.sha256,
        **context.embedder.defense_record,
        "change": float(rows.change[number, place]),
        "success": bool(rows.success[number, place]),
    }


def _distances(trial: Trial, rows: TrialResults) -> Callable[[int, int], Record]:
    metric, limits = trial.context.embedder.preset.metric, trial.subjects.limits
    assert limits is not None, "pairs have thresholds"
    before, after = pair_distances(trial, rows.clean), pair_distances(trial, rows.margin)
    threshold = from_cosine(limits, metric)
    return lambda number, place: {
        "metric": metric,
        "threshold": float(threshold[number]),
        "distance_before": float(before[number]),
        "distance_after": float(after[number, place]),
    }


def _answers(trial: Trial, rows: TrialResults) -> Callable[[int, int], Record]:
    head, vectors = trial.context.head, rows.vectors
    assert head is not None and vectors is not None, "this goal has a head and stores embeddings"
    return lambda number, place: {
        "head_sha256": head.sha256,
        "taken_for": head.people[int(np.argmax(head.logits(vectors[number, place][None])[0]))],
        "margin_before": float(rows.clean[number]),
        "margin_after": float(rows.margin[number, place]),
    }
