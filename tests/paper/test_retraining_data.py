"""Photographs split before anything is made of them, and who gets more copies."""

from pathlib import Path

import numpy as np
import pytest

from tfface.data import FolderFaces
from tfface.errors import UserError
from tfface.paper.retraining import mine_people
from tfface.paper.retraining_data import aimed_copies, choose_photographs, embed_copies, validation_part
from tfface.preprocessing.images import recipe
from tfface.robustness.trial import Context, ImageFormat
from tfface.training.head_data import HeadData, HeadVectors, embed_head_data

WHOLE = recipe("whole")
NONE = np.zeros(0, np.int64)


def listed(counts: dict[str, int]) -> FolderFaces:
    keys = [f"{person}/{number}.png" for person, count in counts.items() for number in range(count)]
    return FolderFaces("listed", "1", keys, [key.split("/")[0] for key in keys], None, Path("nowhere"))


def by_person(dataset, data, indices) -> list[int]:
    return np.bincount(data.labels(dataset, indices), minlength=len(data.people)).tolist()


def test_all_photographs_of_whom_there_is():
    """Of 16, 8 and 4 a quarter tests: 4, 2 and 1. To the first's 12 the others lack 12 - 6 and 12 - 3."""
    dataset = listed({"c": 4, "a": 16, "few": 3, "b": 8})
    data = choose_photographs(dataset)
    assert data.people == ("a", "b", "c")
    assert by_person(dataset, data, data.test) == [4, 2, 1]
    assert by_person(dataset, data, data.train) == [12, 6, 3]
    assert by_person(dataset, data, data.copies) == [0, 6, 9]
    assert not set(data.test.tolist()) & {*data.train.tolist(), *data.copies.tolist()}
    assert choose_photographs(dataset, people=2).people == ("a", "b")


def test_a_cap():
    """At most 8 of each: 6 to train; a cap above what there is is none."""
    dataset = listed({"a": 16, "b": 8})
    data = choose_photographs(dataset, photographs=8)
    assert (by_person(dataset, data, data.train), by_person(dataset, data, data.test)) == ([6, 6], [2, 2])
    assert choose_photographs(dataset, photographs=99).record(dataset) == choose_photographs(dataset).record(dataset)


def test_one_person_is_too_few():
    with pytest.raises(UserError, match="listed has 1 people of 4 photographs or more, and a head tells at least 2"):
        choose_photographs(listed({"a": 9, "b": 3}))


def test_settings_are_chosen_without_the_test_photographs():
    """Of 12 and 6 training photographs 3 and 2 (a half is rounded to even) are kept back."""
    dataset = listed({"a": 16, "b": 8})
    data = choose_photographs(dataset, seed=3)
    inner = validation_part(dataset, data)
    assert set(inner.train.tolist()) | set(inner.test.tolist()) == set(data.train.tolist())
    assert set(inner.copies.tolist()) <= set(inner.train.tolist())
    assert by_person(dataset, inner, inner.test) == [3, 2]
    assert by_person(dataset, inner, inner.copies) == [0, 5]
    small = listed({"a": 16, "b": 4, "c": 9})
    with pytest.raises(UserError, match="`validate` splits training photographs once more"):
        validation_part(small, choose_photographs(small))


def vectors_at(*degrees: float, failed: tuple[int, ...] = ()) -> HeadVectors:
    angles = np.radians(degrees)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ok = np.array([place not in failed for place in range(len(degrees))])
    none = np.zeros((0, 2), np.float32)
    return HeadVectors(vectors, none, none, ok, np.ones(0, bool), np.ones(0, bool))


def test_people_are_mined_on_their_training_photographs(tiny_embedder):
    """The preset's 0.2 is 36.9 degrees. a: 0, 10, 60: two genuine pairs apart; b: 170, 180: none; c: 75, 80, of which
    60 of a is 15 and 20 degrees away: two false matches, for a and c alike. So a 4, c 2; the hard half of three is a.
    """
    dataset = listed({"a": 4, "b": 3, "c": 3})
    data = HeadData(("b", "a", "c"), np.array([0, 1, 2, 4, 5, 7, 8]), np.array([3, 6, 9]), NONE, 0)
    context = Context(dataset, tiny_embedder, WHOLE, ImageFormat())
    hardness = mine_people(context, data, vectors_at(0, 10, 60, 170, 180, 75, 80))
    assert hardness.errors == {"b": 0, "a": 4, "c": 2}
    assert (hardness.hard, hardness.threshold) == (("a",), 0.2)
    # Without the photograph at 60 degrees nothing is wrong, so nobody is hard.
    left = mine_people(context, data, vectors_at(0, 10, 60, 170, 180, 75, 80, failed=(2,)))
    assert (left.errors, left.hard) == ({"b": 0, "a": 0, "c": 0}, ())


def test_copies_are_aimed_at_the_hard():
    """12 + 6 training photographs, 2 copies of each on average: 36, shared 2 to 1; without anybody hard by halves."""
    dataset = listed({"a": 16, "b": 8})
    data = choose_photographs(dataset)
    aimed = aimed_copies(dataset, data, ["b"], copies=2)
    assert by_person(dataset, data, aimed) == [12, 24]
    assert set(aimed.tolist()) <= set(data.train.tolist())
    _, often = np.unique(aimed, return_counts=True)
    assert sorted(often.tolist()) == [1] * 12 + [4] * 6, "each photograph as often as a person's others"
    assert by_person(dataset, data, aimed_copies(dataset, data, [], copies=2)) == [18, 18]
    assert len(aimed_copies(dataset, data, ["b"], copies=0)) == 0


def test_copies_are_none_of_the_old_heads(faces, tiny_embedder, context):
    data = HeadData(("person 0", "person 1"), np.array([0, 1, 8, 9]), np.array([2, 10]), np.array([0, 8]), 5)
    old = embed_head_data(faces, tiny_embedder, WHOLE, data)
    found = embed_copies(context, data, np.array([0, 8, 8]))
    assert (found.aimed.shape, found.test.shape, found.aimed_ok.all()) == ((3, 16), (2, 16), True)
    for copy in (*found.aimed[:2], *found.test):
        others = np.concatenate([old.train, old.test, old.copies])
        assert np.abs(others - copy).max(axis=1).min() > 1e-3
    assert np.abs(found.aimed[1] - found.aimed[2]).max() > 1e-3, "two copies of one photograph differ"
