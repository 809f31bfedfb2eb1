"""Robustness of a hardened student on people held out from its training: attacks and certificates."""

from typing import Any

from tfface.data.dataset import FaceDataset
from tfface.evaluation.embeddings import embed_dataset
from tfface.models._embedder import Embedder
from tfface.preprocessing.images import Recipe
from tfface.robustness.certified_pairs import Smoothed, certify_pairs, smoothed_threshold
from tfface.robustness.certify import certificates_entry, default_radii
from tfface.robustness.pairs import GENUINE_GOAL, Threshold, by_fold, choose_pairs, half_genuine
from tfface.robustness.results import trial_entry
from tfface.robustness.run import run_trial
from tfface.robustness.smoothing import Smoothing
from tfface.robustness.trial import Context, ImageFormat, Subjects, Trial
from tfface.training.split import Split

COUNT = 300
"""Attacked pairs of each goal, at most."""
CERTIFIED = 200
"""Certified pairs, half of them genuine."""
STEPS = 20


def attack_heldout(
    dataset: FaceDataset,
    embedder: Embedder,
    recipe: Recipe,
    split: Split,
    *,
    count: int | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Attack a model with PGD, dodging and impersonation, and search the smallest epsilons on held-out people.

    Where the held-out people come in published folds, each fold is judged at the other's threshold; otherwise all
    their pairs are at the preset's.

    Args:
        dataset: data set of the photographs.
        embedder: the model.
        recipe: crop recipe.
        split: train / validation / held-out split by identity.
        count: pairs of each goal, at most; `COUNT` if None.
        steps: of PGD.
        seed: random seed.

    Returns:
        `preset`, `weights_sha256`, and `goals`: an entry of `attack` with its smallest epsilons each; JSON-able.
    """
    from tfface.attacks.pgd import PGD

    pairs = split.heldout_pairs
    if pairs is None:
        dataset = dataset.take(split.heldout, "heldout")
        threshold = _own_threshold(embedder)
    else:
        threshold = by_fold(embedder.preset, pairs, lambda: embed_dataset(dataset, embedder, recipe))
    context = Context(dataset, embedder, recipe, ImageFormat(), seed)
    entries = []
    for goal in GENUINE_GOAL:
        chosen = choose_pairs(dataset, goal, listed=pairs, count=count or COUNT, seed=seed)
        trial = Trial(context, Subjects.of_pairs(goal, chosen, threshold.cosine(chosen.fold)), "pgd", PGD(steps=steps))
        entries.append({**threshold.record(), **trial_entry(trial, run_trial(trial))})
    return {"preset": embedder.preset.name, "weights_sha256": embedder.sha256, "goals": entries}


def certify_heldout(
    dataset: FaceDataset,
    embedder: Embedder,
    recipe: Recipe,
    split: Split,
    *,
    sigma: float,
    count: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Certify pairs of held-out people, as `certify` does.

    Args:
        dataset: data set of the photographs.
        embedder: trained with that noise.
        recipe: crop recipe.
        split: train / validation / held-out split by identity.
        sigma: standard deviation of the noise.
        count: pairs, half of them genuine; `CERTIFIED` if None.
        seed: random seed.

    Returns:
        As `certify` writes it, with the threshold; JSON-able.
    """
    pairs = split.heldout_pairs
    dataset = dataset if pairs is not None else dataset.take(split.heldout, "heldout")
    smoothed = Smoothed(dataset, embedder, recipe, Smoothing(sigma=sigma, seed=seed))
    threshold = _own_threshold(embedder) if pairs is None else smoothed_threshold(smoothed, pairs)
    chosen = half_genuine(dataset, count or CERTIFIED, listed=pairs, seed=seed)
    certified = certify_pairs(smoothed, chosen, threshold.cosine(chosen.fold))
    radii = default_radii(smoothed.smoothing)
    return {
        "subjects": chosen.name,
        **threshold.record(),
        **certificates_entry(certified, smoothed.smoothing, radii, 3 * embedder.preset.input_size**2),
    }


def _own_threshold(embedder: Embedder) -> Threshold:
    preset = embedder.preset
    return Threshold(preset.threshold, preset.metric, f"preset: {preset.threshold_source}")
