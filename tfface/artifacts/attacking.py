"""Attacks on the Keras model that are tried on its artifacts, and attacks on the artifacts themselves.

Gradient attacks are made on the Keras model, by an attacker who holds its weights, and judged on the artifact at the
artifact's own threshold. Square needs answers alone, and so is made on the artifact itself. Images are rounded to bytes
before they are judged, since an artifact takes bytes.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfface.data.dataset import FaceDataset, Pairs
from tfface.models._embedder import Embedder
from tfface.preprocessing.images import Recipe, decode
from tfface.robustness.pairs import GENUINE_GOAL, Threshold, choose_pairs
from tfface.robustness.results import trial_entry
from tfface.robustness.run import run_trial
from tfface.robustness.trial import BATCH, Context, ImageFormat, Subjects, Trial, TrialResults, TrialStore
from tfface.utils import registry
from tfface.utils.progress import progress

Metrics = dict[str, Any]

_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class ArtifactAttacks:
    """Configuration of the attacks on a model and its artifacts.

    Attributes:
        names: of `tfface.attacks`: gradient attacks, or `square`.
        pairs: number of genuine pairs, and of impostor pairs.
        epsilon: the largest change of a value, images being in [0, 1].
        queries: of Square, for an image.
        seed: random seed.
    """

    names: tuple[str, ...]
    pairs: int = 50
    epsilon: float = 0.01
    queries: int = 100
    seed: int = 0

    def drawn(self, dataset: FaceDataset, protocol: str) -> dict[str, Pairs]:
        """Draw the pairs of each goal.

        Raises:
            UserError: there are none of a kind.
        """
        return {
            goal: choose_pairs(dataset, goal, protocol=protocol, count=self.pairs, seed=self.seed)
            for goal in GENUINE_GOAL
        }

    def attacks(self) -> Iterator[tuple[str, Any]]:
        """Yield the attacks by name."""
        for name in self.names:
            kind = registry.load("attacks", name).ATTACK
            yield name, kind(queries=self.queries) if kind.black_box else kind()


def threshold_of(judged: Metrics) -> Threshold:
    """Return the threshold that an evaluation calibrated; its fixed one where there was too little to calibrate on."""
    entry = judged["calibrated"] or judged["fixed"]  # an exported preset has a threshold
    return Threshold(entry["threshold"], judged["metric"], entry["threshold_source"])


def attack_keras(
    config: ArtifactAttacks,
    dataset: FaceDataset,
    pairs: dict[str, Pairs],
    embedder: Embedder,
    cut: Recipe,
    threshold: Threshold,
) -> list[tuple[Trial, TrialResults]]:
    """Attack the Keras model.

    Args:
        config: the attacks.
        dataset: the photographs.
        pairs: by goal.
        embedder: the preset's.
        cut: crop recipe.
        threshold: the Keras model's own.
    """
    context = Context(dataset, embedder, cut, ImageFormat.of(quantize=True, quality=None), config.seed)
    trials = _trials(config, context, pairs, threshold)
    return [(trial, run_trial(trial)) for trial in trials]


def attack_artifact(
    config: ArtifactAttacks,
    made: Sequence[tuple[Trial, TrialResults]],
    pairs: dict[str, Pairs],
    reader: Embedder,
    threshold: Threshold,
) -> list[tuple[Trial, TrialResults]]:
    """Judge attacks on the Keras model on an artifact, and make black-box attacks on the artifact itself.

    Args:
        config: the attacks.
        made: result of `attack_keras`.
        pairs: by goal.
        reader: embedder that runs the artifact.
        threshold: the artifact's own.

    Returns:
        As `attack_keras`. Transferred attacks are on pairs that the Keras model got right: the others have no
        adversarial image.
    """
    keras = made[0][0].context
    context = Context(keras.dataset, reader, keras.recipe, keras.stored, config.seed)
    found = []
    for (theirs, rows), trial in zip(made, _trials(config, context, pairs, threshold), strict=True):
        found.append((trial, run_trial(trial)) if trial.attack.black_box else _transferred(theirs, rows, trial))
    return found


def entries(found: Sequence[tuple[Trial, TrialResults]], threshold: Threshold, *, keras: bool) -> list[Metrics]:
    """Return their entries in `metrics.json`, as those of an attack, and the model that each was made on."""
    return [
        {
            **threshold.record(),
            **trial_entry(trial, rows),
            "made_on": "artifact" if trial.attack.black_box and not keras else "keras",
        }
        for trial, rows in found
    ]


def _trials(config: ArtifactAttacks, context: Context, pairs: dict[str, Pairs], threshold: Threshold) -> list[Trial]:
    return [
        Trial(
            context,
            Subjects.of_pairs(goal, pairs[goal], threshold.cosine(pairs[goal].fold)),
            name,
            attack,
            (config.epsilon,),
            pictures=not attack.black_box,
        )
        for name, attack in config.attacks()
        for goal in pairs
    ]


def _transferred(theirs: Trial, rows: TrialResults, trial: Trial) -> tuple[Trial, TrialResults]:
    """Judge on the artifact the images that another trial made; return the trial and its results."""
    right = np.flatnonzero(rows.attacked)
    subjects, context = trial.subjects, trial.context
    assert subjects.second is not None and subjects.limits is not None, "pairs have both"
    first, second, limits = subjects.first[right], subjects.second[right], subjects.limits[right]
    victim = context.victim(subjects.goal)
    pictures = [png for table in TrialStore(theirs).tables(["png"]) for png in table["png"].to_pylist()]
    clean, success, margin = np.zeros(len(right)), np.zeros(len(right), bool), np.zeros(len(right))
    starts = range(0, len(right), BATCH)
    label = f"{trial.label} transferred to {context.embedder.sha256[:8]}"
    for start in progress(starts, total=len(starts), label=label, unit="batches"):
        part = slice(start, start + BATCH)
        references, _ = context.crops(second[part])
        targets = victim.targets(references, limits[part])
        images, _ = context.crops(first[part])
        won, before = victim.assess(context.stored.seen(images), targets)
        clean[part] = np.where(won, np.maximum(before, _LEAST), np.minimum(before, 0))
        changed = np.stack([decode(pictures[place][0]) for place in right[part]]).astype(np.float32) / 255
        success[part], margin[part] = victim.assess(changed, targets)
    nothing = [""] * len(right)
    found = TrialResults(
        nothing, clean, rows.epsilon[right], success[:, None], margin[:, None], rows.change[right], vectors=None
    )
    own = dataclasses.replace(subjects, first=first, second=second, limits=limits)
    return dataclasses.replace(trial, subjects=own), found
