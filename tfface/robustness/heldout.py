"""What a hardened student withstands: the smallest epsilons that fool it on people held out from its training."""

from typing import TYPE_CHECKING, Any

from tfface.data.dataset import FaceDataset
from tfface.evaluation.embeddings import embed_dataset
from tfface.preprocessing.images import Recipe
from tfface.robustness import thresholds
from tfface.robustness.context import Context, Judging
from tfface.robustness.pairs import GENUINE_GOAL, choose_pairs
from tfface.robustness.results import trial_entry
from tfface.robustness.runner import run_trial
from tfface.robustness.trial import Subjects, Trial
from tfface.training.split import Split

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder

COUNT = 300
"""Pairs for each goal, at most."""
STEPS = 20


def withstands(
    dataset: FaceDataset,
    embedder: "Embedder",
    recipe: Recipe,
    split: Split,
    *,
    count: int | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Attacks a model with PGD through all of it, dodging and impersonation, and searches the smallest epsilons.

    Where the held-out people come in published folds, each fold is judged at the other's threshold; elsewhere all
    their pairs are at the preset's.

    Args:
        dataset: whose photographs.
        embedder: the model.
        recipe: how photographs are cropped.
        split: who is held out.
        count: pairs for each goal, at most; `COUNT` if None.
        steps: of PGD.
        seed: of everything drawn at random.

    Returns:
        JSON-able: `preset`, `weights_sha256`, and `goals`: an entry of `attack --minimal` each.
    """
    from tfface.attacks.pgd import PGD

    pairs = split.heldout_pairs
    if pairs is None:
        dataset = dataset.take(split.heldout, "heldout")
        threshold = thresholds.Threshold(
            embedder.preset.threshold, embedder.preset.metric, f"preset: {embedder.preset.threshold_source}"
        )
    else:
        threshold = thresholds.by_fold(embedder.preset, pairs, lambda: embed_dataset(dataset, embedder, recipe))
    context = Context(dataset, embedder, recipe, Judging(), seed)
    entries = []
    for goal in GENUINE_GOAL:
        chosen = choose_pairs(dataset, goal, listed=pairs, count=count or COUNT, seed=seed)
        trial = Trial(context, Subjects.of_pairs(goal, chosen, threshold), "pgd", PGD(steps=steps))
        entries.append({**threshold.record(), **trial_entry(trial, run_trial(trial))})
    return {"preset": embedder.preset.name, "weights_sha256": embedder.sha256, "goals": entries}
