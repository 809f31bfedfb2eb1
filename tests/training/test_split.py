import tarfile

import numpy as np
import pytest

from tfface.data import Pairs, read_pairs_file
from tfface.training.split import split_people


def view2(rows):
    """Pairs (first, second, same, fold)."""
    first, second, same, fold = (np.array(column) for column in zip(*rows, strict=True))
    return Pairs("view2", first, second, same.astype(bool), fold)


@pytest.fixture
def small_lfw(listed):
    """Photographs: a 0-1, b 2-3, c 4-5, d 6, e 7-8, f 9-10, g 11; a and b in fold 10, c and d in 9, e and f in 8."""
    people = {"a": 2, "b": 2, "c": 2, "d": 1, "e": 2, "f": 2, "g": 1}
    rows = [(0, 1, True, 9), (1, 2, False, 9), (4, 5, True, 8), (4, 6, False, 8), (7, 8, True, 7), (7, 9, False, 7)]
    return listed(people, "lfw/deepfunneled", view2(rows))


def test_lfw_is_split_by_the_people_of_its_folds(small_lfw):
    split = split_people(small_lfw)
    assert split.heldout.tolist() == [0, 1, 2, 3, 4, 5, 6]  # photograph 3 is in no pair, but its person is
    assert split.validation.tolist() == [7, 8, 9, 10]
    assert split.train.tolist() == [11]
    assert split.people(small_lfw, "train", "validation") == {"e", "f", "g"}
    assert split.heldout_pairs.fold.tolist() == [9, 9, 8, 8]
    assert split.heldout_pairs.same.tolist() == [True, False, True, False]


def test_lfw_of_which_nobody_is_left_to_train_on(listed, user_error):
    rows = [(0, 1, True, 9), (1, 2, False, 8), (3, 4, True, 7), (3, 5, False, 7)]
    with user_error("nobody of lfw/deepfunneled is left to train on"):
        split_people(listed({"a": 2, "b": 1, "c": 2, "d": 1}, "lfw/deepfunneled", view2(rows)))


def test_other_data_sets_are_split_by_a_seeded_draw(listed):
    dataset = listed({f"p{number:02d}": 2 for number in range(20)})
    split = split_people(dataset, fraction=0.3, seed=1)
    parts = [split.people(dataset, part) for part in ("heldout", "validation", "train")]
    assert [len(part) for part in parts] == [6, 3, 11]
    assert set.union(*parts) == set(dataset.identities)
    assert sorted(np.concatenate([split.heldout, split.validation, split.train])) == list(range(40))
    assert split.heldout_pairs is None
    again, other = split_people(dataset, fraction=0.3, seed=1), split_people(dataset, fraction=0.3, seed=2)
    assert again.heldout.tolist() == split.heldout.tolist() != other.heldout.tolist()


@pytest.mark.parametrize(("people", "fraction"), [(4, 0.2), (20, 0.0)])
def test_nobody_held_out(listed, user_error, people, fraction):
    with user_error(f"nobody of the {people} people of made-up would be held out"):
        split_people(listed({f"p{number}": 2 for number in range(people)}), fraction=fraction)


def test_held_out_people_without_a_genuine_pair(listed, user_error):
    with user_error("none of the 2 people of made-up held out for the test has two images"):
        split_people(listed({f"p{number}": 1 for number in range(8)}))


@pytest.mark.lfw
def test_the_published_folds(listed, lfw_dir):
    """Of 13,233 photographs 2,671 of 890 people are in folds 9 and 10."""
    with tarfile.open(lfw_dir / "lfw-deepfunneled.tgz") as archive:
        files = [name.split("/")[-2:] for name in archive.getnames() if name.endswith(".jpg") and "/._" not in name]
    counts: dict[str, int] = {}
    for person, _ in sorted(files):
        counts[person] = counts.get(person, 0) + 1
    named = listed(counts, "lfw/deepfunneled")
    keys = [f"{person}/{person}_{number:04d}.jpg" for person, count in counts.items() for number in range(1, count + 1)]
    named = type(named)(named.name, "1", keys, named.identities, None)
    named = type(named)(named.name, "1", keys, named.identities, None, read_pairs_file(lfw_dir / "pairs.txt", named))
    split = split_people(named)
    assert len(split.train) + len(split.validation) == 10562
    assert (len(split.heldout), len(split.people(named, "heldout"))) == (2671, 890)
    assert (len(split.validation), len(split.train)) == (1060, 9502)
    assert len(split.heldout_pairs) == 1200
    assert not split.people(named, "heldout") & split.people(named, "train", "validation")
