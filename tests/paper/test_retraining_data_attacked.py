"""Photographs under FGSM as embeddings: the attack's own images, made once, at any place where a run was killed."""

import dataclasses

import numpy as np
import pytest

from tfface.attacks._attack import run
from tfface.attacks.fgsm import FGSM
from tfface.attacks.pgd import PGD
from tfface.models._embedder import Embedder
from tfface.paper import retraining_data as tested
from tfface.paper.retraining_data import adversarial_vectors, attack_record, attacked_images, fgsm_images
from tfface.training.head import HeadSettings, train_head

EPSILONS = (0.02, 0.0, 0.2)
NAMES = tuple(f"person {number}" for number in range(7))
PHOTOGRAPHS = np.arange(0, 56, 2)
LABELS = PHOTOGRAPHS // 8


@pytest.fixture
def attacked(context):
    """The setting with a head of its seven people."""
    images, _ = context.crops(PHOTOGRAPHS)
    head = train_head(context.embedder.embed(images), LABELS, NAMES, settings=HeadSettings(steps=50))
    return dataclasses.replace(context, head=head)


def test_images_are_those_of_the_attack(attacked):
    images, _ = attacked.crops(PHOTOGRAPHS[:6])
    victim = attacked.victim("classify")
    made = fgsm_images(victim, images, LABELS[:6], EPSILONS)
    for place, epsilon in enumerate(EPSILONS):
        expected = run(FGSM(), victim, images, LABELS[:6], epsilon).images
        np.testing.assert_allclose(made[:, place], expected, atol=1e-6)
    np.testing.assert_array_equal(made[:, 1], images)


def test_pgds_images_are_those_of_the_attack(attacked):
    images, _ = attacked.crops(PHOTOGRAPHS[:6])
    victim, keys = attacked.victim("classify"), np.arange(6)
    made = attacked_images(victim, images, LABELS[:6], EPSILONS, name="pgd", keys=keys, seed=0)
    for place, epsilon in enumerate(EPSILONS):
        expected = run(PGD(steps=20), victim, images, LABELS[:6], epsilon, keys=keys).images
        np.testing.assert_allclose(made[:, place], expected, atol=1e-6)
    alone = attacked_images(victim, images[3:4], LABELS[3:4], EPSILONS, name="pgd", keys=keys[3:4], seed=0)
    np.testing.assert_allclose(alone[0], made[3], atol=1e-5)


def test_each_attack_is_kept_apart(attacked):
    first = adversarial_vectors(attacked, PHOTOGRAPHS[:8], LABELS[:8], (0.1,), label="attacking")
    second = adversarial_vectors(attacked, PHOTOGRAPHS[:8], LABELS[:8], (0.1,), label="attacking", name="pgd")
    assert np.abs(first - second).max() > 1e-3
    assert attack_record("fgsm") == "fgsm"  # as caches of FGSM have it
    assert attack_record("pgd")[1]["steps"] == 20


def test_embeddings_of_a_few_at_a_time(attacked, monkeypatch):
    monkeypatch.setattr(tested, "_BATCH", 8)
    found = adversarial_vectors(attacked, PHOTOGRAPHS, LABELS, EPSILONS, label="attacking")
    assert found.shape == (28, 3, 16)
    images, _ = attacked.crops(PHOTOGRAPHS)
    expected = attacked.embedder.embed(fgsm_images(attacked.victim("classify"), images, LABELS, EPSILONS)[:, 2])
    np.testing.assert_allclose(found[:, 2], expected, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], attacked.embedder.embed(images), atol=1e-5)


class Killed(BaseException):
    """As good as a signal: nothing catches it."""


def test_a_killed_run_goes_on(attacked, monkeypatch):
    monkeypatch.setattr(tested, "_BATCH", 8)
    calls: list[int] = []
    embed = Embedder.embed

    def dying(self, images):
        calls.append(len(images))
        if len(calls) == 7:
            raise Killed
        return embed(self, images)

    monkeypatch.setattr(Embedder, "embed", dying)
    arguments = (attacked, PHOTOGRAPHS, LABELS, EPSILONS)
    with pytest.raises(Killed):
        adversarial_vectors(*arguments, label="attacking")
    found = adversarial_vectors(*arguments, label="attacking")
    # 28 photographs are 4 batches of 3 epsilons; two were whole when the third died at its first.
    assert len(calls) == 7 + 2 * 3
    monkeypatch.setattr(Embedder, "embed", lambda *_: pytest.fail("embedded again"))
    np.testing.assert_array_equal(adversarial_vectors(*arguments, label="attacking"), found)


def test_another_head_is_attacked_anew(attacked):
    first = adversarial_vectors(attacked, PHOTOGRAPHS, LABELS, EPSILONS, label="attacking")
    weights = tuple((kernel[:, ::-1].copy(), bias[::-1].copy()) for kernel, bias in attacked.head.weights)
    other = dataclasses.replace(attacked, head=dataclasses.replace(attacked.head, weights=weights))
    second = adversarial_vectors(other, PHOTOGRAPHS, LABELS, EPSILONS, label="attacking")
    assert np.abs(first[:, 0] - second[:, 0]).max() > 1e-3
    np.testing.assert_allclose(first[:, 1], second[:, 1], atol=1e-6)
