"""Error rates and claims from what the heads got wrong, by hand."""

import numpy as np
import pytest

from tfface.metrics.intervals import wilson
from tfface.paper.retrain import Wrong, claims, pooled, rate_entry
from tfface.training.head import Head


def wrong(clean: int, old: tuple[int, ...], new: tuple[int, ...], of: int = 200) -> Wrong:
    """So many errors of each kind, the first photographs'."""

    def column(*errors: int) -> np.ndarray:
        return np.stack([np.arange(of) < count for count in errors], axis=1)

    return Wrong(
        {
            "clean": column(clean),
            "augmented": column(clean),
            "adversarial_old_head": column(*old),
            "adversarial_new_head": column(*new),
        }
    )


def test_one_set_has_wilsons_interval():
    entry = rate_entry(np.array([[True], [False], [False], [False]]))
    assert entry == {"images": 4, "errors": 1, "error_rate": 0.25, "ci95": wilson(1, 4).ci95}


def test_the_same_photographs_several_times_are_no_more_photographs():
    """Three times the same outcome: the interval of one time, where independent images would have a narrower one."""
    assert pooled([5, 5, 5], [50, 50, 50]).ci95 == pytest.approx(wilson(5, 50).ci95)
    one, two = wilson(4, 50), wilson(1, 10)
    both = pooled([4, 1, 0], [50, 10, 0])
    assert both.value == 5 / 60
    assert both.low == pytest.approx((50 * one.low + 10 * two.low) / 60)
    assert both.high == pytest.approx((50 * one.high + 10 * two.high) / 60)


def test_a_head_is_asked_about_every_budget():
    """Logits are the embedding: e0 is person 0. The second photograph is person 1's, and wrong at the second budget."""
    head = Head(("a", "b"), ((np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),), {})
    first, second = np.eye(2, dtype=np.float32)
    sets = {"adversarial_old_head": np.array([[first, first], [second, first]])}
    found = Wrong.of(head, sets, np.array([0, 1]))
    assert found.sets["adversarial_old_head"].tolist() == [[False, False], [False, True]]
    found = Wrong({**found.sets, "adversarial_new_head": np.zeros((2, 2), bool)})
    assert [found.at(place)["adversarial_old_head"]["errors"] for place in (0, 1)] == [0, 1]
    assert found.entry()["adversarial_old_head"]["images"] == 4


def test_all_claims_hold():
    """Clean: 1 of 200 more is half a point, which may be. Old images: 4 and 8 of 200 wrong are 3%. New: 100 and 160."""
    before = wrong(1, (150, 190), (20, 40))
    after = wrong(2, (4, 8), (100, 160))
    clean, right, new = claims(before, after)
    assert (clean["holds"], clean["rise"]) == (True, pytest.approx(0.005))
    assert (right["holds"], right["right"], right["failed_before"]) == (True, pytest.approx(0.97), 340)
    # All 12 errors are among the 340 that the old head got wrong.
    assert right["mended"] == pytest.approx(328 / 340)
    assert right["mended_ci95"][0] < right["mended"] < right["mended_ci95"][1]
    assert (new["holds"], new["error_rate"], new["error_rate_old"]) == (True, 0.65, 0.85)
    for text in (
        "error 0.50% before, 1.00% after",
        "97.00% (",
        "of 400 images",
        "of the 340",
        "65.00%",
        "85.00% on its own and 15.00%",
    ):
        assert any(text in row["ours"] for row in (clean, right, new)), text


def test_no_claim_holds():
    clean, right, new = claims(wrong(0, (0, 0), (0, 0)), wrong(2, (11, 11), (3, 3)))
    assert [row["holds"] for row in (clean, right, new)] == [False, False, False]
    assert (right["failed_before"], right["mended"]) == (0, None)
