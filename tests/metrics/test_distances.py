import numpy as np

from tfface.metrics.distances import unit


def test_unit_by_hand():
    found = unit(np.float32([[3, 4], [0, -2], [0, 0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, -1], [0, 0]])
    assert found.dtype == np.float32 and unit(np.array([[3.0, 4.0]])).dtype == np.float64
