import dataclasses
from pathlib import Path

import cv2
import pytest

from tfface import data
from tfface.attacks.fgsm import FGSM
from tfface.campaigns.pairs import choose_pairs
from tfface.campaigns.setting import Judging, Setting
from tfface.campaigns.thresholds import Threshold
from tfface.campaigns.trial import Subjects, Trial
from tfface.images import recipe

LIMIT = 0.1


@pytest.fixture
def many_faces(tmp_path, make_photo) -> Path:
    """Seven people of eight photographs, and one of one."""
    root = tmp_path / "many faces"
    for person in range(8):
        (root / f"person {person}").mkdir(parents=True)
        for number in range(8 if person < 7 else 1):
            pixels = make_photo(person, number)
            path = root / f"person {person}" / f"{number}.png"
            path.write_bytes(cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes())
    return root


@pytest.fixture
def faces(many_faces):
    return data.load(str(many_faces))


@pytest.fixture
def setting(faces, tiny_embedder):
    """The tiny embedder on the many faces."""
    return Setting(faces, tiny_embedder, recipe("whole"), Judging())


@pytest.fixture
def trial(setting):
    """Makes a trial of pairs of the setting, with changes to it."""

    def make(goal: str = "dodging", count: int = 6, limit: float = LIMIT, **changes) -> Trial:
        pairs = choose_pairs(setting.dataset, goal, count=count)
        own = dataclasses.replace(setting, **changes.pop("setting", {}))
        subjects = Subjects.of_pairs(goal, pairs, Threshold(limit, "cosine", "the test's"))
        return Trial(own, subjects, "fgsm", **{"attack": FGSM(), "epsilons": (0.02, 0.2), **changes})

    return make
