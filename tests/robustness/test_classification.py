"""Heads, and whether what fools them still passes the similarity test, by hand."""

import dataclasses

import numpy as np
import pytest

from tfface.attacks.fgsm import FGSM
from tfface.errors import UserError
from tfface.preprocessing.images import recipe
from tfface.robustness.classification import HeadConfig, Similarity, saved_head, trained_head
from tfface.robustness.experiment import ExperimentConfig, head_subjects, prepare
from tfface.robustness.trial import Context
from tfface.training import head as head_module
from tfface.training.head import Head, HeadSettings
from tfface.training.head_data import HeadData, HeadVectors, head_data

WHOLE = recipe("whole")
X, Y, Z = np.eye(3, dtype=np.float32)
YES = np.ones(2, bool)


@pytest.fixture
def by_hand(faces):
    """Person 0 trains with x and y, tests with photograph 2; person 1 trains with z alone (another failed)."""
    data = HeadData(("person 0", "person 1"), np.array([0, 1, 8, 9]), np.array([2, 10]), np.array([], int), 0)
    ok = np.array([True, True, True, False])
    vectors = HeadVectors(np.stack([X, Y, Z, X]), np.zeros((0, 3)), np.stack([X, Z]), ok, np.ones(0, bool), YES)
    return Similarity(faces, data, vectors, 0.5, "cosine")


def test_pairs_and_medians_by_hand(by_hand):
    """x to person 0's x and y: 0 and 1, median 0.5, which matches at 0.5; -x to them: 2 and 1; z to person 1's z: 0."""
    entry = by_hand.entry(np.array([2, 2, 10]), np.stack([X, -X, Z]))
    assert (entry["images"], entry["pairs"]) == (3, 5)
    assert entry["pairs_matched"] == pytest.approx(2 / 5)
    assert entry["images_matched"] == pytest.approx(2 / 3)
    assert entry["median_distance"] == pytest.approx(0.5)
    assert by_hand.entry(np.zeros(0, int), np.zeros((0, 3))) is None
    assert by_hand.typical(2) == 1, "of two photographs the farther is the upper median"
    np.testing.assert_array_equal(by_hand.clean_vectors(np.array([10, 2])), [Z, X])


def test_a_trained_head_is_kept(faces, tiny_embedder, monkeypatch):
    data = head_data(faces, photographs=8)
    settings = HeadSettings(steps=40)
    head, vectors = trained_head(faces, tiny_embedder, WHOLE, data, settings)
    assert head.facts["test"] == [faces.keys[index] for index in data.test]
    assert head.facts["weights_sha256"] == tiny_embedder.sha256
    assert (head.logits(vectors.test).argmax(axis=1) == data.labels(faces, data.test)).mean() > 0.8
    monkeypatch.setattr(head_module, "train_head", lambda *_, **__: pytest.fail("trained again"))
    assert trained_head(faces, tiny_embedder, WHOLE, data, settings)[0].sha256 == head.sha256


@pytest.fixture
def experiment(faces, tiny_embedder):
    plan = ExperimentConfig(
        [("fgsm", FGSM())], ["classify"], (0.02, 0.3), head=HeadConfig(None, 8, HeadSettings(steps=100)), threshold=0.05
    )
    return prepare(plan, Context(faces, tiny_embedder, WHOLE))


def test_a_head_under_attack(experiment, tiny_embedder):
    """Whom it sees and what matches, from the kept embeddings, without the attack's judging."""
    ((trial, rows, entry),) = experiment.run()
    assert entry["head"]["people"] == [f"person {number}" for number in range(6)]
    assert (entry["head"]["train"], entry["head"]["test"], entry["head"]["copies"]) == (36, 12, 0)
    subjects, head = trial.subjects, experiment.context.head
    fooled = head.logits(rows.vectors[:, 1]).argmax(axis=1) != subjects.labels
    assert (rows.success[rows.attacked, 1] == fooled[rows.attacked]).all()
    assert rows.attacked.sum() + rows.already_wrong.sum() == 12
    assert entry["clean"]["error_rate"] == rows.already_wrong.sum() / 12
    images, _ = experiment.context.crops(subjects.first)
    clean, by_epsilon = entry["clean"]["similarity"], [result["similarity"] for result in entry["results"]]
    expected = [
        similar(experiment, index, tiny_embedder.embed(images[[place]])[0]) for place, index in attacked(rows, subjects)
    ]
    assert clean["images_matched"] == pytest.approx(np.mean(expected))
    assert (by_epsilon[1] or {"images": 0})["images"] == rows.success[rows.attacked, 1].sum()


def attacked(rows, subjects):
    return [(place, subjects.first[place]) for place in np.flatnonzero(rows.attacked)]


def similar(experiment, index, vector) -> bool:
    """Whether the median distance to the same person's training photographs is at most the threshold."""
    dataset, data, vectors = experiment.context.dataset, experiment.similarity.data, experiment.similarity.vectors
    own = [dataset.identities[other] == dataset.identities[index] for other in data.train]
    return np.median(1 - vectors.train[own] @ vector) <= 0.05


def test_so_many_test_photographs_of_mixed_people(faces):
    data = head_data(faces)
    every, few = (head_subjects(faces, data, count, seed=0) for count in (None, 5))
    assert sorted(every.first) == data.test.tolist()
    assert few.first.tolist() == every.first[:5].tolist() != data.test[:5].tolist()
    assert (every.labels == data.labels(faces, every.first)).all()


def test_a_head_from_a_file(experiment, faces, tiny_embedder, tmp_path):
    head = experiment.context.head
    head.save(tmp_path / "head.npz")
    plan = ExperimentConfig(
        [("fgsm", FGSM())], ["classify"], (0.02,), head=HeadConfig(tmp_path / "head.npz"), threshold=0.05
    )
    again = prepare(plan, Context(faces, tiny_embedder, WHOLE))
    assert again.context.head.sha256 == head.sha256
    assert sorted(again.trials[0].subjects.first) == sorted(experiment.trials[0].subjects.first)


def test_a_head_for_others_is_refused(experiment, faces, tiny_embedder, tmp_path):
    path = tmp_path / "head.npz"
    head = experiment.context.head
    head.save(path)
    other = dataclasses.replace(tiny_embedder, sha256="1" * 64)
    with pytest.raises(UserError, match=r"is a head on tiny/random \(00000000, whole\), not on tiny/random \(11111111"):
        saved_head(path, faces, other, WHOLE)
    with pytest.raises(UserError, match="center-140"):
        saved_head(path, faces, tiny_embedder, recipe("center-140"))
    people = faces.take(np.arange(20), "some")
    with pytest.raises(
        UserError, match=r"tells apart person 0, .* has no person 3: give the `dataset` folder:many faces"
    ):
        saved_head(path, people, tiny_embedder, WHOLE)
    Head(head.people, head.weights, {**head.facts, "test": ["person 0/gone.png"]}).save(path)
    with pytest.raises(UserError, match=r"has no image 'person 0/gone\.png'"):
        saved_head(path, faces, tiny_embedder, WHOLE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goals": ["clasify"]}, "unknown goal 'clasify'.*valid: classify, dodging, impersonation"),
        ({"threshold": 0.2, "far": 0.1}, "give one of them"),
        ({"fold_thresholds": True}, "`goal` classify has none"),
        ({"protocol": "view2"}, "not pairs: leave out `pairs` and `protocol`"),
        ({"goals": ["dodging"], "head": HeadConfig("x")}, "`head` is for `goal` classify"),
    ],
)
def test_what_cannot_be_asked_together(changes, message):
    from tfface.robustness.experiment import check_goals

    with pytest.raises(UserError, match=message):
        check_goals(ExperimentConfig(**{"attacks": [], "goals": ["classify"], **changes}))
