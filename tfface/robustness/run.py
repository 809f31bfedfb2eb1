"""Trials in fixed batches: crops made on the fly, each batch's results on disk before the next begins."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfface.distributed.rows import LOCAL, Executor, RowJob, Save, fill
from tfface.errors import UserError
from tfface.preprocessing.decoding import encode_png
from tfface.robustness.trial import BATCH, Trial, TrialResults, TrialStore

if TYPE_CHECKING:
    from tfface.attacks._attack import Attack

EXAMPLES = 4
"""Attacked subjects of the first batch whose changes are stored as they are, for a picture; successes come first."""
CHECKED = 32
"""Subjects that the gradient checks are made on: they take many attacks of each."""
STEPS, RESTARTS = 100, 2
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Crops and references of a few subjects.

    Attributes:
        images: (B, H, W, 3) float32 crops; zeros where one failed.
        given: (B, H, W, 3) the references' crops, or (B,) labels.
        limits: (B,) cosine thresholds; None without pairs.
        keys: (B,) int64 seeds of each one's randomness.
        failed: (B,) why a photograph could not be cropped; empty where all could.
    """

    images: np.ndarray
    given: np.ndarray
    limits: np.ndarray | None
    keys: np.ndarray
    failed: list[str]

    @classmethod
    def of(cls, trial: Trial, numbers: np.ndarray, given_up: Mapping[int, str] = MappingProxyType({})) -> "Inputs":
        """Crop the photographs of subjects.

        Args:
            trial: whose subjects.
            numbers: (B,) int, their positions.
            given_up: by position the subjects of whom no photograph is to be read, and why.
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
        """Return the places of subjects whose photographs could all be cropped."""
        return np.flatnonzero([not reason for reason in self.failed])

    def at(self, places: np.ndarray) -> "Inputs":
        """Return those at some places."""
        limits = None if self.limits is None else self.limits[places]
        failed = [self.failed[place] for place in places]
        return Inputs(self.images[places], self.given[places], limits, self.keys[places], failed)


def _crops(trial: Trial, photographs: np.ndarray, failed: list[str]) -> tuple[np.ndarray, list[str]]:
    """Crop photographs whose subjects have not failed, zeros for the others; return who has failed now too."""
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
        adversarial: (B, E, H, W, 3) as they were judged; clean where nothing was attacked.
    """

    rows: TrialResults
    clean: np.ndarray
    adversarial: np.ndarray

    def table(self, *, examples: int, pictures: bool) -> pa.Table:
        """Return the rows of the cache.

        Args:
            examples: number of attacked subjects of which the change of the image is stored.
            pictures: store every adversarial image.
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
    """Crop, judge and attack a few subjects.

    Args:
        trial: the attack.
        numbers: (B,) int, positions of the trial's subjects.
        given_up: by position the subjects not to be touched, and why.
    """
    inputs = Inputs.of(trial, numbers, given_up)
    victim = trial.context.victim(trial.subjects.goal)
    batch = _before(trial, inputs)
    places = inputs.cropped
    if not len(places):
        return batch
    usable = inputs.at(places)
    targets = victim.targets(usable.given, usable.limits)
    won, margin = victim.assess(trial.context.stored.seen(usable.images), targets)
    # A pair exactly at its threshold matches; its margin of 0 would not tell.
    batch.rows.clean[places] = np.where(won, np.maximum(margin, _LEAST), np.minimum(margin, 0))
    left = np.flatnonzero(~won)
    if len(left):
        chosen = usable.at(left)
        attack = trial.context.aimed(trial.attack, trial.subjects.goal, chosen.given, chosen.limits, chosen.keys)
        _fill(trial, batch, places[left], _attacked(trial, attack, victim, chosen, targets[left]))
    return batch


def _before(trial: Trial, inputs: Inputs) -> TrialBatch:
    """Return the batch in which nothing is attacked yet."""
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


def _attacked(trial: Trial, attack: "Attack", victim: Any, inputs: Inputs, targets: np.ndarray) -> list[_Found]:
    """Attack at each of the trial's epsilons, or search for the smallest."""
    from tfface.attacks import _norms
    from tfface.attacks._attack import run
    from tfface.attacks._minimal import search_minimal

    given = (attack, victim, inputs.images, targets)
    judge, seed, keys = trial.context.stored.judge, trial.context.seed, inputs.keys
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


@dataclass(frozen=True, eq=False)
class _Attacking(RowJob):
    """Attacks a trial's subjects; the results are rows of the cache."""

    trial: Trial
    store: TrialStore

    longest = 1

    def units(self, part: tuple[int, int]) -> int:
        return 1

    def prepare(self) -> None:
        self.trial.context.dataset.check_at_hand()
        self.trial.context.victim(self.trial.subjects.goal)

    def compute(self, parts: Sequence[tuple[int, int]], given_up: Mapping[int, str], save: Save) -> Iterator[int]:
        for start, stop in parts:
            batch = attack_batch(self.trial, np.arange(start, stop), given_up)
            examples = EXAMPLES if start == 0 else 0
            save((start, stop), batch.table(examples=examples, pictures=self.trial.pictures))
            yield 1


def run_trial(trial: Trial, *, executor: Executor = LOCAL) -> TrialResults:
    """Attack all subjects, or take their results from the cache.

    Args:
        trial: the attack and its subjects.
        executor: of the attacks.
    """
    store = TrialStore(trial)
    if store.missing():
        trial.context.detect_faces(executor)
        label = f"{trial.label} on {trial.context.embedder.preset.name}"
        fill(_Attacking(trial, store), label=label, unit="batches", executor=executor)
    return store.results()


def check_trial(trial: Trial, *, count: int = CHECKED, steps: int = STEPS, restarts: int = RESTARTS) -> dict[str, Any]:
    """Check if a trial's model resists or only hides its gradients; return a record, JSON-able.

    A pair's model behind defenses is also attacked through the undefended one, which must not do better.

    Args:
        trial: goal, norm and subjects.
        count: number of its subjects.
        steps: of PGD.
        restarts: of PGD.

    Raises:
        UserError: none of its first subjects can be attacked.
    """
    from tfface.attacks._checks import check_gradients

    context, goal = trial.context, trial.subjects.goal
    inputs = Inputs.of(trial, np.arange(min(count, len(trial.subjects))))
    usable = inputs.at(inputs.cropped)
    if not len(usable.images):
        raise UserError(
            f"`check`: none of the first {len(inputs.images)} subjects of {goal} can be cropped", parameter="check"
        )
    victim, through = context.victim(goal), context
    if context.knowledge == "adaptive" and goal != "classify":
        through = context.unaware() or context
    return check_gradients(
        victim,
        usable.images,
        victim.targets(usable.given, usable.limits),
        norm=trial.attack.norm,
        steps=steps,
        restarts=restarts,
        transfer=through.aimed(trial.attack, goal, usable.given, usable.limits, usable.keys)
        if through.surrogate
        else None,
        seed=context.seed,
        keys=usable.keys,
    ).record()
