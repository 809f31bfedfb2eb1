import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tfface.models._layers import UnitNorm
from tfface.training.checkpoints import Checkpoints, rank
from tfface.training.config import Hardening, Settings
from tfface.training.distiller import Distiller
from tfface.training.fitting import train
from tfface.training.validation import Score, Validation
from tfface.training.view_bank import EpochViews

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(epochs=6, batch_size=8, views=2, warmup=1, learning_rate=0.03, relation_weight=1.0)


@pytest.fixture
def validation():
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    return Validation(images, np.arange(15) % 2 == 0)


@pytest.fixture
def run(bank, network, validation, tmp_path):
    """Trains in a folder, from its checkpoint; returns what was kept."""

    def go(folder="work", settings=SETTINGS, judged=validation, **options):
        checkpoints = Checkpoints(tmp_path / folder, settings.record())
        batches = EpochViews(bank, views=settings.views, batch_size=settings.batch_size, seed=settings.seed)
        waited = []
        train(network(), batches, judged, checkpoints, settings, wait_for_view=waited.append, **options)
        return checkpoints, waited

    return go


def stop_at(epoch):
    """Stands for a kill in the middle of an epoch."""

    def check(history):
        if len(history) == epoch:
            raise KeyboardInterrupt

    return check


def test_a_killed_training_ends_as_an_undisturbed_one(run, network):
    whole, _ = run("whole")
    for epoch in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            run("killed", on_epoch=stop_at(epoch))
    again, _ = run("killed")
    assert again.epochs == 6
    assert again.history == whole.history
    assert again.best_epoch == whole.best_epoch
    first, second = network(), network(seed=1)
    whole.restore_best(first)
    again.restore_best(second)
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_small_views_first_and_the_students_own_after(bank, validation, tmp_path, monkeypatch):
    seen = []
    switch = Distiller.see_small
    monkeypatch.setattr(Distiller, "see_small", lambda self, on: (seen.append(on), switch(self, on=on))[1])
    settings = dataclasses.replace(SETTINGS, epochs=4, small_input=4, small_epochs=2)

    def pooling():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, activation="relu")(inputs))
        return keras.Model(inputs, UnitNorm()(keras.layers.Dense(4)(x)))

    def go(folder, **options):
        checkpoints = Checkpoints(tmp_path / folder, settings.record())
        batches = EpochViews(bank, views=2, batch_size=8, seed=0)
        train(pooling(), batches, validation, checkpoints, settings, wait_for_view=lambda number: None, **options)
        return checkpoints

    whole = go("whole")
    assert seen == [True, False]
    assert [record.get("small_input") for record in whole.history] == [4, 4, None, None]
    assert whole.best_epoch in (2, 3)
    for epoch in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            go("killed", on_epoch=stop_at(epoch))
    assert go("killed").history == whole.history
    assert seen == [True, False, True, True, False, False]


def test_a_run_without_small_views_is_recorded_as_before():
    assert "small_epochs" not in SETTINGS.record()
    assert dataclasses.replace(SETTINGS, small_input=4, small_epochs=2).record()["small_input"] == 4


def test_ordinary_runs_are_recorded_as_ever():
    """Or checkpoints and caches of earlier versions would be another run's."""
    bundled = json.loads((ROOT / "saved_models/deepface/lfw-distilled/metrics.json").read_text())["settings"]
    assert "hardening" not in bundled and "center_weight" not in bundled
    assert Settings(**bundled).record() == bundled


@pytest.mark.parametrize(
    "hardening", [Hardening(method="trades", epsilon=0.02, climb=1), Hardening(method="noise", sigma=0.1)]
)
def test_a_killed_hardening_ends_as_an_undisturbed_one(run, network, validation, hardening):
    settings = dataclasses.replace(SETTINGS, epochs=3, hardening=hardening)
    whole, _ = run("whole", settings)
    with pytest.raises(KeyboardInterrupt):
        run("killed", settings, on_epoch=stop_at(2))
    again, _ = run("killed", settings)
    assert again.history == whole.history and "hard_accuracy" in whole.history[0]
    assert again.run["hardening"] == hardening.record()


def test_auc_or_the_mean_of_plain_and_hard_accuracy_chooses():
    first, second = {"accuracy": 0.9, "hard_accuracy": 0.2}, {"accuracy": 0.8, "hard_accuracy": 0.4}
    assert rank(first) < rank(second) and rank({"accuracy": 0.7})[1] == 0.7
    assert rank({"accuracy": 0.9, "auc": 0.95}) < rank({"accuracy": 0.8, "auc": 0.96})
    assert rank({"accuracy": 0.9, "small_input": 48}) < rank({"accuracy": 0.6})


def test_a_finished_training_is_not_gone_on_with(run):
    first, waited = run()
    assert waited[0] == 0 and set(waited) == {0, 1}
    state = (first.folder / "state.json").read_text()
    _, waited = run()
    assert waited == []
    assert (first.folder / "state.json").read_text() == state


def test_it_waits_for_each_epochs_view_before_it_begins(run):
    _, waited = run(settings=dataclasses.replace(SETTINGS, epochs=2))
    assert waited == [0, 0, 1]  # once before anything is built


def test_only_the_last_and_the_best_weights_are_kept(run):
    checkpoints, _ = run()
    kept = sorted(path.name for path in checkpoints.folder.glob("*.npz"))
    assert kept == [f"best-{checkpoints.best_epoch:04d}.npz", "epoch-0005.npz"]


class Watching:
    """Keeps what each epoch is judged by; every one is as good."""

    def __init__(self, images):
        self.images, self.seen = images, []

    def score(self, embed):
        self.seen.append(embed(self.images))
        return Score(0.5, 0.4, 0.5)


def test_the_mean_of_the_weights_is_judged_and_kept(run, network, validation):
    """The first of equals is best: the mean of one epoch, which the trained weights went on from."""
    settings = dataclasses.replace(SETTINGS, average_epochs=3, rate_floor=0.5)
    judged = Watching(validation.images)
    whole, _ = run("whole", settings, judged)
    student = network()
    whole.restore_best(student)
    np.testing.assert_allclose(student(validation.images / np.float32(255)), judged.seen[0], atol=1e-5)
    plain = Watching(validation.images)
    run("plain", dataclasses.replace(settings, average_epochs=0), plain)
    np.testing.assert_allclose(plain.seen[0], judged.seen[0], atol=1e-5)
    assert np.abs(plain.seen[1] - judged.seen[1]).max() > 1e-3


def test_a_killed_averaging_ends_as_an_undisturbed_one(run, validation):
    settings = dataclasses.replace(SETTINGS, epochs=4, average_epochs=2)
    whole, killed = Watching(validation.images), Watching(validation.images)
    run("whole", settings, whole)
    with pytest.raises(KeyboardInterrupt):
        run("killed", settings, killed, on_epoch=stop_at(2))
    run("killed", settings, killed)
    np.testing.assert_array_equal(killed.seen, whole.seen)


class Scripted:
    """Scores as written down."""

    def __init__(self, *scores):
        self.scores = list(scores)

    def score(self, embed):
        # All one accuracy: the AUC chooses.
        return Score(0.5, 0.5, self.scores.pop(0))


def test_the_first_of_the_best_epochs_counts(run):
    checkpoints, _ = run(judged=Scripted(0.6, 0.8, 0.8, 0.7, 0.5, 0.8))
    assert checkpoints.best_epoch == 1


def test_stops_when_validation_no_longer_gains(run):
    """Best at the second epoch, two without a better one: stops after the fourth, and stays stopped."""
    settings = dataclasses.replace(SETTINGS, patience=2)
    checkpoints, _ = run(settings=settings, judged=Scripted(0.6, 0.8, 0.7, 0.75, 0.9, 0.9))
    assert (checkpoints.epochs, checkpoints.best_epoch, checkpoints.stopped) == (4, 1, True)
    again, waited = run(settings=settings, judged=Scripted())
    assert again.epochs == 4 and waited == []


def test_a_gain_at_the_last_moment_goes_on(run):
    settings = dataclasses.replace(SETTINGS, patience=2)
    checkpoints, _ = run(settings=settings, judged=Scripted(0.8, 0.7, 0.85, 0.84, 0.83, 0.82))
    assert (checkpoints.epochs, checkpoints.stopped) == (5, True)


def test_a_checkpoint_of_another_run(run, user_error):
    run(settings=dataclasses.replace(SETTINGS, epochs=1))
    with user_error(r"holds a checkpoint of another run \(epochs 1, not 6\): give another `work`"):
        run()


def test_a_damaged_checkpoint(run, user_error, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(on_epoch=stop_at(2))
    path = tmp_path / "work" / "epoch-0001.npz"
    path.write_bytes(path.read_bytes()[:500])
    with user_error("the checkpoint .*epoch-0001.npz is damaged: delete"):
        run()


def test_two_processes_in_one_folder(tmp_path, user_error):
    with (
        Checkpoints(tmp_path, {}).alone(),
        user_error("another process trains in .*: wait for it"),
        Checkpoints(tmp_path, {}).alone(),
    ):
        pass
