"""From what became of each subject to the entries of `metrics.json`.

Failures count: a subject that the model got wrong before any attack is told apart and left out, an
attack that fails has an infinite distance, and rates and medians are over all attacked subjects.
"""

import math
from typing import Any

import numpy as np

from tfface.metrics.distances import from_cosine
from tfface.metrics.intervals import bootstrap_median, wilson
from tfface.robustness.rows import TrialResults
from tfface.robustness.trial import Trial

Metrics = dict[str, Any]


def trial_entry(trial: Trial, rows: TrialResults) -> Metrics:
    """What a trial found: `results` by epsilon, or the smallest epsilon's median."""
    context = trial.context
    found = {
        "attack": trial.name,
        "attack_settings": trial.attack.record(),
        "norm": trial.attack.norm,
        "goal": trial.subjects.goal,
        "subjects": trial.subjects.name,
        "count": len(trial.subjects),
        "failed_crops": int((~rows.cropped).sum()),
        "judged": context.judging.name,
        **({"knowledge": context.knowledge} if context.knowledge else {}),
        **({"draws": context.draws} if context.averages else {}),
        "surrogate": context.surrogate.preset.name if context.surrogate else None,
        "surrogate_sha256": context.surrogate.sha256 if context.surrogate else None,
    }
    return found | (minimal_entry(trial, rows) if trial.minimal else {"results": rate_entries(trial, rows)})


def rate_entries(trial: Trial, rows: TrialResults) -> list[Metrics]:
    """The error rate at each epsilon, with Wilson's interval."""
    entries = []
    for place, epsilon in enumerate(trial.epsilons):
        attacked = int(rows.attacked.sum())
        rate = wilson(int(rows.success[rows.attacked, place].sum()), attacked) if attacked else None
        entries.append(
            {
                "epsilon": epsilon,
                **_units(trial, epsilon),
                "attacked": attacked,
                "already_wrong": int(rows.already_wrong.sum()),
                "error_rate": rate.value if rate else None,
                "ci95": rate.ci95 if rate else None,
            }
        )
    return entries


def minimal_entry(trial: Trial, rows: TrialResults) -> Metrics:
    """The median of the smallest epsilons, infinite ones among them; an infinite number is null, as JSON has none."""
    epsilons = rows.epsilon[rows.attacked, 0]
    found = bootstrap_median(epsilons, seed=trial.context.seed) if len(epsilons) else None
    median = found.value if found else math.nan
    return {
        "attacked": len(epsilons),
        "already_wrong": int(rows.already_wrong.sum()),
        "failed": int(np.isinf(epsilons).sum()),
        "median_epsilon": finite(median),
        **_units(trial, median, "median_"),
        "ci95": [finite(bound) for bound in found.ci95] if found else None,
    }


def finite(value: float) -> float | None:
    """A number as JSON holds it; None where it is infinite or none."""
    return float(value) if math.isfinite(value) else None


def _units(trial: Trial, epsilon: float, prefix: str = "") -> Metrics:
    """An L2 epsilon in the units that the literature uses."""
    if trial.attack.norm != "l2":
        return {}
    size = trial.context.embedder.preset.input_size
    return {f"{prefix}l2": finite(epsilon * math.sqrt(3 * size * size)), f"{prefix}rms255": finite(255 * epsilon)}


def pair_distances(trial: Trial, margins: np.ndarray) -> np.ndarray:
    """The distances of pairs in the preset's metric, from by how much the goal is reached.

    Args:
        trial: on pairs.
        margins: (N,) or (N, E).
    """
    limits = trial.subjects.limits
    assert limits is not None, "only pairs have distances"
    limits = limits if margins.ndim == 1 else limits[:, None]
    cosine = limits + margins if trial.subjects.goal == "dodging" else limits - margins
    return from_cosine(np.clip(cosine, 0, 2), trial.context.embedder.preset.metric)
