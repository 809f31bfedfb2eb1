"""A retraining of a tiny head: what trains it, what judges it, and that it may be killed anywhere."""

import dataclasses
import json

import numpy as np
import pytest

from tfface import data
from tfface.errors import UserError
from tfface.paper import retraining
from tfface.paper.retrain import SETS, entry, judge
from tfface.paper.retraining import RetrainingConfig, prepare, train_rounds
from tfface.preprocessing.images import recipe
from tfface.robustness.classification import saved_head
from tfface.robustness.trial import Context, ImageFormat
from tfface.training import head as head_module
from tfface.training.head import HeadSettings
from tfface.training.head_data import HeadData

WHOLE = recipe("whole")
PLAN = RetrainingConfig(epsilons=(0.05, 0.1), people=3)


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(retraining, "HeadSettings", lambda **settings: HeadSettings(**{**settings, "steps": 60}))


def context_of(faces, embedder, seed=0):
    return Context(faces, embedder, WHOLE, ImageFormat(), seed)


def made(plan, faces, embedder):
    start = prepare(plan, context_of(faces, embedder))
    retrained = train_rounds(plan, start)
    return start, retrained, entry(plan, start, retrained, *judge(plan, start, retrained))


def test_images_of_each_kind_and_four_sets_of_the_same_photographs(faces, tiny_embedder):
    """Three people of eight: two test, six train, and nothing is to fill up. 18 copies, so 36 adversarial are half."""
    start, _, metrics = made(PLAN, faces, tiny_embedder)
    assert metrics["train_images"]["before"] == {"clean": 18, "augmented": 0, "adversarial": 0}
    after = {"clean": 18, "augmented": 18, "adversarial": 36, "adversarial_made": 36}
    assert metrics["train_images"]["after"] == after
    assert metrics["test_images"] == 6
    for when in ("before", "after"):
        assert [metrics[when][name]["images"] for name in SETS] == [6, 6, 12, 12]
    for name in SETS[2:]:
        parts = [found["before"][name]["errors"] for found in metrics["per_epsilon"]]
        assert sum(parts) == metrics["before"][name]["errors"]
    clean = start.old.logits(start.vectors.test).argmax(axis=1) != start.labels(start.data.test)
    assert metrics["before"]["clean"]["errors"] == clean.sum()
    assert metrics["people"][0]["test"] == 2 and sum(row["copies_added"] for row in metrics["people"]) == 18
    assert len(metrics["remarks"]) == 1 and "each epsilon of 0.05, 0.1" in metrics["remarks"][0]
    json.dumps(metrics, allow_nan=False)


def test_no_test_photograph_is_in_the_training_in_any_form(faces, tiny_embedder, monkeypatch):
    """What was attacked before the new head was trained, and what copies were made of."""
    attacked = []
    real = retraining.adversarial_vectors
    monkeypatch.setattr(
        retraining, "adversarial_vectors", lambda *given, **named: attacked.append(given[1]) or real(*given, **named)
    )
    start = prepare(PLAN, context_of(faces, tiny_embedder))
    train_rounds(PLAN, start)
    used = [start.data.train, start.data.copies, start.aimed, *attacked]
    assert len(attacked) == 1
    assert not set(np.concatenate(used).tolist()) & set(start.data.test.tolist())


def test_the_share_takes_some_or_repeats_all(faces, tiny_embedder):
    """Of 36 others: a fifth of all is 9; three quarters are 108, each of the 36 three times; none is none."""
    for share, count in ((0.2, 9), (0.75, 108), (0.0, 0)):
        plan = dataclasses.replace(PLAN, adversarial_share=share)
        found = train_rounds(plan, prepare(plan, context_of(faces, tiny_embedder)))
        assert (found.adversarial, found.made) == (count, 36 if share else 0)
    others = retraining._chosen(dataclasses.replace(PLAN, adversarial_share=0.75), 36, 36)
    assert np.unique(others, return_counts=True)[1].tolist() == [3] * 36


def test_each_round_attacks_the_newest_head(faces, tiny_embedder):
    plan = dataclasses.replace(PLAN, rounds=2)
    start = prepare(plan, context_of(faces, tiny_embedder))
    once, twice = train_rounds(PLAN, start), train_rounds(plan, start)
    assert (once.made, twice.made) == (36, 72)
    assert once.head.facts["retraining"]["attacked_heads"] == [start.old.sha256]
    assert twice.head.facts["retraining"]["attacked_heads"] == [start.old.sha256, once.head.sha256]
    assert len({start.old.sha256, once.head.sha256, twice.head.sha256}) == 3


def test_a_saved_head_is_the_old_one(faces, tiny_embedder, tmp_path):
    start, retrained, _ = made(dataclasses.replace(PLAN, hidden=8), faces, tiny_embedder)
    retrained.head.save(tmp_path / "head.npz")
    head, data = saved_head(tmp_path / "head.npz", faces, tiny_embedder, WHOLE)
    assert len(head.weights) == 2
    assert data.test.tolist() == start.data.test.tolist()
    plan = RetrainingConfig(epsilons=(0.1,), head=tmp_path / "head.npz")
    again, third, metrics = made(plan, faces, tiny_embedder)
    assert again.old.sha256 == head.sha256 and third.head.sha256 != head.sha256
    assert (metrics["hidden"], again.data.people) == (8, start.data.people)


def test_photographs_that_fail_are_in_no_set(many_faces, faces, tiny_embedder):
    start = prepare(PLAN, context_of(faces, tiny_embedder))
    for index in (start.data.train[0], start.data.test[0]):
        (many_faces / faces.keys[index]).write_bytes(b"no image")
    again = data.load_dataset(str(many_faces))
    _, retrained, metrics = made(PLAN, again, tiny_embedder)
    assert (metrics["test_images"], metrics["failed_images"]) == (5, 2)
    assert metrics["remarks"][1] == "2 photographs could not be cropped: in no set"
    assert metrics["after"]["adversarial_new_head"]["images"] == 10
    assert (retrained.clean, retrained.made) == (17, 34)
    assert np.isfinite(retrained.head.weights[0][0]).all()


def test_no_test_photograph_can_be_cropped(faces, tiny_embedder, monkeypatch):
    found = retraining.trained_head(
        faces, tiny_embedder, WHOLE, retraining.choose_photographs(faces, people=3), HeadSettings(steps=1)
    )
    broken = dataclasses.replace(found[1], test_ok=np.zeros(6, bool))
    monkeypatch.setattr(retraining, "trained_head", lambda *_: (found[0], broken))
    with pytest.raises(UserError, match="none of the 6 test photographs can be cropped by whole"):
        prepare(PLAN, context_of(faces, tiny_embedder))


class Killed(BaseException):
    """As good as a signal: nothing catches it."""


@pytest.mark.parametrize("last", ["train_head", "adversarial_vectors"])
def test_a_killed_run_ends_equal(faces, tiny_embedder, monkeypatch, last, cache, tmp_path_factory):
    plan = dataclasses.replace(PLAN, rounds=2)
    _, whole, expected = made(plan, faces, tiny_embedder)
    monkeypatch.setenv("TFFACE_CACHE", str(tmp_path_factory.mktemp("another")))
    module, at = (head_module, 3) if last == "train_head" else (retraining, 2)
    real, calls = getattr(module, last), []

    def dying(*given, **named):
        calls.append(last)
        if len(calls) == at:
            raise Killed
        return real(*given, **named)

    monkeypatch.setattr(module, last, dying)
    with pytest.raises(Killed):
        made(plan, faces, tiny_embedder)
    _, again, found = made(plan, faces, tiny_embedder)
    assert found == expected
    assert again.head.sha256 == whole.head.sha256
    # The old head and the first round's were on disk, and the second round's was begun twice.
    assert len(calls) == 4 or last == "adversarial_vectors"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adversarial_share": 1.0}, "`adversarial_share` 1 is outside 0"),
        ({"adversarial_share": -0.1}, "`adversarial_share` -0.1"),
        ({"adversarial_share": float("nan")}, "`adversarial_share` nan"),
        ({"epsilons": (0.1, 1.5)}, "`epsilons` 0.1, 1.5: give budgets from 0 to 1"),
        ({"epsilons": ()}, "`epsilons`"),
        ({"head": "head.npz", "photographs": 9}, "leave out `photographs`, or `head`"),
        ({"head": "head.npz", "hidden": 9}, "leave out `hidden`, or `head`"),
        ({"head": "head.npz", "validate": True}, "leave out `validate`, or `head`"),
    ],
)
def test_what_cannot_be_asked_for(options, said):
    with pytest.raises(UserError) as caught:
        RetrainingConfig(**{"epsilons": (0.1,), **options})
    assert said in str(caught.value)


def test_settings_decide_the_head_that_is_kept(faces, tiny_embedder):
    """Another seed, share or number of copies is another entry of the cache."""
    start = prepare(PLAN, context_of(faces, tiny_embedder))
    shas = {train_rounds(dataclasses.replace(PLAN, **change), start).head.sha256 for change in ({}, {"seed": 1})}
    shas |= {train_rounds(dataclasses.replace(PLAN, adversarial_share=0.3), start).head.sha256}
    fewer = dataclasses.replace(PLAN, copies=0)
    shas |= {train_rounds(fewer, prepare(fewer, context_of(faces, tiny_embedder))).head.sha256}
    assert len(shas) == 4
    assert isinstance(start.data, HeadData)
