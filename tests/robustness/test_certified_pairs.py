import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from tfface.data import Pairs, load_dataset
from tfface.errors import UserError
from tfface.preprocessing.images import recipe
from tfface.robustness import certified_pairs as module
from tfface.robustness.certified_checks import CertificateCheck, SmoothedVictim, check_certificates
from tfface.robustness.certified_pairs import (
    Smoothed,
    certificates_entry,
    certify_pairs,
    default_radii,
    noisy_distances,
)
from tfface.robustness.certify import _rows, curve, remarks
from tfface.robustness.pairs import by_noisy_fold, half_genuine
from tfface.robustness.smoothing import Certificate, Smoothing
from tfface.robustness.trial import Context

SMOOTHING = Smoothing(sigma=0.05, samples=60, guess=10, alpha=0.05)


@pytest.fixture
def smoothed(tiny_faces, tiny_embedder):
    return Smoothed(Context(load_dataset(str(tiny_faces)), tiny_embedder, recipe("whole")), SMOOTHING)


@pytest.fixture
def pairs(smoothed):
    return half_genuine(smoothed.context.dataset, 10)


def limits(pairs, value=0.2):
    return np.full(len(pairs), value)


def test_half_of_the_pairs_are_genuine(smoothed):
    drawn = half_genuine(smoothed.context.dataset, 7)
    assert drawn.same.tolist() == [True] * 4 + [False] * 3
    assert (half_genuine(smoothed.context.dataset, 7).first == drawn.first).all()


def test_clear_pairs_are_certified_and_ones_at_the_edge_abstain(smoothed, pairs):
    plain = smoothed.distances(pairs)
    sure = certify_pairs(smoothed, pairs, limits(pairs, 2.0))
    assert (sure.answers == 1).all()
    assert sure.radii == pytest.approx(np.full(len(pairs), SMOOTHING.largest))
    assert (certify_pairs(smoothed, pairs, limits(pairs, -1.0)).answers == 0).all()
    # At the median noisy distance half of the copies match.
    one = Pairs("one", pairs.first[:1], pairs.second[:1], pairs.same[:1], pairs.fold[:1])
    edge = certify_pairs(smoothed, one, np.array([_median(smoothed, one)]))
    assert edge.answers.tolist() == [-1] and edge.radii.tolist() == [0.0]
    np.testing.assert_array_equal(edge.distances, plain[:1])


def _median(smoothed, one):
    image = smoothed.context.crops(one.first)[0][0]
    copies = image + SMOOTHING.sigma * np.random.default_rng(9).standard_normal((500, *image.shape), np.float32)
    return float(np.median(1 - smoothed.context.embedder.embed(copies) @ smoothed.embeddings.vectors[one.second[0]]))


def test_a_pairs_certificate_is_its_own(smoothed, pairs):
    """Whatever else is certified; and photographs are what it says, the first one noisy, the second as it is."""
    whole = certify_pairs(smoothed, pairs, limits(pairs))
    few = Pairs("few", *(getattr(pairs, name)[3:5] for name in ("first", "second", "same", "fold")))
    assert certify_pairs(smoothed, few, limits(few)).certificates == whole.certificates[3:5]


def test_a_killed_run_goes_on(smoothed, pairs, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_ROWS", 4)
    counted = []
    count = module.count_votes

    def counting(*arguments, **options):
        counted.append(options["key"])
        if len(counted) == 6:
            raise KeyboardInterrupt
        return count(*arguments, **options)

    monkeypatch.setattr(module, "count_votes", counting)
    with pytest.raises(KeyboardInterrupt):
        certify_pairs(smoothed, pairs, limits(pairs))
    certify_pairs(smoothed, pairs, limits(pairs))
    assert len(counted) == 6 + 6  # the four of the first shard are not asked again
    # Counts know no confidence: another alpha asks nothing anew.
    loose = dataclasses.replace(smoothed, smoothing=dataclasses.replace(SMOOTHING, alpha=0.2))
    assert (
        certify_pairs(loose, pairs, limits(pairs)).radii >= certify_pairs(smoothed, pairs, limits(pairs)).radii
    ).all()
    assert len(counted) == 12


def test_photographs_that_fail_are_not_certified(smoothed, pairs, monkeypatch):
    found = smoothed.embeddings
    ok = found.ok.copy()
    ok[pairs.first[0]] = False
    monkeypatch.setitem(smoothed.__dict__, "embeddings", dataclasses.replace(found, ok=ok))
    certified = certify_pairs(smoothed, pairs, limits(pairs, 2.0))
    bad = (pairs.first == pairs.first[0]) | (pairs.second == pairs.first[0])
    assert (certified.usable == ~bad).all()
    entry = certificates_entry(certified, SMOOTHING, [0.0], 32 * 32 * 3)
    assert entry["failed_crops"] == bad.sum()
    assert entry["certified"][0]["genuine"]["count"] == (pairs.same & ~bad).sum()
    assert next(_rows(smoothed.context, certified))[5] == "failed"


def test_thresholds_come_from_noisy_copies_of_the_other_folds(smoothed):
    """Two folds of one genuine and one impostor pair: each takes the best threshold of the other."""
    drawn = half_genuine(smoothed.context.dataset, 4)
    listed = Pairs("listed", drawn.first, drawn.second, drawn.same, np.array([0, 1, 0, 1]))
    noisy = noisy_distances(smoothed, listed)
    assert np.abs(noisy - smoothed.distances(listed)).max() > 1e-3
    threshold = by_noisy_fold(smoothed.context, listed, noisy)
    for fold, other in ((0, 1), (1, 0)):
        genuine, impostor = (noisy[(listed.fold == other) & (listed.same == same)] for same in (True, False))
        if genuine < impostor:
            assert genuine <= threshold.by_fold[fold] < impostor
    with pytest.raises(UserError, match="has one fold only"):
        by_noisy_fold(smoothed.context, drawn, noisy)


def made_up(same, certificates, usable=None):
    count = len(same)
    pairs = Pairs("made up", np.zeros(count, int), np.ones(count, int), np.array(same), np.zeros(count, int))
    usable = np.ones(count, bool) if usable is None else np.array(usable)
    return module.Certified(pairs, np.full(count, 0.5), usable, np.where(same, 0.4, 0.6), certificates)


def test_certified_accuracy():
    """Of four genuine pairs one is certified to 0.3, one to 0.1, one wrongly to 0.3, one abstains."""
    certificates = [
        Certificate(True, 0.99, 0.3),
        Certificate(True, 0.8, 0.1),
        Certificate(False, 0.99, 0.3),
        Certificate(None, 0.5, 0.0),
        Certificate(False, 0.9, 0.2),
    ]
    certified = made_up([True] * 4 + [False], certificates)
    entry = certificates_entry(certified, SMOOTHING, [0.0, 0.2, 0.3], 75)
    values = [(one["genuine"]["value"], one["impostor"]["value"]) for one in entry["certified"]]
    assert values == [(0.5, 1.0), (0.25, 1.0), (0.25, 0.0)]
    assert [one["accuracy"]["value"] for one in entry["certified"]] == [0.75, 0.625, 0.125]
    assert entry["certified"][1]["rms255"] == pytest.approx(255 * 0.2 / 75**0.5)
    assert (entry["abstained"], entry["without_noise"]["accuracy"]["value"]) == (1, 1.0)
    assert entry["median_radius"] == {"genuine": pytest.approx(0.2), "impostor": 0.2}
    np.testing.assert_array_equal(curve(certified, True, np.array([0.0, 0.2, 0.3, 0.4])), [0.5, 0.25, 0.25, 0.0])


def test_people_it_was_trained_on_are_told(smoothed, pairs):
    certified = certify_pairs(smoothed, pairs, limits(pairs))
    shown = {smoothed.context.dataset.identities[index] for index in np.concatenate([pairs.first, pairs.second])}
    preset = smoothed.context.embedder.preset
    assert remarks(smoothed.context, certified) == []
    known = dataclasses.replace(preset, identities_seen=frozenset([min(shown), "somebody else"]))
    embedder = dataclasses.replace(smoothed.context.embedder, preset=known)
    (said,) = remarks(dataclasses.replace(smoothed.context, embedder=embedder), certified)
    assert f"trained on 1 of the {len(shown)} people of these pairs" in said


def test_default_radii_end_at_what_can_be_proved():
    """60 samples at alpha 0.05: 0.05^(1/60) = 0.9513, 1.658 sigma."""
    assert SMOOTHING.largest == pytest.approx(1.658 * 0.05, rel=1e-3)
    assert default_radii(SMOOTHING) == pytest.approx((0, 0.0125, 0.025, 0.05, 0.075))


def test_certificates_hold_and_the_attack_is_no_sham(smoothed, pairs):
    """At the radius nothing may break; at 40 times it, answers turn."""
    certified = certify_pairs(smoothed, pairs, limits(pairs))
    assert (certified.answers >= 0).sum() >= 8
    inside, beyond = check_certificates(smoothed, certified, 20, factors=(1.0, 40.0), steps=5, draws=8)
    assert inside.attacked == (certified.answers >= 0).sum()
    assert inside.broken <= inside.most and inside.held >= inside.attacked - 2
    assert beyond.broken >= beyond.attacked / 2


def test_only_certified_pairs_are_attacked(smoothed):
    nothing = made_up([True], [Certificate(None, 0.5, 0.0)])
    with pytest.raises(UserError, match="none got a certificate"):
        check_certificates(smoothed, nothing, 5)


def test_what_chance_allows():
    """1,000 pairs at alpha 0.001, certificate and judgement: 2 on average, up to 6 in 99 of a hundred."""
    assert CertificateCheck(1.0, 1000, 990, 10, 0, 0.001).most == 6
    assert CertificateCheck(1.0, 200, 200, 0, 0, 0.001).most == 2


def test_the_victim_sees_the_mean_of_fresh_copies(tiny_embedder):
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    victim = SmoothedVictim(tiny_embedder.model, "dodging", sigma=0.1, draws=200)
    first, second = victim.outputs(images).numpy(), victim.outputs(images).numpy()
    assert not np.array_equal(first, second)
    victim.restart()
    np.testing.assert_array_equal(victim.outputs(images).numpy(), first)
    noise = 0.1 * np.random.default_rng(1).standard_normal((500, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(first[0], tiny_embedder.embed(images[0] + noise).mean(axis=0), atol=0.02)
    still = SmoothedVictim(tiny_embedder.model, "dodging", sigma=0.0, draws=3)
    np.testing.assert_allclose(still.outputs(images), tiny_embedder.embed(images), atol=1e-6)


def test_smoothing_is_of_the_first_photograph_alone(smoothed, pairs, monkeypatch):
    asked = []
    embedder = SimpleNamespace(
        embed=lambda images: (asked.append(images), smoothed.context.embedder.embed(images))[1],
        **{
            name: getattr(smoothed.context.embedder, name)
            for name in ("preset", "sha256", "model", "fingerprint", "defense_record", "defense")
        },
    )
    smoothed.embeddings  # noqa: B018 of the photographs as they are, before
    certify_pairs(
        dataclasses.replace(smoothed, context=dataclasses.replace(smoothed.context, embedder=embedder)),
        Pairs("x", *(getattr(pairs, n)[:1] for n in ("first", "second", "same", "fold"))),
        np.array([0.2]),
    )
    clean = smoothed.context.crops(pairs.first[:1])[0]
    noise = np.concatenate(asked[-2:]) - clean
    assert noise.std() == pytest.approx(SMOOTHING.sigma, rel=0.03)
