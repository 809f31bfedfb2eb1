"""A reader that takes bytes answers the same to floats, which it rounds, and to their bytes."""

from types import SimpleNamespace

import numpy as np

from tfface.artifacts.artifact import TFLiteEmbedder, to_bytes


def test_bytes_may_be_given_as_they_are():
    artifact = SimpleNamespace(record={"signatures": {}}, renormalise=False)  # no signature for floats
    given = []

    def runner(image):
        given.append(image)
        return {"embedding": image.astype(np.float32).mean(axis=(1, 2))}

    reader = TFLiteEmbedder(SimpleNamespace(embedding_size=3), "", None, artifact)
    reader.__dict__["_runner"] = runner
    floats = np.random.default_rng(0).random((2, 4, 4, 3), np.float32)
    assert reader.takes_bytes
    np.testing.assert_array_equal(reader.embed(floats), reader.embed(to_bytes(floats)))
    assert all(image.dtype == np.uint8 for image in given)
