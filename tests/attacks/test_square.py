import numpy as np
import pytest

from tfface.attacks._attack import run
from tfface.attacks._criteria import Misclassification
from tfface.attacks._victim import Batch, Victim
from tfface.attacks.square import Square


class Counting(Victim):
    """Counts the answers that each image was given, by the image's label."""

    def assess(self, images, targets):
        self.answers = getattr(self, "answers", []) + np.asarray(targets).tolist()
        return super().assess(images, targets)

    def gradient(self, images, targets):
        raise AssertionError("a black box has no gradient")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_asks_no_more_than_its_budget_and_stops_at_success(classifier, images, norm):
    labels = np.argmax(classifier(images), axis=1)
    victim = Counting(classifier, Misclassification())
    batch = Batch.checked(victim, images, labels, [0, 0, 0, 1, 1, 1])
    changed = Square(norm=norm, queries=60).perturb(victim, batch)
    won = np.argmax(classifier(changed), axis=1) != labels
    assert not won[:3].any() and won[3:].any()
    # Nothing helps at epsilon 0: these three took all of their queries. The others took less.
    assert 3 * 60 < len(victim.answers) < 6 * 60


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_succeeds_where_the_budget_is_large(victims, targets, images, norm):
    found = run(Square(norm=norm, queries=400), victims["classify"], images, targets["classify"], 0.5)
    assert found.success.all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_queries_never_lower_the_margin(victims, targets, images, norm):
    margins = [
        run(Square(norm=norm, queries=queries), victims["classify"], images, targets["classify"], 0.02).margin
        for queries in (1, 10, 60)
    ]
    # The first squares of ten queries are those of a faster schedule than of sixty: only the start is common.
    assert (margins[1] >= margins[0]).all() and (margins[2] >= margins[0]).all()
    assert margins[2].mean() > margins[1].mean() > margins[0].mean()


def test_in_linf_every_change_is_a_full_epsilon(victims, targets, middling):
    batch = Batch.checked(victims["classify"], middling, targets["classify"], 0.05)
    changed = Square(queries=10).perturb(victims["classify"], batch)
    np.testing.assert_allclose(np.abs(changed - middling), 0.05, atol=1e-6)


def test_in_l2_the_budget_is_used_up(victims, targets, middling):
    batch = Batch.checked(victims["classify"], middling, targets["classify"], 0.02)
    changed = Square(norm="l2", queries=10).perturb(victims["classify"], batch)
    np.testing.assert_allclose(np.sqrt(np.square(changed - middling).mean(axis=(1, 2, 3))), 0.02, rtol=0.01)


def test_squares_shrink_as_the_paper_has_it():
    # 5% of 160 x 160 pixels: 36 a side; halved once after query 10, and nine times in the end.
    attack = Square()
    assert [attack.side(query, (160, 160)) for query in (1, 10, 11, 9999)] == [36, 36, 25, 2]
    # A tenth of the queries: the same shrinking, ten times faster.
    assert [Square(queries=1000).side(query, (160, 160)) for query in (1, 2, 999)] == [36, 25, 2]
    assert Square(norm="l2").side(1, (160, 160)) == 51
    assert Square(share=1.0).side(1, (16, 16)) == 15
