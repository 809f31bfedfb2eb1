"""Whether what fools the Keras model fools an artifact of it, and whether the artifact can be fooled by itself.

Gradient attacks are made on the Keras model, as who holds its weights would make them, and judged on
the artifact at the artifact's own threshold. Square sees answers alone, and so is made on the
artifact itself. Images are rounded to bytes before anyone judges them, since an artifact takes bytes.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfface.attacks._attack import Attack
from tfface.attacks._criteria import GOALS, Criterion
from tfface.attacks._victim import Victim
from tfface.attacks.square import Square
from tfface.data.dataset import FaceDataset, Pairs
from tfface.errors import UserError
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
class Attacks:
    """What is asked for.

    Attributes:
        names: of `tfface.attacks`: gradient attacks, or `square`.
        pairs: of each kind: genuine ones to take apart, impostor ones to match.
        epsilon: the largest change of a value, images being in [0, 1].
        queries: of Square, for an image.
        seed: of everything drawn at random.
    """

    names: tuple[str, ...]
    pairs: int = 50
    epsilon: float = 0.01
    queries: int = 100
    seed: int = 0

    def drawn(self, dataset: FaceDataset, protocol: str) -> dict[str, Pairs]:
        """The pairs by goal.

        Raises:
            UserError: there are none of a kind.
        """
        return {
            goal: choose_pairs(dataset, goal, protocol=protocol, count=self.pairs, seed=self.seed)
            for goal in GENUINE_GOAL
        }

    def made(self) -> Iterator[tuple[str, Attack]]:
        """The attacks, by name."""
        for name in self.names:
            attack = registry.load("attacks", name).ATTACK
            yield name, attack(queries=self.queries) if attack is Square else attack()


class Oracle(Victim):
    """An embedder of which answers are all that is known, in the shape of the victims that attacks take."""

    def __init__(self, embedder: Embedder, goal: Criterion) -> None:
        """
        Args:
            embedder: an artifact's.
            goal: what attacks on it want.
        """
        self.embedder = embedder
        self.goal = goal
        self.input_shape = (embedder.preset.input_size, embedder.preset.input_size, 3)
        self._compiled = {}

    def outputs(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        return tf.constant(self.embedder.embed(np.asarray(images)))

    def assess(self, images: np.ndarray | tf.Tensor, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs, targets = self.outputs(images), self._cast(targets)
        success, margin = self.goal.success(outputs, targets).numpy(), self.goal.margin(outputs, targets).numpy()
        return success & np.isfinite(margin), margin

    def gradient(
        self, images: np.ndarray | tf.Tensor, targets: np.ndarray | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        raise UserError("an artifact has no gradient: attack it with square, or its Keras model")


@dataclass(frozen=True, eq=False)
class ArtifactSetting(Context):
    """A setting whose model is an artifact."""

    def victim(self, goal: str, *, surrogate: bool = False) -> Victim:
        return Oracle(self.embedder, GOALS[goal]())


def threshold_of(judged: Metrics) -> Threshold:
    """The threshold that an evaluation calibrated; its fixed one where there was too little to calibrate on."""
    entry = judged["calibrated"] or judged["fixed"]
    return Threshold(entry["threshold"], judged["metric"], entry["threshold_source"])


def attack_keras(
    asked: Attacks,
    dataset: FaceDataset,
    pairs: dict[str, Pairs],
    embedder: Embedder,
    cut: Recipe,
    threshold: Threshold,
) -> list[tuple[Trial, TrialResults]]:
    """Attacks the Keras model.

    Args:
        asked: how.
        dataset: whose photographs.
        pairs: by goal.
        embedder: the preset's.
        cut: how photographs are cropped.
        threshold: the Keras model's own.
    """
    context = Context(dataset, embedder, cut, ImageFormat.of(quantize=True, quality=None), asked.seed)
    trials = _trials(asked, context, pairs, threshold)
    return [(trial, run_trial(trial)) for trial in trials]


def attack_artifact(
    asked: Attacks,
    made: Sequence[tuple[Trial, TrialResults]],
    pairs: dict[str, Pairs],
    reader: Embedder,
    threshold: Threshold,
) -> list[tuple[Trial, TrialResults]]:
    """Judges on an artifact what was made on the Keras model, and makes anew what sees answers alone.

    Args:
        asked: how.
        made: what `attack_keras` gave.
        pairs: by goal.
        reader: the artifact's.
        threshold: the artifact's own.

    Returns:
        As `attack_keras`. Transferred attacks are on those pairs that the Keras model got right: of the others there
        is no adversarial image.
    """
    keras = made[0][0].context
    context = ArtifactSetting(keras.dataset, reader, keras.recipe, keras.stored, asked.seed)
    found = []
    for (theirs, rows), trial in zip(made, _trials(asked, context, pairs, threshold), strict=True):
        found.append((trial, run_trial(trial)) if trial.attack.black_box else _transferred(theirs, rows, trial))
    return found


def entries(found: Sequence[tuple[Trial, TrialResults]], threshold: Threshold, *, keras: bool) -> list[Metrics]:
    """What `metrics.json` holds of them, in the words of `attack`, and on what each was made."""
    return [
        {
            **threshold.record(),
            **trial_entry(trial, rows),
            "made_on": "artifact" if trial.attack.black_box and not keras else "keras",
        }
        for trial, rows in found
    ]


def _trials(asked: Attacks, context: Context, pairs: dict[str, Pairs], threshold: Threshold) -> list[Trial]:
    return [
        Trial(
            context,
            Subjects.of_pairs(goal, pairs[goal], threshold.cosine(pairs[goal].fold)),
            name,
            attack,
            (asked.epsilon,),
            pictures=not attack.black_box,
        )
        for name, attack in asked.made()
        for goal in pairs
    ]


def _transferred(theirs: Trial, rows: TrialResults, trial: Trial) -> tuple[Trial, TrialResults]:
    """The trial on the artifact of what another trial made, and what became of it."""
    kept = np.flatnonzero(rows.attacked)
    subjects, context = trial.subjects, trial.context
    assert subjects.second is not None and subjects.limits is not None, "pairs have both"
    first, second, limits = subjects.first[kept], subjects.second[kept], subjects.limits[kept]
    victim = context.victim(subjects.goal)
    pictures = [png for table in TrialStore(theirs).tables(["png"]) for png in table["png"].to_pylist()]
    clean, success, margin = np.zeros(len(kept)), np.zeros(len(kept), bool), np.zeros(len(kept))
    starts = range(0, len(kept), BATCH)
    label = f"{trial.label} transferred to {context.embedder.sha256[:8]}"
    for start in progress(starts, total=len(starts), label=label, unit="batches"):
        part = slice(start, start + BATCH)
        references, _ = context.crops(second[part])
        targets = victim.targets(references, limits[part])
        images, _ = context.crops(first[part])
        won, before = victim.assess(context.stored.seen(images), targets)
        clean[part] = np.where(won, np.maximum(before, _LEAST), np.minimum(before, 0))
        changed = np.stack([decode(pictures[place][0]) for place in kept[part]]).astype(np.float32) / 255
        success[part], margin[part] = victim.assess(changed, targets)
    nothing = [""] * len(kept)
    found = TrialResults(
        nothing, clean, rows.epsilon[kept], success[:, None], margin[:, None], rows.change[kept], vectors=None
    )
    own = dataclasses.replace(subjects, first=first, second=second, limits=limits)
    return dataclasses.replace(trial, subjects=own), found
