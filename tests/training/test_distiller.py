import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tfface.errors import UserError
from tfface.models._layers import UnitNorm
from tfface.training import losses
from tfface.training.config import Settings
from tfface.training.distiller import Distiller, WeightAverage, adamw
from tfface.training.fitting import compiled
from tfface.training.view_bank import EpochViews

SMALL = Settings(epochs=40, batch_size=8, views=2, warmup=1, learning_rate=0.03, relation_weight=1.0)


def test_it_learns_its_teachers_answers(bank, network):
    distiller = compiled(network(), SMALL, steps_per_epoch=2)
    history = distiller.fit(EpochViews(bank, views=1, batch_size=8, seed=0), epochs=40, verbose=0).history
    assert history["cosine"][0] < 0.5
    assert history["cosine"][-1] > 0.9
    assert history["loss"][-1] < history["loss"][0] / 3


def test_the_loss_is_the_weighted_sum(network):
    """Teacher (1, 0), (0, 1); student (1, 0), (1, 0): pull 0.5, relation 1."""
    teacher, student = np.eye(2, dtype="float32"), np.array([[1, 0], [1, 0]], "float32")
    distiller = Distiller(network(dimension=2), relation_weight=3.0)
    assert float(distiller.compute_loss(y=2 * teacher, y_pred=student)) == pytest.approx(0.5 + 3.0)
    assert float(distiller.cosine.result()) == pytest.approx(0.5)


def test_views_are_bytes_of_any_size(network):
    student = network()
    distiller = Distiller(student)
    views = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    expected = np.asarray(student(views.astype("float32") / 255))
    np.testing.assert_allclose(distiller(views), expected, atol=1e-6)
    # Each pixel twice: scaled down, antialiased, it is the smaller picture but for the filter's reach.
    flat = np.broadcast_to(views[:, :1, :1], (3, 16, 16, 3))
    np.testing.assert_allclose(distiller(flat), student(flat[:, :8, :8].astype("float32") / 255), atol=1e-5)


def test_the_teacher_is_no_part_of_it(network):
    student = network()
    assert len(Distiller(student).trainable_variables) == len(student.trainable_variables)


def test_hints_are_foretold_in_training_alone(network):
    """The teacher's answers are 4 values and 6 hints; what foretells those is learned beside the student."""
    student = network()
    distiller = Distiller(student, relation_weight=0.0, hint_weight=2.0, hints=6)
    assert len(distiller.trainable_variables) == len(student.trainable_variables) + 1
    random = np.random.default_rng(0)
    views = random.integers(0, 256, (3, 8, 8, 3), np.uint8)
    embeddings, foretold = distiller(views, training=True)
    assert (embeddings.shape, foretold.shape) == ((3, 4), (3, 6))
    own = np.asarray(student(views.astype("float32") / 255))
    np.testing.assert_allclose(distiller(views), own, atol=1e-6)
    answers = np.hstack([own, random.standard_normal((3, 6))]).astype("float32")
    loss = float(distiller.compute_loss(y=answers, y_pred=(own, foretold)))
    assert loss == pytest.approx(2.0 * float(losses.hint(foretold, answers[:, 4:])), abs=1e-5)


def test_hints_are_learned(hinted_bank, network):
    settings = dataclasses.replace(SMALL, hint_weight=1.0)
    distiller = compiled(network(), settings, steps_per_epoch=2, hints=hinted_bank.hints)
    history = distiller.fit(EpochViews(hinted_bank, views=1, batch_size=8, seed=0), epochs=40, verbose=0).history
    assert history["cosine"][-1] > 0.9
    assert history["loss"][-1] < history["loss"][0] / 3


def test_a_network_without_features_gives_no_hints():
    inputs = keras.Input((8, 8, 3))
    student = keras.Model(inputs, UnitNorm()(keras.layers.Flatten()(inputs)), name="bare")
    with pytest.raises(UserError, match="bare has no dense layer whose input would be a hint: leave out `hint_weight`"):
        Distiller(student, hint_weight=1.0, hints=3)


def pooling_network(size: int = 8) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3)(inputs))
    x = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, UnitNorm()(x))


def test_early_steps_see_smaller_views_with_the_same_weights():
    student = pooling_network()
    distiller = Distiller(student, small_input=4)
    assert [id(one) for one in distiller.trainable_variables] == [id(one) for one in student.trainable_variables]
    views = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    small = pooling_network(4)
    small.set_weights(student.get_weights())
    shrunk = keras.ops.clip(keras.ops.image.resize(views / np.float32(255), (4, 4), antialias=True), 0.0, 1.0)
    expected = np.asarray(small(shrunk, training=True))
    distiller.compile(optimizer="sgd")
    distiller.see_small(on=True)
    np.testing.assert_allclose(distiller(views, training=True), expected, atol=1e-6)
    np.testing.assert_allclose(distiller.predict_on_batch(views), np.asarray(small(shrunk)), atol=1e-6)
    distiller.see_small(on=False)
    assert not np.allclose(distiller(views, training=True), expected, atol=1e-3)
    own = np.asarray(student(views / np.float32(255)))
    np.testing.assert_allclose(distiller.predict_on_batch(views), own, atol=1e-6)


def test_a_student_of_one_size_refuses_smaller_views(network):
    with pytest.raises(UserError, match="takes images of 8 pixels only, not of 4"):
        Distiller(network(), small_input=4)


def test_saves_and_loads_in_safe_mode(network, tmp_path):
    distiller = Distiller(network(), relation_weight=3.0, contrast_weight=0.5)
    views = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    before = np.asarray(distiller(views))
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras", safe_mode=True)
    np.testing.assert_array_equal(again(views), before)
    assert (again.relation_weight, again.contrast_weight) == (3.0, 0.5)


def test_hints_survive_saving(network, tmp_path):
    distiller = Distiller(network(), hint_weight=0.5, hints=3)
    views = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    before = np.asarray(distiller(views, training=True)[1])
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras", safe_mode=True)
    np.testing.assert_allclose(again(views, training=True)[1], before, atol=1e-6)
    assert (again.hint_weight, again.hints) == (0.5, 3)


def test_the_rate_climbs_and_falls_by_the_step():
    """Up to 0.1 in 10 of 110 steps, half of it midway down, 0 at the end."""
    rate = adamw(learning_rate=0.1, weight_decay=0.01, steps=110, warmup=10)._learning_rate
    values = [float(rate(step)) for step in (0, 5, 10, 60, 110)]
    assert values == pytest.approx([0, 0.05, 0.1, 0.05, 0], abs=1e-6)


def test_the_rate_falls_to_its_floor():
    rate = adamw(learning_rate=0.1, weight_decay=0.01, steps=110, warmup=10, floor=0.3)._learning_rate
    assert [float(rate(step)) for step in (10, 60, 110)] == pytest.approx([0.1, 0.065, 0.03], abs=1e-6)


def test_biases_and_normalisation_do_not_decay(network):
    """With a gradient of zero, AdamW moves what decays and nothing else."""
    model = network()
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer = adamw(learning_rate=0.1, weight_decay=0.5, steps=10, warmup=0)
    optimizer.build(model.trainable_variables)
    optimizer.apply([np.zeros(variable.shape, "float32") for variable in model.trainable_variables])
    moved = {variable.name: float(np.asarray(variable).ravel()[0]) for variable in model.trainable_variables}
    assert moved["kernel"] == pytest.approx(1 - 0.1 * 0.5, abs=1e-6)
    assert (moved["bias"], moved["gamma"], moved["beta"]) == (1, 1, 1)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_trains_under_jax(tmp_path):
    script = Path(__file__).with_name("train_under_jax.py")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TFFACE_CACHE": str(tmp_path)}
    answer = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    first, last = map(float, answer.stdout.split()[-2:])
    assert first < 0.5 < 0.8 < last


@pytest.fixture
def one_weight():
    """A network of one number, and what sets it."""
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    return network, lambda value: network.set_weights([np.array([[value]], np.float32)])


def mean_of(average):
    return float(average.means[0].numpy()[0, 0])


def test_the_first_epochs_have_an_even_mean_and_older_ones_fade(one_weight):
    network, give = one_weight
    average = WeightAverage(network, 2)
    found = []
    for epoch, value in enumerate([4.0, 2.0, 5.0]):
        give(value)
        average.add(network, epoch)
        found.append(mean_of(average))
    assert found == [4.0, 3.0, 4.0]


def test_the_network_has_its_own_weights_again(one_weight):
    network, give = one_weight
    average = WeightAverage(network, 10)
    for epoch, value in enumerate([1.0, 3.0]):
        give(value)
        average.add(network, epoch)
    with pytest.raises(RuntimeError), average.in_place(network):
        assert network.get_weights()[0] == 2.0
        raise RuntimeError
    assert network.get_weights()[0] == 3.0 and mean_of(average) == 2.0


def test_statistics_are_averaged_and_generators_are_not():
    network = keras.Sequential(
        [keras.Input((3,)), keras.layers.BatchNormalization(momentum=0.0), keras.layers.Dropout(0.5)]
    )
    average = WeightAverage(network, 2)
    for epoch, value in enumerate([0.0, 4.0]):
        network(np.full((2, 3), value, np.float32), training=True)
        average.add(network, epoch)
    means = dict(zip([variable.path for variable in network.variables], average.means, strict=True))
    (moving,) = [mean for path, mean in means.items() if path.endswith("moving_mean")]
    np.testing.assert_allclose(moving.numpy(), 2.0)
    (state,) = [path for path in means if "seed_generator" in path]
    (own,) = [variable for variable in network.variables if variable.path == state]
    np.testing.assert_array_equal(means[state].numpy(), own.numpy())
