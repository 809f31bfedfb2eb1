import dataclasses

import numpy as np
import pytest

from tfface.attacks.pgd import PGD
from tfface.errors import UserError
from tfface.robustness.detection import DetectionConfig, _entry, detect


def test_rates_and_area_by_hand():
    """Clean scores 1 to 4 (tenths), attacked ones 2, 3.5 and 9, of which the 3.5 does not fool the model.

    At a limit of 0.3: of 4 attacked, 2 fool it; one of these two is caught, one unseen; one clean one is an alarm.
    The 2 lies above one clean score and ties with one, the 9 above all four: (1.5 + 4) of 8.
    """
    before = np.array([0.1, 0.2, 0.3, 0.4])
    after = np.array([0.2, 0.35, 0.9, 0.0])
    found = _entry(before, after, np.array([True, False, True, False]), 0.3)
    assert (found["attacked"], found["fooled"]) == (4, 2)
    assert found["auc"] == pytest.approx(5.5 / 8)
    assert found["caught"]["value"] == 0.5
    assert found["fooled_unseen"]["value"] == 0.25
    assert found["false_alarms"]["value"] == 0.25
    assert found["roc"][0] == [0, 0] and found["roc"][-1] == [1, 1]
    assert [0.0, 0.5] in found["roc"]


def test_nothing_that_fools_the_model_is_nothing_to_detect():
    found = _entry(np.array([0.1]), np.array([0.5]), np.array([False]), 0.3)
    assert found["auc"] is None and found["caught"] is None and found["roc"] == []
    assert found["fooled_unseen"]["value"] == 0


def test_an_attack_that_knows_the_detector_is_seen_less(trial):
    one = trial("dodging", count=4, limit=0.05, attack=PGD(steps=20), epsilons=(0.2,))
    found = detect(one, DetectionConfig(photographs=10, views=("bit-depth:bits=3", "median"), weight=3.0))
    assert found["views"] == ["bit-depth:bits=3", "median"]
    assert found["unaware"]["attacked"] == found["adaptive"]["attacked"] > 0
    assert found["unaware"]["fooled"] == found["unaware"]["attacked"]
    assert found["adaptive"]["fooled_unseen"]["value"] > found["unaware"]["fooled_unseen"]["value"]


def test_needs_people_in_no_attacked_pair(trial):
    one = trial("dodging", count=200, epsilons=(0.2,))
    with pytest.raises(UserError, match="attack fewer pairs"):
        detect(dataclasses.replace(one, subjects=everybody(one)), DetectionConfig())


def everybody(one):
    subjects, dataset = one.subjects, one.context.dataset
    rows = np.arange(len(dataset))
    return dataclasses.replace(subjects, first=rows, second=rows[::-1], limits=np.full(len(rows), 0.1))
