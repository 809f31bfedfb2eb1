"""Attacks as they are called: an embedder or a function, images, a criterion with its data, a budget."""

import dataclasses

import numpy as np
import pytest

from tfface import attacks, criteria, defenses
from tfface.attacks._attack import run
from tfface.attacks._minimal import search_minimal
from tfface.attacks._victim import Victim
from tfface.errors import UserError


@pytest.fixture
def photographs(tiny_embedder):
    """(4, S, S, 3), and references whose distance to them is a little below 0.5."""
    size = tiny_embedder.preset.input_size
    random = np.random.default_rng(0)
    images = random.uniform(0.2, 0.8, (4, size, size, 3)).astype(np.float32)
    return images, np.clip(images + random.normal(0, 0.02, images.shape), 0, 1).astype(np.float32)


def limits(embedder, photographs, factor=1.5):
    one, two = map(embedder.embed, photographs)
    return factor * (1 - (one * two).sum(axis=1))


def test_a_call_is_a_run(tiny_embedder, photographs):
    images, references = photographs
    threshold = limits(tiny_embedder, photographs)
    goal = criteria.Dodging(references, threshold=threshold)
    found = attacks.PGD(steps=3)(tiny_embedder, images, goal, epsilon=0.05, seed=2)
    victim = Victim(tiny_embedder.model, criteria.Dodging())
    expected = run(attacks.PGD(steps=3), victim, images, victim.targets(references, threshold), 0.05, seed=2)
    np.testing.assert_allclose(found.images, expected.images, atol=1e-6)
    np.testing.assert_array_equal(found.success, expected.success)
    by_model = attacks.PGD(steps=3)(tiny_embedder.model, images, goal, 0.05, seed=2)
    np.testing.assert_allclose(by_model.margin, found.margin, atol=1e-6)


def test_references_may_be_embeddings(tiny_embedder, photographs):
    images, references = photographs
    threshold = limits(tiny_embedder, photographs)
    vectors = 3.0 * tiny_embedder.embed(references)  # of any length
    one, two = (
        attacks.FGSM()(tiny_embedder, images, criteria.Dodging(given, threshold=threshold), 0.02)
        for given in (references, vectors)
    )
    np.testing.assert_allclose(one.margin, two.margin, atol=1e-5)


def test_the_threshold_is_in_the_presets_metric(tiny_embedder, photographs):
    """A Euclidean distance d of unit vectors is a cosine distance of d^2 / 2."""
    images, references = photographs
    euclidean = dataclasses.replace(tiny_embedder, preset=dataclasses.replace(tiny_embedder.preset, metric="euclidean"))
    one = attacks.FGSM()(tiny_embedder, images, criteria.Impersonation(references, threshold=0.02), 0.01)
    two = attacks.FGSM()(euclidean, images, criteria.Impersonation(references, threshold=0.2), 0.01)
    np.testing.assert_allclose(one.margin, two.margin, atol=1e-6)


def test_the_smallest_epsilon_is_an_array(tiny_embedder, photographs):
    images, references = photographs
    threshold = limits(tiny_embedder, photographs)
    goal = criteria.Dodging(references, threshold=threshold)
    found = attacks.minimal_epsilon(attacks.BIM(steps=3), tiny_embedder, images, goal, tolerance=1e-3)
    victim = Victim(tiny_embedder.model, criteria.Dodging())
    expected = search_minimal(
        attacks.BIM(steps=3), victim, images, victim.targets(references, threshold), tolerance=1e-3
    )
    np.testing.assert_array_equal(np.asarray(found), expected.epsilon)
    assert len(found) == 4 and found.success.all() and np.median(found) < 1


def test_a_function_is_attacked_by_its_answers(tiny_embedder, photographs):
    images, references = photographs
    goal = criteria.Dodging(references, threshold=limits(tiny_embedder, photographs, 1.05))
    seen = []

    def answer(batch):
        seen.append(len(batch))
        return tiny_embedder.embed(batch)

    by_function = attacks.Square(queries=20)(answer, images, goal, 0.1)
    by_model = attacks.Square(queries=20)(tiny_embedder, images, goal, 0.1)
    np.testing.assert_array_equal(by_function.success, by_model.success)
    assert seen
    with pytest.raises(
        UserError, match="PGD follows gradients, and answer gives none: take Square, or Transfer"
    ) as error:
        attacks.PGD()(answer, images, goal, 0.1)
    assert error.value.parameter == "embedder"
    through = attacks.Transfer(inner=attacks.PGD(steps=3), surrogate=tiny_embedder)(answer, images, goal, 0.1)
    assert through.success.mean() >= by_function.success.mean()
    with pytest.raises(UserError, match="`surrogate` gives no gradients"):
        attacks.Transfer(inner=attacks.PGD(), surrogate=answer)(tiny_embedder, images, goal, 0.1)


def test_a_defended_model_is_attacked_through_its_defense(tiny_embedder, photographs):
    images, references = photographs
    defended = defenses.apply(tiny_embedder, "noise:sigma=0.05,copies=2", ["median"])
    assert [text.split(":")[0] for text in defended.defense] == ["noise", "median"]
    goal = criteria.Dodging(references, threshold=limits(defended, photographs))
    found = attacks.FGSM()(defended, images, goal, 0.2)
    distance = 1 - (defended.embed(found.images) * defended.embed(references)).sum(axis=1)
    np.testing.assert_array_equal(found.success, distance > limits(defended, photographs))


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (lambda: criteria.Dodging(), "no `references`"),
        (lambda: criteria.Dodging(np.zeros((4, 32, 32, 3), np.float32)), "needs the `threshold`"),
        (lambda: criteria.Misclassification(), "no `labels`"),
        (lambda: criteria.Dodging(np.ones((3, 16), np.float32), threshold=0.5), "3 targets for 4 images"),
    ],
)
def test_a_criterion_without_its_data(tiny_embedder, photographs, goal, message):
    with pytest.raises(UserError, match=message):
        attacks.FGSM()(tiny_embedder, photographs[0], goal(), 0.1)


def test_an_unknown_attack_lists_near_ones():
    with pytest.raises(AttributeError, match="near names: PGD"):
        attacks.PDG  # noqa: B018
    assert {"PGD", "FGSM", "minimal_epsilon"} <= set(dir(attacks))
