import numpy as np
import pytest


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """(3, 32, 32, 3) in [0, 1]: smooth patterns with a little noise, as photographs are."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32] / 32
    waves = [np.sin(2 * np.pi * (a * rows + b * columns + c)) for a, b, c in random.uniform(0, 2, (9, 3))]
    smooth = 0.5 + 0.4 * np.stack(waves, -1).reshape(32, 32, 3, 3).transpose(2, 0, 1, 3)
    return (smooth + random.normal(0, 0.02, smooth.shape)).clip(0, 1).astype(np.float32)
