"""The gradient checks get a trial's first subjects, as far as they can be cropped."""

import dataclasses

import numpy as np
import pytest

from tfface import data
from tfface.attacks import _checks
from tfface.errors import UserError
from tfface.robustness.run import check_trial


@pytest.fixture
def asked(monkeypatch):
    """What the checks are asked, instead of making them."""
    found = {}

    def record(victim, images, targets, **options):
        found.update(victim=victim, images=images, targets=targets, **options)
        return _checks.CheckReport((_checks.Row("a check", False, "1 of 2"),), len(images))

    monkeypatch.setattr(_checks, "check_gradients", record)
    return found


def test_the_first_subjects_are_checked(trial, asked, tiny_embedder):
    verdict = check_trial(trial(count=40))
    assert verdict == {
        "masks_gradients": True,
        "attacked": 32,
        "rows": [{"check": "a check", "passed": False, "measured": "1 of 2"}],
    }
    made = trial(count=40)
    references, _ = made.context.crops(made.subjects.second[:32])
    np.testing.assert_allclose(asked["targets"][:, :-1], tiny_embedder.embed(references), atol=1e-6)
    assert set(asked["targets"][:, -1]) == {np.float32(0.1)}
    assert asked["keys"].tolist() == made.keys[:32].tolist()
    assert (asked["norm"], asked["transfer"]) == ("linf", None)


def test_a_surrogates_attack_is_checked_beside(trial, asked, context):
    check_trial(trial(count=3, context={"surrogate": context.embedder}))
    assert asked["transfer"].inner == trial().attack


def test_subjects_that_cannot_be_cropped(many_faces, trial, asked):
    (many_faces / "person 0" / "0.png").write_bytes(b"no image")
    made = trial(count=2, context={"dataset": data.load_dataset(str(many_faces))})
    broken = {"first": np.array([0, 0]), "second": np.array([1, 2])}
    made = dataclasses.replace(made, subjects=dataclasses.replace(made.subjects, **broken))
    with pytest.raises(UserError, match="none of the first 2 subjects of dodging can be cropped"):
        check_trial(made)
