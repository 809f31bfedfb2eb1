"""Trials in batches: judged anew here, resumed after a kill, the same whatever else is attacked."""

import dataclasses

import numpy as np
import pytest

from tfface import data
from tfface.attacks._quantization import quantized
from tfface.attacks.pgd import PGD
from tfface.metrics.distances import cosine_distance
from tfface.robustness import run as running
from tfface.robustness import trial as trials
from tfface.robustness.results import pair_distances
from tfface.robustness.run import attack_batch, run_trial
from tfface.robustness.trial import ImageFormat, Subjects, TrialResults, TrialStore

ARRAYS = ("clean", "epsilon", "success", "margin", "change")


def same(one: TrialResults, two: TrialResults) -> None:
    assert one.failed == two.failed
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(trials, "BATCH", 4)
    monkeypatch.setattr(trials, "SEARCH_BATCH", 4)


@pytest.mark.parametrize("goal", ["dodging", "impersonation"])
def test_what_is_stored_is_what_the_model_says(trial, goal, tiny_embedder):
    """From the pictures of a run, judged by the embedder alone, without the attacks' own judging."""
    made = trial(goal, count=8, context={"stored": ImageFormat("8-bit")}, pictures=True)
    found = run_trial(made)
    table = next(TrialStore(made).tables())
    subjects, crops = made.subjects, made.context.crops
    clean, references = (crops(part)[0] for part in (subjects.first, subjects.second))
    fixed = tiny_embedder.embed(references)
    before = cosine_distance(tiny_embedder.embed(quantized(clean)), fixed)
    np.testing.assert_allclose(pair_distances(made, found.clean), before, atol=1e-6)
    assert (found.already_wrong == ((before > 0.1) == (goal == "dodging"))).all()
    assert found.attacked.any(), "otherwise nothing below is tested"
    for number in np.flatnonzero(found.attacked):
        images = np.stack([data_of(png) for png in table["png"].to_pylist()[number]])
        after = cosine_distance(tiny_embedder.embed(images), np.repeat(fixed[number][None], 2, axis=0))
        np.testing.assert_allclose(pair_distances(made, found.margin)[number], after, atol=1e-5)
        assert (found.success[number] == ((after > 0.1) == (goal == "dodging"))).all()
        change = np.abs(images - clean[number]).max(axis=(1, 2, 3))
        assert (change <= np.array([0.02, 0.2]) + 0.5 / 255 + 1e-6).all()
        np.testing.assert_allclose(found.change[number], change, atol=1e-6)


def data_of(png: bytes) -> np.ndarray:
    from tfface.preprocessing.decoding import decode

    return decode(png).astype(np.float32) / 255


@pytest.mark.parametrize("epsilons", [(0.02, 0.2), ()])
def test_a_killed_run_goes_on_and_ends_the_same(trial, small_batches, cache, monkeypatch, tmp_path, epsilons):
    made = trial(count=11, epsilons=epsilons, attack=PGD(steps=3), pictures=True)
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return attack_batch(*arguments)

    monkeypatch.setattr(running, "attack_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        run_trial(made)
    resumed = run_trial(made)
    assert len(calls) == 4, "of three batches the first was not attacked again"
    pictures = [table.to_pylist() for table in TrialStore(made).tables()]
    monkeypatch.setenv("TFFACE_CACHE", str(tmp_path / "other"))
    same(resumed, run_trial(made))
    assert pictures == [table.to_pylist() for table in TrialStore(made).tables()]


def test_a_second_run_needs_no_model(trial, monkeypatch):
    first = run_trial(trial())
    monkeypatch.setattr(running, "attack_batch", lambda *_: pytest.fail("attacked again"))
    again = trial(
        context={"embedder": dataclasses.replace(trial().context.embedder, build=lambda: pytest.fail("built"))}
    )
    same(first, run_trial(again))


def test_what_else_is_attacked_leaves_no_trace(trial):
    """A random attack on a pair gives the same, alone or among others."""
    made = trial(count=9, attack=PGD(steps=2))
    found = run_trial(made)
    alone = dataclasses.replace(
        made, subjects=dataclasses.replace(made.subjects, **{name: getattr(made.subjects, name)[4:5] for name in PARTS})
    )
    np.testing.assert_allclose(run_trial(alone).margin[0], found.margin[4], atol=1e-5)
    other = dataclasses.replace(made, context=dataclasses.replace(made.context, seed=1))
    assert not np.allclose(run_trial(other).margin, found.margin, atol=1e-5, equal_nan=True)


PARTS = ("first", "second", "limits")


@pytest.mark.parametrize(
    "change",
    [
        {"epsilons": (0.02,)},
        {"epsilons": ()},
        {"pictures": True},
        {"limit": 0.11},
        {"count": 5},
        {"attack": PGD()},
        {"goal": "impersonation"},
        {"context": {"seed": 1}},
        {"context": {"stored": ImageFormat("8-bit")}},
    ],
    ids=str,
)
def test_the_fingerprint_holds_all_that_matters(trial, change):
    assert trial().fingerprint() == trial().fingerprint()
    assert trial(**change).fingerprint() != trial().fingerprint()


def test_the_smallest_epsilon_succeeds(trial):
    found = run_trial(trial("impersonation", limit=0.05, epsilons=(), count=4))
    assert found.attacked.any()
    assert found.success[found.attacked].all()
    assert ((found.epsilon > 0) & (found.epsilon < 1))[found.attacked].all()
    assert (found.margin[found.attacked] >= 0).all()
    assert (found.change <= found.epsilon + 1e-6)[found.attacked].all()


def test_a_photograph_that_cannot_be_cropped(many_faces, trial, context):
    (many_faces / "person 0" / "0.png").write_bytes(b"no image")
    broken = data.load_dataset(str(many_faces))
    made = trial(context={"dataset": broken})
    subjects = Subjects("dodging", "mine", np.array([0, 1, 2]), np.array([1, 0, 3]), limits=np.full(3, 0.1))
    found = run_trial(dataclasses.replace(made, subjects=subjects))
    assert [bool(reason) for reason in found.failed] == [True, True, False]
    assert found.failed[0] == "is no image that can be read"
    assert found.attacked.tolist()[:2] == [False, False]
    only = dataclasses.replace(made, subjects=Subjects("dodging", "mine", *[np.array([0])] * 2, limits=np.array([0.1])))
    assert not run_trial(only).cropped.any()


def test_an_attack_through_the_model_itself_is_the_attack(trial, context):
    """What transfers from a surrogate that is the victim is everything."""
    made = trial(count=5)
    transferred = trial(count=5, context={"surrogate": context.embedder})
    assert transferred.fingerprint() != made.fingerprint()
    np.testing.assert_allclose(run_trial(transferred).margin, run_trial(made).margin, atol=1e-6)


def test_a_poisoned_subject_is_reported_and_the_others_are_attacked(
    trial, small_batches, giving_up, monkeypatch, capsys
):
    made = trial(count=6)
    undisturbed = run_trial(made)
    poisoned = dataclasses.replace(made, epsilons=(0.02,))
    crops, poison = type(made.context.crops).__call__, int(made.subjects.first[2])

    def read(self, indices):
        if poison in indices:
            raise BufferError("poisoned")
        return crops(self, indices)

    monkeypatch.setattr(type(made.context.crops), "__call__", read)
    touched = [number for number in range(6) if poison in (made.subjects.first[number], made.subjects.second[number])]
    found = run_trial(poisoned, executor=giving_up())
    assert [number for number, reason in enumerate(found.failed) if reason] == touched
    assert found.failed[2] == "poisoned"
    others = np.setdiff1d(np.arange(6), touched)
    np.testing.assert_array_equal(found.success[others, 0], undisturbed.success[others, 0])
    np.testing.assert_allclose(found.margin[others, 0], undisturbed.margin[others, 0], atol=1e-6)
    assert capsys.readouterr().err.splitlines() == [f"tfface: row {number} is given up: poisoned" for number in touched]


def test_a_setting_travels_without_its_networks(trial):
    context = trial().context
    context.victim("dodging")
    _ = context.crops
    state = context.__getstate__()
    assert state.keys() == {field.name for field in dataclasses.fields(context)}
