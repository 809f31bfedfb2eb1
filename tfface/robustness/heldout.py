"""Robustness of a hardened student on people held out from its training: attacks and certificates."""

import dataclasses
from typing import Any

from tfface.robustness.certified_pairs import (
    Smoothed,
    certificates_entry,
    certify_pairs,
    default_radii,
    noisy_distances,
)
from tfface.robustness.pairs import GENUINE_GOAL, by_fold, by_noisy_fold, choose_pairs, half_genuine, own
from tfface.robustness.results import trial_entry
from tfface.robustness.run import run_trial
from tfface.robustness.smoothing import Smoothing
from tfface.robustness.trial import Context, Subjects, Trial
from tfface.training.split import Split

COUNT = 300
"""Attacked pairs of each goal, at most."""
CERTIFIED = 200
"""Certified pairs, half of them genuine."""
STEPS = 20


def attack_heldout(context: Context, split: Split, *, count: int | None = None, steps: int = STEPS) -> dict[str, Any]:
    """Attack a model with PGD, dodging and impersonation, and search the smallest epsilons on held-out people.

    Where the held-out people come in published folds, each fold is judged at the other's threshold; otherwise all
    their pairs are at the preset's.

    Args:
        context: the model, the data set and the random seed.
        split: train / validation / held-out split by identity.
        count: pairs of each goal, at most; `COUNT` if None.
        steps: of PGD.

    Returns:
        `preset`, `weights_sha256`, and `goals`: an entry of `attack` with its smallest epsilons each; JSON-able.
    """
    from tfface.attacks.pgd import PGD

    pairs = split.heldout_pairs
    context = _narrowed(context, split)
    threshold = own(context) if pairs is None else by_fold(context, pairs)
    entries = []
    for goal in GENUINE_GOAL:
        chosen = choose_pairs(context.dataset, goal, listed=pairs, count=count or COUNT, seed=context.seed)
        trial = Trial(context, Subjects.of_pairs(goal, chosen, threshold.cosine(chosen.fold)), "pgd", PGD(steps=steps))
        entries.append({**threshold.record(), **trial_entry(trial, run_trial(trial))})
    embedder = context.embedder
    return {"preset": embedder.preset.name, "weights_sha256": embedder.sha256, "goals": entries}


def certify_heldout(context: Context, split: Split, *, sigma: float, count: int | None = None) -> dict[str, Any]:
    """Certify pairs of held-out people, as `certify` does.

    Args:
        context: the model, trained with that noise, the data set and the random seed.
        split: train / validation / held-out split by identity.
        sigma: standard deviation of the noise.
        count: pairs, half of them genuine; `CERTIFIED` if None.

    Returns:
        As `certify` writes it, with the threshold; JSON-able.
    """
    pairs = split.heldout_pairs
    context = _narrowed(context, split)
    smoothed = Smoothed(context, Smoothing(sigma=sigma, seed=context.seed))
    threshold = own(context) if pairs is None else by_noisy_fold(context, pairs, noisy_distances(smoothed, pairs))
    chosen = half_genuine(context.dataset, count or CERTIFIED, listed=pairs, seed=context.seed)
    certified = certify_pairs(smoothed, chosen, threshold.cosine(chosen.fold))
    radii = default_radii(smoothed.smoothing)
    return {
        "subjects": chosen.name,
        **threshold.record(),
        **certificates_entry(certified, smoothed.smoothing, radii, 3 * context.embedder.preset.input_size**2),
    }


def _narrowed(context: Context, split: Split) -> Context:
    """Return the context of held-out people alone, where no published pairs name them."""
    if split.heldout_pairs is not None:
        return context
    return dataclasses.replace(context, dataset=context.dataset.take(split.heldout, "heldout"))
