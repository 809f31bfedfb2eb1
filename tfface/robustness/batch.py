"""A batch of a trial: crops, judged as they are, then attacked."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfface.preprocessing.images import encode_png
from tfface.robustness.rows import BATCH, TrialResults
from tfface.robustness.trial import Trial

if TYPE_CHECKING:
    from tfface.attacks._attack import Attack
    from tfface.attacks._victim import Victim

_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What the attack of a few subjects begins with.

    Attributes:
        images: (B, H, W, 3) float32 crops; zeros where one failed.
        given: (B, H, W, 3) the references' crops, or (B,) labels.
        limits: (B,) cosine thresholds; None without pairs.
        keys: (B,) int64, what each draws its randomness by.
        failed: (B,) why a photograph could not be cropped; empty where all could.
    """

    images: np.ndarray
    given: np.ndarray
    limits: np.ndarray | None
    keys: np.ndarray
    failed: list[str]

    @classmethod
    def of(cls, trial: Trial, numbers: np.ndarray, given_up: Mapping[int, str] = MappingProxyType({})) -> "Inputs":
        """Crops the photographs of subjects.

        Args:
            trial: whose subjects.
            numbers: (B,) int, which of them.
            given_up: of which subjects no photograph is to be read, and why.
        """
        subjects = trial.subjects
        failed = [given_up.get(int(number), "") for number in numbers]
        images, failed = _crops(trial, subjects.first[numbers], failed)
        if subjects.second is not None:
            given, failed = _crops(trial, subjects.second[numbers], failed)
        else:
            assert subjects.labels is not None, "there are labels or references"
            given = subjects.labels[numbers]
        limits = None if subjects.limits is None else subjects.limits[numbers]
        return cls(images, given, limits, trial.keys[numbers], failed)

    @property
    def cropped(self) -> np.ndarray:
        """The places of subjects whose photographs could all be cropped."""
        return np.flatnonzero([not reason for reason in self.failed])

    def at(self, places: np.ndarray) -> "Inputs":
        """Those at some places."""
        limits = None if self.limits is None else self.limits[places]
        failed = [self.failed[place] for place in places]
        return Inputs(self.images[places], self.given[places], limits, self.keys[places], failed)


def _crops(trial: Trial, photographs: np.ndarray, failed: list[str]) -> tuple[np.ndarray, list[str]]:
    """The crops of photographs whose subjects have not failed, zeros for the others, and who has failed now."""
    left = np.flatnonzero([not reason for reason in failed])
    cut, reasons = trial.context.crops(photographs[left])
    if len(left) == len(failed):
        return cut, reasons
    images = np.zeros((len(failed), *cut.shape[1:]), np.float32)
    images[left] = cut
    found = dict(zip(left.tolist(), reasons, strict=True))
    return images, [found.get(place, reason) for place, reason in enumerate(failed)]


@dataclass(frozen=True, eq=False)
class TrialBatch:
    """A batch of subjects after its attack; B subjects, E epsilons.

    Attributes:
        rows: their results.
        clean: (B, H, W, 3) crops; zeros where one failed.
        adversarial: (B, E, H, W, 3) as the judge saw them; clean where nothing was attacked.
    """

    rows: TrialResults
    clean: np.ndarray
    adversarial: np.ndarray

    def table(self, *, examples: int, pictures: bool) -> pa.Table:
        """As it is stored.

        Args:
            examples: of how many attacked subjects to keep what was added to the image.
            pictures: keep every adversarial image.
        """
        rows = self.rows
        columns: dict[str, Any] = {"failed": pa.array(rows.failed, pa.string()), "clean": pa.array(rows.clean)}
        for name in ("epsilon", "success", "margin", "change"):
            columns[name] = pa.array(list(getattr(rows, name)))
        vectors = (
            [None] * len(rows.failed) if rows.vectors is None else list(rows.vectors.reshape(len(rows.failed), -1))
        )
        columns["vectors"] = pa.array(vectors, pa.list_(pa.float32()))
        columns["noise"] = pa.array(self._noise(examples), pa.list_(pa.binary()))
        if pictures:
            columns["png"] = pa.array(self._pictures(), pa.list_(pa.binary()))
        return pa.table(columns)

    def _noise(self, examples: int) -> list[list[bytes]]:
        noise: list[list[bytes]] = [[] for _ in self.rows.failed]
        for place in np.lexsort([~self.rows.success[:, -1], ~self.rows.attacked])[:examples].tolist():
            if self.rows.attacked[place]:
                changes = (self.adversarial[place] - self.clean[place]).astype(np.float16)
                noise[place] = [change.tobytes() for change in changes]
        return noise

    def _pictures(self) -> list[list[bytes]]:
        from tfface.attacks._quantization import to_bytes

        return [
            [encode_png(to_bytes(image)) for image in images] if attacked else []
            for images, attacked in zip(self.adversarial, self.rows.attacked, strict=True)
        ]


def attack_batch(trial: Trial, numbers: np.ndarray, given_up: Mapping[int, str] = MappingProxyType({})) -> TrialBatch:
    """Crops, judges and attacks a few subjects.

    Args:
        trial: what is done to them.
        numbers: (B,) int, which of the trial's subjects.
        given_up: which of them are not to be touched, and why.
    """
    inputs = Inputs.of(trial, numbers, given_up)
    victim = trial.context.victim(trial.subjects.goal)
    batch = _before(trial, inputs)
    places = inputs.cropped
    if not len(places):
        return batch
    usable = inputs.at(places)
    targets = victim.targets(usable.given, usable.limits)
    won, margin = victim.assess(trial.context.judging.seen(usable.images), targets)
    # A pair exactly at its threshold matches; its margin of 0 would not tell.
    batch.rows.clean[places] = np.where(won, np.maximum(margin, _LEAST), np.minimum(margin, 0))
    left = np.flatnonzero(~won)
    if len(left):
        chosen = usable.at(left)
        attack = trial.context.aimed(trial.attack, trial.subjects.goal, chosen.given, chosen.limits, chosen.keys)
        _fill(trial, batch, places[left], _attacked(trial, attack, victim, chosen, targets[left]))
    return batch


def _before(trial: Trial, inputs: Inputs) -> TrialBatch:
    """The batch in which nothing is attacked yet."""
    shape = (len(inputs.images), trial.columns)
    length = trial.context.embedder.preset.embedding_size
    rows = TrialResults(
        inputs.failed,
        np.full(shape[0], np.nan),
        np.tile(np.array(trial.epsilons or [np.inf], np.float64), (shape[0], 1)),
        np.zeros(shape, bool),
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.zeros((*shape, length), np.float32) if trial.subjects.second is None else None,
    )
    return TrialBatch(rows, inputs.images, np.repeat(inputs.images[:, None], trial.columns, axis=1))


_Found = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Epsilon, images, success, margin and change, one a subject."""


def _attacked(trial: Trial, attack: "Attack", victim: "Victim", inputs: Inputs, targets: np.ndarray) -> list[_Found]:
    """What each of the trial's epsilons gives, or the search for the smallest."""
    from tfface.attacks import _norms
    from tfface.attacks._attack import run
    from tfface.attacks._minimal import search_minimal

    given = (attack, victim, inputs.images, targets)
    judge, seed, keys = trial.context.judging.judge, trial.context.seed, inputs.keys
    if trial.minimal:
        found = search_minimal(*given, seed=seed, keys=keys, judge=judge, batch_size=BATCH)
        change = _norms.distance(found.images, inputs.images, attack.norm)
        return [(found.epsilon, found.images, found.success, victim.assess(found.images, targets)[1], change)]
    outcomes = [run(*given, epsilon, seed=seed, keys=keys, judge=judge) for epsilon in trial.epsilons]
    return [
        (np.full(len(keys), epsilon), outcome.images, outcome.success, outcome.margin, outcome.distance)
        for epsilon, outcome in zip(trial.epsilons, outcomes, strict=True)
    ]


def _fill(trial: Trial, batch: TrialBatch, places: np.ndarray, found: list[_Found]) -> None:
    rows = batch.rows
    for column, (epsilon, images, success, margin, change) in enumerate(found):
        batch.adversarial[places, column] = images
        rows.epsilon[places, column], rows.success[places, column] = epsilon, success
        rows.margin[places, column], rows.change[places, column] = margin, change
        if rows.vectors is not None:
            rows.vectors[places, column] = trial.context.embedder.embed(images)
