from collections.abc import Callable

import numpy as np
import pytest

SIDE, CLASSES, COUNT = 16, 5, 6


def build_smooth(outputs: int, *, unit: bool):
    """A tanh convolution and a linear layer: smooth everywhere, so that peers agree to rounding."""
    import keras
    from keras import initializers, layers

    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(2.0, -1.0)(inputs)
    x = layers.Conv2D(6, 5, strides=3, activation="tanh", kernel_initializer=initializers.GlorotUniform(seed=1))(x)
    x = layers.Dense(outputs, kernel_initializer=initializers.RandomNormal(stddev=0.5, seed=2))(layers.Flatten()(x))
    model = keras.Model(inputs, layers.UnitNormalization()(x) if unit else x)
    model.trainable = False
    return model


def draw(seed: int, low: float = 0.0, high: float = 1.0, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (count, SIDE, SIDE, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """(6, 16, 16, 3), some values at 0 and 1."""
    return draw(0, -0.05, 1.05).clip(0, 1)


@pytest.fixture(scope="session")
def middling() -> np.ndarray:
    """(6, 16, 16, 3), far enough from 0 and 1 that no small change is clipped."""
    return draw(1, 0.3, 0.7)


@pytest.fixture(scope="session")
def classifier():
    """Images to five logits."""
    return build_smooth(CLASSES, unit=False)


@pytest.fixture(scope="session")
def victims(classifier) -> dict:
    """A victim for each goal; they share their compiled functions among all tests."""
    from tfface.attacks._criteria import Dodging, Impersonation, Misclassification
    from tfface.attacks._victim import Victim

    embedder = build_smooth(8, unit=True)
    return {
        "classify": Victim(classifier, Misclassification()),
        "dodging": Victim(embedder, Dodging()),
        "impersonation": Victim(embedder, Impersonation()),
    }


@pytest.fixture(scope="session")
def targets(victims, images) -> dict[str, np.ndarray]:
    """For each goal targets that the clean images miss by little."""
    labels = np.argmax(victims["classify"].outputs(images), axis=1)
    embeddings = victims["dodging"].outputs(images).numpy()
    near = np.abs(draw(2) - 0.5) * 0.05 + images * 0.95
    far = np.roll(images, 1, axis=0)

    def distances(references: np.ndarray) -> np.ndarray:
        return 1 - np.sum(embeddings * victims["dodging"].outputs(references).numpy(), axis=1)

    return {
        "classify": victims["classify"].targets(labels),
        "dodging": victims["dodging"].targets(near, 1.3 * distances(near)),
        "impersonation": victims["impersonation"].targets(far, 0.8 * distances(far)),
    }


@pytest.fixture(scope="session")
def make_linear() -> Callable:
    """A classifier of two logits whose difference is weights . (image - 1/2) - gap."""

    def make(weights: np.ndarray, gap: float):
        import keras

        inputs = keras.Input(weights.shape)
        outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
        model = keras.Model(inputs, outputs)
        kernel = np.stack([np.zeros(weights.size), weights.ravel()], axis=1)
        model.layers[-1].set_weights([kernel, np.array([0.0, -gap - weights.sum() / 2])])
        return model

    return make
