"""Whether a model resists, or only hides its gradients: sanity checks on a campaign's first subjects."""

from typing import Any

import numpy as np

from tfface.errors import UserError
from tfface.robustness.batch import Inputs
from tfface.robustness.trial import Trial

CHECKED = 32
"""Subjects that the checks are made on: they take many attacks of each."""
STEPS, RESTARTS = 100, 2


def check_trial(trial: Trial, *, count: int = CHECKED, steps: int = STEPS, restarts: int = RESTARTS) -> dict[str, Any]:
    """The checks of a trial's goal and norm, JSON-able.

    A pair's model behind defenses is also attacked through the undefended one, which must not do better.

    Args:
        trial: whose subjects.
        count: how many of them.
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
        raise UserError(f"--check: none of the first {len(inputs.images)} subjects of {goal} can be cropped")
    victim, through = context.victim(goal), context
    if context.knowledge == "adaptive" and goal != "classify":
        through = context.unaware()
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
