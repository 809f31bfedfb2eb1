import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfface.errors import UserError
from tfface.models._layers import CenteredConv2D, UnitNorm
from tfface.models.student import inception_resnet_simple
from tfface.training import adversarial
from tfface.training.adversarial import AdversarialDistiller, with_fast_input_gradient
from tfface.training.config import Hardening, Settings
from tfface.training.distiller import Distiller
from tfface.training.fitting import compiled
from tfface.training.view_bank import EpochViews

EPSILON = 0.05


@pytest.fixture
def distiller(network):
    def make(**options):
        made = AdversarialDistiller(network(), **{"epsilon": EPSILON, "alpha": 0.03, "attack_steps": 3, **options})
        made.compile(optimizer="sgd")
        made.optimizer.build(made.trainable_variables)
        return made

    return make


@pytest.fixture
def batch():
    random = np.random.default_rng(3)
    answers = random.standard_normal((6, 4)).astype("float32")
    return random.random((6, 8, 8, 3), np.float32), answers / np.linalg.norm(answers, axis=1, keepdims=True)


def cosine(student, images, answers):
    return (np.asarray(student(images, training=False)) * answers).sum(axis=1)


def test_the_attack_stays_in_its_budget_and_drives_answers_away(distiller, batch):
    images, answers = batch
    images[0, :4] = 0.0
    images[1, :4] = 1.0
    made = distiller()
    attacked = made.attack(images, answers).numpy()
    assert np.abs(attacked - images).max() <= EPSILON + 1e-6
    assert attacked.min() >= 0 and attacked.max() <= 1
    noise = np.random.default_rng(0).choice([-EPSILON, EPSILON], images.shape).astype("float32")
    by_chance = cosine(made.student, np.clip(images + noise, 0, 1), answers)
    assert (
        cosine(made.student, attacked, answers) < np.minimum(cosine(made.student, images, answers), by_chance)
    ).all()


def test_one_step_from_the_clean_views_is_the_gradients_sign(distiller, batch, monkeypatch):
    images, answers = batch
    made = distiller(attack_steps=1, alpha=0.02)
    monkeypatch.setattr(adversarial, "_begun", lambda images, *given: images)
    given = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(given)
        total = tf.reduce_sum(made.student(given, training=False) * answers)
    sign = np.sign(tape.gradient(total, given).numpy())
    np.testing.assert_allclose(made.attack(given, answers), np.clip(images - 0.02 * sign, 0, 1), atol=1e-6)


def test_starts_are_uniform_and_of_seed_and_step(distiller):
    made, other = distiller(), distiller(seed=1)
    start, side = (found.numpy() for found in made._start((30, 30, 3), 400))
    assert start.shape == (30, 30, 3) and side.shape == (400, 1, 1, 1)
    assert start.mean() == pytest.approx(0, abs=0.04) and start.std() == pytest.approx(1 / 3**0.5, abs=0.03)
    assert np.abs(start).max() <= 1 and set(np.unique(side)) == {-1, 1} and abs(side.mean()) < 0.2
    for one, expected in zip(made._start((30, 30, 3), 400), (start, side), strict=True):
        np.testing.assert_array_equal(one, expected)
    made.optimizer.iterations.assign(1)
    for found in (made._start((30, 30, 3), 400), other._start((30, 30, 3), 400)):
        assert not np.array_equal(found[0], start) and not np.array_equal(found[1], side)


def test_the_start_by_hand():
    """-0.6 and 1 of epsilon 0.1 from 0.5, and the opposite; never out of [0, 1]."""
    found = adversarial._begun(tf.fill([2, 2], 0.5), tf.constant([-0.6, 1.0]), tf.constant([[1.0], [-1.0]]), 0.1)
    np.testing.assert_allclose(found, [[0.44, 0.6], [0.56, 0.4]], atol=1e-6)
    np.testing.assert_allclose(
        adversarial._begun(tf.constant([0.05, 0.95]), tf.constant([-1.0, 1.0]), tf.constant([1.0]), 0.1), [0, 1]
    )


def test_epsilon_climbs(distiller, batch):
    """In 4 steps: at the second it is half."""
    images, answers = batch
    made = distiller(climb_steps=4)
    made.optimizer.iterations.assign(1)
    reached = np.abs(made.attack(images, answers).numpy() - images).max()
    assert reached == pytest.approx(EPSILON / 2, abs=1e-6)
    made.optimizer.iterations.assign(9)
    assert np.abs(made.attack(images, answers).numpy() - images).max() == pytest.approx(EPSILON, abs=1e-6)


def test_the_attack_leaves_moving_averages_alone(distiller, batch):
    made = distiller()
    before = [np.asarray(variable) for variable in made.variables]
    made.attack(*batch)
    for one, other in zip(before, made.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pgd_at_is_distillation_on_attacked_views(distiller, batch, network):
    images, answers = batch
    made = distiller()
    attacked = made.attack(images, answers)
    plain = Distiller(network())
    plain.compile(optimizer="sgd")
    plain.train_step((attacked, tf.constant(answers)))
    made.train_step((tf.constant(images), tf.constant(answers)))
    for one, other in zip(made.student.variables, plain.student.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_trades_steps_down_both_of_its_terms(distiller, batch, network):
    """Against both gradients taken apart, with plain layers; the clean embedding is a constant to the second."""
    images, answers = map(tf.constant, batch)
    made = distiller(method="trades", weight=3.0)
    attacks = []
    attack = made.attack
    made.attack = lambda *given, **options: (
        attacks.append((options["first"], attack(*given, **options))) or attacks[-1][1]
    )
    before = [np.asarray(variable) for variable in made.trainable_variables]
    metrics = made.train_step((images, answers))
    ((first, attacked),) = attacks

    plain = Distiller(network())
    weights = plain.trainable_weights
    with tf.GradientTape() as tape:
        tape.watch(images)
        clean = plain.student(images, training=True)
        loss = plain.compute_loss(y=answers, y_pred=clean)
    *gradients, at_views = tape.gradient(loss, [*weights, images])
    with tf.GradientTape() as tape:
        distance = 1 - tf.reduce_mean(tf.reduce_sum(plain.student(attacked, training=True) * clean.numpy(), axis=1))
    np.testing.assert_allclose(first, at_views, atol=1e-6)
    for old, new, one, other in zip(
        before, made.trainable_variables, gradients, tape.gradient(distance, weights), strict=True
    ):
        np.testing.assert_allclose(new, old - 0.01 * (one + 3 * other), atol=1e-5)
    assert float(metrics["loss"]) == pytest.approx(float(loss + 3 * distance), abs=1e-5)
    for one, other in zip(made.student.non_trainable_variables, plain.student.non_trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_first_gradient_that_is_given_is_climbed(distiller, batch, monkeypatch):
    """From epsilon above the image: up stays there, down is a step below."""
    images, answers = batch
    made = distiller(attack_steps=1, epsilon=0.03, alpha=0.02)
    monkeypatch.setattr(made, "_start", lambda shape, count: (tf.ones(shape), tf.ones((count, 1, 1, 1))))
    monkeypatch.setattr(AdversarialDistiller, "_gradient", lambda self, *given: pytest.fail("a pass too many"))
    first = np.random.default_rng(5).standard_normal(images.shape).astype("float32")
    above = np.clip(images + 0.03, 0, 1)
    np.testing.assert_allclose(
        made.attack(images, answers, first=first), np.where(first > 0, above, above - 0.02), atol=1e-6
    )


@pytest.mark.parametrize("method", ["pgd-at", "trades"])
def test_it_learns_under_attack(bank, network, method):
    settings = Settings(
        epochs=60,
        batch_size=8,
        views=2,
        warmup=1,
        learning_rate=0.03,
        relation_weight=1.0,
        hardening=Hardening(method=method, epsilon=0.02, climb=2),
    )
    distiller = compiled(network(), settings, steps_per_epoch=2)
    assert isinstance(distiller, AdversarialDistiller) and distiller.climb_steps == 4
    history = distiller.fit(EpochViews(bank, views=1, batch_size=8, seed=0), epochs=60, verbose=0).history
    assert history["cosine"][0] < 0.5
    assert history["cosine"][-1] > 0.85


def test_saves_and_loads_in_safe_mode(distiller, batch, tmp_path):
    made = distiller(method="trades", weight=3.0)
    before = np.asarray(made(batch[0]))
    made.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras", safe_mode=True)
    np.testing.assert_array_equal(again(batch[0]), before)
    assert (again.method, again.weight, again.epsilon, again.attack_steps) == ("trades", 3.0, EPSILON, 3)


def test_its_weights_are_the_students(distiller):
    made = distiller()
    assert [id(one) for one in made.trainable_variables] == [id(one) for one in made.student.trainable_variables]
    assert len(made.layers) == 1


def test_another_backend_is_refused(network, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match="runs on TensorFlow, not on jax: unset KERAS_BACKEND"):
        AdversarialDistiller(network(), epsilon=0.1, alpha=0.1, attack_steps=1)


def test_noise_is_of_training_alone(network):
    student = network()
    noisy = Distiller(student, noise=0.2)
    views = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(noisy(views), student(views / np.float32(255)), atol=1e-6)
    first, second = (np.asarray(noisy(views, training=True)) for _ in range(2))
    assert not np.allclose(first, second)
    settings = Settings(hardening=Hardening(method="noise", sigma=0.2))
    assert compiled(network(), settings, steps_per_epoch=1).noise == 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "fgsm"}, "unknown way to harden 'fgsm'; valid: pgd-at, trades, noise"),
        ({"method": "trades", "epsilon": 0.0}, "`epsilon` 0: adversarial training needs a budget above 0"),
        ({"method": "noise"}, "`noise` 0: give a standard deviation above 0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(UserError, match=message):
        Hardening(**options)


def test_what_is_not_used_is_not_recorded():
    assert Hardening(method="noise", sigma=0.1).record() == {"method": "noise", "sigma": 0.1}
    found = Hardening(method="pgd-at", epsilon=0.03, attack_steps=3).record()
    assert found == {
        "method": "pgd-at",
        "epsilon": 0.03,
        "attack_steps": 3,
        "step_size": pytest.approx(0.025),
        "climb": 5,
    }
    assert Hardening(method="trades").record()["weight"] == 6.0


def gradient(network, images, weights):
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        answer = network(images, training=False)
        loss = tf.reduce_sum(answer * weights)
    found = tape.gradient(loss, [images, *network.trainable_variables])
    return answer.numpy(), *(one.numpy() for one in found)


def network(size, kernel, stride, convolution=layers.Conv2D, **options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((size, size, 3))
    x = convolution(5, kernel, strides=stride, use_bias=False, **options)(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(inputs, UnitNorm()(layers.Dense(4)(layers.Flatten()(x))))


@pytest.mark.parametrize("convolution", [layers.Conv2D, CenteredConv2D])
@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(12, 4, 2), (13, 5, 2), (15, 3, 2), (16, 8, 4), (17, 7, 3), (9, 2, 3)]
)
def test_the_same_answers_and_gradients(size, kernel, stride, convolution):
    """Kernels that are no multiple of the stride, and pixels at the edge that no filter sees."""
    random = np.random.default_rng(0)
    images, weights = random.random((2, size, size, 3), np.float32), random.standard_normal((2, 4)).astype("float32")
    plain = network(size, kernel, stride, convolution)
    fast = with_fast_input_gradient(plain)
    assert any("unstrided" in layer.name for layer in fast.layers)
    for one, other in zip(gradient(plain, images, weights), gradient(fast, images, weights), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_it_follows_the_weights():
    plain = network(12, 4, 2)
    fast = with_fast_input_gradient(plain)
    images = np.random.default_rng(0).random((1, 12, 12, 3), np.float32)
    before = np.asarray(fast(images))
    plain.layers[1].kernel.assign(-plain.layers[1].kernel)
    after = np.asarray(fast(images))
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, np.asarray(plain(images)), atol=1e-6)


@pytest.mark.parametrize("options", [{"padding": "same"}, {"use_bias": True}, {"activation": "relu"}])
def test_other_convolutions_are_left_as_they_are(options):
    inputs = keras.Input((12, 12, 3))
    outputs = layers.Conv2D(5, 4, strides=2, **{"use_bias": False, **options})(inputs)
    fast = with_fast_input_gradient(keras.Model(inputs, outputs))
    assert not any("unstrided" in layer.name for layer in fast.layers)


def test_the_students_first_convolution_fits():
    fast = with_fast_input_gradient(inception_resnet_simple(embedding_size=16))
    assert [layer.name for layer in fast.layers if "unstrided" in layer.name] == ["conv1_unstrided"]
