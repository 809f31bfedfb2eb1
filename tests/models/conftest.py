from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def make_images() -> Callable[..., np.ndarray]:
    """Images of coloured blocks with some noise: noise alone would look the same to a global average."""

    def make(count: int, size: int, seed: int = 0) -> np.ndarray:
        random = np.random.default_rng(seed)
        blocks = random.random((count, 4, 4, 3))
        side = -(-size // 4)
        images = np.repeat(np.repeat(blocks, side, axis=1), side, axis=2)[:, :size, :size]
        return np.clip(images + random.normal(0, 0.05, images.shape), 0, 1).astype("float32")

    return make


@pytest.fixture(scope="session")
def randomise() -> Callable[..., None]:
    """Random weights of a size that keeps signals alive, moving statistics among them."""

    def draw(random: np.random.Generator, name: str, shape: tuple[int, ...], kernel_scale: float) -> np.ndarray:
        if name == "kernel":
            # The first axis of a locally connected kernel (3 axes) counts places, not inputs.
            # A depthwise one (the last axis is 1) sees one channel alone.
            fan_in = shape[1] if len(shape) == 3 else np.prod(shape[: -2 if shape[-1] == 1 else -1])
            return random.normal(0, kernel_scale * np.sqrt(2 / fan_in), shape)
        if name in ("gamma", "moving_variance"):
            return random.uniform(0.5, 1.5, shape)
        return random.normal(0, 0.2, shape)

    def fill(model, *, kernel_scale: float = 1.0, input_scale: float = 1.0, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        scale = kernel_scale / input_scale  # for the first layer alone
        for layer in model.layers:
            if layer.weights:
                names = [weight.name.split("/")[-1].split(":")[0] for weight in layer.weights]
                layer.set_weights(
                    [
                        draw(random, name, tuple(weight.shape), scale)
                        for name, weight in zip(names, layer.weights, strict=True)
                    ]
                )
                scale = kernel_scale

    return fill


@pytest.fixture(scope="session")
def unit() -> Callable[[np.ndarray], np.ndarray]:
    def normalise(vectors: np.ndarray) -> np.ndarray:
        vectors = np.asarray(vectors, "float64").reshape(len(vectors), -1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return normalise


@pytest.fixture(scope="session")
def assert_same_embeddings() -> Callable[[np.ndarray, np.ndarray], None]:
    """Equal within 1e-5, and by far closer than two images are, so that equality says something."""

    def check(ours: np.ndarray, theirs: np.ndarray) -> None:
        assert ours.shape == theirs.shape
        apart = np.linalg.norm(theirs[:, None] - theirs[None], axis=-1)[np.triu_indices(len(theirs), 1)].min()
        difference = np.abs(ours - theirs).max()
        print(f"largest difference {difference:.2e}; images {apart:.2f} apart at least")
        assert difference < 1e-5
        assert np.linalg.norm(ours - theirs, axis=1).max() < 1e-4 * apart

    return check
