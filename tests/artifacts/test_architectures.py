"""Every architecture converts; a new file in `tfface/models` is tested at once."""

import dataclasses

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tfface.artifacts.making import convert
from tfface.utils import registry

# Small where the architecture allows it; a model that is not listed is tested at its own size.
SIZES = {"facenet": 75, "resnet50": 48, "deepface": 72, "student": 140}


def with_slow_ones(names):
    return [pytest.param(name, marks=pytest.mark.slow if name in ("facenet", "resnet50") else ()) for name in names]


@pytest.mark.parametrize("architecture", with_slow_ones(registry.names("models")))
def test_converts_and_answers_the_same(architecture, tiny_embedder):
    module = registry.load("models", architecture)
    own = next(iter(module.PRESETS), dataclasses.replace(tiny_embedder.preset, input_size=160))
    size = SIZES.get(architecture, own.input_size)
    keras.utils.set_random_seed(0)
    model = module.build(dataclasses.replace(own, input_size=size))
    # Blocks of colour: noise alone looks the same to a global average.
    blocks = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    images = blocks.repeat(-(-size // 4), 1).repeat(-(-size // 4), 2)[:, :size, :size]
    # float16 has one signature, so that it is traced once.
    runner = Interpreter(model_content=convert(model, size, "float16")).get_signature_runner("embed")
    found = np.concatenate([runner(image=image[None])["embedding"] for image in images])
    expected = np.asarray(model(images / np.float32(255), training=False))
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert (found * expected).sum(1).min() > 0.9999
