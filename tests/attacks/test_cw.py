import numpy as np

from tfface.attacks._attack import run
from tfface.attacks._minimal import search_minimal
from tfface.attacks.cw import CarliniWagner
from tfface.attacks.pgd import PGD

QUICK = {"steps": 60, "searches": 3, "initial_constant": 1.0}


def test_needs_no_more_than_pgd(victims, targets, images):
    inputs = victims["classify"], images, targets["classify"]
    ours = search_minimal(CarliniWagner(steps=300), *inputs)
    theirs = search_minimal(PGD(norm="l2", steps=20), *inputs)
    assert ours.success.all() and theirs.success.all()
    assert (ours.epsilon <= theirs.epsilon).all()


def test_confidence_asks_for_a_margin(victims, targets, images):
    inputs = victims["classify"], images, targets["classify"]
    plain = run(CarliniWagner(**QUICK), *inputs, 1.0)
    sure = run(CarliniWagner(**QUICK, confidence=2.0), *inputs, 1.0)
    assert (sure.margin >= 2 - 1e-3).all()
    assert (plain.margin < 2).all()
    assert (sure.distance > plain.distance).all()


def test_a_budget_below_its_distance_makes_it_fail(victims, targets, images):
    inputs = victims["classify"], images, targets["classify"]
    attack = CarliniWagner(**QUICK)
    free = run(attack, *inputs, 1.0)
    held = run(attack, *inputs, free.distance / 5)
    assert free.success.all()
    assert not held.success.any()


def test_where_it_finds_nothing_the_image_is_clean(victims, images):
    # No embedding is further than 2 from another.
    references = victims["dodging"].targets(images, 2.5)
    found = run(CarliniWagner(steps=3, searches=2), victims["dodging"], images, references, 1.0)
    np.testing.assert_array_equal(found.images, images)
    assert not found.success.any()
