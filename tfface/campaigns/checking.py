"""Whether a model resists, or only hides its gradients: sanity checks on a campaign's first subjects."""

from typing import Any

import numpy as np

from tfface.campaigns.batch import Inputs
from tfface.campaigns.trial import Trial
from tfface.errors import UserError

CHECKED = 32
"""Subjects that the checks are made on: they take many attacks of each."""


def check_trial(trial: Trial) -> dict[str, Any]:
    """The checks of a trial's goal and norm, JSON-able.

    Raises:
        UserError: none of its first subjects can be attacked.
    """
    from tfface.attacks.checks import check_gradients

    setting, goal = trial.setting, trial.subjects.goal
    inputs = Inputs.of(trial, np.arange(min(CHECKED, len(trial.subjects))))
    usable = inputs.at(inputs.cropped)
    if not len(usable.images):
        raise UserError(f"--check: none of the first {len(inputs.images)} subjects of {goal} can be cropped")
    victim = setting.victim(goal)
    return check_gradients(
        victim,
        usable.images,
        victim.targets(usable.given, usable.limits),
        norm=trial.attack.norm,
        transfer=setting.aimed(trial.attack, goal, usable.given, usable.limits, usable.keys)
        if setting.surrogate
        else None,
        seed=setting.seed,
        keys=usable.keys,
    ).record()
