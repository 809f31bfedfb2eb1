"""An embedder in another process: found there by name and hash, never sent."""

import pickle

import numpy as np
import pytest

from tfface.errors import UserError
from tfface.models._embedder import Embedder, load_embedder


def test_it_is_found_by_name_and_answers_alike():
    student = load_embedder("student", offline=True)
    images = np.random.default_rng(0).random((2, 160, 160, 3)).astype(np.float32)
    before = student.embed(images)  # builds the network, which stays here
    sent = pickle.dumps(student)
    assert len(sent) < 1_000_000, "no weights in it"
    found = pickle.loads(sent)
    assert (found.preset, found.sha256) == (student.preset, student.sha256)
    np.testing.assert_array_equal(found.embed(images), before)
    again = pickle.loads(pickle.dumps(load_embedder("student", offline=True)))
    assert again.model is found.model, "loaded once"


def test_other_weights_there_are_refused():
    student = load_embedder("student", offline=True)
    sent = pickle.dumps(Embedder(student.preset, "0" * 64, student.build))
    with pytest.raises(
        UserError, match=r"^student/.* has weights [0-9a-f]{12} here, not 000000000000: share the cache$"
    ):
        _ = pickle.loads(sent).model
