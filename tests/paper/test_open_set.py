"""Strangers to a head: which pairs are left, and a head's space as an embedding."""

from pathlib import Path

import numpy as np
import pytest

from tfface.data import FolderFaces, Pairs
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.paper import open_set as tested
from tfface.paper.open_set import as_embedding, strangers, transfer_claim, verify
from tfface.preprocessing.images import recipe
from tfface.training.head import Head

WHOLE = recipe("whole")


class Listed(FolderFaces):
    """Photographs by name alone; its pair list, if it has one, in place of boxes."""

    def pairs(self, name):
        if self.boxes is None:
            raise UserError("no list at hand")
        return self.boxes


def listed(counts: dict[str, int], name: str = "listed", pairs: Pairs | None = None) -> Listed:
    keys = [f"{person}/{number}.png" for person, count in counts.items() for number in range(count)]
    return Listed(name, "1", keys, [key.split("/")[0] for key in keys], pairs, Path("nowhere"))


# Photographs: a 0-1, b 2-3, c 4-5, d 6-7, validating e 8-9 and f 10, g 11 to train on.
LFW = {"a": 2, "b": 2, "c": 2, "d": 2, "e": 2, "f": 1, "g": 1}
ROWS = [
    *((0, 1, 1, 9), (0, 2, 0, 9), (2, 3, 1, 9), (3, 1, 0, 9)),
    *((4, 5, 1, 8), (4, 6, 0, 8), (6, 7, 1, 8), (7, 4, 0, 8)),
    *((8, 9, 1, 7), (8, 10, 0, 7)),
]


def lfw() -> Listed:
    first, second, same, fold = (np.array(column) for column in zip(*ROWS, strict=True))
    return listed(LFW, "lfw/deepfunneled", Pairs("view2", first, second, same.astype(bool), fold))


def test_pairs_of_the_heads_people_are_left_out():
    """Of the eight pairs of the two folds three show b."""
    unseen = strangers(lfw(), ("b", "g"))
    pairs = unseen.split.heldout_pairs
    assert (len(pairs), unseen.left_out) == (5, 3)
    assert list(zip(pairs.first, pairs.second, pairs.fold, strict=True)) == [
        (0, 1, 9),
        *((4, 5, 8), (4, 6, 8), (6, 7, 8), (7, 4, 8)),
    ]
    assert "folds 9 and 10 that show nobody of the head" in unseen.rule


def test_a_list_that_is_not_at_hand():
    unseen = strangers(listed(LFW, "lfw/deepfunneled"), ("b",))
    assert (unseen.split, unseen.rule) == (None, "View 2's pairs cannot be had: no list at hand")


def test_elsewhere_all_others():
    unseen = strangers(listed({"a": 4, "b": 2, "c": 1}), ("a",))
    assert unseen.split.heldout.tolist() == [4, 5, 6]
    assert unseen.rule == "all pairs of the 2 other people of listed"


@pytest.mark.parametrize("counts", [{"a": 9}, {"a": 9, "b": 4}, {"a": 9, "b": 1, "c": 1}])
def test_nobody_is_left(counts, tiny_embedder):
    dataset = listed(counts)
    unseen = strangers(dataset, ("a",))
    assert unseen.split is None and unseen.rule.startswith("nobody is left: listed has no two other people")
    found = verify(dataset, tiny_embedder, WHOLE, {}, unseen)
    assert found == {"pairs": unseen.rule, "count": 0}
    row = transfer_claim(found)
    assert (row["holds"], row["paper"]) == (None, None) and "nobody is left" in row["ours"]


def test_too_many_to_embed(monkeypatch):
    monkeypatch.setattr(tested, "MOST_MEASURED", 6)
    assert "more than 6 photographs" in strangers(listed({"a": 4, "b": 2, "c": 1}), ("a",)).rule


def test_a_linear_heads_logits_are_the_embedding():
    """(3, 4) times the identity plus (0, 4) is (3, 8); of length sqrt(73)."""
    head = Head(("a", "b"), ((np.eye(2, dtype=np.float32), np.array([0, 4], np.float32)),), {})
    found = as_embedding(head, np.array([[3, 4]], np.float32))
    np.testing.assert_allclose(found, np.array([[3, 8]]) / 73**0.5, rtol=1e-6)


def test_of_two_layers_the_first_after_its_relu():
    """(1, -1) becomes (2, 0, 1) after ReLU of (2, -1, 1): the last layer plays no part; a dead row stays zero."""
    first = (np.array([[2, 0, 1], [0, 1, 0]], np.float32), np.zeros(3, np.float32))
    last = (np.full((3, 2), 9, np.float32), np.full(2, 7, np.float32))
    found = as_embedding(Head(("a", "b"), (first, last), {}), np.array([[1, -1], [-1, -1]], np.float32))
    np.testing.assert_allclose(found, [[2 / 5**0.5, 0, 1 / 5**0.5], [0, 0, 0]], atol=1e-6)


def test_the_base_beside_heads(tiny_embedder, monkeypatch):
    """Of angles 0, 20, 70 and 88 in each fold, two of a person, all pairs are told apart. A head that sees the sign of
    the first coordinate alone puts all at one place: it takes every pair for one person, or none.
    """
    angles = np.radians([0, 20, 70, 88, 0, 20, 70, 88, 0, 0, 0, 0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    base = Embeddings(vectors, np.ones(12, bool), [])
    monkeypatch.setattr(tested, "embed_dataset", lambda *_: base)
    blind = Head(("p",), ((np.array([[1], [0]], np.float32), np.zeros(1, np.float32)),), {})
    same = Head(("p", "q"), ((np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),), {})
    dataset = lfw()
    unseen = strangers(dataset, ("g",))
    found = verify(dataset, tiny_embedder, WHOLE, {"old_head": same, "new_head": blind}, unseen)
    assert (found["count"], found["genuine"], found["impostor"], found["left_out"]) == (8, 4, 4, 0)
    assert found["base"]["accuracy"] == found["old_head"]["accuracy"] == 1
    assert [found[name]["dimensions"] for name in ("base", "old_head", "new_head")] == [2, 2, 1]
    assert found["base"]["auc"] == 1 and found["new_head"]["accuracy"] == 0.5
    row = transfer_claim(found)
    assert row["holds"] is False
    assert "the old head's 100.00%, the base's 100.00% (8 pairs)" in row["ours"]


def space(accuracy: float, low: float, high: float) -> dict:
    return {"accuracy": accuracy, "ci95": [low, high]}


@pytest.mark.parametrize(("low", "holds"), [(0.93, False), (0.96, True)])
def test_a_gain_is_one_beyond_both_intervals(low, holds):
    found = {"count": 8, "pairs": "x", "base": space(0.9, 0.85, 0.95), "old_head": space(0.8, 0.7, 0.9)}
    assert transfer_claim({**found, "new_head": space(0.97, low, 0.99)})["holds"] is holds
