"""Which pairs are attacked: drawn alike from all there are, the same by the same seed."""

import itertools

import numpy as np
import pytest

from tfface.data import Pairs
from tfface.errors import UserError
from tfface.robustness.pairs import choose_pairs


def both(found) -> list[tuple[int, int]]:
    return list(zip(found.first.tolist(), found.second.tolist(), strict=True))


@pytest.mark.parametrize("goal", ["dodging", "impersonation"])
def test_all_pairs_of_a_kind_can_be_drawn_each_once(faces, goal):
    expected = {
        pair
        for pair in itertools.combinations(range(len(faces)), 2)
        if (faces.identities[pair[0]] == faces.identities[pair[1]]) == (goal == "dodging")
    }
    found = choose_pairs(faces, goal, count=10_000)
    assert len(found) == len(expected) == (7 * 28 if goal == "dodging" else 57 * 56 // 2 - 7 * 28)
    assert {tuple(sorted(pair)) for pair in both(found)} == expected
    assert set(found.same.tolist()) == {goal == "dodging"}
    swapped = np.mean(found.first > found.second)
    assert 0.3 < swapped < 0.7, "either of the two is attacked"


def test_a_draw_is_seeded_and_without_repeats(faces):
    draws = [both(choose_pairs(faces, "impersonation", count=50, seed=seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len({tuple(sorted(pair)) for pair in draws[0]}) == 50


def test_every_pair_is_as_likely(faces):
    """4 of 196 genuine pairs in 600 draws: each about 12.2 times; 40 is 8 standard deviations off."""
    counts: dict[tuple[int, int], int] = {}
    for seed in range(600):
        for pair in both(choose_pairs(faces, "dodging", count=4, seed=seed)):
            counts[min(pair), max(pair)] = counts.get((min(pair), max(pair)), 0) + 1
    assert len(counts) == 196
    assert max(counts.values()) < 40


LISTED = Pairs(
    "mine.csv",
    np.array([0, 1, 2, 3, 4, 5]),
    np.array([9, 8, 7, 6, 5, 4]),
    np.array([True, False, True, False, True, True]),
    np.arange(6),
)


def test_a_lists_pairs_of_the_goals_kind(faces):
    found = choose_pairs(faces, "dodging", listed=LISTED, count=10)
    assert both(found) == [(0, 9), (2, 7), (4, 5), (5, 4)]
    assert found.fold.tolist() == [0, 2, 4, 5]
    drawn = choose_pairs(faces, "dodging", listed=LISTED, count=2, seed=1)
    assert len(drawn) == 2 and set(both(drawn)) < set(both(found))


def test_a_goal_without_its_pairs(faces):
    only_impostors = Pairs(LISTED.name, *(part[[1, 3]] for part in (LISTED.first, LISTED.second)), *[np.zeros(2)] * 2)
    with pytest.raises(UserError, match=r"mine\.csv of folder:many faces has no genuine pair to take apart"):
        choose_pairs(faces, "dodging", listed=only_impostors)
    alone = faces.take(np.arange(8), "one person")
    with pytest.raises(UserError, match="has no impostor pair to match: `goal` impersonation needs one"):
        choose_pairs(alone, "impersonation")


def test_a_protocol_that_the_data_set_lacks(faces):
    with pytest.raises(UserError, match=r"no pair list 'view2'.*`protocol` all-pairs"):
        choose_pairs(faces, "dodging", protocol="view2")
