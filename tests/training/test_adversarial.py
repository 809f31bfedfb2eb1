import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.errors import UserError
from tfface.training.adversarial import AdversarialDistiller
from tfface.training.batches import EpochViews
from tfface.training.distillation import Distiller
from tfface.training.fitting import Settings, compiled
from tfface.training.hardening import Hardening

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
    """From level 255, epsilon above the image: up stays there, down is a step below."""
    images, answers = batch
    made = distiller(attack_steps=1, epsilon=0.03, alpha=0.02)
    monkeypatch.setattr(made, "_levels", lambda shape: tf.fill(shape, tf.constant(255, tf.uint8)))
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
        ({"method": "trades", "epsilon": 0.0}, "--epsilon 0: adversarial training needs a budget above 0"),
        ({"method": "noise"}, "--noise 0: give a standard deviation above 0"),
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
